//! What nginx cannot be as a backend: `backend HTTP1_ADDRESS GRPC_ADDRESS`.
//!
//! Over HTTP/1.1 it reads an upload to its end and only then answers; over HTTP/2 it answers every call as a gRPC
//! server does, with one message and trailers. One thread. Everything else of the bench is answered by nginx.

use std::process::ExitCode;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

const ANSWER: &[u8] = b"a small body of forty-four bytes, as always\n";
/// The same behind gRPC's prefix: not compressed, 44 bytes.
const GRPC_ANSWER: &[u8] = b"\0\0\0\0\x2ca small body of forty-four bytes, as always\n";
const WINDOW: u32 = 1 << 20;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(http1), Some(grpc)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: backend HTTP1_ADDRESS GRPC_ADDRESS");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    match runtime.block_on(serve(&http1, &grpc)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("backend: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(http1: &str, grpc: &str) -> std::io::Result<()> {
    let (http1, grpc) = (TcpListener::bind(http1).await?, TcpListener::bind(grpc).await?);
    loop {
        tokio::select! {
            accepted = http1.accept() => { tokio::spawn(uploads(accepted?.0)); }
            accepted = grpc.accept() => { tokio::spawn(calls(accepted?.0)); }
        }
    }
}

/// A peer that goes away is the end of its connection and nothing more.
async fn uploads(stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service_fn(take))
        .await;
}

async fn take(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(Response::new(Full::new(Bytes::from_static(ANSWER))))
}

async fn calls(stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut settings = h2::server::Builder::new();
    settings.initial_window_size(WINDOW).initial_connection_window_size(WINDOW).max_concurrent_streams(1024);
    let Ok(mut connection) = settings.handshake::<_, Bytes>(stream).await else { return };
    while let Some(Ok((request, answer))) = connection.accept().await {
        tokio::spawn(call(request, answer));
    }
}

async fn call(request: Request<h2::RecvStream>, mut answer: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut body = request.into_body();
    while let Some(data) = body.data().await {
        let length = data?.len();
        body.flow_control().release_capacity(length)?;
    }
    let head =
        Response::builder().header("content-type", "application/grpc").body(()).expect("these are valid");
    let mut stream = answer.send_response(head, false)?;
    stream.send_data(Bytes::from_static(GRPC_ANSWER), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)
}
