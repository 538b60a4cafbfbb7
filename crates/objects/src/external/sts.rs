//! Credentials of jobs there, by STS (<https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use model::SandboxId;
use rusty_s3::Credentials;

use super::client::{Client, bounded_text, failed, refusal};
use crate::Error;

/// Credentials that end by themselves.
#[derive(Debug)]
pub struct Session {
    credentials: Credentials,
    expires: Timestamp,
}

impl Session {
    /// Whether a request that begins now ends before it does.
    pub fn is_good(&self, now: Timestamp) -> bool {
        now.duration_until(self.expires) > SignedDuration::from_secs(300)
    }

    pub fn credentials(&self) -> Credentials {
        self.credentials.clone()
    }
}

/// Credentials of a job: of the role, narrowed to buckets whose names begin with `buckets`.
pub async fn assume_role(client: &Client, role: &str, job: SandboxId, buckets: &str) -> Result<Session, Error> {
    let policy = serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Action": [
                "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListBucket",
                "s3:ListMultipartUploadParts",
            ],
            "Resource": [format!("arn:aws:s3:::{buckets}*")],
        }],
    });
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("Action", "AssumeRole")
        .append_pair("Version", "2011-06-15")
        .append_pair("RoleArn", role)
        .append_pair("RoleSessionName", &session_name(job))
        .append_pair("DurationSeconds", &LASTS.as_secs().to_string())
        .append_pair("Policy", &policy.to_string())
        .finish();
    let signed =
        crate::region::sign_sts(&client.endpoint, &client.region, client.own.key(), client.own.secret(), &form)
            .ok_or_else(|| Error::External("its URL has no host".to_owned()))?;
    let request = client.http.post(client.endpoint.clone()).headers(signed).body(form);
    let text = bounded_text(refusal(request.send().await.map_err(failed)?).await?).await?;
    let field = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        Some(rest.split_once('<')?.0.trim().to_owned())
    };
    let read = || {
        let expires: Timestamp = field("Expiration")?.parse().ok()?;
        let credentials =
            Credentials::new_with_token(field("AccessKeyId")?, field("SecretAccessKey")?, field("SessionToken")?);
        Some(Session { credentials, expires })
    };
    read().ok_or_else(|| Error::External("its STS gave no credentials".to_owned()))
}

/// A name that STS takes: letters, digits and `=,.@-`, 64 at most.
fn session_name(job: SandboxId) -> String {
    job.to_string().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '.').take(64).collect()
}

const LASTS: Duration = Duration::from_secs(3600);
