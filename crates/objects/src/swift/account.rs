//! An account: the buckets of a project.

use http::{Method, request::Parts};
use tokio::time::Instant;

use super::{
    Visit,
    answer::{Answer, set},
    container::COUNTING,
    listing::{List, Wanted, list_time},
};
use crate::Error;

/// Lists the containers; for `HEAD`, only what they are together.
pub async fn list(visit: &Visit<'_>, parts: &Parts) -> Answer {
    let wanted = Wanted::new(visit, parts)?;
    visit.may("ListBuckets", None, None).await?;
    let store = &visit.call.store();
    let mut list = List::new(wanted.form, "account", &visit.place.account);
    let until = Instant::now() + COUNTING;
    let all = store.project_usage(&visit.project, until).await?;
    let (mut containers, mut listed) = (0_u64, 0);
    for bucket in store.buckets(&visit.project).await? {
        containers += 1;
        let name = bucket.name.as_str();
        let is_wanted = name.starts_with(&wanted.prefix)
            && wanted.marker.as_deref().is_none_or(|marker| name > marker)
            && wanted.end.as_deref().is_none_or(|end| name < end);
        if is_wanted && listed < wanted.limit && parts.method == Method::GET {
            let usage = match store.usage(&visit.project, &bucket.name, until).await {
                // Removed since it was listed.
                Err(Error::NoSuchBucket { .. }) => continue,
                found => found?,
            };
            listed += 1;
            let known = usage.map(|usage| [("count", usage.objects.into()), ("bytes", usage.bytes.into())]);
            let created = ("last_modified", list_time(bucket.created.as_millisecond()).into());
            let fields: Vec<_> = known.into_iter().flatten().chain([created]).collect();
            list.push("container", name, &fields);
        }
    }
    let mut response = match parts.method {
        Method::HEAD => super::empty(super::StatusCode::NO_CONTENT),
        _ => list.into_response(),
    };
    let headers = response.headers_mut();
    set(headers, "x-account-container-count", &containers.to_string());
    if let Some(all) = all {
        set(headers, "x-account-object-count", &all.objects.to_string());
        set(headers, "x-account-bytes-used", &all.bytes.to_string());
    }
    set(headers, "accept-ranges", "bytes");
    Ok(response)
}
