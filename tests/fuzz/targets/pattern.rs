//! Patterns with a star, against the plainest comparison.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::pattern(bytes));
