//! Operations on buckets.

use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};

use super::convert::{bucket_name, time};
use crate::{Error, NewBucket, call::Call};

type Answer<T> = S3Result<S3Response<T>>;

pub async fn list_buckets(call: &Call, request: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
    let input = request.input;
    let project = call.project()?;
    let prefix = input.prefix.clone().unwrap_or_default();
    let after = input.continuation_token.unwrap_or_default();
    let most = super::convert::count("max-buckets", input.max_buckets, MOST_BUCKETS)?.max(1);
    let mut buckets: Vec<Bucket> = call
        .ground
        .store
        .buckets(project)
        .await?
        .into_iter()
        .filter(|bucket| bucket.name.as_str().starts_with(&prefix) && bucket.name.as_str() > after.as_str())
        .take(most + 1)
        .map(|bucket| Bucket {
            name: Some(bucket.name.to_string()),
            creation_date: Some(time(bucket.created.as_millisecond())),
            bucket_region: Some(call.ground.region.to_string()),
        })
        .collect();
    let more = buckets.len() > most;
    buckets.truncate(most);
    Ok(S3Response::new(ListBucketsOutput {
        continuation_token: buckets.last().filter(|_| more).and_then(|last| last.name.clone()),
        buckets: Some(buckets),
        owner: Some(owner(call)?),
        prefix: input.prefix,
    }))
}

pub async fn create_bucket(call: &Call, request: S3Request<CreateBucketInput>) -> Answer<CreateBucketOutput> {
    let input = request.input;
    let acl = input.acl.as_ref().map(BucketCannedACL::as_str);
    super::convert::refuse_unsupported(acl, None, false, input.object_lock_enabled_for_bucket == Some(true), None)?;
    let bucket = bucket_name(&input.bucket)?;
    call.ground.store.create_bucket(call.project()?, &bucket, NewBucket::default()).await?;
    Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{bucket}")) }))
}

pub async fn delete_bucket(call: &Call, request: S3Request<DeleteBucketInput>) -> Answer<DeleteBucketOutput> {
    call.ground.store.delete_bucket(call.project()?, &bucket_name(&request.input.bucket)?).await?;
    Ok(S3Response::new(DeleteBucketOutput::default()))
}

pub async fn head_bucket(call: &Call, request: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
    exists(call, &request.input.bucket).await?;
    let region = call.ground.region.to_string();
    Ok(S3Response::new(HeadBucketOutput { bucket_region: Some(region), ..Default::default() }))
}

pub async fn get_bucket_location(
    call: &Call,
    request: S3Request<GetBucketLocationInput>,
) -> Answer<GetBucketLocationOutput> {
    exists(call, &request.input.bucket).await?;
    let region = BucketLocationConstraint::from(call.ground.region.to_string());
    Ok(S3Response::new(GetBucketLocationOutput { location_constraint: Some(region) }))
}

pub async fn get_bucket_versioning(
    call: &Call,
    request: S3Request<GetBucketVersioningInput>,
) -> Answer<GetBucketVersioningOutput> {
    exists(call, &request.input.bucket).await?;
    // S3's answer for a bucket that never had versions.
    Ok(S3Response::new(GetBucketVersioningOutput::default()))
}

pub async fn get_bucket_policy(call: &Call, request: S3Request<GetBucketPolicyInput>) -> Answer<GetBucketPolicyOutput> {
    exists(call, &request.input.bucket).await?;
    Err(s3_error!(NoSuchBucketPolicy, "the bucket has no policy"))
}

pub async fn get_bucket_tagging(
    call: &Call,
    request: S3Request<GetBucketTaggingInput>,
) -> Answer<GetBucketTaggingOutput> {
    exists(call, &request.input.bucket).await?;
    Err(s3_error!(NoSuchTagSet, "the bucket has no tags"))
}

pub async fn get_bucket_lifecycle_configuration(
    call: &Call,
    request: S3Request<GetBucketLifecycleConfigurationInput>,
) -> Answer<GetBucketLifecycleConfigurationOutput> {
    exists(call, &request.input.bucket).await?;
    Err(s3_error!(NoSuchLifecycleConfiguration, "the bucket has no lifecycle rules"))
}

pub async fn get_object_lock_configuration(
    call: &Call,
    request: S3Request<GetObjectLockConfigurationInput>,
) -> Answer<GetObjectLockConfigurationOutput> {
    exists(call, &request.input.bucket).await?;
    Err(s3_error!(ObjectLockConfigurationNotFoundError, "the bucket has no object lock"))
}

/// The project, as the owner of all that is in it.
pub fn owner(call: &Call) -> S3Result<Owner> {
    let project = call.project()?.to_string();
    Ok(Owner { display_name: Some(project.clone()), id: Some(project) })
}

/// Says so if there is no such bucket.
pub async fn exists(call: &Call, bucket: &str) -> S3Result<()> {
    let bucket = bucket_name(bucket)?;
    let found = call.ground.store.bucket(call.project()?, &bucket).await?;
    found.map(drop).ok_or_else(|| Error::NoSuchBucket { bucket }.into())
}

const MOST_BUCKETS: usize = 10_000;
