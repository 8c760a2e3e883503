//! Requests on an HTTP/2 connection.
//!
//! h2 is used as it is: its limits on streams, its reasons for resets and its interim answers are what a proxy must
//! pass on, and a wrapper would cost a task and a channel for each request.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{Reason, SendStream, client::SendRequest};
use http::{Request, Response};
use http_body::Body as _;
use tokio::time::{Instant, timeout};

use super::{
    connect::MAX_STREAMS,
    error::{CallerFault, SendError, Sent, describe},
    outgoing::Outgoing,
    pool::{EndpointPool, UPLOAD_LINGER},
};
use crate::http::{
    Body, Interim,
    body::{Http2Body, is_token},
    http1::single_length,
};

/// A connection that carries many requests.
pub(super) struct Http2Connection {
    sender: RefCell<SendRequest<Bytes>>,
    /// What the endpoint allows now.
    max_streams: Rc<Cell<usize>>,
    streams: Cell<usize>,
    /// It takes no new stream: closed, or the endpoint said GOAWAY.
    closed: Rc<Cell<bool>>,
    pool: Weak<EndpointPool>,
    pub(super) opened: Instant,
    pub(super) idle_since: Cell<Instant>,
}

impl Http2Connection {
    pub(super) fn new(
        sender: SendRequest<Bytes>,
        max_streams: Rc<Cell<usize>>,
        pool: Rc<EndpointPool>,
    ) -> Self {
        let now = Instant::now();
        Self {
            sender: RefCell::new(sender),
            max_streams,
            streams: Cell::new(0),
            closed: Rc::default(),
            pool: Rc::downgrade(&pool),
            opened: now,
            idle_since: Cell::new(now),
        }
    }

    pub(super) fn closed_flag(&self) -> Rc<Cell<bool>> {
        self.closed.clone()
    }

    /// Whether it takes no new stream ever again.
    pub(super) fn is_closed(&self) -> bool {
        if !self.closed.get() && self.poll_sender().is_err() {
            self.closed.set(true);
        }
        self.closed.get()
    }

    /// h2 reports a GOAWAY through the sender before the connection itself has ended.
    fn poll_sender(&self) -> Result<(), h2::Error> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match self.sender.borrow_mut().poll_ready(&mut cx) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.streams.get() < self.max_streams.get().min(MAX_STREAMS as usize)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.streams.get() == 0
    }

    /// Takes one of the streams.
    pub(super) fn reserve(self: &Rc<Self>) -> Http2Stream {
        self.streams.set(self.streams.get() + 1);
        Http2Stream { connection: self.clone(), upload: None }
    }
}

/// One stream's place on a connection; given back when dropped, which also stops the upload.
pub(super) struct Http2Stream {
    connection: Rc<Http2Connection>,
    upload: Option<tokio::task::JoinHandle<()>>,
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.abort();
        }
        let left = self.connection.streams.get() - 1;
        self.connection.streams.set(left);
        if let Some(pool) = self.connection.pool.upgrade() {
            if left == 0 {
                self.connection.idle_since.set(pool.now());
            }
            pool.streams_freed(false);
        }
    }
}

impl Http2Stream {
    /// The response is complete; the upload may still end, or be stopped by whoever owns the body.
    pub(super) fn finish(mut self) {
        if let Some(mut upload) = self.upload.take().filter(|upload| !upload.is_finished()) {
            tokio::task::spawn_local(async move {
                // Nothing wakes an upload that waits for a window. What is still under way when the place is given back is
                // stopped.
                let _ = timeout(UPLOAD_LINGER, &mut upload).await;
                upload.abort();
                drop(self);
            });
        }
    }

    /// Sends `request`; the response's head has arrived when this returns.
    pub(super) async fn send(
        &mut self,
        request: Outgoing<'_>,
        interim: &Interim,
        reused: bool,
    ) -> Result<Response<Body>, SendError> {
        let mut sender = self.connection.sender.borrow().clone();
        poll_fn(|cx| sender.poll_ready(cx)).await.map_err(|error| classify(&error, reused))?;
        let (head, body) = (head(&request), request.body);
        let end = body.is_end_stream();
        let (mut response, stream) =
            sender.send_request(head, end).map_err(|error| classify(&error, reused))?;
        let fault = Rc::new(Cell::new(None));
        if !end {
            self.upload(body, stream, fault.clone());
        }
        let result = poll_fn(|cx| {
            while let Poll::Ready(Some(Ok(answer))) = response.poll_informational(cx) {
                interim.push(answer.status(), answer.headers().clone());
            }
            Pin::new(&mut response).poll(cx)
        })
        .await;
        match result {
            Ok(response) if !response.headers().keys().all(is_token) => {
                Err(SendError::endpoint(Sent::Some, "a field name of its response is not a token"))
            }
            Ok(mut response) => match single_length(response.headers_mut()) {
                Ok(_) => Ok(response.map(|stream| Body::Http2(Http2Body::new(stream)))),
                Err(what) => Err(SendError::endpoint(Sent::Some, what)),
            },
            Err(error) => Err(fault.get().map_or_else(|| classify(&error, reused), SendError::caller)),
        }
    }

    /// Sends the body from a task of its own: the response may begin before the request has ended.
    fn upload(&mut self, body: Body, stream: SendStream<Bytes>, fault: Rc<Cell<Option<CallerFault>>>) {
        let task = tokio::task::spawn_local(upload(body, stream, fault));
        self.upload = Some(task);
    }
}

fn head(request: &Outgoing<'_>) -> Request<()> {
    let mut head = Request::new(());
    head.method_mut().clone_from(&request.parts.method);
    head.uri_mut().clone_from(&request.parts.uri);
    *head.version_mut() = request.parts.version;
    head.headers_mut().clone_from(&request.parts.headers);
    if let Some(left) = request.left {
        left.insert(head.headers_mut());
    }
    if let Some(node) = request.node {
        node.insert(head.headers_mut());
    }
    head
}

async fn upload(mut body: Body, mut stream: SendStream<Bytes>, fault: Rc<Cell<Option<CallerFault>>>) {
    loop {
        let frame = tokio::select! {
            biased;
            // The endpoint wants no more of it.
            _ = poll_fn(|cx| stream.poll_reset(cx)) => return,
            frame = crate::http::body::next_frame(&mut body) => frame,
        };
        match frame {
            None => {
                let _ = stream.send_data(Bytes::new(), true);
                return;
            }
            Some(Err(error)) => {
                fault.set(Some(CallerFault::of(&error)));
                stream.send_reset(Reason::CANCEL);
                return;
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let end = body.is_end_stream();
                    if !send_data(&mut stream, data, end).await || end {
                        return;
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        let _ = stream.send_trailers(trailers);
                    }
                    return;
                }
            },
        }
    }
}

/// Sends one piece once the endpoint's window has room; false when it wants no more.
async fn send_data(stream: &mut SendStream<Bytes>, data: Bytes, end: bool) -> bool {
    if !data.is_empty() {
        stream.reserve_capacity(data.len());
        while stream.capacity() == 0 {
            match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return false,
            }
        }
    }
    stream.send_data(data, end).is_ok()
}

/// RFC 9113 8.7: a refused stream, and one above the last that a GOAWAY names, has not been processed.
fn classify(error: &h2::Error, reused: bool) -> SendError {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    let excluded = error.is_go_away() && error.is_remote();
    let sent = match error.is_remote() {
        true if refused => Sent::Refused,
        true if excluded => Sent::Nothing,
        // The connection has ended under it.
        _ if reused && error.is_io() => Sent::Maybe,
        _ => Sent::Some,
    };
    SendError::endpoint(sent, describe(error))
}
