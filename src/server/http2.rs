//! HTTP/2 towards callers. h2 is used as it is: see docs/decisions.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use h2::{
    Reason as Reset, RecvStream, SendStream,
    server::{Builder, Connection, SendResponse},
};
use http::{
    Method, Request, Response, StatusCode,
    header::{DATE, EXPECT},
};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, timeout},
};

use super::{members::Membership, timer::Timer};
use crate::{
    config::Limits,
    http::{Body, BodyError, Interim, body::Http2Body},
    net::{SharedStream, poll_read_some},
    proxy::{self, Caller, Failure, Reason, ResponseBody, Worker},
};

/// A stream's share of the receive window.
const STREAM_WINDOW: u32 = 65_535;
/// A caller that runs no stream has this long to acknowledge a GOAWAY, and then to close.
const LEAVE_LINGER: Duration = Duration::from_secs(2);
/// Beyond the limit on heads, so that one just over it gets an answer of ours instead of a reset.
const HEAD_SLACK: usize = 16 * 1024;
/// Of responses, per stream: more waits in the endpoint's connection.
const SEND_BUFFER: usize = 128 * 1024;

/// Serves streams until the connection ends.
pub(super) async fn serve(
    worker: Rc<Worker>,
    caller: Rc<Caller>,
    stream: SharedStream,
    preface: Bytes,
    membership: Rc<Membership>,
) {
    let limits = worker.view().snapshot.config.limits.clone();
    let handshake =
        builder(&limits).handshake::<_, Bytes>(Replayed { first: preface, stream: stream.clone() });
    let mut connection = match timeout(limits.head_timeout, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%error, "an HTTP/2 handshake failed"),
        Err(_) => return tracing::debug!("an HTTP/2 handshake was not completed in time"),
    };
    let streams = Rc::new(Streams { worker, caller, limits, running: Cell::new(0) });
    let mut waiting = Waiting::new(&streams.limits);
    loop {
        match poll_fn(|cx| waiting.poll_accept(cx, &mut connection, &streams, &membership)).await {
            Some(Ok((request, respond))) => streams.clone().spawn(request, respond),
            Some(Err(error)) => return tracing::debug!(%error, "an HTTP/2 connection ended in an error"),
            None => break,
        }
    }
    drop(connection);
    linger(stream).await;
}

/// Closes so that the caller can read the last GOAWAY: it may have sent a request meanwhile, and a socket that is closed with
/// unread bytes is reset.
async fn linger(mut stream: SharedStream) {
    // The caller may be gone already, which is as good.
    let _ = timeout(LEAVE_LINGER, poll_fn(|cx| Pin::new(&mut stream).poll_shutdown(cx))).await;
    let mut skipped = BytesMut::new();
    let skipping = poll_fn(|cx| {
        while let Ok(1..) = ready!(poll_read_some(&stream, cx, &mut skipped)) {
            skipped.clear();
        }
        Poll::Ready(())
    });
    let _ = timeout(LEAVE_LINGER, skipping).await;
}

fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        // Every stream may stall with its share full without stopping the others.
        .initial_connection_window_size(STREAM_WINDOW.saturating_mul(limits.max_streams).min((1 << 31) - 1))
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(u32::try_from(limits.header_bytes + HEAD_SLACK).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

/// A stream that a caller has opened.
type Accepted = (Request<RecvStream>, SendResponse<Bytes>);

/// When a connection that waits for streams ends by itself.
struct Waiting {
    idle: Timer,
    /// Since when no stream runs.
    idle_since: Option<Instant>,
    /// GOAWAY has been said.
    leaving: bool,
}

impl Waiting {
    fn new(limits: &Limits) -> Self {
        Self { idle: Timer::new(Instant::now() + limits.idle_timeout), idle_since: None, leaving: false }
    }

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection<Replayed, Bytes>,
        streams: &Streams,
        membership: &Membership,
    ) -> Poll<Option<Result<Accepted, h2::Error>>> {
        if membership.is_draining() && !self.leaving {
            self.leave(connection);
            self.idle.set(Instant::now() + LEAVE_LINGER);
        }
        if let Poll::Ready(next) = connection.poll_accept(cx) {
            self.idle_since = None;
            return Poll::Ready(next);
        }
        if streams.running.get() > 0 {
            self.idle_since = None;
        } else if self.idle_since.is_none() {
            self.idle_since = Some(Instant::now());
            let patience = if self.leaving { LEAVE_LINGER } else { streams.limits.idle_timeout };
            self.idle.set(Instant::now() + patience);
        }
        if self.idle_since.is_some() && self.idle.poll(cx).is_ready() {
            if self.leaving {
                // A caller that does not even acknowledge the GOAWAY.
                return Poll::Ready(None);
            }
            self.leave(connection);
            self.idle.set(Instant::now() + LEAVE_LINGER);
            return self.poll_accept(cx, connection, streams, membership);
        }
        Poll::Pending
    }

    /// Says GOAWAY: streams that are on their way are still served, and the connection ends with the last one.
    fn leave(&mut self, connection: &mut Connection<Replayed, Bytes>) {
        if !self.leaving {
            self.leaving = true;
            connection.graceful_shutdown();
        }
    }
}

/// What all streams of a connection share.
struct Streams {
    worker: Rc<Worker>,
    caller: Rc<Caller>,
    limits: Limits,
    running: Cell<usize>,
}

/// Counts a stream as running.
struct Running(Rc<Streams>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
        if std::thread::panicking() {
            self.0.worker.metrics.connection_panics.inc();
        }
    }
}

impl Streams {
    fn spawn(self: Rc<Self>, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        self.running.set(self.running.get() + 1);
        let interim = Interim::default();
        let stream =
            Stream { head_only: request.method() == Method::HEAD, interim: interim.clone(), respond };
        let handling = match self.is_too_large(&request) {
            true => Err(Failure::new(Reason::HeadersTooLarge, "the request's head is over the limits")),
            false => {
                let waits = request.headers().contains_key(EXPECT);
                let request = request.map(|stream| body(stream, waits.then(|| interim.clone())));
                // Boxed: each future that it is handed through would have room for it once more.
                Ok(Box::pin(proxy::handle(&self.worker, &self.caller, request, &interim)))
            }
        };
        let running = Running(self);
        tokio::task::spawn_local(async move {
            // An error means that the caller has reset the stream or gone away.
            let _ = stream.serve(&running.0, handling).await;
        });
    }

    /// As RFC 9113 10.5.1 counts: 32 bytes for each field besides its name and value.
    fn is_too_large(&self, request: &Request<RecvStream>) -> bool {
        let headers = request.headers();
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        let target = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
        headers.len() > self.limits.header_count || bytes + target > self.limits.header_bytes
    }
}

/// A stream, to its caller.
struct Stream {
    head_only: bool,
    interim: Interim,
    respond: SendResponse<Bytes>,
}

impl Stream {
    async fn serve(
        mut self,
        streams: &Streams,
        handling: Result<Pin<Box<impl Future<Output = Response<ResponseBody>>>>, Failure>,
    ) -> Result<(), h2::Error> {
        let response = match handling {
            Err(failure) => proxy::refuse(&streams.worker, &streams.caller, &failure),
            Ok(mut handling) => {
                poll_fn(|cx| poll_response(cx, handling.as_mut(), &mut self.respond, &self.interim)).await?
            }
        };
        if response.body().is_reset() {
            // Not REFUSED_STREAM, which says that nothing was processed: callers send it again without being asked.
            self.respond.send_reset(Reset::INTERNAL_ERROR);
            return Ok(());
        }
        let (mut parts, body) = response.into_parts();
        if !parts.headers.contains_key(DATE) {
            parts.headers.insert(DATE, streams.worker.date());
        }
        let end = self.head_only || body.is_end_stream();
        let stream = self.respond.send_response(Response::from_parts(parts, ()), end)?;
        if end { Ok(()) } else { write_body(body, stream).await }
    }
}

/// Ready with the response, or with the reset of a caller that no longer wants it.
fn poll_response<F: Future<Output = Response<ResponseBody>>>(
    cx: &mut Context<'_>,
    handling: Pin<&mut F>,
    respond: &mut SendResponse<Bytes>,
    interim: &Interim,
) -> Poll<Result<Response<ResponseBody>, h2::Error>> {
    interim.wake_with(cx.waker());
    let poll = handling.poll(cx);
    while let Some((status, headers)) = interim.pop() {
        let mut answer = Response::new(());
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        // One that cannot be sent is left out: the caller may do without.
        let _ = respond.send_informational(answer);
    }
    match poll {
        Poll::Ready(response) => Poll::Ready(Ok(response)),
        Poll::Pending => match respond.poll_reset(cx) {
            Poll::Ready(Ok(reason)) => Poll::Ready(Err(reason.into())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        },
    }
}

async fn write_body(mut body: ResponseBody, mut stream: SendStream<Bytes>) -> Result<(), h2::Error> {
    loop {
        let frame = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => {
                stream.poll_reset(cx).map(|reset| Err(reset.map_or_else(|error| error, Into::into)))
            }
        })
        .await?;
        match frame {
            None => return stream.send_data(Bytes::new(), true),
            Some(Err(error)) => {
                stream.send_reset(reset_for(&error));
                return Ok(());
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let end = body.is_end_stream();
                    let taken = {
                        let mut writing = pin!(write_data(&mut stream, data, end));
                        poll_fn(|cx| match writing.as_mut().poll(cx) {
                            Poll::Ready(written) => Poll::Ready(written.map(|()| true)),
                            Poll::Pending => body.poll_overdue(cx, 0).map(|()| Ok(false)),
                        })
                        .await?
                    };
                    if !taken {
                        stream.send_reset(Reset::CANCEL);
                        return Ok(());
                    }
                    if end {
                        return Ok(());
                    }
                }
                Err(frame) => return stream.send_trailers(frame.into_trailers().unwrap_or_default()),
            },
        }
    }
}

/// Sends one piece, once the caller's window has room for its beginning.
async fn write_data(stream: &mut SendStream<Bytes>, data: Bytes, end: bool) -> Result<(), h2::Error> {
    if !data.is_empty() {
        stream.reserve_capacity(data.len());
        while stream.capacity() == 0 {
            match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(capacity) => capacity?,
                None => return Err(Reset::CANCEL.into()),
            };
        }
    }
    stream.send_data(data, end)
}

/// What the caller is told about a response that breaks off: the endpoint's own reason where it gave one.
fn reset_for(error: &BodyError) -> Reset {
    match error {
        BodyError::Reset(Some(reason)) if *reason != Reset::NO_ERROR => *reason,
        BodyError::Timeout => Reset::CANCEL,
        _ => Reset::INTERNAL_ERROR,
    }
}

/// The request's body; with `ask`, of a caller that sends it only when it is asked to.
fn body(stream: RecvStream, ask: Option<Interim>) -> Body {
    if stream.is_end_stream() {
        return Body::Empty;
    }
    let body = Body::Http2(Http2Body::new(stream));
    if ask.is_some() { Body::other(AskedFor { body, ask }) } else { body }
}

/// A socket whose first bytes have been read already.
struct Replayed {
    first: Bytes,
    stream: SharedStream,
}

impl AsyncRead for Replayed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let count = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replayed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A body that a caller sends only when it is asked to: the first read asks.
struct AskedFor {
    body: Body,
    /// Where to ask; gone once it has been done.
    ask: Option<Interim>,
}

impl HttpBody for AskedFor {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(interim) = self.ask.take() {
            interim.say(StatusCode::CONTINUE);
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
