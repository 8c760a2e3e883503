//! Servers whose health a test decides apart from how they answer requests: over HTTP at `/healthz`, and by gRPC.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use tonic::{
    Status,
    server::{Grpc, UnaryService},
};

use super::{body, body::Body, grpc::Plain};

/// A server over one version of HTTP. Requests other than probes are answered with 200.
pub struct HealthServer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// How probes are answered.
#[derive(Clone)]
struct Mood {
    status: u16,
    /// So many further probes are answered with 503 before that.
    failing: u64,
    held: bool,
}

struct Shared {
    http2: bool,
    mood: watch::Sender<Mood>,
    probes: AtomicU64,
    requests: AtomicU64,
    running: AtomicI64,
    peak: AtomicI64,
    /// `METHOD TARGET HOST USER-AGENT` of the last probe.
    last: Mutex<String>,
}

impl HealthServer {
    pub async fn start() -> Self {
        Self::at("127.0.0.1:0", false).await
    }

    /// Understands HTTP/2 only.
    pub async fn http2() -> Self {
        Self::at("127.0.0.1:0", true).await
    }

    pub async fn at(address: &str, http2: bool) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            http2,
            mood: watch::Sender::new(Mood { status: 200, failing: 0, held: false }),
            probes: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            running: AtomicI64::new(0),
            peak: AtomicI64::new(0),
            last: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Self { address, shared, accepting }
    }

    /// Probes are answered so from now on.
    pub fn answers(&self, status: u16) {
        self.shared.mood.send_modify(|mood| mood.status = status);
    }

    /// The next probes, this many, are answered with 503.
    pub fn fails_next(&self, probes: u64) {
        self.shared.mood.send_modify(|mood| mood.failing = probes);
    }

    /// Probes get no answer while this is so.
    pub fn holds(&self, held: bool) {
        self.shared.mood.send_modify(|mood| mood.held = held);
    }

    pub fn probes(&self) -> u64 {
        self.shared.probes.load(Ordering::SeqCst)
    }

    /// Those that were no probes.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Probes that wait for their answer.
    pub fn running(&self) -> i64 {
        self.shared.running.load(Ordering::SeqCst)
    }

    /// The most probes that waited at a time.
    pub fn peak(&self) -> i64 {
        self.shared.peak.load(Ordering::SeqCst)
    }

    /// `METHOD TARGET HOST USER-AGENT` of the last probe.
    pub fn last_probe(&self) -> String {
        self.shared.last.lock().unwrap().clone()
    }
}

impl Drop for HealthServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(connection(stream, shared.clone()));
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let http2 = shared.http2;
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, std::convert::Infallible>(serve(&shared, &request).await) }
    });
    // How a connection ends is the other side's business.
    if http2 {
        let builder = http2::Builder::new(TokioExecutor::new());
        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    } else {
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }
}

async fn serve(shared: &Shared, request: &Request<Incoming>) -> Response<Body> {
    if !request.uri().path().starts_with("/healthz") {
        shared.requests.fetch_add(1, Ordering::SeqCst);
        return Response::new(body::full("ok"));
    }
    let field = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let host = field("host").or(request.uri().authority().map(|authority| authority.as_str()));
    let target = request.uri().path_and_query().unwrap();
    let agent = field("user-agent").unwrap_or_default();
    *shared.last.lock().unwrap() =
        format!("{} {target} {} {agent}", request.method(), host.unwrap_or_default());
    let running = shared.running.fetch_add(1, Ordering::SeqCst) + 1;
    shared.peak.fetch_max(running, Ordering::SeqCst);
    shared.probes.fetch_add(1, Ordering::SeqCst);
    let mut moods = shared.mood.subscribe();
    // It ends with the server.
    let _ = moods.wait_for(|mood| !mood.held).await;
    shared.running.fetch_sub(1, Ordering::SeqCst);
    let mut status = 503;
    shared.mood.send_modify(|mood| match mood.failing.checked_sub(1) {
        Some(left) => mood.failing = left,
        None => status = mood.status,
    });
    Response::builder().status(status).body(body::full("probed")).unwrap()
}

/// A server of `grpc.health.v1.Health/Check`, by tonic.
pub struct GrpcHealth {
    pub address: SocketAddr,
    /// The serving status of the server as a whole.
    status: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl GrpcHealth {
    /// Also serves `sick`, which is always NOT_SERVING, and no other service.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let status = Arc::new(AtomicU64::new(1));
        let shared = status.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let status = shared.clone();
                let service = service_fn(move |request| check(status.clone(), request));
                tokio::spawn(async move {
                    let builder = http2::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, status, accepting }
    }

    /// 1 is SERVING.
    pub fn answers(&self, status: u64) {
        self.status.store(status, Ordering::SeqCst);
    }
}

impl Drop for GrpcHealth {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn check(
    status: Arc<AtomicU64>,
    request: Request<Incoming>,
) -> Result<Response<tonic::body::Body>, Status> {
    if request.uri().path() != "/grpc.health.v1.Health/Check" {
        return Ok(Status::unimplemented("no such method").into_http());
    }
    Ok(Grpc::new(Plain).unary(Check(status), request).await)
}

struct Check(Arc<AtomicU64>);

impl UnaryService<Bytes> for Check {
    type Response = Bytes;
    type Future = std::future::Ready<Result<tonic::Response<Bytes>, Status>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        // The only field is a string of less than 128 bytes.
        let status = match request.get_ref().get(2..).unwrap_or_default() {
            b"" => self.0.load(Ordering::SeqCst),
            b"sick" => 2,
            _ => return std::future::ready(Err(Status::not_found("unknown service"))),
        };
        std::future::ready(Ok(tonic::Response::new(Bytes::from(vec![8, status as u8]))))
    }
}
