//! Deletes of objects and of versions.

use s3s::{S3Error, S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    convert::{bucket_name, condition, named_version, target, version},
    objects::found,
};
use crate::{
    call::Call,
    decide::Wish,
    put::Removal,
    versions::{Removed, VersionId},
};

type Answer<T> = S3Result<S3Response<T>>;

pub async fn delete_object(call: &Call, request: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
    let input = request.input;
    if input.if_match_last_modified_time.is_some() || input.if_match_size.is_some() {
        return Err(s3_error!(NotImplemented, "a delete is conditional on an entity tag only"));
    }
    let target = target(call, &input.bucket, &input.key)?;
    let version = version(input.version_id.as_deref())?;
    let bypass_governance = input.bypass_governance_retention == Some(true);
    if bypass_governance {
        let wish = Wish { bucket: Some(&target.bucket), key: Some(&target.key), version, ..Wish::default() };
        call.demand(&Wish { action: "s3:BypassGovernanceRetention", ..wish }).await?;
    }
    let condition = condition(input.if_match, None);
    let removal = Removal { key: target.key, version, condition, bypass_governance };
    let results = call.store().remove(&target.project, &target.bucket, vec![removal]).await?;
    let mut output = DeleteObjectOutput::default();
    for removed in results {
        let removed = removed?;
        output.delete_marker = removed.marker.map(|_| true);
        output.version_id = removed.marker.or(removed.version).and_then(|id| named_version(call, id));
    }
    Ok(S3Response::new(output))
}

pub async fn delete_objects(call: &Call, request: S3Request<DeleteObjectsInput>) -> Answer<DeleteObjectsOutput> {
    let input = request.input;
    let bucket = bucket_name(&input.bucket)?;
    let objects = input.delete.objects;
    if objects.is_empty() || objects.len() > MOST_DELETED {
        return Err(s3_error!(MalformedXML, "1 to {MOST_DELETED} objects are deleted at once"));
    }
    let bypass = input.bypass_governance_retention == Some(true);
    let mut errors = Vec::new();
    let mut removals = Vec::new();
    for object in objects {
        let (key, named) = (object.key.clone(), object.version_id.clone());
        match removal(call, &bucket, object, bypass).await {
            Ok(removal) => removals.push(removal),
            Err(cause) => errors.push(failure(key, named, &cause)),
        }
    }
    // One without any right learns nothing from the shape of the answer.
    if removals.is_empty() && call.grant().is_none() {
        return Err(s3_error!(AccessDenied, "a signature is required"));
    }
    let names: Vec<(String, Option<VersionId>)> =
        removals.iter().map(|removal| (removal.key.clone(), removal.version)).collect();
    let results = call.store().remove(call.project()?, &bucket, removals).await?;
    let mut deleted = Vec::new();
    for ((key, named), result) in names.into_iter().zip(results) {
        match result {
            Ok(removed) => deleted.push(done(call, key, removed)),
            Err(cause) => errors.push(failure(key, named.map(|id| id.to_string()), &cause.into())),
        }
    }
    let quiet = input.delete.quiet == Some(true);
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted: (!quiet).then_some(deleted),
        errors: (!errors.is_empty()).then_some(errors),
        request_charged: None,
    }))
}

/// A removal that the caller has the right to.
async fn removal(
    call: &Call,
    bucket: &model::BucketName,
    object: ObjectIdentifier,
    bypass_governance: bool,
) -> S3Result<Removal> {
    let version = version(object.version_id.as_deref())?;
    let target = target(call, bucket.as_str(), &object.key)?;
    if object.last_modified_time.is_some() || object.size.is_some() {
        return Err(s3_error!(NotImplemented, "a delete is conditional on an entity tag only"));
    }
    let action = if version.is_some() { "s3:DeleteObjectVersion" } else { "s3:DeleteObject" };
    let wish = Wish { action, bucket: Some(bucket), key: Some(&target.key), version, more: &[] };
    call.demand(&wish).await?;
    if bypass_governance {
        call.demand(&Wish { action: "s3:BypassGovernanceRetention", ..wish }).await?;
    }
    let condition = condition(object.e_tag.map(ETagCondition::ETag), None);
    Ok(Removal { key: target.key, version, condition, bypass_governance })
}

fn done(call: &Call, key: String, removed: Removed) -> DeletedObject {
    DeletedObject {
        delete_marker: removed.marker.map(|_| true),
        delete_marker_version_id: removed.marker.and_then(|id| named_version(call, id)),
        key: Some(key),
        version_id: removed.version.and_then(|id| named_version(call, id)),
    }
}

fn failure(key: String, version: Option<String>, cause: &S3Error) -> s3s::dto::Error {
    s3s::dto::Error {
        code: Some(cause.code().as_str().to_owned()),
        key: Some(key),
        message: cause.message().map(str::to_owned),
        version_id: version,
    }
}

pub async fn delete_object_tagging(
    call: &Call,
    request: S3Request<DeleteObjectTaggingInput>,
) -> Answer<DeleteObjectTaggingOutput> {
    let input = request.input;
    let target = target(call, &input.bucket, &input.key)?;
    let row = found(call, &target, input.version_id.as_deref()).await?;
    let row = call.store().set_tags(target, Some(row.id()), crate::rows::Tags::new()).await?;
    let version_id = super::convert::version_of(call, &row);
    Ok(S3Response::new(DeleteObjectTaggingOutput { version_id }))
}

const MOST_DELETED: usize = 1000;
