//! Certificates, who is believed, and what happens when the files of either change.
//!
//! `files.rs` reads PEM files, `server.rs` and `client.rs` make rustls configurations of them, `verify.rs` judges the certificates
//! of servers, `names.rs` tells whom a certificate is for, `kept.rs` reads files again when they change.

mod client;
mod files;
mod kept;
mod names;
mod server;
mod verify;

pub use client::{Client, ClientMaterial, ServerNameOf};
pub use kept::{Keeper, Kept, Looked, Standing};
pub use names::Names;
pub use server::{Server, ServerMaterial};
