//! Requests to the object gate: what is parsed before a signature is known to be right.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| objects::fuzzing::request(bytes));
