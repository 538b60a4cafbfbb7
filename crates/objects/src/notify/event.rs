//! What an event says, and how: as S3 writes it
//! (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html>).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use crate::store::time;

/// By what an object was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// In one request.
    #[default]
    Put,
    /// By a browser's form.
    Post,
    /// As a copy of another.
    Copy,
    /// In parts.
    Parts,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// An object was written.
    Created(How),
    /// An object or a version was removed.
    Deleted,
    /// An object was hidden by a delete marker.
    Marked,
    /// As [`What::Deleted`], by a rule of the bucket.
    Expired,
    /// As [`What::Marked`], by a rule of the bucket.
    ExpiredMarked,
}

impl What {
    /// All of them.
    pub const ALL: [What; 8] = [
        What::Created(How::Put),
        What::Created(How::Post),
        What::Created(How::Copy),
        What::Created(How::Parts),
        What::Deleted,
        What::Marked,
        What::Expired,
        What::ExpiredMarked,
    ];

    /// As an event names it; rules have `s3:` before it.
    pub fn name(self) -> &'static str {
        match self {
            What::Created(How::Put) => "ObjectCreated:Put",
            What::Created(How::Post) => "ObjectCreated:Post",
            What::Created(How::Copy) => "ObjectCreated:Copy",
            What::Created(How::Parts) => "ObjectCreated:CompleteMultipartUpload",
            What::Deleted => "ObjectRemoved:Delete",
            What::Marked => "ObjectRemoved:DeleteMarkerCreated",
            What::Expired => "LifecycleExpiration:Delete",
            What::ExpiredMarked => "LifecycleExpiration:DeleteMarkerCreated",
        }
    }
}

/// An event that waits for a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRow {
    pub what: What,
    /// The id of the rule by which it is sent.
    pub rule: String,
    /// When it happened, in milliseconds of Unix time.
    pub at: i64,
    pub project: String,
    pub bucket: String,
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Where the bucket has versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Who did it, as the audit log names them.
    pub identity: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Higher than that of any change before.
    pub sequence: u64,
}

impl EventRow {
    /// The message. The same whenever it is sent.
    pub fn message(&self, region: &str) -> Value {
        let mut object = Map::new();
        object.insert("key".to_owned(), encoded(&self.key).into());
        if let Some(size) = self.size {
            object.insert("size".to_owned(), size.into());
        }
        if let Some(etag) = &self.etag {
            object.insert("eTag".to_owned(), etag.as_str().into());
        }
        if let Some(version) = &self.version {
            object.insert("versionId".to_owned(), version.as_str().into());
        }
        object.insert("sequencer".to_owned(), format!("{:016x}", self.sequence).into());
        let (mut parameters, mut response) = (Map::new(), Map::new());
        if let Some(from) = self.from {
            parameters.insert("sourceIPAddress".to_owned(), from.to_string().into());
        }
        if let Some(request) = &self.request {
            response.insert("x-amz-request-id".to_owned(), request.as_str().into());
        }
        json!({ "Records": [{
            "eventVersion": "2.1",
            "eventSource": "casemate:s3",
            "awsRegion": region,
            "eventTime": format!("{:.3}", time(self.at)),
            "eventName": self.what.name(),
            "userIdentity": { "principalId": self.identity },
            "requestParameters": parameters,
            "responseElements": response,
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": self.rule,
                "bucket": {
                    "name": self.bucket,
                    "ownerIdentity": { "principalId": self.project },
                    "arn": format!("arn:aws:s3:::{}", self.bucket),
                },
                "object": object,
            },
        }] })
    }
}

/// A key as S3 encodes it in events: as a form would, but with its slashes.
fn encoded(key: &str) -> String {
    form_urlencoded::byte_serialize(key.as_bytes()).collect::<String>().replace("%2F", "/")
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn event(key: &str) -> EventRow {
        EventRow {
            what: What::Created(How::Put),
            rule: "all".to_owned(),
            at: 1_700_000_000_123,
            project: "a".repeat(32),
            bucket: "data".to_owned(),
            key: key.to_owned(),
            size: Some(7),
            etag: Some("0123".to_owned()),
            version: None,
            identity: "s3-key/x".to_owned(),
            from: Some([192, 0, 2, 1].into()),
            request: Some("id".to_owned()),
            sequence: 255,
        }
    }

    #[test]
    fn a_message_is_as_s3_writes_it() {
        assert_eq!(
            event("a b/é+1.txt").message("GRA"),
            json!({ "Records": [{
                "eventVersion": "2.1",
                "eventSource": "casemate:s3",
                "awsRegion": "GRA",
                "eventTime": "2023-11-14T22:13:20.123Z",
                "eventName": "ObjectCreated:Put",
                "userIdentity": { "principalId": "s3-key/x" },
                "requestParameters": { "sourceIPAddress": "192.0.2.1" },
                "responseElements": { "x-amz-request-id": "id" },
                "s3": {
                    "s3SchemaVersion": "1.0",
                    "configurationId": "all",
                    "bucket": {
                        "name": "data",
                        "ownerIdentity": { "principalId": "a".repeat(32) },
                        "arn": "arn:aws:s3:::data",
                    },
                    "object": {
                        "key": "a+b/%C3%A9%2B1.txt", "size": 7, "eTag": "0123", "sequencer": "00000000000000ff",
                    },
                },
            }] })
        );
    }
}
