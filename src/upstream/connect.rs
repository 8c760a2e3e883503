//! One new connection, ready for its first request.

use std::{cell::Cell, future::poll_fn, pin::pin, rc::Rc, task::Poll, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::{
    error::{ConnectError, describe},
    http1::Http1Connection,
    http2::Http2Connection,
    pool::Open,
    target::{Target, Version},
};
use crate::net::{SharedStream, Socket, Stream};

/// A stream's share of the receive window. A stalled caller holds at most this much of a shared connection.
const STREAM_WINDOW: u32 = 65_535;
/// Streams on one connection at most, whatever the endpoint allows.
pub(super) const MAX_STREAMS: u32 = 256;
/// The connection's window: every stream may stall with its share full without stopping the others.
const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;
/// Stands for "the endpoint has not said yet". Any real limit replaces it, and no endpoint chooses it.
const UNTOLD: usize = 0x7fff_fff1;

/// A TCP connection within `limit`, secured where the target is to be.
async fn connect(target: &Target, version: Version, limit: Duration) -> Result<Stream, ConnectError> {
    let connecting = async {
        let socket = Socket::connect(target.address).await;
        let socket = socket.map_err(|error| ConnectError::Io(Rc::new(error)))?;
        match &target.secure {
            None => Ok(Stream::Plain(socket)),
            Some(secure) => secure.handshake(socket, version).await,
        }
    };
    timeout(limit, connecting).await.unwrap_or(Err(ConnectError::Timeout(limit)))
}

/// Connects for HTTP/1.1.
pub(super) async fn http1(
    target: &Target,
    limit: Duration,
    open: Open,
) -> Result<Http1Connection, ConnectError> {
    let stream = connect(target, Version::Http1, limit).await?;
    Ok(Http1Connection::new(SharedStream::new(stream), open))
}

/// Connects for HTTP/2 and waits for the endpoint's SETTINGS, so that its limit on streams is known before the first
/// request, and an endpoint that speaks something else is found out before a request is lost to it.
pub(super) async fn http2(
    target: &Target,
    limit: Duration,
    open: Open,
) -> Result<Rc<Http2Connection>, ConnectError> {
    let started = Instant::now();
    let stream = connect(target, Version::Http2, limit).await?;
    let left = limit.saturating_sub(started.elapsed());
    match timeout(left, http2_handshake(stream, open)).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::Timeout(limit)),
    }
}

async fn http2_handshake(stream: Stream, open: Open) -> Result<Rc<Http2Connection>, ConnectError> {
    let refused =
        |error: h2::Error| ConnectError::Protocol(format!("HTTP/2 was not understood: {}", describe(&error)));
    let (sender, mut driver) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(UNTOLD)
        // Of a response: more than any caller takes, and h2 keeps no more of a longer one.
        .max_header_list_size(1 << 20)
        .enable_push(false)
        // As h2 has it: streams that were given up by us, whose late frames are ignored for a second.
        .max_concurrent_reset_streams(50)
        // Responses that break the protocol, over the connection's whole life, as h2 has it: an endpoint that sends so many gets a new
        // connection, which costs no request.
        .max_local_error_reset_streams(Some(1024))
        .handshake::<_, Bytes>(stream)
        .await
        .map_err(refused)?;
    poll_fn(|cx| match pin!(&mut driver).poll(cx) {
        Poll::Ready(Ok(())) => {
            Poll::Ready(Err(ConnectError::Protocol("the endpoint closed at once".to_owned())))
        }
        Poll::Ready(Err(error)) => Poll::Ready(Err(refused(error))),
        Poll::Pending if driver.max_concurrent_send_streams() == UNTOLD => Poll::Pending,
        Poll::Pending => Poll::Ready(Ok(())),
    })
    .await?;
    let max_streams = Rc::new(Cell::new(driver.max_concurrent_send_streams()));
    let connection = Rc::new(Http2Connection::new(sender, max_streams.clone(), open.pool()));
    let closed = connection.closed_flag();
    tokio::task::spawn_local(drive(driver, max_streams, closed, open));
    Ok(connection)
}

/// Runs the connection, and keeps what the pool knows of it up to date.
async fn drive(
    mut driver: h2::client::Connection<Stream, Bytes>,
    max_streams: Rc<Cell<usize>>,
    closed: Rc<Cell<bool>>,
    open: Open,
) {
    let result = poll_fn(|cx| {
        let poll = pin!(&mut driver).poll(cx);
        let allowed = driver.max_concurrent_send_streams();
        if max_streams.replace(allowed) < allowed {
            open.pool().streams_freed(true);
        }
        poll
    })
    .await;
    if let Err(error) = result {
        tracing::debug!(error = describe(&error), "an endpoint's connection ended in an error");
    }
    closed.set(true);
    drop(open);
}
