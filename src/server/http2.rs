//! HTTP/2 towards callers. h2 is used as it is: see docs/decisions. `answer.rs` is one stream, `watched.rs` the socket, through which
//! `flood.rs` counts frames.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use h2::{
    Reason as Reset, RecvStream,
    server::{Builder, Connection, SendResponse},
};
use http::{Method, Request, StatusCode, header::EXPECT};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::{
    io::AsyncWrite as _,
    time::{Instant, timeout},
};

mod answer;
mod flood;
mod frames;
mod watched;

use self::{
    answer::Stream,
    watched::{Outflow, Watch, Watched},
};
use super::{members::Membership, timer::Timer};
use crate::{
    config::Limits,
    http::{Body, BodyError, Interim, body::Http2Body},
    net::{SharedStream, poll_read_some},
    proxy::{self, Caller, Failure, Reason, Worker},
};

/// A stream's share of the receive window.
const STREAM_WINDOW: u32 = 65_535;
/// A caller that runs no stream has this long to acknowledge a GOAWAY, and then to close.
const LEAVE_LINGER: Duration = Duration::from_secs(2);
/// Read from a caller that is sent away, so that it can read why.
const LINGER_BYTES: usize = 1 << 20;
/// Beyond the limit on heads, so that one just over it gets an answer of ours instead of a reset.
const HEAD_SLACK: usize = 16 * 1024;
/// A node's connection is shared by its callers, one of which could otherwise have it cut for all the others by giving up its requests. So
/// much is within what it may do: each reset costs this node little more than the request that it ends.
const CALLERS_OF_A_NODE: u32 = 100;
/// Streams that were reset by us, whose late frames are ignored for a second and not answered. h2's own 50 are too few for a caller
/// whose uploads are refused: what it had sent before it knew would be answered with STREAM_CLOSED, which counts as provoked.
const RESET_STREAMS: usize = 1024;
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
    let watch = Rc::new(Watch::new(&limits, if caller.identity.is_node { CALLERS_OF_A_NODE } else { 1 }));
    let handshake =
        builder(&limits).handshake::<_, Bytes>(Watched::new(preface, stream.clone(), watch.clone()));
    let mut connection = match timeout(limits.head_timeout, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return tracing::debug!(%error, "an HTTP/2 handshake failed"),
        Err(_) => return tracing::debug!("an HTTP/2 handshake was not completed in time"),
    };
    let streams = Rc::new(Streams {
        worker,
        caller,
        limits,
        watch,
        outflow: Outflow::default(),
        running: Cell::new(0),
        full: Cell::default(),
    });
    let mut waiting = Waiting::new(streams.clone());
    loop {
        match poll_fn(|cx| waiting.poll_accept(cx, &mut connection, &membership)).await {
            Next::Stream(request, respond) => streams.clone().spawn(request, respond),
            Next::Error(error) => {
                streams.report_flood();
                return tracing::debug!(%error, "an HTTP/2 connection ended in an error");
            }
            Next::TooMuch(reason) => {
                streams.report_flood();
                connection.abrupt_shutdown(reason);
                // What cannot be said is left unsaid.
                let _ = timeout(LEAVE_LINGER, poll_fn(|cx| connection.poll_closed(cx))).await;
                break;
            }
            Next::End => break,
        }
    }
    drop((waiting, connection));
    linger(stream).await;
}

/// Closes so that the caller can read the last GOAWAY: it may have sent a request meanwhile, and a socket that is closed with
/// unread bytes is reset.
async fn linger(mut stream: SharedStream) {
    // The caller may be gone already, which is as good.
    let _ = timeout(LEAVE_LINGER, poll_fn(|cx| Pin::new(&mut stream).poll_shutdown(cx))).await;
    let (mut skipped, mut left) = (BytesMut::new(), LINGER_BYTES);
    let skipping = poll_fn(|cx| {
        while let Ok(count @ 1..) = ready!(poll_read_some(&stream, cx, &mut skipped)) {
            skipped.clear();
            left = left.saturating_sub(count);
            if left == 0 {
                break;
            }
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
        .max_send_buffer_size(SEND_BUFFER)
        // Streams that were reset between two looks at the connection. Of h2's own 20 a client is cut that gives up a page of
        // requests at once; `flood.rs` counts them beside the others.
        .max_pending_accept_reset_streams(limits.max_streams as usize)
        .max_concurrent_reset_streams(RESET_STREAMS)
        // Over a connection's whole life, 1024 as h2 has it: `flood.rs` counts them per second.
        .max_local_error_reset_streams(None);
    builder
}

/// What comes next on a connection.
#[allow(clippy::large_enum_variant)] // it is looked at once: a box would cost each request an allocation
enum Next {
    Stream(Request<RecvStream>, SendResponse<Bytes>),
    Error(h2::Error),
    /// The caller sends what it may not, or not fast enough.
    TooMuch(Reset),
    End,
}

/// When a connection that waits for streams ends by itself.
struct Waiting {
    streams: Rc<Streams>,
    idle: Timer,
    /// Since when no stream runs.
    idle_since: Option<Instant>,
    /// GOAWAY has been said.
    leaving: bool,
    /// Of a head that is coming.
    head: Timer,
}

impl Drop for Waiting {
    /// Who waits for the connection to send finds that it has ended.
    fn drop(&mut self) {
        self.streams.outflow.sent();
    }
}

impl Waiting {
    fn new(streams: Rc<Streams>) -> Self {
        let now = Instant::now();
        let idle = Timer::new(now + streams.limits.idle_timeout);
        Self { streams, idle, idle_since: None, leaving: false, head: Timer::new(now) }
    }

    fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection<Watched, Bytes>,
        membership: &Membership,
    ) -> Poll<Next> {
        if membership.is_draining() && !self.leaving {
            self.leave(connection);
            self.idle.set(Instant::now() + LEAVE_LINGER);
        }
        let next = self.streams.poll_next(cx, connection);
        if self.streams.watch.flood().is_some() && !matches!(next, Poll::Ready(Next::Error(_) | Next::End)) {
            return Poll::Ready(Next::TooMuch(Reset::ENHANCE_YOUR_CALM));
        }
        if next.is_ready() {
            self.idle_since = None;
            return next;
        }
        if self.poll_head_overdue(cx).is_ready() {
            tracing::debug!(peer = %self.streams.caller.peer, "a head did not come whole in time");
            return Poll::Ready(Next::TooMuch(Reset::NO_ERROR));
        }
        self.poll_idle(cx, connection, membership)
    }

    /// Ready when a head has been coming for too long.
    fn poll_head_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(since) = self.streams.watch.head_since() else { return Poll::Pending };
        self.head.set(since + self.streams.limits.head_timeout);
        self.head.poll(cx)
    }

    fn poll_idle(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut Connection<Watched, Bytes>,
        membership: &Membership,
    ) -> Poll<Next> {
        if self.streams.running.get() > 0 {
            self.idle_since = None;
        } else if self.idle_since.is_none() {
            self.idle_since = Some(Instant::now());
            let patience = if self.leaving { LEAVE_LINGER } else { self.streams.limits.idle_timeout };
            self.idle.set(Instant::now() + patience);
        }
        if self.idle_since.is_some() && self.idle.poll(cx).is_ready() {
            if self.leaving {
                // A caller that does not even acknowledge the GOAWAY.
                return Poll::Ready(Next::End);
            }
            self.leave(connection);
            self.idle.set(Instant::now() + LEAVE_LINGER);
            return self.poll_accept(cx, connection, membership);
        }
        Poll::Pending
    }

    /// Says GOAWAY: streams that are on their way are still served, and the connection ends with the last one.
    fn leave(&mut self, connection: &mut Connection<Watched, Bytes>) {
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
    watch: Rc<Watch>,
    outflow: Outflow,
    running: Cell<usize>,
    /// To be woken when a stream ends: as many run as may, those included that were reset and are not cleaned up yet.
    full: Cell<Option<Waker>>,
}

/// Counts a stream as running.
struct Running(Rc<Streams>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
        if let Some(waker) = self.0.full.take() {
            waker.wake();
        }
        if std::thread::panicking() {
            self.0.worker.metrics.connection_panics.inc();
        }
    }
}

impl Streams {
    /// Moves the connection on, and takes the next stream from it if one more may run.
    fn poll_next(&self, cx: &mut Context<'_>, connection: &mut Connection<Watched, Bytes>) -> Poll<Next> {
        self.watch.begin();
        let next = if self.running.get() < self.limits.max_streams as usize {
            connection.poll_accept(cx)
        } else {
            self.full.set(Some(cx.waker().clone()));
            connection.poll_closed(cx).map(|closed| closed.err().map(Err))
        };
        if next.is_pending() && !self.watch.is_blocked() {
            self.outflow.sent();
        }
        next.map(|next| match next {
            Some(Ok((request, respond))) => Next::Stream(request, respond),
            Some(Err(error)) => Next::Error(error),
            None => Next::End,
        })
    }

    /// Counts the flood that ends the connection, if one does.
    fn report_flood(&self) {
        let Some(flood) = self.watch.flood() else { return };
        let kind = flood.name();
        self.worker.metrics.http2_flood(kind);
        if let Some(count) = self.worker.limits.floods.note(Instant::now()) {
            let (listener, caller) = (&*self.caller.door.name, &*self.caller.identity.name);
            tracing::warn!(
                listener, caller, peer = %self.caller.peer, kind, count,
                "HTTP/2 connections were closed because of what they sent; the last was this (limits.http2_*)"
            );
        }
    }

    fn spawn(self: Rc<Self>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        if self.watch.has_reset() && respond.poll_reset(&mut Context::from_waker(Waker::noop())).is_ready() {
            // Nobody waits for it any more: nothing is begun.
            return;
        }
        self.running.set(self.running.get() + 1);
        let interim = Interim::default();
        let stream =
            Stream { head_only: request.method() == Method::HEAD, interim: interim.clone(), respond };
        let handling = match self.too_large(&request) {
            Some(what) => Err(Failure::new(Reason::HeadersTooLarge, what)),
            None => {
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
    fn too_large(&self, request: &Request<RecvStream>) -> Option<&'static str> {
        let headers = request.headers();
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        let path = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
        let authority = request.uri().authority().map_or(0, |authority| authority.as_str().len());
        let target = path + authority;
        if target > self.limits.uri_bytes {
            return Some("the request's target is over the limit (limits.uri_bytes)");
        }
        let over = headers.len() > self.limits.header_count || bytes + target > self.limits.header_bytes;
        over.then_some("the request's head is over the limits")
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
