//! Whatever an endpoint file holds: it is understood or refused with positions, and what was understood can be written
//! and read again.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| towpath::discovery::fuzz_endpoint_file(bytes));
