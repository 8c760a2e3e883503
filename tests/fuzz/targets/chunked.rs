//! A chunked body: the same in pieces and at once, and to a strict reader.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::chunked(bytes));
