//! The log of the object store: whatever stands on the disk, reading it ends, with batches that were written or none.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| objects::fuzzing::log(bytes));
