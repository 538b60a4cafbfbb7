//! Calls of the API: what is parsed of one before it is known who calls, and its signature.
#![no_main]

use std::{sync::LazyLock, time::Duration};

use api::Config;

static CONFIG: LazyLock<Config> = LazyLock::new(|| Config {
    public_urls: vec!["https://api.example.org".to_owned(), "https://other.example.org/".to_owned()],
    tls: false,
    objects_url: "https://s3.example.org".to_owned(),
    trusted_proxies: vec!["127.0.0.0/8".parse().expect("a block"), "2001:db8::/32".parse().expect("a block")],
    regions: vec!["GRA".parse().expect("a region")],
    body_timeout: Duration::from_secs(1),
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| api::fuzzing::call(&CONFIG, bytes));
