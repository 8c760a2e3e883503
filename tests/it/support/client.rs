//! A caller that speaks HTTP/1.1 or HTTP/2 over one connection of its own (hyper's `client::conn`).

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use super::{body, body::Body, within};

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    Http1,
    Http2,
}

/// One connection to the daemon.
pub enum Client {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

/// A request to be sent.
pub struct Call {
    method: String,
    host: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Body,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

/// A request without a body.
pub fn call(method: &str, host: &str, path: &str) -> Call {
    Call {
        method: method.into(),
        host: host.into(),
        path: path.into(),
        headers: Vec::new(),
        body: body::empty(),
    }
}

/// A GET.
pub fn get(host: &str, path: &str) -> Call {
    call("GET", host, path)
}

impl Call {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    fn build(self, speaks: Speaks) -> Request<Body> {
        let mut request = Request::builder().method(self.method.as_str());
        request = match speaks {
            Speaks::Http1 => request.uri(&self.path).header("host", &self.host),
            Speaks::Http2 => request.uri(format!("http://{}{}", self.host, self.path)),
        };
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(self.body).unwrap()
    }
}

impl Client {
    pub async fn connect(address: SocketAddr, speaks: Speaks) -> Self {
        let stream = within("connect", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream, speaks).await
    }

    pub async fn over<T>(stream: T, speaks: Speaks) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self::try_over(stream, speaks).await.unwrap()
    }

    /// As [`Client::over`], for a connection that may be gone again.
    pub async fn try_over<T>(stream: T, speaks: Speaks) -> hyper::Result<Self>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let io = TokioIo::new(stream);
        Ok(match speaks {
            Speaks::Http1 => {
                let (sender, connection) = http1::handshake(io).await?;
                tokio::spawn(connection);
                Self::One(sender)
            }
            Speaks::Http2 => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.initial_stream_window_size(1 << 20).initial_connection_window_size(4 << 20);
                let (sender, connection) = builder.handshake(io).await?;
                tokio::spawn(connection);
                Self::Two(sender)
            }
        })
    }

    /// Sends, and hands back the answer's head as soon as it is there; the body is read by whoever wants it.
    pub async fn try_send(&mut self, call: Call) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::One(sender) => {
                sender.ready().await?;
                sender.send_request(call.build(Speaks::Http1)).await
            }
            Self::Two(sender) => {
                sender.ready().await?;
                sender.send_request(call.build(Speaks::Http2)).await
            }
        }
    }

    pub async fn send(&mut self, call: Call) -> Response<Incoming> {
        let what = format!("{} {}{}", call.method, call.host, call.path);
        within(&what, self.try_send(call)).await.unwrap_or_else(|error| panic!("{what}: {error:?}"))
    }

    /// Sends, and reads the whole answer.
    pub async fn ask(&mut self, call: Call) -> Answer {
        let response = self.send(call).await;
        within("the answer's body", Answer::read(response)).await.unwrap()
    }

    pub async fn try_ask(&mut self, call: Call) -> hyper::Result<Answer> {
        Answer::read(self.try_send(call).await?).await
    }

    /// Whether the connection takes no further request.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::One(sender) => sender.is_closed(),
            Self::Two(sender) => sender.is_closed(),
        }
    }

    /// A second handle to the same HTTP/2 connection.
    pub fn same_connection(&self) -> Self {
        match self {
            Self::One(_) => panic!("an HTTP/1.1 connection carries one request at a time"),
            Self::Two(sender) => Self::Two(sender.clone()),
        }
    }
}

/// Whether nobody can have processed the request: the connection was closing before any of it went out, or its server
/// had said that it takes no more (RFC 9113 6.8).
pub fn never_processed(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    let told_to_leave = cause.is_some_and(|cause| {
        cause.is_go_away() && cause.is_remote() && cause.reason() == Some(h2::Reason::NO_ERROR)
    });
    error.is_canceled() || error.is_closed() || told_to_leave
}

/// Whether the kernel ended the connection with a reset.
pub fn was_reset(error: &hyper::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| matches!(io.kind(), BrokenPipe | ConnectionReset))
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// One request on a connection of its own.
pub async fn ask(address: SocketAddr, speaks: Speaks, call: Call) -> Answer {
    Client::connect(address, speaks).await.ask(call).await
}

impl Answer {
    pub async fn read(response: Response<Incoming>) -> hyper::Result<Self> {
        let (parts, body) = response.into_parts();
        let collected = body.collect().await?;
        let trailers = collected.trailers().cloned();
        Ok(Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: collected.to_bytes(),
            trailers,
        })
    }

    /// The value of a field, empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The value of a trailer, empty when it is not there.
    pub fn trailer(&self, name: &str) -> &str {
        self.trailers.as_ref().and_then(|map| map.get(name)).map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Why towpath itself answered; empty when it did not.
    pub fn reason(&self) -> &str {
        self.header("towpath-error")
    }

    /// The name of the backend that answered.
    pub fn backend(&self) -> &str {
        self.header("x-backend")
    }
}
