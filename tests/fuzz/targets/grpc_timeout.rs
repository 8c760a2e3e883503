//! The deadlines that callers write.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::grpc_timeout(bytes));
