//! HTTP/1.1 framing as a server sees it (RFC 9112): heads, chunked bodies, writing. No I/O; `server/http1` does that.

pub mod chunked;
pub mod encode;
pub mod head;

pub use chunked::{Chunk, ChunkedDecoder};
pub use head::{Framing, Head, HeadError, HeadLimits};
