//! Settings of buckets. What cannot be set is read as S3 answers it for a bucket where it is not set, because tools that
//! manage buckets read everything.

use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, dto::*, s3_error, xml};

use super::{
    buckets::exists,
    convert::{bucket_name, mode, mode_name, tag_set, tags},
};
use crate::{
    Error,
    call::Call,
    cors, notify,
    rows::{self, BucketRow, DefaultRetention as Kept, Kind, LockSettings, Period, PublicBlock, Tags, Versioning},
    settings::{MOST_BUCKET_TAGS, check_tags},
    sse,
};

type Answer<T> = S3Result<S3Response<T>>;

async fn row(call: &Call, bucket: &str) -> S3Result<BucketRow> {
    Ok(call.store().bucket_row(call.project()?, &bucket_name(bucket)?).await?)
}

async fn change(
    call: &Call,
    bucket: &str,
    change: impl FnOnce(&mut BucketRow) -> Result<(), Error> + Send + 'static,
) -> S3Result<()> {
    call.store().change_bucket(call.project()?, &bucket_name(bucket)?, change).await?;
    Ok(())
}

/// A document of a bucket, or what S3 says where there is none.
async fn document(call: &Call, bucket: &str, kind: Kind, none: S3ErrorCode, why: &'static str) -> S3Result<Vec<u8>> {
    let found = call.store().document(call.project()?, &bucket_name(bucket)?, kind).await?;
    found.ok_or_else(|| {
        let mut refusal = S3Error::with_message(none, why);
        refusal.set_status_code(http::StatusCode::NOT_FOUND);
        refusal
    })
}

async fn set_document(call: &Call, bucket: &str, kind: Kind, document: Option<Vec<u8>>) -> S3Result<()> {
    Ok(call.store().set_document(call.project()?, &bucket_name(bucket)?, kind, document).await?)
}

/// A document as XML, to be kept.
pub fn to_xml<T: xml::Serialize>(value: &T) -> S3Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut serializer = xml::Serializer::new(&mut text);
    value.serialize(&mut serializer).map_err(|_| s3_error!(MalformedXML, "the document cannot be written as XML"))?;
    Ok(text)
}

/// A document that was kept as XML.
pub fn of_xml<T: for<'x> xml::Deserialize<'x>>(text: &[u8], what: &str) -> S3Result<T> {
    let damaged = |_| S3Error::from(Error::Damaged { what: what.to_owned() });
    T::deserialize(&mut xml::Deserializer::new(text)).map_err(damaged)
}

pub async fn get_bucket_versioning(
    call: &Call,
    request: S3Request<GetBucketVersioningInput>,
) -> Answer<GetBucketVersioningOutput> {
    let status = match row(call, &request.input.bucket).await?.versioning {
        Versioning::Off => None,
        Versioning::Enabled => Some(BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED)),
        Versioning::Suspended => Some(BucketVersioningStatus::from_static(BucketVersioningStatus::SUSPENDED)),
    };
    Ok(S3Response::new(GetBucketVersioningOutput { status, ..Default::default() }))
}

pub async fn put_bucket_versioning(
    call: &Call,
    request: S3Request<PutBucketVersioningInput>,
) -> Answer<PutBucketVersioningOutput> {
    let input = request.input;
    let wanted = input.versioning_configuration;
    if wanted.mfa_delete.is_some_and(|mfa| mfa.as_str() != MFADelete::DISABLED) {
        return Err(s3_error!(NotImplemented, "deletes with a second factor are not supported"));
    }
    let versioning = match wanted.status.as_ref().map(BucketVersioningStatus::as_str) {
        Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
        Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
        _ => return Err(s3_error!(MalformedXML, "the status of versioning is Enabled or Suspended")),
    };
    change(call, &input.bucket, move |row| {
        row.versioning = versioning;
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutBucketVersioningOutput::default()))
}

pub async fn get_object_lock_configuration(
    call: &Call,
    request: S3Request<GetObjectLockConfigurationInput>,
) -> Answer<GetObjectLockConfigurationOutput> {
    let lock = row(call, &request.input.bucket).await?.lock;
    let lock = lock.ok_or_else(|| {
        s3_error!(ObjectLockConfigurationNotFoundError, "Object Lock configuration does not exist for this bucket")
    })?;
    let rule = lock.default.map(|default| {
        let (days, years) = match default.period {
            Period::Days(days) => (i32::try_from(days).ok(), None),
            Period::Years(years) => (None, i32::try_from(years).ok()),
        };
        let mode = Some(ObjectLockRetentionMode::from_static(mode_name(default.mode)));
        ObjectLockRule { default_retention: Some(DefaultRetention { days, mode, years }) }
    });
    Ok(S3Response::new(GetObjectLockConfigurationOutput {
        object_lock_configuration: Some(ObjectLockConfiguration {
            object_lock_enabled: Some(ObjectLockEnabled::from_static(ObjectLockEnabled::ENABLED)),
            rule,
        }),
    }))
}

pub async fn put_object_lock_configuration(
    call: &Call,
    request: S3Request<PutObjectLockConfigurationInput>,
) -> Answer<PutObjectLockConfigurationOutput> {
    let input = request.input;
    let malformed = |why: &'static str| s3_error!(MalformedXML, "{why}");
    let config = input.object_lock_configuration.ok_or_else(|| malformed("there is no configuration"))?;
    if config.object_lock_enabled.as_ref().map(ObjectLockEnabled::as_str) != Some(ObjectLockEnabled::ENABLED) {
        return Err(malformed("ObjectLockEnabled is Enabled"));
    }
    let default = match config.rule {
        None => None,
        Some(rule) => {
            let kept = rule.default_retention.ok_or_else(|| malformed("a rule has a default retention"))?;
            let named = kept.mode.ok_or_else(|| malformed("a default retention has a mode"))?;
            let number = |number: i32| {
                u32::try_from(number).map_err(|_| {
                    s3_error!(InvalidArgument, "Default retention period must be a positive integer value.")
                })
            };
            let period = match (kept.days, kept.years) {
                (Some(days), None) => Period::Days(number(days)?),
                (None, Some(years)) => Period::Years(number(years)?),
                _ => return Err(malformed("a default retention has days or years")),
            };
            Some(Kept { mode: mode(named.as_str())?, period })
        }
    };
    change(call, &input.bucket, move |row| {
        row.lock = Some(LockSettings { default });
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutObjectLockConfigurationOutput::default()))
}

pub async fn get_bucket_tagging(
    call: &Call,
    request: S3Request<GetBucketTaggingInput>,
) -> Answer<GetBucketTaggingOutput> {
    let none = S3ErrorCode::NoSuchTagSet;
    let document = document(call, &request.input.bucket, Kind::Tagging, none, "The TagSet does not exist").await?;
    let tags: Tags = rows::decode("tags", &document)?;
    Ok(S3Response::new(GetBucketTaggingOutput { tag_set: tag_set(tags) }))
}

pub async fn put_bucket_tagging(
    call: &Call,
    request: S3Request<PutBucketTaggingInput>,
) -> Answer<PutBucketTaggingOutput> {
    let tags = tags(request.input.tagging.tag_set)?;
    check_tags(&tags, MOST_BUCKET_TAGS)?;
    set_document(call, &request.input.bucket, Kind::Tagging, Some(rows::encode(&tags))).await?;
    Ok(S3Response::new(PutBucketTaggingOutput::default()))
}

pub async fn delete_bucket_tagging(
    call: &Call,
    request: S3Request<DeleteBucketTaggingInput>,
) -> Answer<DeleteBucketTaggingOutput> {
    set_document(call, &request.input.bucket, Kind::Tagging, None).await?;
    Ok(S3Response::new(DeleteBucketTaggingOutput::default()))
}

pub async fn get_bucket_cors(call: &Call, request: S3Request<GetBucketCorsInput>) -> Answer<GetBucketCorsOutput> {
    let (none, why) = (S3ErrorCode::NoSuchCORSConfiguration, "The CORS configuration does not exist");
    let document = document(call, &request.input.bucket, Kind::Cors, none, why).await?;
    let config: CORSConfiguration = of_xml(&document, "CORS rules")?;
    Ok(S3Response::new(GetBucketCorsOutput { cors_rules: Some(config.cors_rules) }))
}

pub async fn put_bucket_cors(call: &Call, request: S3Request<PutBucketCorsInput>) -> Answer<PutBucketCorsOutput> {
    let config = request.input.cors_configuration;
    cors::check(&config.cors_rules)?;
    set_document(call, &request.input.bucket, Kind::Cors, Some(to_xml(&config)?)).await?;
    Ok(S3Response::new(PutBucketCorsOutput::default()))
}

pub async fn delete_bucket_cors(
    call: &Call,
    request: S3Request<DeleteBucketCorsInput>,
) -> Answer<DeleteBucketCorsOutput> {
    set_document(call, &request.input.bucket, Kind::Cors, None).await?;
    Ok(S3Response::new(DeleteBucketCorsOutput::default()))
}

async fn policy(call: &Call, bucket: &str) -> S3Result<String> {
    let (none, why) = (S3ErrorCode::NoSuchBucketPolicy, "The bucket policy does not exist");
    let document = document(call, bucket, Kind::Policy, none, why).await?;
    String::from_utf8(document).map_err(|_| Error::Damaged { what: "a bucket's policy".to_owned() }.into())
}

pub async fn get_bucket_policy(call: &Call, request: S3Request<GetBucketPolicyInput>) -> Answer<GetBucketPolicyOutput> {
    let policy = policy(call, &request.input.bucket).await?;
    Ok(S3Response::new(GetBucketPolicyOutput { policy: Some(policy) }))
}

pub async fn get_bucket_policy_status(
    call: &Call,
    request: S3Request<GetBucketPolicyStatusInput>,
) -> Answer<GetBucketPolicyStatusOutput> {
    let bucket = &request.input.bucket;
    let policy = policy(call, bucket).await?;
    let kind = call.ground.access.check_policy(call.project()?, &bucket_name(bucket)?, &policy);
    let is_public = kind.map(|kind| kind.public).map_err(|cause| s3_error!(MalformedPolicy, "{cause}"))?;
    Ok(S3Response::new(GetBucketPolicyStatusOutput {
        policy_status: Some(PolicyStatus { is_public: Some(is_public) }),
    }))
}

pub async fn put_bucket_policy(call: &Call, request: S3Request<PutBucketPolicyInput>) -> Answer<PutBucketPolicyOutput> {
    let input = request.input;
    let row = row(call, &input.bucket).await?;
    let kind = call.ground.access.check_policy(call.project()?, &bucket_name(&input.bucket)?, &input.policy);
    let kind = kind.map_err(|cause| s3_error!(MalformedPolicy, "{cause}"))?;
    if kind.public && row.public_block.block_policy {
        return Err(s3_error!(
            AccessDenied,
            "public policies are blocked by the BlockPublicPolicy setting in the bucket's public access block"
        ));
    }
    set_document(call, &input.bucket, Kind::Policy, Some(input.policy.into_bytes())).await?;
    Ok(S3Response::new(PutBucketPolicyOutput::default()))
}

pub async fn delete_bucket_policy(
    call: &Call,
    request: S3Request<DeleteBucketPolicyInput>,
) -> Answer<DeleteBucketPolicyOutput> {
    set_document(call, &request.input.bucket, Kind::Policy, None).await?;
    Ok(S3Response::new(DeleteBucketPolicyOutput::default()))
}

pub async fn get_public_access_block(
    call: &Call,
    request: S3Request<GetPublicAccessBlockInput>,
) -> Answer<GetPublicAccessBlockOutput> {
    let block = row(call, &request.input.bucket).await?.public_block;
    Ok(S3Response::new(GetPublicAccessBlockOutput {
        public_access_block_configuration: Some(PublicAccessBlockConfiguration {
            block_public_acls: Some(block.block_acls),
            block_public_policy: Some(block.block_policy),
            ignore_public_acls: Some(block.ignore_acls),
            restrict_public_buckets: Some(block.restrict),
        }),
    }))
}

pub async fn put_public_access_block(
    call: &Call,
    request: S3Request<PutPublicAccessBlockInput>,
) -> Answer<PutPublicAccessBlockOutput> {
    let wanted = request.input.public_access_block_configuration;
    let block = PublicBlock {
        block_acls: wanted.block_public_acls.unwrap_or_default(),
        ignore_acls: wanted.ignore_public_acls.unwrap_or_default(),
        block_policy: wanted.block_public_policy.unwrap_or_default(),
        restrict: wanted.restrict_public_buckets.unwrap_or_default(),
    };
    set_block(call, &request.input.bucket, block).await?;
    Ok(S3Response::new(PutPublicAccessBlockOutput::default()))
}

pub async fn delete_public_access_block(
    call: &Call,
    request: S3Request<DeletePublicAccessBlockInput>,
) -> Answer<DeletePublicAccessBlockOutput> {
    let none = PublicBlock { block_acls: false, ignore_acls: false, block_policy: false, restrict: false };
    set_block(call, &request.input.bucket, none).await?;
    Ok(S3Response::new(DeletePublicAccessBlockOutput::default()))
}

async fn set_block(call: &Call, bucket: &str, block: PublicBlock) -> S3Result<()> {
    change(call, bucket, move |row| {
        row.public_block = block;
        Ok(())
    })
    .await
}

pub async fn get_bucket_encryption(
    call: &Call,
    request: S3Request<GetBucketEncryptionInput>,
) -> Answer<GetBucketEncryptionOutput> {
    let (algorithm, kms_master_key_id) = super::convert::sealing(&row(call, &request.input.bucket).await?.encryption);
    let default = algorithm.map(|sse_algorithm| ServerSideEncryptionByDefault { kms_master_key_id, sse_algorithm });
    let rule =
        ServerSideEncryptionRule { apply_server_side_encryption_by_default: default, bucket_key_enabled: Some(false) };
    Ok(S3Response::new(GetBucketEncryptionOutput {
        server_side_encryption_configuration: Some(ServerSideEncryptionConfiguration { rules: vec![rule] }),
    }))
}

pub async fn put_bucket_encryption(
    call: &Call,
    request: S3Request<PutBucketEncryptionInput>,
) -> Answer<PutBucketEncryptionOutput> {
    let input = request.input;
    let [rule] = input.server_side_encryption_configuration.rules.as_slice() else {
        return Err(s3_error!(MalformedXML, "there is one rule of encryption"));
    };
    let default = rule.apply_server_side_encryption_by_default.as_ref();
    let default = default.ok_or_else(|| s3_error!(MalformedXML, "a rule of encryption names an algorithm"))?;
    let key = default.kms_master_key_id.as_deref().filter(|key| !key.is_empty());
    let sealing = sse::sealing(call.project()?, Some(default.sse_algorithm.as_str()), key)?;
    change(call, &input.bucket, move |row| {
        row.encryption = sealing;
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutBucketEncryptionOutput::default()))
}

pub async fn delete_bucket_encryption(
    call: &Call,
    request: S3Request<DeleteBucketEncryptionInput>,
) -> Answer<DeleteBucketEncryptionOutput> {
    change(call, &request.input.bucket, |row| {
        row.encryption = rows::Sealing::Project;
        Ok(())
    })
    .await?;
    Ok(S3Response::new(DeleteBucketEncryptionOutput::default()))
}

pub async fn get_bucket_accelerate_configuration(
    call: &Call,
    request: S3Request<GetBucketAccelerateConfigurationInput>,
) -> Answer<GetBucketAccelerateConfigurationOutput> {
    exists(call, &request.input.bucket).await?;
    Ok(S3Response::new(GetBucketAccelerateConfigurationOutput::default()))
}

pub async fn get_bucket_logging(
    call: &Call,
    request: S3Request<GetBucketLoggingInput>,
) -> Answer<GetBucketLoggingOutput> {
    exists(call, &request.input.bucket).await?;
    Ok(S3Response::new(GetBucketLoggingOutput::default()))
}

pub async fn get_bucket_request_payment(
    call: &Call,
    request: S3Request<GetBucketRequestPaymentInput>,
) -> Answer<GetBucketRequestPaymentOutput> {
    exists(call, &request.input.bucket).await?;
    Ok(S3Response::new(GetBucketRequestPaymentOutput { payer: Some(Payer::from_static(Payer::BUCKET_OWNER)) }))
}

pub async fn get_bucket_website(
    call: &Call,
    request: S3Request<GetBucketWebsiteInput>,
) -> Answer<GetBucketWebsiteOutput> {
    exists(call, &request.input.bucket).await?;
    Err(s3_error!(NoSuchWebsiteConfiguration, "The specified bucket does not have a website configuration"))
}

pub async fn get_bucket_replication(
    call: &Call,
    request: S3Request<GetBucketReplicationInput>,
) -> Answer<GetBucketReplicationOutput> {
    exists(call, &request.input.bucket).await?;
    Err(s3_error!(ReplicationConfigurationNotFoundError, "The replication configuration was not found"))
}

pub async fn get_bucket_notification_configuration(
    call: &Call,
    request: S3Request<GetBucketNotificationConfigurationInput>,
) -> Answer<GetBucketNotificationConfigurationOutput> {
    let bucket = bucket_name(&request.input.bucket)?;
    let document = call.store().document(call.project()?, &bucket, Kind::Notification).await?;
    let rules = document.map_or(Ok(Vec::new()), |document| rows::decode("rules of notifications", &document))?;
    let (queue_configurations, topic_configurations) = notify::to_s3(rules);
    Ok(S3Response::new(GetBucketNotificationConfigurationOutput {
        queue_configurations,
        topic_configurations,
        ..Default::default()
    }))
}

pub async fn put_bucket_notification_configuration(
    call: &Call,
    request: S3Request<PutBucketNotificationConfigurationInput>,
) -> Answer<PutBucketNotificationConfigurationOutput> {
    let input = request.input;
    let rules = notify::read(input.notification_configuration)?;
    notify::check(&rules, |name| call.store().webhook(name).is_some())?;
    // None at all is how S3 clients take them away.
    let document = (!rules.is_empty()).then(|| rows::encode(&rules));
    set_document(call, &input.bucket, Kind::Notification, document).await?;
    Ok(S3Response::new(PutBucketNotificationConfigurationOutput::default()))
}
