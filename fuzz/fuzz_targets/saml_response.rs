//! Answers of SAML providers: reading one ends, and none is believed that the provider's key did not sign.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| identity::fuzz_saml_response(bytes));
