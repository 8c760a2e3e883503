//! Sockets: addresses, listening, streams, the kernel's view of a peer.

mod address;
mod cgroups;
mod listen;
mod own;
mod peer;
mod quiet;
mod read;
mod socket;
mod stream;
mod subnet;
mod writer;

pub use address::Address;
pub use cgroups::{Cgroups, cgroup_of_process};
pub use listen::{Accepted, AsyncListener, Listener, ListenerError};
pub use own::{Own, OwnAddresses};
pub use peer::{Owner, PeerState, peer_state};
pub use read::{ReadSize, poll_read_some, reading};
pub use socket::Socket;
pub use stream::{LooseStream, SharedStream, Stream};
pub use subnet::Subnet;
pub use writer::Writer;
