//! A configuration file: read by blocks, after anything, it means the same.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::config(bytes));
