//! The one body type. Requests and responses, both protocols and towpath's own answers all carry a [`Body`].
//!
//! A body is read by polling and holds no more than what its source had ready, so back-pressure reaches the sender:
//! nobody polls, nothing is read.

use std::{
    borrow::Cow,
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Body as HttpBody, Frame, SizeHint};

/// A request's or response's content, and its trailers.
#[derive(Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// One piece, all in memory.
    Full(Bytes),
    /// From an HTTP/2 peer, caller or endpoint.
    Http2(Http2Body),
    /// From elsewhere: an HTTP/1.1 peer, or a body that is wrapped.
    Other(Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError>>>),
}

impl Body {
    /// A body whose code lives elsewhere.
    pub fn other(body: impl HttpBody<Data = Bytes, Error = BodyError> + 'static) -> Self {
        Self::Other(Box::pin(body))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Self::Http2(body) => body.poll_frame(cx),
            Self::Other(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Http2(body) => body.ended,
            Self::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Http2(body) if body.ended => SizeHint::with_exact(0),
            Self::Http2(_) => SizeHint::default(),
            Self::Other(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Body::Empty",
            Self::Full(_) => "Body::Full",
            Self::Http2(_) => "Body::Http2",
            Self::Other(_) => "Body::Other",
        })
    }
}

/// The receiving half of an HTTP/2 stream. Its window opens again as pieces are taken out.
pub struct Http2Body {
    stream: h2::RecvStream,
    /// Nothing more is to come, as of the last look: each takes the lock of the whole connection.
    ended: bool,
}

impl Http2Body {
    /// Reads what `stream` receives.
    pub fn new(stream: h2::RecvStream) -> Self {
        Self { ended: stream.is_end_stream(), stream }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match ready!(self.stream.poll_data(cx)) {
            Some(Ok(bytes)) => {
                // Fails only when the stream is gone, which the next poll reports.
                let _ = self.stream.flow_control().release_capacity(bytes.len());
                self.ended = self.stream.is_end_stream();
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(BodyError::from_h2(error)))),
            None => match ready!(self.stream.poll_trailers(cx)) {
                Ok(Some(mut trailers)) => {
                    remove_forbidden_trailers(&mut trailers);
                    Poll::Ready(Some(Ok(Frame::trailers(trailers))))
                }
                Ok(None) => Poll::Ready(None),
                Err(error) => Poll::Ready(Some(Err(BodyError::from_h2(error)))),
            },
        }
    }
}

/// Why a body ended before its end.
#[derive(Debug)]
pub enum BodyError {
    /// The sender broke HTTP's framing. Says how.
    Malformed(&'static str),
    /// The sender went away in the middle.
    Incomplete,
    /// The sender took too long.
    Timeout,
    /// The sender reset the stream, with HTTP/2's reason where it gave one.
    Reset(Option<h2::Reason>),
    /// Anything else that the transport reported.
    Transport(Box<dyn Error + Send + Sync>),
}

impl BodyError {
    fn from_h2(error: h2::Error) -> Self {
        match error.reason() {
            Some(reason) if error.is_reset() => Self::Reset(Some(reason)),
            _ => Self::Transport(error.into()),
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "malformed body: {what}"),
            Self::Incomplete => f.write_str("the sender closed the connection in the middle of the body"),
            Self::Timeout => f.write_str("the body did not arrive in time"),
            Self::Reset(Some(reason)) => write!(f, "the sender reset the stream: {reason}"),
            Self::Reset(None) => f.write_str("the sender reset the stream"),
            Self::Transport(error) => write!(f, "body: {error}"),
        }
    }
}

impl Error for BodyError {}

/// Takes the next frame of `body`.
pub async fn next_frame(body: &mut Body) -> Option<Result<Frame<Bytes>, BodyError>> {
    std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}

/// Whether a trailer field would change how the message was framed, routed or understood, or whose it is, if it were merged
/// (RFC 9110 6.5.1).
pub fn is_forbidden_trailer(name: &HeaderName) -> bool {
    // CGI and its heirs write `_` for each `-`.
    let name = &*match name.as_str().contains('_') {
        false => Cow::Borrowed(name.as_str()),
        true => Cow::Owned(name.as_str().replace('_', "-")),
    };
    FORBIDDEN_TRAILERS.contains(&name)
        || FORBIDDEN_FAMILIES.iter().any(|family| name.starts_with(family))
        || name == "transfer-encoding"
        || name.contains('"')
}

/// Whether a field's name is one that HTTP/1.1 can write: `HeaderName` also holds quotes.
pub fn is_token(name: &HeaderName) -> bool {
    !name.as_str().contains('"')
}

const FORBIDDEN_TRAILERS: [&str; 24] = [
    "age",
    "authorization",
    "cache-control",
    "connection",
    "cookie",
    "expect",
    "expires",
    "forwarded",
    "host",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "upgrade",
    "vary",
    "via",
    "www-authenticate",
    "http2-settings",
    "x-real-ip",
];

/// As [`FORBIDDEN_TRAILERS`], all that begin like this.
const FORBIDDEN_FAMILIES: [&str; 5] = ["content-", "if-", "proxy-", "towpath-", "x-forwarded-"];

fn remove_forbidden_trailers(trailers: &mut HeaderMap) {
    let forbidden: Vec<HeaderName> =
        trailers.keys().filter(|name| is_forbidden_trailer(name)).cloned().collect();
    for name in forbidden {
        trailers.remove(name);
    }
}
