//! An account: the buckets of a project.

use http::{Method, request::Parts};

use super::{
    Visit,
    answer::{Answer, set},
    listing::{List, Wanted, list_time},
};
use crate::Error;

/// Lists the containers; for `HEAD`, only what they are together.
pub async fn list(visit: &Visit<'_>, parts: &Parts) -> Answer {
    let wanted = Wanted::new(visit, parts)?;
    visit.may("ListBuckets", None, None).await?;
    let store = &visit.call.store();
    let mut list = List::new(wanted.form, "account", &visit.place.account);
    let all = store.project_usage(&visit.project).await?;
    let (mut containers, mut listed) = (0_u64, 0);
    for bucket in store.buckets(&visit.project).await? {
        containers += 1;
        let name = bucket.name.as_str();
        let is_wanted = name.starts_with(&wanted.prefix)
            && wanted.marker.as_deref().is_none_or(|marker| name > marker)
            && wanted.end.as_deref().is_none_or(|end| name < end);
        if is_wanted && listed < wanted.limit && parts.method == Method::GET {
            let usage = match store.usage(&visit.project, &bucket.name).await {
                // Removed since it was listed.
                Err(Error::NoSuchBucket { .. }) => continue,
                found => found?,
            };
            listed += 1;
            let fields = [
                ("count", usage.objects.into()),
                ("bytes", usage.bytes.into()),
                ("last_modified", list_time(bucket.created.as_millisecond()).into()),
            ];
            list.push("container", name, &fields);
        }
    }
    let mut response = match parts.method {
        Method::HEAD => super::empty(super::StatusCode::NO_CONTENT),
        _ => list.into_response(),
    };
    let headers = response.headers_mut();
    set(headers, "x-account-container-count", &containers.to_string());
    set(headers, "x-account-object-count", &all.objects.to_string());
    set(headers, "x-account-bytes-used", &all.bytes.to_string());
    set(headers, "accept-ranges", "bytes");
    Ok(response)
}
