//! Buckets, and what they are: names, owners, places.

use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};

use super::{
    convert::{bucket_name, time},
    given::check_acl,
};
use crate::{Error, NewBucket, call::Call, rows::Ownership, settings::MOST_BUCKETS};

type Answer<T> = S3Result<S3Response<T>>;

pub async fn list_buckets(call: &Call, request: S3Request<ListBucketsInput>) -> Answer<ListBucketsOutput> {
    let input = request.input;
    let project = call.project()?;
    let prefix = input.prefix.clone().unwrap_or_default();
    let after = input.continuation_token.unwrap_or_default();
    let home = call.home().await?;
    let most = super::convert::count("max-buckets", input.max_buckets, MOST_BUCKETS)?.max(1);
    let mut buckets: Vec<Bucket> = call
        .store()
        .buckets(project)
        .await?
        .into_iter()
        .filter(|bucket| bucket.name.as_str().starts_with(&prefix) && bucket.name.as_str() > after.as_str())
        .take(most + 1)
        .map(|bucket| Bucket {
            name: Some(bucket.name.to_string()),
            creation_date: Some(time(bucket.created.as_millisecond())),
            bucket_region: Some(home.to_string()),
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
    let headers = [
        &input.grant_full_control,
        &input.grant_read,
        &input.grant_read_acp,
        &input.grant_write,
        &input.grant_write_acp,
    ];
    check_acl(input.acl.as_ref().map(BucketCannedACL::as_str), headers.into_iter().any(Option::is_some))?;
    let ownership = input.object_ownership.as_ref().map(|ownership| ownership_of(ownership.as_str())).transpose()?;
    let constraint = input.create_bucket_configuration.and_then(|configuration| configuration.location_constraint);
    call.is_for_this_place(constraint.as_ref().map_or("", BucketLocationConstraint::as_str)).await?;
    let bucket = bucket_name(&input.bucket)?;
    let wanted = NewBucket {
        owner: call.grant().map(|grant| grant.identity.clone()),
        versioning: false,
        lock: input.object_lock_enabled_for_bucket == Some(true),
    };
    let project = call.project()?;
    call.store().create_bucket(project, &bucket, wanted).await?;
    if let Some(ownership) = ownership.filter(|ownership| *ownership != Ownership::default()) {
        let change = move |row: &mut crate::rows::BucketRow| {
            row.ownership = ownership;
            Ok(())
        };
        call.store().change_bucket(project, &bucket, change).await?;
    }
    Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{bucket}")) }))
}

pub async fn delete_bucket(call: &Call, request: S3Request<DeleteBucketInput>) -> Answer<DeleteBucketOutput> {
    call.store().delete_bucket(call.project()?, &bucket_name(&request.input.bucket)?).await?;
    Ok(S3Response::new(DeleteBucketOutput::default()))
}

pub async fn head_bucket(call: &Call, request: S3Request<HeadBucketInput>) -> Answer<HeadBucketOutput> {
    exists(call, &request.input.bucket).await?;
    let region = call.home().await?.to_string();
    Ok(S3Response::new(HeadBucketOutput { bucket_region: Some(region), ..Default::default() }))
}

pub async fn get_bucket_location(
    call: &Call,
    request: S3Request<GetBucketLocationInput>,
) -> Answer<GetBucketLocationOutput> {
    exists(call, &request.input.bucket).await?;
    let region = BucketLocationConstraint::from(call.home().await?.to_string());
    Ok(S3Response::new(GetBucketLocationOutput { location_constraint: Some(region) }))
}

pub async fn get_bucket_acl(call: &Call, request: S3Request<GetBucketAclInput>) -> Answer<GetBucketAclOutput> {
    exists(call, &request.input.bucket).await?;
    Ok(S3Response::new(GetBucketAclOutput { grants: Some(grants(call)?), owner: Some(owner(call)?) }))
}

pub async fn put_bucket_acl(call: &Call, request: S3Request<PutBucketAclInput>) -> Answer<PutBucketAclOutput> {
    let input = request.input;
    exists(call, &input.bucket).await?;
    let headers = [
        &input.grant_full_control,
        &input.grant_read,
        &input.grant_read_acp,
        &input.grant_write,
        &input.grant_write_acp,
    ];
    check_acl(input.acl.as_ref().map(BucketCannedACL::as_str), headers.into_iter().any(Option::is_some))?;
    check_access_list(call, input.access_control_policy)?;
    Ok(S3Response::new(PutBucketAclOutput::default()))
}

pub async fn get_bucket_ownership_controls(
    call: &Call,
    request: S3Request<GetBucketOwnershipControlsInput>,
) -> Answer<GetBucketOwnershipControlsOutput> {
    let bucket = bucket_name(&request.input.bucket)?;
    let row = call.store().bucket_row(call.project()?, &bucket).await?;
    let ownership = match row.ownership {
        Ownership::BucketOwnerEnforced => ObjectOwnership::BUCKET_OWNER_ENFORCED,
        Ownership::BucketOwnerPreferred => ObjectOwnership::BUCKET_OWNER_PREFERRED,
        Ownership::ObjectWriter => ObjectOwnership::OBJECT_WRITER,
    };
    let rule = OwnershipControlsRule { object_ownership: ObjectOwnership::from_static(ownership) };
    Ok(S3Response::new(GetBucketOwnershipControlsOutput {
        ownership_controls: Some(OwnershipControls { rules: vec![rule] }),
    }))
}

pub async fn put_bucket_ownership_controls(
    call: &Call,
    request: S3Request<PutBucketOwnershipControlsInput>,
) -> Answer<PutBucketOwnershipControlsOutput> {
    let input = request.input;
    let [rule] = input.ownership_controls.rules.as_slice() else {
        return Err(s3_error!(MalformedXML, "there is one rule of ownership"));
    };
    set_ownership(call, &input.bucket, ownership_of(rule.object_ownership.as_str())?).await?;
    Ok(S3Response::new(PutBucketOwnershipControlsOutput::default()))
}

pub async fn delete_bucket_ownership_controls(
    call: &Call,
    request: S3Request<DeleteBucketOwnershipControlsInput>,
) -> Answer<DeleteBucketOwnershipControlsOutput> {
    set_ownership(call, &request.input.bucket, Ownership::default()).await?;
    Ok(S3Response::new(DeleteBucketOwnershipControlsOutput::default()))
}

async fn set_ownership(call: &Call, bucket: &str, ownership: Ownership) -> S3Result<()> {
    let change = move |row: &mut crate::rows::BucketRow| {
        row.ownership = ownership;
        Ok(())
    };
    call.store().change_bucket(call.project()?, &bucket_name(bucket)?, change).await?;
    Ok(())
}

fn ownership_of(name: &str) -> S3Result<Ownership> {
    match name {
        ObjectOwnership::BUCKET_OWNER_ENFORCED => Ok(Ownership::BucketOwnerEnforced),
        ObjectOwnership::BUCKET_OWNER_PREFERRED => Ok(Ownership::BucketOwnerPreferred),
        ObjectOwnership::OBJECT_WRITER => Ok(Ownership::ObjectWriter),
        _ => Err(s3_error!(InvalidArgument, "there is no such ownership")),
    }
}

/// The project, as the owner of all that is in it.
pub fn owner(call: &Call) -> S3Result<Owner> {
    let project = call.project()?.to_string();
    Ok(Owner { display_name: Some(project.clone()), id: Some(project) })
}

/// The access list of all that is in a project: its owner may all.
pub fn grants(call: &Call) -> S3Result<Vec<Grant>> {
    let owner = owner(call)?;
    Ok(vec![Grant {
        grantee: Some(Grantee {
            display_name: owner.display_name,
            email_address: None,
            id: owner.id,
            type_: Type::from_static(Type::CANONICAL_USER),
            uri: None,
        }),
        permission: Some(Permission::from_static(Permission::FULL_CONTROL)),
    }])
}

/// An access list changes nothing, or is refused.
pub fn check_access_list(call: &Call, list: Option<AccessControlPolicy>) -> S3Result<()> {
    let Some(list) = list else { return Ok(()) };
    let own = grants(call)?;
    let changes = list.grants.iter().flatten().any(|grant| {
        let id = |grant: &Grant| grant.grantee.as_ref().and_then(|grantee| grantee.id.clone());
        !own.iter().any(|own| id(own) == id(grant) && own.permission == grant.permission)
    });
    match changes {
        false => Ok(()),
        true => Err(s3_error!(
            AccessControlListNotSupported,
            "The bucket does not allow ACLs: what is in it is private, and a bucket policy can open it"
        )),
    }
}

/// Says so if there is no such bucket.
pub async fn exists(call: &Call, bucket: &str) -> S3Result<()> {
    let bucket = bucket_name(bucket)?;
    let found = call.store().bucket(call.project()?, &bucket).await?;
    found.map(drop).ok_or_else(|| Error::NoSuchBucket { bucket }.into())
}
