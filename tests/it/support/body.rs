//! Bodies that tests send: whole, piece by piece, or made on the fly without end.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};

/// What can go wrong in a body.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The one body type of clients and servers in tests.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// No bytes at all.
pub fn empty() -> Body {
    full("")
}

/// These bytes, with a length.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// These bytes without a length, then these trailers.
pub fn with_trailers(chunks: &[&str], trailers: &[(&'static str, &'static str)]) -> Body {
    let mut map = HeaderMap::new();
    for (name, value) in trailers {
        map.insert(*name, value.parse().unwrap());
    }
    let mut frames: Vec<Result<Frame<Bytes>, BodyError>> =
        chunks.iter().map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk.as_bytes())))).collect();
    frames.push(Ok(Frame::trailers(map)));
    StreamBody::new(tokio_stream::iter(frames)).boxed_unsync()
}

/// A body that is written while it is sent: dropping the sender ends it, sending an error breaks it.
pub fn piecewise() -> (mpsc::Sender<Result<Bytes, BodyError>>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let frames = ReceiverStream::new(receiver).map(|piece: Result<Bytes, BodyError>| piece.map(Frame::data));
    (sender, StreamBody::new(frames).boxed_unsync())
}

/// `total` bytes made on the fly; the counter says how many have been taken so far.
pub fn endless(total: u64) -> (Arc<AtomicU64>, Body) {
    let taken = Arc::new(AtomicU64::new(0));
    let body = Endless { left: total, taken: taken.clone(), chunk: Bytes::from(vec![b'x'; 64 * 1024]) };
    (taken, body.boxed_unsync())
}

struct Endless {
    left: u64,
    taken: Arc<AtomicU64>,
    chunk: Bytes,
}

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let size = self.left.min(self.chunk.len() as u64);
        if size == 0 {
            return Poll::Ready(None);
        }
        self.left -= size;
        self.taken.fetch_add(size, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(self.chunk.slice(..size as usize)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
