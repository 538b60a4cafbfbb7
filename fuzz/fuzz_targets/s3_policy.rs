//! Policies in the AWS language: reading one ends, and what is a policy is one again as it is shown.
#![no_main]

use identity::S3Policy;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (Ok(project), Ok(bucket)) = ("0123456789abcdef0123456789abcdef".parse(), "data".parse()) else { return };
    if let Ok(policy) = S3Policy::parse_bucket(text, &project, &bucket) {
        let again = S3Policy::parse_bucket(policy.text(), &project, &bucket).expect("the same text");
        assert_eq!(policy.is_public(), again.is_public());
    }
    let _ = S3Policy::parse_session(text);
    if let Ok(policy) = S3Policy::parse_user(text) {
        S3Policy::parse_user(policy.text()).expect("the same text");
    }
});
