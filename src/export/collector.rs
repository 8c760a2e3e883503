//! The connection to a collector: one at a time, made when it is needed, over which batches go one after another.

use std::{error::Error, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::answer::{self, Verdict};
use crate::{
    config::{ClientTls, Otlp, Verify},
    tls::{self, Keeper, ServerNameOf},
};

/// From asking to the end of the answer, connecting included; what OTLP's exporters wait by default.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// For a connection and its handshake, so that one address that is silent leaves time for another.
const CONNECT: Duration = Duration::from_secs(3);
/// Bytes of an answer: it says little.
const LONGEST: usize = 1 << 20;
/// The one method of OTLP over gRPC that takes spans.
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const USER_AGENT: &str = concat!("towpath/", env!("CARGO_PKG_VERSION"));

/// Where spans go.
pub(super) struct Collector {
    grpc: bool,
    host: String,
    port: u16,
    /// Absolute, for HTTP/2.
    uri: Uri,
    /// As the `host` field has it.
    authority: HeaderValue,
    tls: Option<Arc<tls::Client>>,
    connection: Option<Connection>,
}

enum Connection {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A TCP connection, with TLS or without.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

impl Collector {
    /// # Errors
    /// The key in `[tracing]`, and what is wrong with it.
    pub(super) fn new(otlp: &Otlp, keeper: &Keeper) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("otlp: {}: {error}", otlp.url);
        let uri: Uri = otlp.url.parse().map_err(|error| wrong(&error))?;
        let authority = uri.authority().ok_or_else(|| wrong(&"it names no host"))?.clone();
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let secure = uri.scheme_str() == Some("https");
        let tls = secure.then(|| client(&host, otlp, keeper)).transpose()?;
        let mut parts = uri.into_parts();
        if otlp.grpc {
            parts.path_and_query = Some(http::uri::PathAndQuery::from_static(EXPORT));
        }
        Ok(Self {
            grpc: otlp.grpc,
            host,
            port: authority.port_u16().unwrap_or(if otlp.grpc { 4317 } else { 4318 }),
            uri: Uri::from_parts(parts).map_err(|error| wrong(&error))?,
            authority: HeaderValue::from_str(authority.as_str()).map_err(|error| wrong(&error))?,
            tls,
            connection: None,
        })
    }

    /// The bytes of a request with this message.
    pub(super) fn frame(&self, message: &impl prost::Message) -> Bytes {
        let length = message.encoded_len();
        let mut bytes = BytesMut::with_capacity(length + 5);
        if self.grpc {
            bytes.put_u8(0);
            bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        }
        message.encode(&mut bytes).expect("a BytesMut grows as needed");
        bytes.freeze()
    }

    /// Sends what [`Self::frame`] made. A connection that was closed while it was idle costs nothing.
    pub(super) async fn send(&mut self, body: &Bytes) -> Verdict {
        let fresh = self.connection.is_none();
        let mut outcome = self.send_once(body).await;
        if matches!(&outcome, Ok(Err(_))) && !fresh {
            outcome = self.send_once(body).await;
        }
        let error = match outcome {
            Ok(Ok(verdict)) => return verdict,
            Ok(Err(error)) => error,
            Err(_) => {
                self.connection = None;
                format!("no answer within {PATIENCE:?}")
            }
        };
        Verdict::Later { error, after: None }
    }

    async fn send_once(
        &mut self,
        body: &Bytes,
    ) -> Result<Result<Verdict, String>, tokio::time::error::Elapsed> {
        timeout(PATIENCE, async {
            // Put back only when the whole answer is here: what was given up half-way is no place for another request.
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => self.connect().await?,
            };
            let response = connection.ask(self.request(body.clone())).await?;
            let verdict = self.read(response).await?;
            self.connection = Some(connection);
            Ok(verdict)
        })
        .await
    }

    fn request(&self, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        if self.grpc {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            *request.uri_mut() = self.uri.clone();
        } else {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
            headers.insert(header::HOST, self.authority.clone());
            let path = self.uri.path_and_query().cloned();
            *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
        }
        request
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Verdict, String> {
        let (head, body) = response.into_parts();
        let whole = Limited::new(body, LONGEST).collect().await;
        let whole = whole.map_err(|error| format!("its answer broke off: {error}"))?;
        let trailers = whole.trailers().cloned().unwrap_or_else(HeaderMap::new);
        let body = whole.to_bytes();
        Ok(if self.grpc {
            answer::of_grpc(head.status, &head.headers, &trailers, &body)
        } else {
            answer::of_http(head.status, &head.headers, &body)
        })
    }

    async fn connect(&self) -> Result<Connection, String> {
        // getaddrinfo on a thread of tokio's: this may take its time, here it keeps nobody waiting.
        let addresses = lookup_host((self.host.as_str(), self.port)).await;
        let addresses = addresses.map_err(|error| format!("{} cannot be resolved: {error}", self.host))?;
        let mut failure = format!("{} has no address", self.host);
        for address in addresses {
            match timeout(CONNECT, self.connect_to(address)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => failure = format!("{address}: {error}"),
                Err(_) => failure = format!("{address}: no connection within {CONNECT:?}"),
            }
        }
        Err(failure)
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<Connection, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| match error.kind() {
            std::io::ErrorKind::ConnectionRefused => format!("{error}: nothing listens there"),
            _ => error.to_string(),
        })?;
        // A batch is written at once.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else { return self.speak(Box::new(stream)).await };
        let name = tls.server_name(ServerNameOf { host: Some(&self.host), address: address.ip() });
        let material = tls.now();
        let config = if self.grpc { material.http2.clone() } else { material.http1.clone() };
        let stream = TlsConnector::from(config).connect(name, stream).await;
        self.speak(Box::new(stream.map_err(|error| format!("TLS (tracing.ca): {error}"))?)).await
    }

    async fn speak(&self, stream: Box<dyn Io>) -> Result<Connection, String> {
        let stream = TokioIo::new(stream);
        // How a connection ends, the exchange on it finds out.
        if self.grpc {
            let made = http2::handshake(TokioExecutor::new(), stream).await;
            let (sender, connection) = made.map_err(|error| describe(&error))?;
            tokio::spawn(async { drop(connection.await) });
            Ok(Connection::Http2(sender))
        } else {
            let made = http1::handshake(stream).await;
            let (sender, connection) = made.map_err(|error| describe(&error))?;
            tokio::spawn(async { drop(connection.await) });
            Ok(Connection::Http1(sender))
        }
    }
}

impl Connection {
    async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, String> {
        let answered = match self {
            Self::Http1(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            },
            Self::Http2(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            },
        };
        let response = answered.map_err(|error| match self {
            Self::Http1(_) => describe(&error),
            Self::Http2(_) => format!(
                "{}: it may not speak gRPC (OTLP over HTTP has a path such as /v1/traces)",
                describe(&error)
            ),
        })?;
        // A collector that is behind a gateway that redirects is not followed: elsewhere others may vouch.
        match response.status() {
            status if status == StatusCode::SWITCHING_PROTOCOLS => Err(format!("it answers {status}")),
            _ => Ok(response),
        }
    }
}

fn client(host: &str, otlp: &Otlp, keeper: &Keeper) -> Result<Arc<tls::Client>, String> {
    let verify = Verify::Name(host.to_owned());
    let wanted = ClientTls { ca: otlp.ca.clone(), identity: None, verify, only_13: false };
    keeper.client(&wanted).map_err(|error| format!("ca: {error}"))
}

/// With what caused it: hyper says only where it failed.
fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
