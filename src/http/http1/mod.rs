//! HTTP/1.1 framing (RFC 9112): heads of requests and responses, content, writing. No I/O; `server/http1` and
//! `upstream/http1` do that.

pub mod chunked;
pub mod content;
pub mod encode;
pub mod head;
pub mod response;

pub use chunked::{Chunk, ChunkedDecoder};
pub use content::Content;
pub use head::{Framing, Head, HeadError, HeadLimits};
pub use response::{ResponseHead, single_length, take_response};
