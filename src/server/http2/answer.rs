//! A stream's answer: its head, interim answers before it, its content as far as the caller and its connection have room.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::{Reason as Reset, SendStream, server::SendResponse};
use http::{Response, header::DATE};
use http_body::Body as _;

use super::{Streams, watched::Outflow};
use crate::{
    http::{BodyError, Interim},
    net,
    proxy::{self, Failure, ResponseBody},
};

/// With more streams than this, responses are read in small pieces: a caller that reads none of them would hold a large one for each.
const FEW: usize = 16;

/// A stream, to its caller.
pub(super) struct Stream {
    pub(super) head_only: bool,
    pub(super) interim: Interim,
    pub(super) respond: SendResponse<Bytes>,
}

impl Stream {
    pub(super) async fn serve(
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
        if end { Ok(()) } else { write_body(body, stream, streams).await }
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

async fn write_body(
    mut body: ResponseBody,
    mut stream: SendStream<Bytes>,
    streams: &Streams,
) -> Result<(), h2::Error> {
    loop {
        let little = streams.running.get() > FEW;
        let frame = poll_fn(|cx| match net::reading(little, || Pin::new(&mut body).poll_frame(cx)) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => {
                stream.poll_reset(cx).map(|reset| Err(reset.map_or_else(|error| error, Into::into)))
            }
        })
        .await?;
        match frame {
            None => return stream.send_data(Bytes::new(), true),
            Some(Err(error)) => {
                let reason = reset_for(&error);
                streams.watch.excuse(reason);
                stream.send_reset(reason);
                return Ok(());
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let end = body.is_end_stream();
                    let taken = {
                        let mut writing = pin!(write_data(&mut stream, data, end, &streams.outflow));
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
async fn write_data(
    stream: &mut SendStream<Bytes>,
    data: Bytes,
    end: bool,
    outflow: &Outflow,
) -> Result<(), h2::Error> {
    if !data.is_empty() {
        poll_fn(|cx| outflow.poll_room(cx)).await;
        stream.reserve_capacity(data.len());
        while stream.capacity() == 0 {
            match poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(capacity) => capacity?,
                None => return Err(Reset::CANCEL.into()),
            };
        }
        outflow.add(data.len());
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
