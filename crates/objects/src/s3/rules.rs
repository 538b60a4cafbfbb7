//! Lifecycle rules of buckets, between S3's form and the store's.

use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};

use super::convert::{bucket_name, milliseconds, signed, tag_set, tags, time};
use crate::{
    Error,
    call::Call,
    lifecycle::{Expire, Filter, LifecycleRule as Rule, Noncurrent},
    rows::Tags,
};

type Answer<T> = S3Result<S3Response<T>>;

pub async fn get_bucket_lifecycle_configuration(
    call: &Call,
    request: S3Request<GetBucketLifecycleConfigurationInput>,
) -> Answer<GetBucketLifecycleConfigurationOutput> {
    let rules = call.store().lifecycle(call.project()?, &bucket_name(&request.input.bucket)?).await?;
    let rules =
        rules.ok_or_else(|| s3_error!(NoSuchLifecycleConfiguration, "The lifecycle configuration does not exist"))?;
    Ok(S3Response::new(GetBucketLifecycleConfigurationOutput {
        rules: Some(rules.into_iter().map(shown).collect()),
        ..Default::default()
    }))
}

pub async fn put_bucket_lifecycle_configuration(
    call: &Call,
    request: S3Request<PutBucketLifecycleConfigurationInput>,
) -> Answer<PutBucketLifecycleConfigurationOutput> {
    let input = request.input;
    let config = input.lifecycle_configuration.ok_or_else(|| s3_error!(MalformedXML, "there are no rules"))?;
    let rules = config.rules.into_iter().map(rule).collect::<S3Result<Vec<Rule>>>()?;
    call.store().set_lifecycle(call.project()?, &bucket_name(&input.bucket)?, Some(rules)).await?;
    Ok(S3Response::new(PutBucketLifecycleConfigurationOutput::default()))
}

pub async fn delete_bucket_lifecycle(
    call: &Call,
    request: S3Request<DeleteBucketLifecycleInput>,
) -> Answer<DeleteBucketLifecycleOutput> {
    call.store().set_lifecycle(call.project()?, &bucket_name(&request.input.bucket)?, None).await?;
    Ok(S3Response::new(DeleteBucketLifecycleOutput::default()))
}

/// A rule as the store takes it.
fn rule(rule: LifecycleRule) -> S3Result<Rule> {
    let moves = rule.transitions.is_some_and(|moves| !moves.is_empty())
        || rule.noncurrent_version_transitions.is_some_and(|moves| !moves.is_empty());
    if moves {
        return Err(s3_error!(NotImplemented, "there is one storage class, so that nothing can move to another"));
    }
    let enabled = match rule.status.as_str() {
        ExpirationStatus::ENABLED => true,
        ExpirationStatus::DISABLED => false,
        _ => return Err(s3_error!(MalformedXML, "the status of a rule is Enabled or Disabled")),
    };
    let (filter, bare_prefix) = match (rule.prefix, rule.filter) {
        (Some(_), Some(_)) => return Err(s3_error!(MalformedXML, "a rule has a filter or a prefix, not both")),
        (Some(prefix), None) => (Filter { prefix, ..Filter::default() }, true),
        (None, Some(chosen)) => (filter(chosen)?, false),
        (None, None) => (Filter::default(), false),
    };
    let mut lone_markers = false;
    let expire = match rule.expiration {
        None => None,
        Some(LifecycleExpiration { date: None, days: Some(days), expired_object_delete_marker: None }) => {
            Some(Expire::Days(number("Days", days)?))
        }
        Some(LifecycleExpiration { date: Some(date), days: None, expired_object_delete_marker: None }) => {
            let date = milliseconds(&date);
            Some(Expire::Date(date.ok_or_else(|| s3_error!(MalformedXML, "the date of a rule is not a time"))?))
        }
        Some(LifecycleExpiration { date: None, days: None, expired_object_delete_marker: Some(markers) }) => {
            lone_markers = markers;
            None
        }
        Some(_) => {
            return Err(s3_error!(
                MalformedXML,
                "an expiration has days, a date, or ExpiredObjectDeleteMarker, and one of them"
            ));
        }
    };
    let noncurrent = match rule.noncurrent_version_expiration {
        None => None,
        Some(noncurrent) => {
            let days = noncurrent.noncurrent_days;
            let days = days.ok_or_else(|| s3_error!(MalformedXML, "NoncurrentVersionExpiration has NoncurrentDays"))?;
            let keep = noncurrent.newer_noncurrent_versions.unwrap_or(0);
            Some(Noncurrent { days: number("NoncurrentDays", days)?, keep: number("NewerNoncurrentVersions", keep)? })
        }
    };
    let abort_uploads = match rule.abort_incomplete_multipart_upload {
        None => None,
        Some(abort) => {
            let days = abort.days_after_initiation;
            let days = days.ok_or_else(|| s3_error!(MalformedXML, "DaysAfterInitiation is missing"))?;
            Some(number("DaysAfterInitiation", days)?)
        }
    };
    let id = match rule.id.filter(|id| !id.is_empty()) {
        Some(id) => id,
        None => {
            let mut bytes = [0; 18];
            crypto::random(&mut bytes).map_err(Error::from)?;
            hex::encode(bytes)
        }
    };
    Ok(Rule { id, enabled, filter, bare_prefix, expire, lone_markers, noncurrent, abort_uploads })
}

fn filter(chosen: LifecycleRuleFilter) -> S3Result<Filter> {
    let parts = [
        chosen.and.is_some(),
        chosen.prefix.is_some(),
        chosen.tag.is_some(),
        chosen.object_size_greater_than.is_some(),
        chosen.object_size_less_than.is_some(),
    ];
    if parts.into_iter().filter(|part| *part).count() > 1 {
        return Err(s3_error!(MalformedXML, "a filter that is more than one thing says so with And"));
    }
    let size = |size: Option<i64>| {
        size.map(|size| u64::try_from(size).map_err(|_| s3_error!(InvalidArgument, "a size is not negative")))
            .transpose()
    };
    match chosen.and {
        Some(and) => Ok(Filter {
            prefix: and.prefix.unwrap_or_default(),
            tags: tags(and.tags.unwrap_or_default())?,
            above: size(and.object_size_greater_than)?,
            below: size(and.object_size_less_than)?,
        }),
        None => Ok(Filter {
            prefix: chosen.prefix.unwrap_or_default(),
            tags: chosen.tag.map_or(Ok(Tags::new()), |tag| tags(vec![tag]))?,
            above: size(chosen.object_size_greater_than)?,
            below: size(chosen.object_size_less_than)?,
        }),
    }
}

fn number(what: &str, number: i32) -> S3Result<u32> {
    u32::try_from(number).map_err(|_| s3_error!(InvalidArgument, "'{what}' must be a positive integer"))
}

/// A rule as S3 shows it.
fn shown(rule: Rule) -> LifecycleRule {
    let whole = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let expiration = match (rule.expire, rule.lone_markers) {
        (Some(Expire::Days(days)), _) => Some(LifecycleExpiration { days: Some(whole(days)), ..Default::default() }),
        (Some(Expire::Date(date)), _) => Some(LifecycleExpiration { date: Some(time(date)), ..Default::default() }),
        (None, true) => Some(LifecycleExpiration { expired_object_delete_marker: Some(true), ..Default::default() }),
        (None, false) => None,
    };
    let (prefix, filter) = match rule.bare_prefix {
        true => (Some(rule.filter.prefix), None),
        false => (None, Some(shown_filter(rule.filter))),
    };
    let status = if rule.enabled { ExpirationStatus::ENABLED } else { ExpirationStatus::DISABLED };
    LifecycleRule {
        abort_incomplete_multipart_upload: rule
            .abort_uploads
            .map(|days| AbortIncompleteMultipartUpload { days_after_initiation: Some(whole(days)) }),
        expiration,
        filter,
        id: Some(rule.id),
        noncurrent_version_expiration: rule.noncurrent.map(|noncurrent| NoncurrentVersionExpiration {
            newer_noncurrent_versions: (noncurrent.keep > 0).then(|| whole(noncurrent.keep)),
            noncurrent_days: Some(whole(noncurrent.days)),
        }),
        noncurrent_version_transitions: None,
        prefix,
        status: ExpirationStatus::from_static(status),
        transitions: None,
    }
}

fn shown_filter(filter: Filter) -> LifecycleRuleFilter {
    let (above, below) = (filter.above.map(signed), filter.below.map(signed));
    let parts = usize::from(!filter.prefix.is_empty())
        + filter.tags.len()
        + usize::from(above.is_some())
        + usize::from(below.is_some());
    let prefix = Some(filter.prefix).filter(|prefix| !prefix.is_empty());
    let mut set = tag_set(filter.tags);
    match parts {
        0 => LifecycleRuleFilter { prefix: Some(String::new()), ..Default::default() },
        1 => LifecycleRuleFilter {
            object_size_greater_than: above,
            object_size_less_than: below,
            prefix,
            tag: set.pop(),
            ..Default::default()
        },
        _ => LifecycleRuleFilter {
            and: Some(LifecycleRuleAndOperator {
                object_size_greater_than: above,
                object_size_less_than: below,
                prefix,
                tags: (!set.is_empty()).then_some(set),
            }),
            ..Default::default()
        },
    }
}
