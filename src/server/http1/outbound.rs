//! The writing side of a connection: responses, framed as the caller's version allows.

use std::{
    io,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, DATE},
    response::Parts,
};
use http_body::{Body as _, SizeHint};
use tokio::time::timeout;

use crate::{
    http::http1::{encode, head::decimal},
    net::{SharedStream, Writer},
};

/// The writing side.
pub(super) struct Outbound(Writer);

/// What a response's framing depends on.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) version: Version,
}

/// How the end of a response's content is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// There is no content.
    Empty,
    /// After this many bytes.
    After(u64),
    /// With the last chunk.
    Chunked,
    /// With the connection.
    WithConnection,
}

impl Asked {
    /// How a response with these parts ends (RFC 9112 6.3).
    pub(super) fn ends(&self, status: StatusCode, headers: &HeaderMap, content: &SizeHint) -> Ends {
        let none = self.method == Method::HEAD
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        if none {
            return Ends::Empty;
        }
        let declared = headers.get(CONTENT_LENGTH).and_then(|length| decimal(length.as_bytes()));
        match declared.or(content.exact()) {
            Some(length) => Ends::After(length),
            None if self.version == Version::HTTP_10 => Ends::WithConnection,
            None => Ends::Chunked,
        }
    }
}

impl Outbound {
    pub(super) fn new(stream: SharedStream) -> Self {
        Self(Writer::new(stream))
    }

    /// Puts a response's head in. `keep` is whether the connection stays open after it.
    pub(super) fn head(
        &mut self,
        parts: &Parts,
        ends: Ends,
        asked: &Asked,
        keep: bool,
        date: impl Fn() -> HeaderValue,
    ) {
        let out = self.0.buffer();
        out.reserve(512);
        encode::status_line(out, parts.status);
        let has_length = parts.headers.contains_key(CONTENT_LENGTH);
        match has_length && ends == Ends::Chunked {
            // One that is none, which nobody upstream lets through: beside chunks it would be two framings.
            true => encode::fields_without(out, &parts.headers, &CONTENT_LENGTH),
            false => encode::fields(out, &parts.headers),
        }
        match ends {
            Ends::After(length) if !has_length => {
                encode::raw_field(out, "content-length", itoa::Buffer::new().format(length).as_bytes());
            }
            Ends::Chunked => encode::raw_field(out, "transfer-encoding", b"chunked"),
            Ends::After(_) | Ends::Empty | Ends::WithConnection => {}
        }
        if !parts.headers.contains_key(DATE) {
            encode::field(out, &DATE, &date());
        }
        match (keep, asked.version == Version::HTTP_10) {
            (false, _) => encode::field(out, &CONNECTION, &HeaderValue::from_static("close")),
            (true, true) => encode::field(out, &CONNECTION, &HeaderValue::from_static("keep-alive")),
            (true, false) => {}
        }
        encode::end(out);
    }

    /// Puts an interim answer in.
    pub(super) fn interim(&mut self, status: StatusCode, headers: &HeaderMap) {
        encode::status_line(self.0.buffer(), status);
        encode::fields(self.0.buffer(), headers);
        encode::end(self.0.buffer());
    }

    /// Puts content in. When it is large ([`Self::has_large`]), it is to be written before [`Self::end_piece`] and anything else.
    pub(super) fn content(&mut self, data: Bytes, ends: Ends) {
        match ends {
            Ends::Empty => return,
            Ends::Chunked if data.is_empty() => return,
            Ends::Chunked => encode::size_line(self.0.buffer(), data.len()),
            Ends::After(_) | Ends::WithConnection => {}
        }
        self.0.push(data);
    }

    /// Whether a large piece waits.
    pub(super) fn has_large(&self) -> bool {
        self.0.has_large()
    }

    /// Ends a piece of content that was not empty.
    pub(super) fn end_piece(&mut self, ends: Ends) {
        if ends == Ends::Chunked {
            self.0.buffer().extend_from_slice(b"\r\n");
        }
    }

    /// Puts the end in.
    pub(super) fn end(&mut self, ends: Ends, trailers: Option<&HeaderMap>) {
        if ends == Ends::Chunked {
            encode::last_chunk(self.0.buffer(), trailers);
        }
    }

    /// Bytes that wait to be written.
    pub(super) fn waiting(&self) -> usize {
        self.0.waiting()
    }

    /// Bytes that the kernel has taken, since the beginning.
    pub(super) fn written(&self) -> u64 {
        self.0.total()
    }

    /// Writes what waits.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_flush(cx)
    }

    /// Says that nothing more will come, unless that takes longer than `limit`: over TLS it takes room in the socket.
    pub(super) async fn shut_down(&mut self, limit: Duration) {
        // The caller may be gone already, which is as good.
        let _ = timeout(limit, std::future::poll_fn(|cx| self.0.poll_shut_down(cx))).await;
    }
}

/// The size that a body declares.
pub(super) fn size_of(body: &crate::proxy::ResponseBody) -> SizeHint {
    body.size_hint()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(method: Method, version: Version, status: u16, length: Option<&str>, exact: Option<u64>) -> Ends {
        let mut headers = HeaderMap::new();
        if let Some(length) = length {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_str(length).unwrap());
        }
        let hint = exact.map_or_else(SizeHint::default, SizeHint::with_exact);
        Asked { method, version }.ends(StatusCode::from_u16(status).unwrap(), &headers, &hint)
    }

    #[test]
    fn the_end_is_shown_as_the_callers_version_allows() {
        use Version as V;
        assert_eq!(ends(Method::GET, V::HTTP_11, 200, Some("5"), None), Ends::After(5));
        assert_eq!(ends(Method::GET, V::HTTP_11, 200, None, Some(0)), Ends::After(0));
        assert_eq!(ends(Method::GET, V::HTTP_11, 200, None, None), Ends::Chunked);
        assert_eq!(ends(Method::GET, V::HTTP_10, 200, None, None), Ends::WithConnection);
        assert_eq!(ends(Method::HEAD, V::HTTP_11, 200, Some("5"), Some(0)), Ends::Empty);
        assert_eq!(ends(Method::GET, V::HTTP_11, 204, None, None), Ends::Empty);
        assert_eq!(ends(Method::GET, V::HTTP_11, 304, Some("5"), None), Ends::Empty);
    }
}
