//! The store's errors as S3's. What a caller can mend says how; what is ours goes to the log.

use http::StatusCode;
use s3s::{S3Error, S3ErrorCode};

use crate::{
    Error,
    patience::{Crowded, Stalled},
};

impl From<Error> for S3Error {
    fn from(error: Error) -> S3Error {
        let code = match &error {
            Error::NoSuchBucket { .. } => S3ErrorCode::NoSuchBucket,
            Error::BucketExists { .. } => S3ErrorCode::BucketAlreadyOwnedByYou,
            Error::TooManyBuckets { .. } => S3ErrorCode::TooManyBuckets,
            Error::NotEmpty { .. } => S3ErrorCode::BucketNotEmpty,
            Error::NoSuchKey => S3ErrorCode::NoSuchKey,
            Error::NoSuchVersion => S3ErrorCode::NoSuchVersion,
            Error::IsMarker { .. } => S3ErrorCode::MethodNotAllowed,
            Error::InvalidVersion | Error::InvalidRetention(_) => S3ErrorCode::InvalidArgument,
            Error::Locked(_) => S3ErrorCode::AccessDenied,
            Error::NoLock => S3ErrorCode::InvalidRequest,
            Error::BucketState(_) => S3ErrorCode::InvalidBucketState,
            Error::InvalidTag(_) => S3ErrorCode::InvalidTag,
            Error::DocumentTooLarge { .. } => S3ErrorCode::EntityTooLarge,
            Error::NoSuchUpload => S3ErrorCode::NoSuchUpload,
            Error::InvalidPart { .. } => S3ErrorCode::InvalidPart,
            Error::InvalidPartOrder => S3ErrorCode::InvalidPartOrder,
            Error::PartTooSmall { .. } => S3ErrorCode::EntityTooSmall,
            Error::Precondition => S3ErrorCode::PreconditionFailed,
            Error::Invalid(_) => S3ErrorCode::InvalidRequest,
            Error::BadDigest { .. } => S3ErrorCode::BadDigest,
            Error::TooLarge { .. } => S3ErrorCode::EntityTooLarge,
            Error::Body(cause) => return of_body(cause.as_ref()),
            Error::Full => {
                // S3 has no code for it; 507 is RFC 4918's, and clients do not try it again as they do a 503.
                let code = S3ErrorCode::Custom("InsufficientStorage".into());
                let mut full = S3Error::with_message(code, error.to_string());
                full.set_status_code(StatusCode::INSUFFICIENT_STORAGE);
                return full;
            }
            Error::InvalidRange { .. } => S3ErrorCode::InvalidRange,
            Error::NotThere(_) => S3ErrorCode::NotImplemented,
            Error::External(cause) => {
                tracing::error!(%cause, "the external object store failed");
                S3ErrorCode::ServiceUnavailable
            }
            Error::Closed | Error::InUse => S3ErrorCode::ServiceUnavailable,
            Error::Damaged { .. }
            | Error::LogDamaged { .. }
            | Error::Keys(_)
            | Error::Crypto(_)
            | Error::Io { .. }
            | Error::Index(_)
            | Error::NotPlaced
            | Error::Home(_)
            | Error::Audit(_)
            | Error::NotWritten => {
                tracing::error!(cause = ?error, "the object store failed");
                return S3Error::with_message(S3ErrorCode::InternalError, "the object store failed; see its log");
            }
        };
        S3Error::with_message(code, error.to_string())
    }
}

/// Why a body was not read to its end. `s3s` keeps the types of these errors to itself, so that their words decide;
/// whatever it is, it is the sender's fault or the line's.
fn of_body(cause: &(dyn std::error::Error + Send + Sync + 'static)) -> S3Error {
    let words = cause.to_string();
    let has = |word: &str| words.contains(word);
    if cause.is::<Stalled>() || has(&Stalled.to_string()) {
        S3Error::with_message(S3ErrorCode::RequestTimeout, Stalled.to_string())
    } else if has(&Crowded.to_string()) {
        S3Error::with_message(S3ErrorCode::SlowDown, Crowded.to_string())
    } else if has("Sha256Mismatch") {
        let code = S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into());
        let mut mismatch = S3Error::with_message(code, "the body's SHA-256 is not x-amz-content-sha256");
        mismatch.set_status_code(StatusCode::BAD_REQUEST);
        mismatch
    } else if has("SignatureMismatch") {
        S3Error::with_message(S3ErrorCode::SignatureDoesNotMatch, "the signature of a chunk does not match")
    } else if ["FormatError", "TooLarge", "TooMany"].iter().any(|word| has(word)) {
        S3Error::with_message(S3ErrorCode::InvalidRequest, "the chunks of the body are malformed")
    } else {
        S3Error::with_message(S3ErrorCode::IncompleteBody, "the body did not arrive whole")
    }
}
