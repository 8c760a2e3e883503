//! A real HTTP server that says what it got, and behaves as the path asks (hyper, both protocols on one port, with or without TLS).
//!
//! | path | behaviour |
//! |---|---|
//! | `/status/503` | that status |
//! | `/slow?ms=50` | answers after that time |
//! | `/hang` | never answers |
//! | `/trailers` | a body without length and the trailer `x-checksum: 42` |
//! | `/bytes?n=10` | that many bytes, with a length |
//! | `/drip` | one piece of a body, and then nothing more |
//! | `/broken` | one piece of a body, and then the connection or stream is reset |
//! | `/count` | the number of bytes of the request's body, once all have come |
//! | `/early` | 403 before the request's body is read |
//! | `/unread` | 200 whose body never ends, and the request's body is never read |
//! | `/mirror` | the request's body and trailers while they come |
//! | anything else | the request as JSON: see [`echo`] |

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{HandshakeKind, ServerConfig};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use super::{body, body::Body, eventually};

/// A running server; it ends with every connection when this is dropped.
pub struct Backend {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// For [`Backend::answers`]: as the path asks.
pub const AS_ASKED: u16 = 0;
/// For [`Backend::answers`]: no answer at all.
pub const BREAKS_OFF: u16 = 1;

/// What the tests look at and change while it runs.
struct Shared {
    name: String,
    tls: Option<Mutex<Arc<ServerConfig>>>,
    /// Handshakes that were made, and those that resumed a session.
    handshakes: AtomicU64,
    resumed: AtomicU64,
    max_streams: Option<u32>,
    requests: AtomicU64,
    connections: AtomicU64,
    open: AtomicI64,
    running: AtomicI64,
    /// Milliseconds before every answer.
    delay: AtomicU64,
    /// The most that ran at a time.
    peak: AtomicI64,
    /// In place of what the paths ask for; 0 when nothing is.
    status: AtomicU16,
    order: watch::Sender<Order>,
}

/// What every connection is told.
#[derive(Clone, Copy, Default, PartialEq)]
enum Order {
    #[default]
    Serve,
    /// Finish what runs, take nothing new (GOAWAY on HTTP/2).
    Leave,
    /// Close at once.
    Stop,
}

/// Counts up, and down again when it is dropped.
struct Held<'a>(&'a AtomicI64);

impl<'a> Held<'a> {
    fn new(count: &'a AtomicI64) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Backend {
    /// Its name comes back in `x-backend`.
    pub async fn start(name: &str) -> Self {
        Self::with(name, "127.0.0.1:0".parse().unwrap(), None, None).await
    }

    /// Speaks TLS only; HTTP/2 where that is agreed on.
    pub async fn tls(name: &str, config: Arc<ServerConfig>) -> Self {
        Self::with(name, "127.0.0.1:0".parse().unwrap(), None, Some(config)).await
    }

    /// What the next handshakes go by.
    pub fn use_tls(&self, config: Arc<ServerConfig>) {
        *self.shared.tls.as_ref().expect("it has TLS").lock().unwrap() = config;
    }

    /// Handshakes that were made, and how many of them resumed a session.
    pub fn handshakes(&self) -> (u64, u64) {
        (self.shared.handshakes.load(Ordering::SeqCst), self.shared.resumed.load(Ordering::SeqCst))
    }

    /// Allows this many concurrent streams on an HTTP/2 connection.
    pub async fn with_streams(name: &str, max_streams: u32) -> Self {
        Self::with(name, "127.0.0.1:0".parse().unwrap(), Some(max_streams), None).await
    }

    /// On an address that a backend had before.
    pub async fn again(name: &str, address: SocketAddr) -> Self {
        Self::with(name, address, None, None).await
    }

    async fn with(
        name: &str,
        address: SocketAddr,
        max_streams: Option<u32>,
        tls: Option<Arc<ServerConfig>>,
    ) -> Self {
        let listener = bind(address).await;
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            name: name.into(),
            tls: tls.map(Mutex::new),
            handshakes: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            max_streams,
            requests: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            open: AtomicI64::new(0),
            running: AtomicI64::new(0),
            delay: AtomicU64::new(0),
            peak: AtomicI64::new(0),
            status: AtomicU16::new(0),
            order: watch::Sender::default(),
        });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Self { address, shared, accepting }
    }

    /// What comes back in `x-backend`.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Requests that came so far.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Connections that came so far.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> i64 {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Requests whose answer is not there yet.
    pub fn running(&self) -> i64 {
        self.shared.running.load(Ordering::SeqCst)
    }

    /// Every answer takes at least this long from now on.
    pub fn answer_after(&self, delay: Duration) {
        self.shared.delay.store(delay.as_millis() as u64, Ordering::SeqCst);
    }

    /// The most requests that ran at a time since this was last asked.
    pub fn take_peak(&self) -> i64 {
        self.shared.peak.swap(0, Ordering::SeqCst)
    }

    /// From now on every request is answered with this status, whatever its path; [`BREAKS_OFF`] closes its connection
    /// instead, [`AS_ASKED`] ends it.
    pub fn answers(&self, status: u16) {
        self.shared.status.store(status, Ordering::SeqCst);
    }

    /// Connections finish what they do and close; HTTP/2 ones say so first. New ones are served.
    pub fn leave(&self) {
        self.shared.order.send_replace(Order::Leave);
    }

    /// Closes the open connections at once. New ones are served.
    pub fn close_connections(&self) {
        self.shared.order.send_replace(Order::Stop);
    }
}

/// Tries again for a while: a connection of another test may have the port of a backend that is to come back.
async fn bind(address: SocketAddr) -> TcpListener {
    let mut listener = TcpListener::bind(address).await;
    eventually(&format!("{address} is free"), async || {
        if listener.is_err() {
            listener = TcpListener::bind(address).await;
        }
        listener.is_ok()
    })
    .await;
    listener.unwrap()
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
        self.close_connections();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            shared.connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(connection(stream, shared.clone()));
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let _open = Held::new(&shared.open);
    stream.set_nodelay(true).unwrap();
    if let Some(config) = shared.tls.as_ref().map(|tls| tls.lock().unwrap().clone()) {
        let Ok(stream) = TlsAcceptor::from(config).accept(stream).await else { return };
        let session = stream.get_ref().1;
        shared.handshakes.fetch_add(1, Ordering::SeqCst);
        if session.handshake_kind() == Some(HandshakeKind::Resumed) {
            shared.resumed.fetch_add(1, Ordering::SeqCst);
        }
        let http2 = session.alpn_protocol() == Some(b"h2");
        return speak(stream, http2, shared.clone()).await;
    }
    let mut order = shared.order.subscribe();
    let Some(http2) = speaks_http2(&stream, &mut order).await else { return };
    speak(stream, http2, shared.clone()).await;
}

async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    http2: bool,
    shared: Arc<Shared>,
) {
    let order = shared.order.subscribe();
    let service = service_fn(|request| serve(shared.clone(), request));
    if http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.max_concurrent_streams(shared.max_streams.unwrap_or(1000));
        builder.initial_stream_window_size(1 << 20).initial_connection_window_size(4 << 20);
        let serving = builder.serve_connection(TokioIo::new(stream), service);
        obey(serving, http2::Connection::graceful_shutdown, order).await;
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new());
        let serving = builder.serve_connection(TokioIo::new(stream), service);
        obey(serving, http1::Connection::graceful_shutdown, order).await;
    }
}

/// Looks at the first bytes without taking them. None: closed before any came.
async fn speaks_http2(stream: &TcpStream, order: &mut watch::Receiver<Order>) -> Option<bool> {
    let mut first = [0; 3];
    loop {
        tokio::select! {
            size = stream.peek(&mut first) => match size {
                Ok(3) => return Some(&first == b"PRI"),
                Ok(1..) => tokio::task::yield_now().await,
                _ => return None,
            },
            _ = order.changed() => return None,
        }
    }
}

async fn obey<C: Future>(
    serving: C,
    leave: impl Fn(std::pin::Pin<&mut C>),
    mut order: watch::Receiver<Order>,
) {
    let mut serving = std::pin::pin!(serving);
    loop {
        tokio::select! {
            _ = &mut serving => return,
            changed = order.changed() => match (changed, *order.borrow()) {
                (Ok(()), Order::Leave) => leave(serving.as_mut()),
                _ => return,
            },
        }
    }
}

async fn serve(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Body>, body::BodyError> {
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let running = Held::new(&shared.running);
    let delay = shared.delay.load(Ordering::SeqCst);
    if delay > 0 {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let head = request.method() == http::Method::HEAD;
    shared.peak.fetch_max(shared.running.load(Ordering::SeqCst), Ordering::SeqCst);
    let mut response = answer(&shared, request).await?;
    match shared.status.load(Ordering::SeqCst) {
        AS_ASKED => {}
        BREAKS_OFF => return Err("broken off on purpose".into()),
        status => response = respond(status, "on purpose"),
    }
    drop(running);
    if head {
        if let Some(length) = http_body::Body::size_hint(response.body()).exact() {
            response.headers_mut().insert("content-length", length.into());
        }
        *response.body_mut() = body::empty(); // hyper leaves that to the service over HTTP/2
    }
    response.headers_mut().insert("x-backend", shared.name.parse().unwrap());
    Ok(response)
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Result<Response<Body>, body::BodyError> {
    let path = request.uri().path().to_owned();
    Ok(match path.as_str() {
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(number(&request, "ms"))).await;
            echo(shared, request).await?
        }
        "/hang" => std::future::pending().await,
        "/trailers" => Response::new(body::with_trailers(&["one", "two"], &[("x-checksum", "42")])),
        "/bytes" => Response::new(body::endless(number(&request, "n")).1),
        "/drip" => Response::new(unfinished(std::future::pending())),
        "/broken" => Response::new(unfinished(async { Some("broken on purpose".into()) })),
        "/count" => Response::new(body::full(count(request.into_body()).await?.to_string())),
        "/early" => respond(403, "early"),
        "/unread" => {
            let response = Response::new(unfinished(std::future::pending()));
            tokio::spawn(hold(request.into_body()));
            response
        }
        "/mirror" => Response::new(request.into_body().map_err(Into::into).boxed_unsync()),
        path => match path.strip_prefix("/status/") {
            Some(status) => respond(status.parse().unwrap(), "as asked"),
            None => echo(shared, request).await?,
        },
    })
}

/// Keeps a body without reading it, longer than any test looks.
async fn hold(body: Incoming) {
    tokio::time::sleep(Duration::from_secs(60)).await;
    drop(body);
}

fn respond(status: u16, text: &'static str) -> Response<Body> {
    let body = if matches!(status, 204 | 304) { body::empty() } else { body::full(text) };
    Response::builder().status(status).body(body).unwrap()
}

/// One piece, and then what `next` says.
fn unfinished(next: impl Future<Output = Option<body::BodyError>> + Send + 'static) -> Body {
    let (sender, body) = body::piecewise();
    tokio::spawn(async move {
        let _ = sender.send(Ok(Bytes::from_static(b"first"))).await;
        tokio::select! {
            error = next => {
                if let Some(error) = error {
                    tokio::time::sleep(Duration::from_millis(20)).await; // the first piece goes out before
                    let _ = sender.send(Err(error)).await;
                }
            }
            () = sender.closed() => {}
        }
    });
    body
}

async fn count(mut body: Incoming) -> Result<u64, body::BodyError> {
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        total += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(total)
}

fn number(request: &Request<Incoming>, name: &str) -> u64 {
    let pairs = request.uri().query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

/// `{backend, version, method, uri, host, scheme, headers, body, trailers}`.
async fn echo(shared: &Shared, request: Request<Incoming>) -> Result<Response<Body>, body::BodyError> {
    let (parts, body) = request.into_parts();
    let collected = body.collect().await?;
    let trailers = collected.trailers().map(fields);
    let host = parts.headers.get("host").and_then(|host| host.to_str().ok());
    let host = host.or(parts.uri.authority().map(|authority| authority.as_str()));
    let seen = json!({
        "backend": shared.name,
        "version": format!("{:?}", parts.version),
        "method": parts.method.as_str(),
        "uri": parts.uri.path_and_query().map(|path| path.as_str()),
        "host": host,
        "scheme": parts.uri.scheme_str(),
        "headers": fields(&parts.headers),
        "body": String::from_utf8_lossy(&collected.to_bytes()),
        "trailers": trailers,
    });
    let response = Response::builder().header("content-type", "application/json");
    Ok(response.body(body::full(seen.to_string())).unwrap())
}

/// Name to the values joined by `, `.
fn fields(map: &HeaderMap) -> Value {
    let mut object = serde_json::Map::new();
    for name in map.keys() {
        let values: Vec<&str> = map.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        object.insert(name.to_string(), values.join(", ").into());
    }
    object.into()
}
