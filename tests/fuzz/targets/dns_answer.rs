//! Whatever a DNS server sends: its message is read and handled, and nothing panics.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| towpath::discovery::fuzz_answer(bytes));
