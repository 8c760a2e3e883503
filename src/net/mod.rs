//! Sockets: addresses, listening, streams, the kernel's view of a peer.

mod address;

pub use address::Address;
