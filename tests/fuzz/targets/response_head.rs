//! Whatever an endpoint answers: understood the same in pieces and at once.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::response_head(bytes));
