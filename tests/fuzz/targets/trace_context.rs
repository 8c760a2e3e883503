//! What callers say of the trace of a request: nothing invalid passes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::trace::context(bytes));
