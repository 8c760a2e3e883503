//! Whatever a caller opens a connection with: a strict reader agrees with what is taken.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::request_head(bytes));
