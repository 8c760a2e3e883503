//! A real OTLP receiver: OpenTelemetry's own service on tonic, or OTLP over HTTP, with TLS or without, that does as it is told.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response as HttpResponse};
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind},
};
use prost::Message;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;
use tonic::{Code, Response, Status, body::Body, codegen::Service};

use super::eventually;

/// A running receiver; it ends with its connections when this is dropped.
pub struct Collector {
    pub address: SocketAddr,
    over: Over,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// What OTLP goes over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Over {
    Grpc,
    Http,
}

/// What it does with spans.
#[derive(Clone, Copy, Default)]
pub enum Order {
    #[default]
    Take,
    /// Takes them after a while.
    After(Duration),
    /// UNAVAILABLE, or 503.
    Later,
    /// INVALID_ARGUMENT, or 400.
    Never,
    /// All but so many.
    AllBut(i64),
    /// Does not answer.
    Silence,
}

#[derive(Default)]
struct Shared {
    order: Mutex<Order>,
    requests: AtomicU64,
    spans: Mutex<Vec<Told>>,
}

/// A span that has come, with who told it.
#[derive(Clone, Debug)]
pub struct Told {
    pub resource: BTreeMap<String, String>,
    pub span: Span,
}

impl Told {
    /// The value of an attribute; nothing where there is none.
    pub fn get(&self, key: &str) -> String {
        attributes(&self.span.attributes).remove(key).unwrap_or_default()
    }

    pub fn is_server(&self) -> bool {
        self.span.kind == SpanKind::Server as i32
    }

    pub fn is_error(&self) -> bool {
        self.span.status.as_ref().is_some_and(|status| status.code == 2)
    }

    pub fn events(&self) -> Vec<&str> {
        self.span.events.iter().map(|event| event.name.as_str()).collect()
    }
}

pub fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let value = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{}: {other:?}", pair.key),
    };
    pairs.iter().map(|pair| (pair.key.clone(), value(pair))).collect()
}

impl Collector {
    pub async fn start(over: Over) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), over, None).await
    }

    /// On an address that may have been another's before.
    pub async fn at(address: SocketAddr, over: Over, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let accepting = tokio::spawn(accept(listener, over, tls, shared.clone()));
        Self { address, over, shared, accepting }
    }

    /// As `tracing.otlp` has it.
    pub fn url(&self) -> String {
        let path = if self.over == Over::Http { "/v1/traces" } else { "" };
        format!("http://{}{path}", self.address)
    }

    pub fn obey(&self, order: Order) {
        *self.shared.order.lock().unwrap() = order;
    }

    /// How often somebody has come with spans.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::SeqCst)
    }

    pub fn told(&self) -> Vec<Told> {
        self.shared.spans.lock().unwrap().clone()
    }

    /// Waits for this many spans, and hands them out: those of requests first, each by its start.
    pub async fn spans(&self, count: usize) -> Vec<Told> {
        eventually(&format!("{count} spans"), async || self.told().len() >= count).await;
        let mut told = self.told();
        assert_eq!(told.len(), count, "{told:#?}");
        told.sort_by_key(|told| (!told.is_server(), told.span.start_time_unix_nano));
        told
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, over: Over, tls: Option<Arc<ServerConfig>>, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(secure(stream, over, tls.clone(), shared.clone()));
    }
}

async fn secure(stream: TcpStream, over: Over, tls: Option<Arc<ServerConfig>>, shared: Arc<Shared>) {
    match tls {
        None => serve(stream, over, shared).await,
        Some(config) => {
            if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                serve(stream, over, shared).await;
            }
        }
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    over: Over,
    shared: Arc<Shared>,
) {
    let stream = TokioIo::new(stream);
    match over {
        Over::Grpc => {
            let service = service_fn(move |request: Request<Incoming>| {
                let mut service = TraceServiceServer::new(Receiver(shared.clone()));
                async move { service.call(request).await }
            });
            let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
        }
        Over::Http => {
            let service = service_fn(move |request: Request<Incoming>| over_http(request, shared.clone()));
            let _ = http1::Builder::new().serve_connection(stream, service).await;
        }
    }
}

struct Receiver(Arc<Shared>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0
            .take(request.into_inner())
            .await
            .map(Response::new)
            .map_err(|code| Status::new(code, "as told"))
    }
}

async fn over_http(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<HttpResponse<Body>, Infallible> {
    let (head, body) = request.into_parts();
    assert_eq!((head.method.as_str(), head.uri.path()), ("POST", "/v1/traces"));
    assert_eq!(head.headers["content-type"], "application/x-protobuf");
    let body = body.collect().await.unwrap().to_bytes();
    let answer = shared.take(ExportTraceServiceRequest::decode(body).unwrap()).await;
    let (status, body) = match answer {
        Ok(answer) => (200, answer.encode_to_vec()),
        Err(Code::Unavailable) => (503, vec![]),
        Err(_) => (400, vec![]),
    };
    let body = Body::new(http_body_util::Full::new(Bytes::from(body)));
    Ok(HttpResponse::builder().status(status).body(body).unwrap())
}

impl Shared {
    async fn take(&self, request: ExportTraceServiceRequest) -> Result<ExportTraceServiceResponse, Code> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let order = *self.order.lock().unwrap();
        let rejected = match order {
            Order::Take => 0,
            Order::After(delay) => {
                tokio::time::sleep(delay).await;
                0
            }
            Order::Later => return Err(Code::Unavailable),
            Order::Never => return Err(Code::InvalidArgument),
            Order::AllBut(rejected) => rejected,
            Order::Silence => std::future::pending().await,
        };
        let mut spans = self.spans.lock().unwrap();
        for of_resource in request.resource_spans {
            let resource = attributes(&of_resource.resource.unwrap_or_default().attributes);
            for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                spans.push(Told { resource: resource.clone(), span });
            }
        }
        let partial =
            ExportTracePartialSuccess { rejected_spans: rejected, error_message: "as told".to_owned() };
        Ok(ExportTraceServiceResponse { partial_success: (rejected > 0).then_some(partial) })
    }
}
