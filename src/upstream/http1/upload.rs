//! The writing side of a connection: one request.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderValue, Method,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use http_body::{Body as _, Frame};

use super::super::{error::CallerFault, outgoing::Outgoing};
use crate::{
    http::{
        Body, BodyError,
        http1::{encode, head::decimal},
    },
    net::{SharedStream, Writer},
};

/// Content is gathered up to this before it is written.
const GATHERED: usize = 16 * 1024;

/// A request on its way to the endpoint.
pub(super) struct Upload {
    writer: Writer,
    body: Body,
    framing: Framing,
    ended: bool,
}

/// How the end of the content is shown.
#[derive(Clone, Copy)]
enum Framing {
    /// There is none.
    Empty,
    /// After this many more bytes.
    Length(u64),
    /// With the last chunk. `open`: the CRLF behind the last chunk is still to be written.
    Chunked { open: bool },
}

/// Why a request could not be sent whole.
pub(super) enum UploadError {
    /// The caller's part of it failed.
    Caller(CallerFault),
    /// The endpoint takes no more of it.
    Endpoint(io::Error),
}

impl Upload {
    /// Puts the head of `request` in.
    pub(super) fn new(stream: SharedStream, request: Outgoing<'_>) -> Self {
        let framing = framing(&request);
        let mut writer = Writer::new(stream);
        put_head(writer.buffer(), &request, framing);
        let ended = matches!(framing, Framing::Empty);
        Self { writer, body: request.body, framing, ended }
    }

    /// Bytes that the kernel has taken.
    pub(super) fn written(&self) -> u64 {
        self.writer.total()
    }

    /// Ready when all of it has been written.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        loop {
            let more = self.gather(cx).map_err(UploadError::Caller)?;
            ready!(self.writer.poll_flush(cx)).map_err(UploadError::Endpoint)?;
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(more);
        }
    }

    /// Puts in what the body has ready; pending when there was not enough to fill the buffer.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, CallerFault> {
        while !self.ended && !self.writer.has_large() && self.writer.waiting() < GATHERED {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(Some(Ok(frame))) => self.put(frame)?,
                Poll::Ready(Some(Err(error))) => return Err(CallerFault::of(&error)),
                Poll::Ready(None) => self.end(None)?,
            }
        }
        Ok(Poll::Ready(()))
    }

    fn put(&mut self, frame: Frame<Bytes>) -> Result<(), CallerFault> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return self.end(frame.into_trailers().ok().as_ref()),
        };
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.framing {
            // More than was declared would be read as the next request.
            Framing::Empty => return Err(CallerFault::Malformed("content where none was declared")),
            Framing::Length(left) => {
                let rest = left.checked_sub(data.len() as u64);
                *left = rest.ok_or(CallerFault::Malformed("more content than was declared"))?;
            }
            Framing::Chunked { open } => {
                if std::mem::replace(open, true) {
                    self.writer.buffer().extend_from_slice(b"\r\n");
                }
                encode::size_line(self.writer.buffer(), data.len());
            }
        }
        self.writer.push(data);
        // So that the last piece and the end go out together. A large piece is written before the end is put behind it.
        if self.body.is_end_stream() && !self.writer.has_large() { self.end(None) } else { Ok(()) }
    }

    fn end(&mut self, trailers: Option<&http::HeaderMap>) -> Result<(), CallerFault> {
        match self.framing {
            Framing::Empty | Framing::Length(0) => {}
            Framing::Length(_) => return Err(CallerFault::of(&BodyError::Incomplete)),
            Framing::Chunked { open } => {
                if open {
                    self.writer.buffer().extend_from_slice(b"\r\n");
                }
                encode::last_chunk(self.writer.buffer(), trailers);
            }
        }
        self.ended = true;
        Ok(())
    }
}

fn framing(request: &Outgoing<'_>) -> Framing {
    if request.body.is_end_stream() {
        return Framing::Empty;
    }
    let declared = || request.parts.headers.get(CONTENT_LENGTH).and_then(|value| decimal(value.as_bytes()));
    match request.body.size_hint().exact().or_else(declared) {
        Some(length) => Framing::Length(length),
        None => Framing::Chunked { open: false },
    }
}

/// The fields that frame the message are written as it is framed, whatever the caller's said.
fn put_head(out: &mut Vec<u8>, request: &Outgoing<'_>, framing: Framing) {
    let parts = request.parts;
    out.reserve(1024);
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    encode::request_line(out, &parts.method, target);
    for (name, value) in &parts.headers {
        if name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
            encode::field(out, name, value);
        }
    }
    if let Some(left) = request.left {
        left.write(out);
    }
    match framing {
        Framing::Length(length) => length_field(out, length),
        Framing::Chunked { .. } => {
            encode::field(out, &TRANSFER_ENCODING, &HeaderValue::from_static("chunked"))
        }
        // RFC 9110 8.6: where content is expected, its absence is said.
        Framing::Empty if [Method::POST, Method::PUT, Method::PATCH].contains(&parts.method) => {
            length_field(out, 0);
        }
        Framing::Empty => {}
    }
    encode::end(out);
}

fn length_field(out: &mut Vec<u8>, length: u64) {
    encode::raw_field(out, CONTENT_LENGTH.as_str(), itoa::Buffer::new().format(length).as_bytes());
}
