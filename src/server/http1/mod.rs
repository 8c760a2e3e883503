//! HTTP/1.0 and HTTP/1.1 towards callers.
//!
//! `serve.rs` is the loop over requests, `inbound.rs` the reading side, `outbound.rs` the writing side. They are our own
//! because a malformed request must get an answer of ours, interim answers must pass, a half-closed caller must be
//! told from one that is gone, and an idle connection must hold no buffers: see docs/decisions.

mod inbound;
mod outbound;
mod serve;

pub(super) use serve::{DRAIN_LINGER, refuse, serve};
