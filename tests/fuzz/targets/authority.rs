//! Host and :authority: what is taken names one host.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::authority(bytes));
