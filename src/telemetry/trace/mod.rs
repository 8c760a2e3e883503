//! Trace context: which trace a request belongs to, in the formats that are in use.
//!
//! `context.rs` is what the rest of towpath sees of it. `fields.rs` finds the fields, one file per format reads and writes them,
//! `reading.rs` says which of them counts and what has to go. `digits.rs` is hexadecimal both ways. `request_id.rs` is the one
//! id that belongs to no trace. Randomness is an argument.

mod b3;
mod context;
mod digits;
mod fields;
mod jaeger;
mod reading;
mod request_id;
#[cfg(test)]
mod tests;
mod tracestate;
mod w3c;

pub use context::TraceContext;
pub use request_id::ensure_request_id;
