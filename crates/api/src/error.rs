//! The one error of the border, in the old service's form. `details` maps text to text only: go-ovh fails on more.

use std::collections::BTreeMap;

use http::StatusCode;
use identity::Refusal;
use model::Faults;
use serde_json::{Value, json};

/// What a client is told when a call fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The status.
    pub status: StatusCode,
    /// The class, such as `Client::Forbidden`.
    pub class: String,
    /// The code that SDKs look at, such as `NOT_CREDENTIAL`.
    pub code: &'static str,
    /// One sentence.
    pub message: String,
    /// More, field by field.
    pub details: BTreeMap<String, String>,
    /// What the header `Allow` says, where there is one.
    pub allow: Option<String>,
    /// What the header `WWW-Authenticate` says, where there is one.
    pub authenticate: Option<Scheme>,
    /// The error as OAuth2 names it: then the body is that of RFC 6749, section 5.2.
    pub oauth2: Option<OAuth2Fault>,
}

/// How a caller is asked to prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// By the id and secret of a service account.
    Basic,
    /// By an access token, another than the one that was sent.
    Bearer,
}

impl Scheme {
    /// The value of `WWW-Authenticate`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Scheme::Basic => "Basic realm=\"casemate\"",
            Scheme::Bearer => "Bearer realm=\"casemate\", error=\"invalid_token\"",
        }
    }
}

/// Why no token is given (RFC 6749, section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OAuth2Fault {
    /// The request is malformed.
    InvalidRequest,
    /// The service account is not known, or did not prove who it is.
    InvalidClient,
    /// The way to a token is none of this service.
    UnsupportedGrantType,
    /// The scope is none of this service.
    InvalidScope,
}

impl OAuth2Fault {
    fn as_str(self) -> &'static str {
        match self {
            OAuth2Fault::InvalidRequest => "invalid_request",
            OAuth2Fault::InvalidClient => "invalid_client",
            OAuth2Fault::UnsupportedGrantType => "unsupported_grant_type",
            OAuth2Fault::InvalidScope => "invalid_scope",
        }
    }
}

impl ApiError {
    fn new(status: StatusCode, class: &str, code: &'static str, message: impl Into<String>) -> ApiError {
        ApiError {
            status,
            class: class.to_owned(),
            code,
            message: message.into(),
            details: BTreeMap::new(),
            allow: None,
            authenticate: None,
            oauth2: None,
        }
    }

    /// The request itself is wrong.
    pub fn bad_request(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "Client::BadRequest", "BAD_REQUEST", message)
    }

    /// One field of the request is wrong.
    pub fn bad_field(field: &str, message: impl Into<String>) -> ApiError {
        let message = message.into();
        ApiError::bad_request(format!("{field}: {message}")).detail(field, message)
    }

    /// The call is about another region than that of its project.
    pub fn elsewhere(field: &str, message: impl Into<String>) -> ApiError {
        let (status, class) = (StatusCode::UNPROCESSABLE_ENTITY, "Client::UnprocessableEntity::odp.region.elsewhere");
        let message = message.into();
        ApiError::new(status, class, "UNPROCESSABLE_ENTITY", format!("{field}: {message}")).detail(field, message)
    }

    /// There is no such thing, or none that the caller may know of.
    pub fn not_found(kind: &str, id: &str) -> ApiError {
        let id: String = id.chars().take(120).collect();
        let message = format!("The requested object ({kind} = {id}) does not exist");
        ApiError::new(StatusCode::NOT_FOUND, "Client::NotFound", "NOT_FOUND", message)
    }

    /// There is no such route.
    pub fn no_route() -> ApiError {
        let message = "Got an invalid (or empty) URL";
        ApiError::new(StatusCode::NOT_FOUND, "Client::NotFound", "INVALID_URL", message)
    }

    /// The route has no such method.
    pub fn method_not_allowed(allowed: &str) -> ApiError {
        let message = format!("This route has the methods {allowed}");
        let mut error =
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "Client::MethodNotAllowed", "METHOD_NOT_ALLOWED", message);
        error.allow = Some(allowed.to_owned());
        error
    }

    /// It is in the way of something that is there.
    pub fn conflict(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::CONFLICT, "Client::Conflict", "CONFLICT", message)
    }

    /// The body is larger than 1 MiB.
    pub fn too_large() -> ApiError {
        let message = "The body of a request is at most 1 MiB";
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "Client::PayloadTooLarge", "PAYLOAD_TOO_LARGE", message)
    }

    /// The URL is too long.
    pub fn uri_too_long() -> ApiError {
        let message = "The URL of a request is at most 8 KiB";
        ApiError::new(StatusCode::URI_TOO_LONG, "Client::UriTooLong", "URI_TOO_LONG", message)
    }

    /// The body came too slowly.
    pub fn too_slow() -> ApiError {
        let message = "The body of the request did not come in time";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "Client::RequestTimeout", "REQUEST_TIMEOUT", message)
    }

    /// The body is not JSON by its own word.
    pub fn not_json() -> ApiError {
        let message = "The body of a request is application/json";
        ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Client::UnsupportedMediaType",
            "UNSUPPORTED_MEDIA_TYPE",
            message,
        )
    }

    /// The body is not a form by its own word.
    pub fn not_form() -> ApiError {
        ApiError {
            message: "The body of this request is application/x-www-form-urlencoded".to_owned(),
            ..ApiError::not_json()
        }
    }

    /// More than there may be.
    pub fn too_many(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "Client::TooManyRequests", "TOO_MANY_REQUESTS", message)
    }

    /// The access token is not good (RFC 6750, section 3.1).
    pub fn invalid_token(message: String) -> ApiError {
        let mut error = ApiError::new(StatusCode::UNAUTHORIZED, "Client::Unauthorized", "INVALID_CREDENTIAL", message);
        error.authenticate = Some(Scheme::Bearer);
        error
    }

    /// The session of the console is not good any more.
    pub fn ended_session(message: String) -> ApiError {
        ApiError::new(StatusCode::UNAUTHORIZED, "Client::Unauthorized", "INVALID_CREDENTIAL", message)
    }

    /// A request for a token failed.
    pub fn oauth2(fault: OAuth2Fault, message: impl Into<String>) -> ApiError {
        let is_client = fault == OAuth2Fault::InvalidClient;
        let (status, class) = match is_client {
            true => (StatusCode::UNAUTHORIZED, "Client::Unauthorized"),
            false => (StatusCode::BAD_REQUEST, "Client::BadRequest"),
        };
        let mut error = ApiError::new(status, class, "OAUTH2", message);
        error.authenticate = is_client.then_some(Scheme::Basic);
        error.oauth2 = Some(fault);
        error
    }

    /// The credential's access rules do not grant this call.
    pub fn not_granted() -> ApiError {
        let message = "This call has not been granted";
        ApiError::new(StatusCode::FORBIDDEN, "Client::Forbidden", "NOT_GRANTED_CALL", message)
    }

    /// The caller may, but not now or not this.
    pub fn refused(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::FORBIDDEN, "Client::Forbidden", "FORBIDDEN", message)
    }

    /// The decision was no.
    pub fn forbidden(action: &str) -> ApiError {
        let message = "User not granted for this request";
        ApiError::new(StatusCode::FORBIDDEN, "Client::Forbidden", "FORBIDDEN", message)
            .detail("unauthorizedActionsByIAM", action)
    }

    /// The service failed; the cause is in its log, found by the query id.
    pub fn internal(cause: &(dyn std::error::Error + 'static)) -> ApiError {
        tracing::error!(cause = model::chain(cause), "a call failed");
        ApiError::failed()
    }

    /// The service failed for a reason that is in its log already.
    pub fn failed() -> ApiError {
        let message =
            "Internal server error; the operator finds the cause in the log by the X-Ovh-QueryID of this answer";
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Server::InternalServerError",
            "INTERNAL_SERVER_ERROR",
            message,
        )
    }

    /// The service cannot answer now.
    pub fn unavailable() -> ApiError {
        let message = "The service cannot answer now; try again in a moment";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "Server::ServiceUnavailable", "SERVICE_UNAVAILABLE", message)
    }

    /// A part of it is done, and the call must come again for the rest.
    pub fn unfinished(message: impl Into<String>) -> ApiError {
        ApiError { message: message.into(), ..ApiError::unavailable() }
    }

    /// The same with one more detail.
    pub fn detail(mut self, name: &str, text: impl Into<String>) -> ApiError {
        self.details.insert(name.to_owned(), text.into());
        self
    }

    /// The body.
    pub(crate) fn body(&self) -> Value {
        if let Some(fault) = self.oauth2 {
            return json!({ "error": fault.as_str(), "error_description": self.message });
        }
        let reason = self.status.canonical_reason().unwrap_or_default();
        json!({
            "class": self.class,
            "message": self.message,
            "errorCode": self.code,
            "httpCode": format!("{} {reason}", self.status.as_u16()),
            "details": self.details,
        })
    }
}

impl From<Faults> for ApiError {
    /// The class is that of the first fault; all are in the details, those of one field in one.
    fn from(faults: Faults) -> ApiError {
        let class = match faults.0.first() {
            Some(fault) => format!("Client::UnprocessableEntity::{}", fault.class),
            None => "Client::UnprocessableEntity".to_owned(),
        };
        let message = format!("The job is not valid: {faults}");
        let mut error = ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, &class, "UNPROCESSABLE_ENTITY", message);
        for fault in &faults.0 {
            let field: String = fault.field.chars().take(80).collect();
            let text = error.details.entry(field).or_default();
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(&fault.to_string());
        }
        error
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        let code = match &refusal {
            Refusal::InvalidKey => "INVALID_KEY",
            Refusal::NoCredential => "NOT_CREDENTIAL",
            Refusal::InvalidCredential | Refusal::PendingCredential | Refusal::Timestamp | Refusal::Signature => {
                "INVALID_CREDENTIAL"
            }
            Refusal::InvalidToken => return ApiError::invalid_token(refusal.to_string()),
            Refusal::InvalidSession => return ApiError::ended_session(refusal.to_string()),
            Refusal::SourceIp { .. } => "FORBIDDEN",
            Refusal::Internal(cause) => return ApiError::internal(cause),
        };
        ApiError::new(StatusCode::FORBIDDEN, "Client::Forbidden", code, refusal.to_string())
    }
}

impl From<identity::Error> for ApiError {
    fn from(error: identity::Error) -> ApiError {
        match &error {
            identity::Error::NotFound { kind, id } => ApiError::not_found(kind, id),
            identity::Error::Exists { .. }
            | identity::Error::StillUsed { .. }
            | identity::Error::InUse { .. }
            | identity::Error::LocksOut { .. } => ApiError::conflict(error.to_string()),
            identity::Error::TooMany { .. } => ApiError::too_many(error.to_string()),
            identity::Error::Exceeds { .. } | identity::Error::AccessDenied { .. } => {
                ApiError::refused(error.to_string())
            }
            identity::Error::WrongCode => ApiError::refused(error.to_string()).detail("code", error.to_string()),
            identity::Error::Key(_) => ApiError::refused(error.to_string()).detail("securityKey", error.to_string()),
            identity::Error::Invalid { field, rule } => ApiError::bad_field(field, *rule),
            identity::Error::Provider { field, what } => ApiError::bad_field(field, what.clone()),
            identity::Error::Policy(fault) => ApiError::bad_field("policy", fault.to_string()),
            identity::Error::Document(fault) => ApiError::bad_field(&fault.place, fault.problem.clone()),
            identity::Error::TryLater { .. } => ApiError::too_many(error.to_string()),
            cause @ (identity::Error::Db(_)
            | identity::Error::Audit(_)
            | identity::Error::Keys(_)
            | identity::Error::Damaged { .. }
            | identity::Error::Evaluation(_)
            | identity::Error::NoRandom) => ApiError::internal(cause),
        }
    }
}

impl From<jobs::Error> for ApiError {
    fn from(error: jobs::Error) -> ApiError {
        match error {
            jobs::Error::Invalid(faults) => faults.into(),
            jobs::Error::NotFound => ApiError::not_found("jobId", "of this call"),
            jobs::Error::NoSchedule => ApiError::not_found("scheduleId", "of this call"),
            cause @ jobs::Error::ScheduleExists(_) => ApiError::conflict(cause.to_string()),
            cause @ jobs::Error::TooManySchedules => ApiError::too_many(cause.to_string()),
            cause @ jobs::Error::NoPrincipal => ApiError::refused(cause.to_string()),
            cause @ jobs::Error::KeyReused => ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "Client::UnprocessableEntity::odp.job.idempotencyKey.reused",
                "UNPROCESSABLE_ENTITY",
                format!("Not accepted: {cause}"),
            ),
            jobs::Error::NotAuthorized => {
                let message =
                    "Data processing is not switched on for this project: POST .../dataProcessing/authorization";
                ApiError::refused(message)
            }
            cause => ApiError::internal(&cause),
        }
    }
}

impl From<objects::Error> for ApiError {
    fn from(error: objects::Error) -> ApiError {
        match &error {
            objects::Error::NoSuchBucket { bucket } => ApiError::not_found("name", bucket.as_str()),
            objects::Error::BucketExists { .. }
            | objects::Error::NotEmpty { .. }
            | objects::Error::Locked(_)
            | objects::Error::BucketState(_) => ApiError::conflict(error.to_string()),
            objects::Error::TooManyBuckets { .. } => ApiError::too_many(error.to_string()),
            objects::Error::NoSuchKey => ApiError::not_found("objectKey", "of this call"),
            objects::Error::Invalid(_) | objects::Error::DocumentTooLarge { .. } | objects::Error::NotThere(_) => {
                ApiError::bad_request(error.to_string())
            }
            objects::Error::External(cause) => {
                tracing::error!(%cause, "the external object store failed");
                ApiError::unavailable()
            }
            objects::Error::Closed => ApiError::unavailable(),
            objects::Error::Full => {
                tracing::error!("the object store's disk is full");
                ApiError::unfinished("The object store is full; what is in it can be read and removed")
            }
            cause => ApiError::internal(cause),
        }
    }
}
