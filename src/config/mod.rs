//! Configuration: typed (as written) -> checked (as meant).
//!
//! `checked.rs` is what the rest of the program sees.

pub mod checked;

pub use checked::*;
