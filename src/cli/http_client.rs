//! A small HTTP/1.1 client for the admin API and for the demonstration's traffic.

use std::{future::poll_fn, io, pin::Pin};

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body::Body as _;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// No answer that is read here is longer.
const MAX_BODY: usize = 256 << 20;

/// One connection that is kept alive.
pub(super) struct Connection(SendRequest<String>);

/// An answer, read whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: String,
}

/// The body of an answer, piece by piece.
pub(super) struct Pieces(Incoming);

impl Pieces {
    /// None at its end.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let frame = poll_fn(|cx| Pin::new(&mut self.0).poll_frame(cx)).await;
            match frame.transpose().map_err(io::Error::other)?.map(hyper::body::Frame::into_data) {
                Some(Ok(data)) => return Ok(Some(data)),
                Some(Err(_trailers)) => {}
                None => return Ok(None),
            }
        }
    }

    /// All that is left, which is short.
    pub(super) async fn rest(self) -> io::Result<String> {
        let body = to_bytes(Body::new(self.0), MAX_BODY).await.map_err(io::Error::other)?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}

impl Connection {
    /// Connects to `HOST:PORT`. Needs a runtime.
    pub(super) async fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Self::over(stream).await
    }

    /// Over a stream that is connected.
    pub(super) async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // How the connection ends shows in the request that it ends for.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self(sender))
    }

    /// Sends a request without a body and reads the answer.
    pub(super) async fn ask(&mut self, method: Method, host: &str, path: &str) -> io::Result<Answer> {
        let request =
            Request::builder().method(method).uri(path).header(header::HOST, host).body(String::new());
        self.send(request.map_err(io::Error::other)?).await
    }

    /// Sends a request and reads the answer.
    pub(super) async fn send(&mut self, request: Request<String>) -> io::Result<Answer> {
        let (status, body) = self.begin(request).await?;
        Ok(Answer { status, body: body.rest().await? })
    }

    /// Sends a request; its answer has begun.
    pub(super) async fn begin(&mut self, request: Request<String>) -> io::Result<(StatusCode, Pieces)> {
        self.0.ready().await.map_err(io::Error::other)?;
        let (head, body) = self.0.send_request(request).await.map_err(io::Error::other)?.into_parts();
        Ok((head.status, Pieces(body)))
    }
}
