//! URNs: reading one ends, and it is read again as the same.
#![no_main]

use identity::{Resource, URN_PREFIX, Urn, UrnKind};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(urn) = Urn::parse(text) else { return };
    assert_eq!(Urn::parse(urn.as_str()), Ok(urn.clone()));
    assert!(urn.as_str().starts_with(URN_PREFIX) && !urn.as_str().contains('*') && !urn.id().is_empty());
    assert_eq!(urn.subtype().is_empty(), urn.kind() == UrnKind::ResourceGroup);
    if let Some(place) = urn.as_storage() {
        let bucket = place.bucket.as_ref().map(|bucket| bucket.as_str());
        assert_eq!(Urn::storage(&place.project, bucket, place.key.as_deref()), urn);
    }
    if let Some(resource) = Resource::from_urn(&urn) {
        assert_eq!(resource.to_string(), urn.as_str());
    }
});
