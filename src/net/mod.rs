//! Sockets: addresses, listening, streams, the kernel's view of a peer.

mod address;
mod listen;
mod peer;
mod stream;

pub use address::Address;
pub use listen::{Accepted, AsyncListener, Listener, ListenerError};
pub use peer::{PeerState, peer_state};
pub use stream::{SharedStream, Stream};
