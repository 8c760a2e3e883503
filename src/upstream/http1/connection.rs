//! A connection, and the request that it carries.

use std::{cell::RefCell, future::poll_fn, rc::Rc, task::Poll};

use http::{Method, Response};
use tokio::{task::JoinHandle, time::Instant};

use super::{
    super::{
        error::{SendError, Sent},
        outgoing::Outgoing,
        pool::Open,
    },
    reading::{NoResponse, Reading, body},
    upload::{Upload, UploadError},
};
use crate::{
    http::{Body, Interim, http1::ResponseHead},
    net::SharedStream,
};

/// A connection that carries at most one request at a time.
pub(in crate::upstream) struct Http1Connection {
    stream: SharedStream,
    reading: Rc<RefCell<Reading>>,
    uploading: Uploading,
    pub(in crate::upstream) opened: Instant,
    _open: Open,
}

/// Whether the request has been sent to its end.
enum Uploading {
    Done,
    /// It has not, and will not be.
    Failed,
    /// A task sends the rest, and says whether it could.
    Going(JoinHandle<bool>),
}

impl Drop for Uploading {
    fn drop(&mut self) {
        if let Self::Going(task) = self {
            task.abort();
        }
    }
}

impl Http1Connection {
    pub(in crate::upstream) fn new(stream: SharedStream, open: Open) -> Self {
        Self {
            reading: Rc::new(RefCell::new(Reading::new(stream.clone()))),
            stream,
            uploading: Uploading::Done,
            opened: Instant::now(),
            _open: open,
        }
    }

    /// Whether it can carry another request: the last one is over, and the endpoint keeps the connection.
    pub(in crate::upstream) fn is_over(&self) -> bool {
        matches!(self.uploading, Uploading::Done) && self.reading.borrow().is_over()
    }

    /// Whether the request is still being sent, after its response is complete.
    pub(in crate::upstream) fn is_uploading(&self) -> bool {
        matches!(self.uploading, Uploading::Going(_)) && self.reading.borrow().is_over()
    }

    /// Returns when the request has been sent to its end, or cannot be.
    pub(in crate::upstream) async fn uploaded(&mut self) {
        if let Uploading::Going(task) = &mut self.uploading {
            self.uploading = if task.await.unwrap_or(false) { Uploading::Done } else { Uploading::Failed };
        }
    }

    /// Whether an idle connection is still open. With `certain`, the kernel itself is asked.
    pub(in crate::upstream) fn is_quiet(&self, certain: bool) -> bool {
        self.reading.borrow_mut().is_quiet() && (!certain || self.stream.is_quiet())
    }

    /// Sends `request`; the response's head has arrived when this returns.
    pub(in crate::upstream) async fn send(
        &mut self,
        request: Outgoing<'_>,
        interim: &Interim,
        reused: bool,
    ) -> Result<Response<Body>, SendError> {
        let to_head = request.parts.method == Method::HEAD;
        let mut sending = Sending { upload: Upload::new(self.stream.clone(), request), result: None };
        self.uploading = Uploading::Failed;
        let head = poll_fn(|cx| {
            if sending.result.is_none()
                && let Poll::Ready(result) = sending.upload.poll(cx)
            {
                if let Err(UploadError::Caller(fault)) = result {
                    return Poll::Ready(Err(SendError::caller(fault)));
                }
                // What the endpoint does not take it may still have answered.
                sending.result = Some(result);
            }
            let head = self.reading.borrow_mut().poll_head(cx, to_head, interim);
            head.map_err(|why| sending.failure(why, reused))
        })
        .await?;
        self.go_on(sending);
        Ok(self.response(head))
    }

    fn response(&self, head: ResponseHead) -> Response<Body> {
        Response::from_parts(head.parts, body(&self.reading))
    }

    /// The response has begun: what is left of the request is sent meanwhile.
    fn go_on(&mut self, sending: Sending) {
        self.uploading = match sending.result {
            Some(Ok(())) => Uploading::Done,
            Some(Err(_)) => Uploading::Failed,
            None => Uploading::Going(tokio::task::spawn_local(finish(sending.upload, self.stream.clone()))),
        };
    }
}

/// Sends the rest of a request; false when it cannot be done.
async fn finish(mut upload: Upload, stream: SharedStream) -> bool {
    match poll_fn(|cx| upload.poll(cx)).await {
        Ok(()) => true,
        Err(UploadError::Endpoint(_)) => false,
        Err(UploadError::Caller(_)) => {
            // The endpoint would wait for the rest for ever, and the response might wait for the endpoint.
            stream.shut_down_both();
            false
        }
    }
}

/// A request whose response has not begun.
struct Sending {
    upload: Upload,
    /// Of the upload, once it has ended.
    result: Option<Result<(), UploadError>>,
}

impl Sending {
    fn failure(&self, why: NoResponse, reused: bool) -> SendError {
        let (any, message) = match why {
            NoResponse::Malformed(what) => (true, what.to_owned()),
            NoResponse::Closed(any) => (any, self.closed()),
            NoResponse::Failed(any, error) => (any, error.to_string()),
        };
        let sent = match any {
            true => Sent::Some,
            false if self.upload.written() == 0 => Sent::Nothing,
            false if reused => Sent::Maybe,
            false => Sent::Some,
        };
        SendError::endpoint(sent, message)
    }

    fn closed(&self) -> String {
        match &self.result {
            Some(Err(UploadError::Endpoint(error))) => format!("it closed the connection: {error}"),
            _ => "it closed the connection before its response was complete".to_owned(),
        }
    }
}
