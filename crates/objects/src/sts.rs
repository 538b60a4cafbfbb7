//! STS: temporary keys for those who have a key
//! (<https://docs.aws.amazon.com/STS/latest/APIReference/welcome.html>). A call is a form, in the body of `POST /` or in
//! the query of `GET /`, signed for the service `sts`; `s3s` verifies the signature and hands it to [`Route`]. Which keys
//! may be had is for [`crate::Access`] to say.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use s3s::{Body, S3Request, S3Response, S3Result, route::S3Route, s3_error};

use crate::{
    access::{Grant, Refusal, RoleWish, TemporaryKey},
    call::Call,
    swift::{escaped, whole},
};

/// Whether a request is one of STS. S3 has no form that is posted to the root, and no parameter `Action`.
pub fn is_call<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let has_action = || {
        let query = request.uri().query().unwrap_or_default();
        url::form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "Action")
    };
    request.uri().path() == "/"
        && match *request.method() {
            Method::POST => kind.to_ascii_lowercase().starts_with(FORM),
            Method::GET => has_action(),
            _ => false,
        }
}

/// The form of a call, read before its signature is verified.
#[derive(Clone)]
struct Form(Vec<(String, String)>);

/// Makes a request one that `s3s` can verify. Clients of STS sign the digest of the body and do not send it, as clients
/// of S3 do; so it is put where those have it.
pub async fn prepared(request: Request<Body>) -> S3Result<Request<Body>> {
    let (mut parts, body) = request.into_parts();
    let bytes = whole(body, MOST_BODY).await.map_err(|fault| match fault.status {
        StatusCode::PAYLOAD_TOO_LARGE => s3_error!(MaxMessageLengthExceeded, "a call has at most {MOST_BODY} bytes"),
        _ => s3_error!(IncompleteBody, "the body did not arrive whole"),
    })?;
    let mut fields: Vec<(String, String)> =
        url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let in_query = fields.iter().any(|(name, _)| name == "X-Amz-Signature");
    fields.extend(url::form_urlencoded::parse(&bytes).into_owned());
    // Nobody reads the body after this, so that nobody else compares it with what was signed.
    let digest = hex::encode(crypto::digest::sha256(&[&bytes]));
    let is_signed = match parts.headers.get(DIGEST) {
        // Such a signature is of no body.
        _ if in_query => bytes.is_empty(),
        Some(sent) => sent.as_bytes().eq_ignore_ascii_case(digest.as_bytes()),
        None => {
            let digest = HeaderValue::try_from(digest).map_err(|_| s3_error!(InternalError))?;
            parts.headers.insert(DIGEST, digest);
            true
        }
    };
    if !is_signed {
        return Err(s3_error!(SignatureDoesNotMatch, "the body is not the one that was signed"));
    }
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    parts.extensions.insert(Form(fields));
    Ok(Request::from_parts(parts, Body::from(bytes.to_vec())))
}

/// An error of S3 as STS has it; other answers stay as they are.
pub fn answered(call: &Call, response: Response<Body>, code: Option<&str>) -> Response<Body> {
    let is_ours = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == XML);
    if response.status().is_success() || is_ours {
        return response;
    }
    let (status, code, words) = match code {
        Some("InvalidAccessKeyId" | "InvalidToken") => {
            (403, "InvalidClientTokenId", "The security token included in the request is invalid.")
        }
        Some("ExpiredToken") => (403, "ExpiredToken", "The security token included in the request is expired."),
        Some("SignatureDoesNotMatch" | "XAmzContentSHA256Mismatch") => {
            (403, "SignatureDoesNotMatch", "The request signature does not match.")
        }
        Some("RequestTimeTooSkewed") => (403, "RequestExpired", "The time of the request is too far from now."),
        Some("AccessDenied") => (403, "AccessDenied", "The call is not allowed."),
        Some("MaxMessageLengthExceeded") => (413, "RequestEntityTooLarge", "The request is too large."),
        Some("ServiceUnavailable" | "SlowDown") => (503, "ServiceUnavailable", "Try again later."),
        _ if response.status().is_server_error() => (500, "InternalFailure", "The call failed; see the service's log."),
        _ => (400, "IncompleteSignature", "The request is not signed as a call of STS is."),
    };
    failure(call, StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), code, words)
}

/// The calls of STS, as `s3s` hands them over.
pub struct Route(pub Arc<Call>);

#[async_trait::async_trait]
impl S3Route for Route {
    fn is_match(&self, _: &Method, _: &Uri, _: &HeaderMap, extensions: &mut http::Extensions) -> bool {
        extensions.get::<Form>().is_some()
    }

    async fn call(&self, mut request: S3Request<Body>) -> S3Result<S3Response<Body>> {
        if request.credentials.is_some() {
            self.0.verify();
        }
        let Form(fields) = request.extensions.remove().ok_or_else(|| s3_error!(InternalError))?;
        let header = request.headers.get(TOKEN).and_then(|token| token.to_str().ok());
        let query = fields.iter().find(|(name, _)| name == "X-Amz-Security-Token").map(|(_, token)| token.as_str());
        let token = header.or(query);
        let response = respond(&self.0, (request.service.as_deref(), token), &fields).await?;
        let (parts, body) = response.into_parts();
        let mut answer = S3Response::with_headers(body, parts.headers);
        answer.status = Some(parts.status);
        Ok(answer)
    }
}

async fn respond(
    call: &Call,
    (service, token): (Option<&str>, Option<&str>),
    fields: &[(String, String)],
) -> S3Result<Response<Body>> {
    let grant = call.grant().ok_or_else(|| s3_error!(AccessDenied))?;
    call.is_token(token.map(str::as_bytes))?;
    let field = |name: &str| fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str());
    let action = field("Action").unwrap_or_default();
    let invalid = |words: &str| Ok(failure(call, StatusCode::BAD_REQUEST, "ValidationError", words));
    let known: &[&str] = match action {
        "AssumeRole" => &["RoleArn", "RoleSessionName", "Policy", "DurationSeconds"],
        "GetSessionToken" => &["DurationSeconds"],
        "GetCallerIdentity" => &[],
        _ => {
            call.asks("sts", "Unknown", (None, None), false);
            let words = "The action is not one that is offered: AssumeRole, GetSessionToken, GetCallerIdentity.";
            return Ok(failure(call, StatusCode::BAD_REQUEST, "InvalidAction", words));
        }
    };
    call.asks("sts", action, (None, None), true);
    if service != Some("sts") {
        let words = "The request is signed for another service.";
        return Ok(failure(call, StatusCode::FORBIDDEN, "SignatureDoesNotMatch", words));
    }
    for (name, _) in fields {
        // What narrows, and is not known, must not be passed over.
        if !["Action", "Version"].contains(&name.as_str())
            && !name.starts_with("X-Amz-")
            && !known.contains(&name.as_str())
        {
            return invalid(&format!("The parameter {name} is not supported."));
        }
        if fields.iter().filter(|(other, _)| other == name).count() > 1 {
            return invalid(&format!("The parameter {name} was sent twice."));
        }
    }
    if field("Version").is_some_and(|version| version != VERSION) {
        return invalid(&format!("The version is {VERSION}."));
    }
    let seconds = match field("DurationSeconds").map(str::parse) {
        None => None,
        Some(Ok(seconds)) => Some(seconds),
        Some(Err(_)) => return invalid("DurationSeconds is not a number of seconds."),
    };
    match action {
        "AssumeRole" => {
            let (Some(role), Some(session)) = (field("RoleArn"), field("RoleSessionName")) else {
                return invalid("AssumeRole needs RoleArn and RoleSessionName.");
            };
            let wish = RoleWish { role, session, policy: field("Policy").filter(|policy| !policy.is_empty()), seconds };
            match call.ground.access.assume_role(grant, wish).await {
                Ok(key) => Ok(assumed(call, &key, session)),
                Err(refusal) => Ok(refused(call, &refusal)),
            }
        }
        "GetSessionToken" => match call.ground.access.session_token(grant, seconds).await {
            Ok(key) => Ok(success(call, action, &credentials(&key))),
            Err(refusal) => Ok(refused(call, &refusal)),
        },
        _ => Ok(success(call, action, &whoami(grant))),
    }
}

fn assumed(call: &Call, key: &TemporaryKey, session: &str) -> Response<Body> {
    let user = format!(
        "<AssumedRoleUser><AssumedRoleId>{}:{}</AssumedRoleId><Arn>{}</Arn></AssumedRoleUser>",
        escaped(&key.access),
        escaped(session),
        escaped(&key.principal)
    );
    success(call, "AssumeRole", &format!("{}{user}", credentials(key)))
}

fn credentials(key: &TemporaryKey) -> String {
    format!(
        "<Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>\
         <SessionToken>{}</SessionToken><Expiration>{}</Expiration></Credentials>",
        escaped(&key.access),
        escaped(&key.secret),
        escaped(&key.session_token),
        key.expires.strftime("%Y-%m-%dT%H:%M:%SZ")
    )
}

fn whoami(grant: &Grant) -> String {
    format!(
        "<Arn>{}</Arn><UserId>{}</UserId><Account>{}</Account>",
        escaped(&grant.principal),
        escaped(&grant.identity),
        escaped(grant.project.as_str())
    )
}

fn success(call: &Call, action: &str, result: &str) -> Response<Body> {
    let body = format!(
        "<{action}Response xmlns=\"{NAMESPACE}\"><{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata></{action}Response>",
        call.request_id()
    );
    answer(StatusCode::OK, body)
}

fn refused(call: &Call, refusal: &Refusal) -> Response<Body> {
    match refusal {
        Refusal::Denied(words) => failure(call, StatusCode::FORBIDDEN, "AccessDenied", words),
        Refusal::Invalid(words) => failure(call, StatusCode::BAD_REQUEST, "ValidationError", words),
        Refusal::MalformedPolicy(words) => failure(call, StatusCode::BAD_REQUEST, "MalformedPolicyDocument", words),
        Refusal::Failed(cause) => {
            tracing::error!(%cause, "a temporary key could not be made");
            failure(call, StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "Try again later.")
        }
    }
}

fn failure(call: &Call, status: StatusCode, code: &str, words: &str) -> Response<Body> {
    let kind = if status.is_server_error() { "Receiver" } else { "Sender" };
    let body = format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>{kind}</Type><Code>{code}</Code><Message>{}</Message></Error>\
         <RequestId>{}</RequestId></ErrorResponse>",
        escaped(words),
        call.request_id()
    );
    answer(status, body)
}

fn answer(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(XML));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

const FORM: &str = "application/x-www-form-urlencoded";
const DIGEST: &str = "x-amz-content-sha256";
const TOKEN: &str = "x-amz-security-token";
const XML: &str = "text/xml";
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
const VERSION: &str = "2011-06-15";
/// The most bytes of a call: a session policy of 2,048 characters, percent signs and all, and more.
const MOST_BODY: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_form_is_the_one_that_was_signed() {
        let (body, other) = ("Action=GetCallerIdentity", "Action=GetSessionToken");
        let digest = |text: &str| hex::encode(crypto::digest::sha256(&[text.as_bytes()]));
        let query = "/?Action=AssumeRole&X-Amz-Signature=0";
        for (uri, header, body, good) in [
            ("/", None, body, true),
            ("/", Some(digest(body)), body, true),
            ("/", Some(digest(body).to_uppercase()), body, true),
            ("/", Some(digest(body)), other, false),
            ("/", Some(digest(body)), "", false),
            ("/", Some("UNSIGNED-PAYLOAD".to_owned()), body, false),
            ("/", Some("STREAMING-UNSIGNED-PAYLOAD-TRAILER".to_owned()), body, false),
            (query, None, "", true),
            (query, None, "DurationSeconds=43200", false),
            (query, Some(digest("DurationSeconds=43200")), "DurationSeconds=43200", false),
        ] {
            let mut request = Request::post(uri);
            if let Some(header) = &header {
                request = request.header(DIGEST, header);
            }
            let prepared = prepared(request.body(Body::from(body.to_owned())).expect("a request")).await;
            let code = prepared.as_ref().err().map(|refusal| refusal.code().as_str().to_owned());
            assert_eq!(code.as_deref(), (!good).then_some("SignatureDoesNotMatch"), "{uri} {header:?} {body}");
            if let Ok(request) = prepared
                && uri == "/"
            {
                assert!(request.headers()[DIGEST].as_bytes().eq_ignore_ascii_case(digest(body).as_bytes()));
            }
        }
    }
}
