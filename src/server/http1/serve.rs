//! The loop over a connection's requests.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use http::{Method, Request, Response, StatusCode, Version, header::EXPECT};
use http_body::Body as _;
use tokio::time::{Instant, timeout};

use super::{
    inbound::Inbound,
    outbound::{Asked, Ends, Outbound, size_of},
};
use crate::{
    config::Limits,
    http::{
        Interim,
        http1::{Head, HeadError, HeadLimits},
    },
    net::{PeerState, SharedStream, peer_state},
    proxy::{self, Caller, Failure, Reason, ResponseBody, Worker},
    server::{handshake::say_goodbye, members::Membership, timer::Timer},
};

/// How long an idle connection of a draining listener is left open. A request that is already on its way is answered,
/// with `connection: close`; without this, closing at once would lose it.
pub(in crate::server) const DRAIN_LINGER: Duration = Duration::from_secs(1);
/// How often a caller is looked at that has finished sending while its request is being served.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Written before more of a response's body is read.
const WRITE_AHEAD: usize = 64 * 1024;
/// Of a request body that nobody wanted, read so that the connection can be kept.
const SKIPPED: usize = 256 * 1024;
/// How long an upload may go on after its response. A little longer than the proxy lets it, so that it ends first.
const UPLOAD_LINGER: Duration = Duration::from_secs(3);
/// How long the caller has to take a last response and to finish, before the connection is closed.
const CLOSE_LINGER: Duration = Duration::from_secs(2);

struct Connection {
    worker: Rc<Worker>,
    caller: Rc<Caller>,
    membership: Rc<Membership>,
    stream: SharedStream,
    inbound: Inbound,
    outbound: Outbound,
    /// Of the present request.
    interim: Interim,
    timer: Timer,
    /// The timer says when to look again whether the caller is still there.
    looking: bool,
}

/// Why the loop ends.
enum Over {
    /// Nothing is left to be said.
    Closed,
    /// Between two requests: everything has been said.
    Done,
    /// The caller must be given the time to read what was said.
    Linger,
}

/// Serves requests until the connection ends.
pub(in crate::server) async fn serve(
    worker: Rc<Worker>,
    caller: Rc<Caller>,
    stream: SharedStream,
    buffer: BytesMut,
    membership: Rc<Membership>,
) {
    let mut connection = Connection::new(worker, caller, stream, buffer, membership).await;
    loop {
        match connection.serve_one().await {
            Ok(()) => {}
            Err(over) => return connection.end(over).await,
        }
    }
}

/// Answers what is not to be read with a failure, and ends the connection.
pub(in crate::server) async fn refuse(
    worker: Rc<Worker>,
    caller: Rc<Caller>,
    stream: SharedStream,
    membership: Rc<Membership>,
    failure: Failure,
) {
    let mut connection = Connection::new(worker, caller, stream, BytesMut::new(), membership).await;
    if let Err(over) = connection.refuse(&failure).await {
        connection.end(over).await;
    }
}

impl Connection {
    async fn new(
        worker: Rc<Worker>,
        caller: Rc<Caller>,
        stream: SharedStream,
        buffer: BytesMut,
        membership: Rc<Membership>,
    ) -> Self {
        let inbound = Inbound::new(stream.clone(), buffer);
        poll_fn(|cx| {
            inbound.wake_with(cx.waker());
            Poll::Ready(())
        })
        .await;
        Self {
            outbound: Outbound::new(stream.clone()),
            timer: Timer::new(Instant::now()),
            looking: false,
            interim: Interim::default(),
            worker,
            caller,
            membership,
            stream,
            inbound,
        }
    }

    async fn end(self, over: Over) {
        match over {
            Over::Closed => {}
            Over::Done => say_goodbye(self.stream).await,
            Over::Linger => self.linger().await,
        }
    }

    /// One request, from its head to the end of its response.
    async fn serve_one(&mut self) -> Result<(), Over> {
        let mut head = match self.next_head().await? {
            Ok(head) => head,
            Err(error) => return self.refuse_head(&error).await,
        };
        if head.expects_continue && self.inbound.has_begun() {
            // It has not waited: there is nothing to ask for, and nothing to make it wait for (RFC 9110 10.1.1).
            head.expects_continue = false;
            head.parts.headers.remove(EXPECT);
        }
        let asked = Asked { method: head.parts.method.clone(), version: head.parts.version };
        // What follows a refused CONNECT is not HTTP.
        let wants_keep = head.keep_alive && asked.method != Method::CONNECT;
        let body = self.inbound.body(&head);
        let request = Request::from_parts(head.parts, body);
        let response = self.answer(request, asked.version).await?;
        if response.body().is_reset() {
            self.stream.reset_when_closed();
            return Err(Over::Closed);
        }
        let short = self.worker.limits.memory.is_short();
        let keep = wants_keep && !short && !self.membership.is_draining() && !self.inbound.is_spoilt();
        self.respond(response, &asked, keep).await?;
        if !keep { Err(Over::Linger) } else { self.finish_request().await }
    }

    /// The next request's head; `Err` in it when it cannot be read.
    async fn next_head(&mut self) -> Result<Result<Head, HeadError>, Over> {
        let limits = self.worker.view().snapshot.config.limits.clone();
        let head_limits =
            HeadLimits { bytes: limits.header_bytes, fields: limits.header_count, target: limits.uri_bytes };
        let mut waiting = Waiting { idle: !self.inbound.has_begun(), draining: false };
        self.looking = false;
        self.timer.set(Instant::now() + if waiting.idle { limits.idle_timeout } else { limits.head_timeout });
        poll_fn(|cx| match self.inbound.poll_head(cx, head_limits) {
            Poll::Ready(Ok(Some(head))) => Poll::Ready(Ok(Ok(head))),
            Poll::Ready(Ok(None)) => Poll::Ready(Err(Over::Done)),
            Poll::Ready(Err(error)) => Poll::Ready(Ok(Err(error))),
            Poll::Pending => {
                self.time_wait(&mut waiting, &limits);
                self.timer.poll(cx).map(|()| Err(Over::Done))
            }
        })
        .await
    }

    /// Sets the timer by what is being waited for.
    fn time_wait(&mut self, waiting: &mut Waiting, limits: &Limits) {
        if waiting.idle && self.inbound.has_begun() {
            waiting.idle = false;
            self.timer.set(Instant::now() + limits.head_timeout);
        }
        if waiting.idle && !waiting.draining && self.membership.is_draining() {
            waiting.draining = true;
            self.timer.set(Instant::now() + DRAIN_LINGER);
        }
    }

    /// Answers what cannot be read, and ends the connection.
    async fn refuse_head(&mut self, error: &HeadError) -> Result<(), Over> {
        let failure = match error {
            HeadError::TooLarge => {
                Failure::new(Reason::HeadersTooLarge, "the request's head is over the limits")
            }
            HeadError::TargetTooLong => {
                let what = "the request's target is over the limit (limits.uri_bytes)";
                Failure::new(Reason::HeadersTooLarge, what)
            }
            HeadError::Malformed(what) => Failure::new(Reason::BadRequest, *what),
        };
        self.refuse(&failure).await
    }

    async fn refuse(&mut self, failure: &Failure) -> Result<(), Over> {
        let response = proxy::refuse(&self.worker, &self.caller, failure);
        let asked = Asked { method: Method::GET, version: Version::HTTP_11 };
        self.respond(response, &asked, false).await?;
        Err(Over::Linger)
    }

    /// Has the request served, and passes interim answers on meanwhile.
    async fn answer(
        &mut self,
        request: Request<crate::http::Body>,
        version: Version,
    ) -> Result<Response<ResponseBody>, Over> {
        self.interim.renew();
        let interim = self.interim.clone();
        let (worker, caller) = (self.worker.clone(), self.caller.clone());
        // Boxed: an idle connection should not hold the kilobytes that a request in progress takes.
        let mut handling = Box::pin(proxy::handle(&worker, &caller, request, &interim));
        let mut began = false;
        poll_fn(|cx| {
            let poll = handling.as_mut().poll(cx);
            self.write_interim(cx, &interim, version);
            if let Poll::Ready(response) = poll {
                return Poll::Ready(Ok(response));
            }
            if !began {
                began = true;
                interim.wake_with(cx.waker());
            }
            self.poll_gone(cx).map(|()| Err(Over::Closed))
        })
        .await
    }

    fn write_interim(&mut self, cx: &mut Context<'_>, interim: &Interim, version: Version) {
        if self.inbound.take_continue() {
            self.outbound.interim(StatusCode::CONTINUE, &http::HeaderMap::new());
        }
        while let Some((status, headers)) = interim.pop() {
            interim.wake_with(cx.waker());
            // HTTP/1.0 knows no interim answers (RFC 9110 15.2), and a caller that does not read may do without.
            if version != Version::HTTP_10 && self.outbound.waiting() < WRITE_AHEAD {
                self.outbound.interim(status, &headers);
            }
        }
        // An error shows again when the response is written.
        let _ = self.outbound.poll_flush(cx);
    }

    /// Ready when nobody is there any more to take a response.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let finished = if self.inbound.is_done() { self.inbound.poll_ended(cx).is_ready() } else { true };
        if !finished {
            return Poll::Pending;
        }
        // The caller has finished sending, or somebody else reads its body: ask the kernel about it now and then.
        if !std::mem::replace(&mut self.looking, true) {
            if self.inbound.is_done() && self.is_gone() {
                return Poll::Ready(());
            }
            self.timer.set(Instant::now() + LOOK_AGAIN);
        }
        while self.timer.poll(cx).is_ready() {
            if self.is_gone() {
                return Poll::Ready(());
            }
            self.timer.set(Instant::now() + LOOK_AGAIN);
        }
        Poll::Pending
    }

    fn is_gone(&self) -> bool {
        match self.stream.tcp_ends() {
            Some((local, peer)) => peer_state(local, peer) == PeerState::Gone,
            None => self.stream.is_hung_up(),
        }
    }

    /// Writes the response.
    async fn respond(
        &mut self,
        response: Response<ResponseBody>,
        asked: &Asked,
        keep: bool,
    ) -> Result<(), Over> {
        let (parts, mut body) = response.into_parts();
        let ends = asked.ends(parts.status, &parts.headers, &size_of(&body));
        let keep = keep && ends != Ends::WithConnection;
        self.outbound.head(&parts, ends, asked, keep, || self.worker.date());
        if ends != Ends::Empty {
            self.write_body(&mut body, ends).await?;
        }
        self.flush(&mut body).await?;
        if ends == Ends::WithConnection { Err(Over::Linger) } else { Ok(()) }
    }

    async fn write_body(&mut self, body: &mut ResponseBody, ends: Ends) -> Result<(), Over> {
        let mut left = if let Ends::After(length) = ends { length } else { u64::MAX };
        let mut trailers = None;
        while !body.is_end_stream() && trailers.is_none() {
            match self.next_frame(body).await? {
                None => break,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        // More than was declared would be read as the next response.
                        left = left.checked_sub(data.len() as u64).ok_or(Over::Closed)?;
                        self.write_content(body, data, ends).await?;
                    }
                    Err(frame) => trailers = frame.into_trailers().ok(),
                },
                // The caller must see that the response is not whole: no end, and the connection closes.
                Some(Err(_)) => {
                    let _ = self.flush(body).await;
                    if ends == Ends::WithConnection {
                        self.stream.reset_when_closed();
                    }
                    return Err(Over::Closed);
                }
            }
            if self.outbound.waiting() >= WRITE_AHEAD {
                self.flush(body).await?;
            }
        }
        if matches!(ends, Ends::After(_)) && left > 0 {
            let _ = self.flush(body).await;
            return Err(Over::Closed);
        }
        self.outbound.end(ends, trailers.as_ref());
        Ok(())
    }

    async fn write_content(
        &mut self,
        body: &mut ResponseBody,
        data: bytes::Bytes,
        ends: Ends,
    ) -> Result<(), Over> {
        if data.is_empty() {
            return Ok(());
        }
        self.outbound.content(data, ends);
        if self.outbound.has_large() {
            self.flush(body).await?;
        }
        self.outbound.end_piece(ends);
        Ok(())
    }

    /// Writes what waits. What the caller does not take in time is given up: it would hold an endpoint's connection.
    async fn flush(&mut self, body: &mut ResponseBody) -> Result<(), Over> {
        poll_fn(|cx| match self.outbound.poll_flush(cx) {
            Poll::Ready(done) => Poll::Ready(done.map_err(|_| Over::Closed)),
            Poll::Pending => body.poll_overdue(cx, self.outbound.written()).map(|()| Err(Over::Closed)),
        })
        .await
    }

    /// The next frame of the response; what waits is written while there is none.
    async fn next_frame(
        &mut self,
        body: &mut ResponseBody,
    ) -> Result<Option<Result<http_body::Frame<bytes::Bytes>, crate::http::BodyError>>, Over> {
        poll_fn(|cx| {
            if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
                return Poll::Ready(Ok(frame));
            }
            if let Poll::Ready(Err(_)) = self.outbound.poll_flush(cx) {
                return Poll::Ready(Err(Over::Closed));
            }
            self.poll_gone(cx).map(|()| Err(Over::Closed))
        })
        .await
    }

    /// Makes sure that the next byte is the next request's first: the endpoint may have answered without reading the body
    /// to its end.
    async fn finish_request(&mut self) -> Result<(), Over> {
        if self.inbound.is_done() {
            return Ok(());
        }
        let skipped = timeout(UPLOAD_LINGER, async {
            self.inbound.left_alone().await;
            !self.inbound.is_spoilt() && self.inbound.skip_body(SKIPPED).await
        });
        if skipped.await.unwrap_or(false) { Ok(()) } else { Err(Over::Linger) }
    }

    /// Closes so that the caller can read the last response: a socket that is closed with unread bytes is reset, and the
    /// reset may overtake the response (RFC 9112 9.6).
    async fn linger(mut self) {
        self.outbound.shut_down(CLOSE_LINGER).await;
        // Two readers of one socket would take each other's bytes and wake-ups.
        if timeout(UPLOAD_LINGER, self.inbound.left_alone()).await.is_ok() {
            let _ = timeout(CLOSE_LINGER, self.inbound.skip_all()).await;
        }
    }
}

/// What a connection without a request waits for.
struct Waiting {
    /// Nothing of the next head has arrived.
    idle: bool,
    /// It has been seen that the listener drains.
    draining: bool,
}
