//! What is set on an object that is there: tags, retention, legal hold, and the access list that there is not.

use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    buckets::{grants, owner},
    convert::{hold, milliseconds, mode, mode_name, tag_set, tags, target, text_of, time, version, version_of},
    given::check_acl,
    objects::found,
};
use crate::{
    call::Call,
    decide::{Wish, remaining_days, request_tags},
    rows::Retention,
};

type Answer<T> = S3Result<S3Response<T>>;

pub async fn get_object_tagging(
    call: &Call,
    request: S3Request<GetObjectTaggingInput>,
) -> Answer<GetObjectTaggingOutput> {
    let input = request.input;
    let target = target(call, &input.bucket, &input.key)?;
    let row = found(call, &target, input.version_id.as_deref()).await?;
    let version_id = version_of(call, &row);
    Ok(S3Response::new(GetObjectTaggingOutput { tag_set: tag_set(row.tags), version_id }))
}

pub async fn put_object_tagging(
    call: &Call,
    request: S3Request<PutObjectTaggingInput>,
) -> Answer<PutObjectTaggingOutput> {
    let input = request.input;
    let target = target(call, &input.bucket, &input.key)?;
    let version = version(input.version_id.as_deref())?;
    let tags = tags(input.tagging.tag_set)?;
    let action = if version.is_some() { "s3:PutObjectVersionTagging" } else { "s3:PutObjectTagging" };
    let more = request_tags(&tags);
    let wish = Wish { action, bucket: Some(&target.bucket), key: Some(&target.key), version, more: &more };
    call.demand(&wish).await?;
    found(call, &target, input.version_id.as_deref()).await?;
    let row = call.store().set_tags(target, version, tags).await?;
    Ok(S3Response::new(PutObjectTaggingOutput { version_id: version_of(call, &row) }))
}

pub async fn get_object_retention(
    call: &Call,
    request: S3Request<GetObjectRetentionInput>,
) -> Answer<GetObjectRetentionOutput> {
    let input = request.input;
    let target = target(call, &input.bucket, &input.key)?;
    has_lock(call)?;
    let row = found(call, &target, input.version_id.as_deref()).await?;
    let retention = row.retention.ok_or_else(no_lock)?;
    Ok(S3Response::new(GetObjectRetentionOutput {
        retention: Some(ObjectLockRetention {
            mode: Some(ObjectLockRetentionMode::from_static(mode_name(retention.mode))),
            retain_until_date: Some(time(retention.until)),
        }),
    }))
}

pub async fn put_object_retention(
    call: &Call,
    request: S3Request<PutObjectRetentionInput>,
) -> Answer<PutObjectRetentionOutput> {
    let input = request.input;
    let target = target(call, &input.bucket, &input.key)?;
    let version = version(input.version_id.as_deref())?;
    let malformed = || s3_error!(MalformedXML, "a retention has a mode and a date");
    let mut more = Vec::new();
    let retention = match input.retention.ok_or_else(malformed)? {
        ObjectLockRetention { mode: None, retain_until_date: None } => None,
        ObjectLockRetention { mode: Some(named), retain_until_date: Some(until) } => {
            more.push(("s3:object-lock-mode".to_owned(), named.as_str().to_owned()));
            let text = text_of(&until).ok_or_else(malformed)?;
            more.extend(remaining_days(&text).map(|days| ("s3:object-lock-remaining-retention-days".to_owned(), days)));
            more.push(("s3:object-lock-retain-until-date".to_owned(), text));
            Some(Retention { mode: mode(named.as_str())?, until: milliseconds(&until).ok_or_else(malformed)? })
        }
        _ => return Err(malformed()),
    };
    let wish = Wish { bucket: Some(&target.bucket), key: Some(&target.key), version, more: &more, ..Wish::default() };
    call.demand(&Wish { action: "s3:PutObjectRetention", ..wish }).await?;
    let bypass = input.bypass_governance_retention == Some(true);
    if bypass {
        call.demand(&Wish { action: "s3:BypassGovernanceRetention", ..wish }).await?;
    }
    has_lock(call)?;
    found(call, &target, input.version_id.as_deref()).await?;
    call.store().set_retention(target, version, retention, bypass).await?;
    Ok(S3Response::new(PutObjectRetentionOutput::default()))
}

pub async fn get_object_legal_hold(
    call: &Call,
    request: S3Request<GetObjectLegalHoldInput>,
) -> Answer<GetObjectLegalHoldOutput> {
    let input = request.input;
    let target = target(call, &input.bucket, &input.key)?;
    has_lock(call)?;
    let row = found(call, &target, input.version_id.as_deref()).await?;
    let status = if row.hold { ObjectLockLegalHoldStatus::ON } else { ObjectLockLegalHoldStatus::OFF };
    Ok(S3Response::new(GetObjectLegalHoldOutput {
        legal_hold: Some(ObjectLockLegalHold { status: Some(ObjectLockLegalHoldStatus::from_static(status)) }),
    }))
}

pub async fn put_object_legal_hold(
    call: &Call,
    request: S3Request<PutObjectLegalHoldInput>,
) -> Answer<PutObjectLegalHoldOutput> {
    let input = request.input;
    let target = target(call, &input.bucket, &input.key)?;
    let version = version(input.version_id.as_deref())?;
    let status = input.legal_hold.and_then(|hold| hold.status);
    let status = status.ok_or_else(|| s3_error!(MalformedXML, "a legal hold has a status"))?;
    let more = [("s3:object-lock-legal-hold".to_owned(), status.as_str().to_owned())];
    let wish = Wish { bucket: Some(&target.bucket), key: Some(&target.key), version, more: &more, ..Wish::default() };
    call.demand(&Wish { action: "s3:PutObjectLegalHold", ..wish }).await?;
    has_lock(call)?;
    found(call, &target, input.version_id.as_deref()).await?;
    call.store().set_hold(target, version, hold(status.as_str())?).await?;
    Ok(S3Response::new(PutObjectLegalHoldOutput::default()))
}

pub async fn get_object_acl(call: &Call, request: S3Request<GetObjectAclInput>) -> Answer<GetObjectAclOutput> {
    let input = request.input;
    let target = target(call, &input.bucket, &input.key)?;
    found(call, &target, input.version_id.as_deref()).await?;
    let output = GetObjectAclOutput { grants: Some(grants(call)?), owner: Some(owner(call)?), request_charged: None };
    Ok(S3Response::new(output))
}

pub async fn put_object_acl(call: &Call, request: S3Request<PutObjectAclInput>) -> Answer<PutObjectAclOutput> {
    let input = request.input;
    let target = target(call, &input.bucket, &input.key)?;
    found(call, &target, input.version_id.as_deref()).await?;
    let headers = [
        &input.grant_full_control,
        &input.grant_read,
        &input.grant_read_acp,
        &input.grant_write,
        &input.grant_write_acp,
    ];
    check_acl(input.acl.as_ref().map(ObjectCannedACL::as_str), headers.into_iter().any(Option::is_some))?;
    super::buckets::check_access_list(call, input.access_control_policy)?;
    Ok(S3Response::new(PutObjectAclOutput::default()))
}

/// Locks are of buckets that have them.
fn has_lock(call: &Call) -> S3Result<()> {
    match call.settings() {
        Some(bucket) if bucket.lock.is_none() => {
            Err(s3_error!(InvalidRequest, "Bucket is missing Object Lock Configuration"))
        }
        _ => Ok(()),
    }
}

fn no_lock() -> S3Error {
    let why = "The specified object does not have a ObjectLock configuration";
    S3Error::with_message(S3ErrorCode::NoSuchObjectLockConfiguration, why)
}
