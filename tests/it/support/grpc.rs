//! A real gRPC client and server (tonic) whose messages are plain bytes, so that no generated code is needed.
//!
//! Methods of `/test.Echo/`: `Unary` gives the message back, with its `x-tag` and what it says of its trace, `Fail` answers
//! FAILED_PRECONDITION, `Collect` joins what a client streams, `Count` streams as many messages as the request says, `Chat` gives each message
//! back, `Hang` never answers, `Late` fails after one message, `Forever` gives one message and then nothing more.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use bytes::{Buf, BufMut, Bytes};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{
    Request, Response, Status, Streaming,
    client::Grpc as Caller,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{ClientStreamingService, Grpc, ServerStreamingService, StreamingService, UnaryService},
    transport::{Channel, Endpoint},
};

use super::within;

/// Messages are the bytes themselves.
#[derive(Clone, Copy, Default)]
pub struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put(message);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining())))
    }
}

/// A gRPC connection through the daemon, for this authority.
pub async fn connect(daemon: SocketAddr, authority: &str) -> Caller<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{daemon}")).unwrap();
    let channel = within("gRPC connect", endpoint.connect()).await.unwrap();
    Caller::with_origin(channel, format!("http://{authority}").parse().unwrap())
}

/// The path of a method of the test service.
pub fn method(name: &str) -> http::uri::PathAndQuery {
    format!("/test.Echo/{name}").parse().unwrap()
}

/// A stream of messages that is written while it is sent.
pub fn messages() -> (mpsc::Sender<Bytes>, ReceiverStream<Bytes>) {
    let (sender, receiver) = mpsc::channel(1);
    (sender, ReceiverStream::new(receiver))
}

/// A running gRPC server. It leaves `grpc-timeout` alone, so that what a test sees is the daemon's doing.
pub struct GrpcServer {
    pub address: SocketAddr,
    counts: Arc<Counts>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    running: AtomicI64,
}

struct Running(Arc<Counts>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl GrpcServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let accepting = tokio::spawn(accept(listener, counts.clone()));
        Self { address, counts, accepting }
    }

    /// Calls that came so far.
    pub fn requests(&self) -> u64 {
        self.counts.requests.load(Ordering::SeqCst)
    }

    /// Calls that run now: not answered and not cancelled.
    pub fn running(&self) -> i64 {
        self.counts.running.load(Ordering::SeqCst)
    }
}

impl Drop for GrpcServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, counts: Arc<Counts>) {
    while let Ok((stream, _)) = listener.accept().await {
        let counts = counts.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| call(counts.clone(), request));
            let builder = http2::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

type Answer = http::Response<tonic::body::Body>;

async fn call(counts: Arc<Counts>, request: http::Request<Incoming>) -> Result<Answer, Status> {
    counts.requests.fetch_add(1, Ordering::SeqCst);
    counts.running.fetch_add(1, Ordering::SeqCst);
    let running = Running(counts);
    let mut grpc = Grpc::new(Plain);
    let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let answer = match name.as_str() {
        "Unary" => grpc.unary(Unary, request).await,
        "Fail" => grpc.unary(Fail, request).await,
        "Collect" => grpc.client_streaming(Collect, request).await,
        "Count" => grpc.server_streaming(Count, request).await,
        "Late" => grpc.server_streaming(Late, request).await,
        "Forever" => grpc.server_streaming(Forever, request).await,
        "Chat" => grpc.streaming(Chat, request).await,
        "Hang" => std::future::pending().await,
        _ => Status::unimplemented(name).into_http(),
    };
    Ok(answer.map(|body| tonic::body::Body::new(body.map_frame(move |frame| held(frame, &running)))))
}

/// Ties the count of running calls to the life of the answer's body.
fn held<T>(frame: T, _running: &Running) -> T {
    frame
}

type Reply<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;
type Replies = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

struct Unary;
struct Fail;
struct Collect;
struct Count;
struct Late;
struct Forever;
struct Chat;

impl UnaryService<Bytes> for Unary {
    type Response = Bytes;
    type Future = Reply<Bytes>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let mut response = Response::new(request.get_ref().clone());
        for name in ["x-tag", "traceparent", "tracestate", "b3"] {
            if let Some(value) = request.metadata().get(name) {
                response.metadata_mut().insert(name, value.clone());
            }
        }
        Box::pin(async { Ok(response) })
    }
}

impl UnaryService<Bytes> for Fail {
    type Response = Bytes;
    type Future = Reply<Bytes>;

    fn call(&mut self, _request: Request<Bytes>) -> Self::Future {
        Box::pin(async { Err(Status::failed_precondition("not today")) })
    }
}

impl ClientStreamingService<Bytes> for Collect {
    type Response = Bytes;
    type Future = Reply<Bytes>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        Box::pin(async {
            let mut all = Vec::new();
            let mut messages = request.into_inner();
            while let Some(message) = messages.message().await? {
                all.extend_from_slice(&message);
            }
            Ok(Response::new(all.into()))
        })
    }
}

impl ServerStreamingService<Bytes> for Count {
    type Response = Bytes;
    type ResponseStream = Replies;
    type Future = Reply<Replies>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let count: u32 = String::from_utf8_lossy(request.get_ref()).parse().unwrap_or(0);
        let numbers = tokio_stream::iter(0..count).map(|number| Ok(Bytes::from(number.to_string())));
        Box::pin(async { Ok(Response::new(Box::pin(numbers) as Replies)) })
    }
}

impl ServerStreamingService<Bytes> for Late {
    type Response = Bytes;
    type ResponseStream = Replies;
    type Future = Reply<Replies>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let items = [Ok(request.into_inner()), Err(Status::data_loss("lost on the way"))];
        Box::pin(async { Ok(Response::new(Box::pin(tokio_stream::iter(items)) as Replies)) })
    }
}

impl ServerStreamingService<Bytes> for Forever {
    type Response = Bytes;
    type ResponseStream = Replies;
    type Future = Reply<Replies>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let items = tokio_stream::once(Ok(request.into_inner())).chain(tokio_stream::pending());
        Box::pin(async { Ok(Response::new(Box::pin(items) as Replies)) })
    }
}

impl StreamingService<Bytes> for Chat {
    type Response = Bytes;
    type ResponseStream = Streaming<Bytes>;
    type Future = Reply<Streaming<Bytes>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        Box::pin(async { Ok(Response::new(request.into_inner())) })
    }
}
