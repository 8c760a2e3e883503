//! gRPC through the daemon: tonic on both sides.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_stream::StreamExt;
use tonic::{Code, Request, Status, client::Grpc, transport::Channel};

use crate::support::{
    Answer, Client, Daemon, Speaks, body, call,
    daemon::one_service,
    eventually,
    grpc::{GrpcServer, Plain, connect, messages, method},
    within,
};

async fn started() -> (Daemon, GrpcServer, Grpc<Channel>) {
    let server = GrpcServer::start().await;
    let daemon = Daemon::start(&one_service("auto", &[server.address]));
    let mut caller = connect(daemon.address(), "echo.test").await;
    within("ready", caller.ready()).await.unwrap();
    (daemon, server, caller)
}

/// One gRPC message without compression.
fn message(text: &str) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes.into()
}

/// A unary call by hand, which shows the very fields of the answer.
async fn by_hand(daemon: &Daemon, path: &str, fields: &[(&str, &str)]) -> Answer {
    let mut client = Client::connect(daemon.address(), Speaks::Http2).await;
    let mut request = call("POST", "echo.test", path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body::full(message("hello")));
    for (name, value) in fields {
        request = request.header(name, value);
    }
    client.ask(request).await
}

/// A trailers-only answer of towpath itself.
fn assert_trailers_only(answer: &Answer, code: Code, reason: &str) {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("grpc-status"), (code as i32).to_string(), "{answer:?}");
    assert!(!answer.header("grpc-message").is_empty(), "{answer:?}");
    assert!(answer.header("content-type").starts_with("application/grpc"), "{answer:?}");
    assert_eq!(answer.reason(), reason);
    assert!(answer.body.is_empty() && answer.trailers.is_none(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_unary_call_passes_with_its_metadata() {
    let (daemon, _server, mut caller) = started().await;
    let mut request = Request::new(Bytes::from("hello"));
    request.metadata_mut().insert("x-tag", "blue".parse().unwrap());
    let response = within("the call", caller.unary(request, method("Unary"), Plain)).await.unwrap();
    assert_eq!(response.get_ref(), "hello");
    assert_eq!(response.metadata().get("x-tag").unwrap(), "blue");
    daemon.metric_becomes("requests_total", &[("service", "echo")], 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_client_streams() {
    let (_daemon, _server, mut caller) = started().await;
    let pieces = tokio_stream::iter(["a", "bc", "", "def"].map(Bytes::from));
    let call = caller.client_streaming(Request::new(pieces), method("Collect"), Plain);
    assert_eq!(within("the call", call).await.unwrap().into_inner(), "abcdef");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_streams() {
    let (_daemon, _server, mut caller) = started().await;
    let call = caller.server_streaming(Request::new(Bytes::from("1000")), method("Count"), Plain);
    let stream = within("the call", call).await.unwrap().into_inner();
    let numbers: Vec<Bytes> = within("the stream", stream.map(Result::unwrap).collect()).await;
    let expected: Vec<Bytes> = (0..1000).map(|number: i32| number.to_string().into()).collect();
    assert_eq!(numbers, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn both_stream_and_each_message_passes_at_once() {
    let (_daemon, _server, mut caller) = started().await;
    let (sender, outgoing) = messages();
    let call = caller.streaming(Request::new(outgoing), method("Chat"), Plain);
    let mut incoming = within("the call", call).await.unwrap().into_inner();
    for number in 0..50 {
        let text = Bytes::from(format!("message {number}"));
        sender.send(text.clone()).await.unwrap();
        assert_eq!(within("its echo", incoming.message()).await.unwrap(), Some(text));
    }
    drop(sender);
    assert_eq!(within("the end", incoming.message()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_trailers_only_answer_passes_as_it_is() {
    let (daemon, _server, mut caller) = started().await;
    let call = caller.unary(Request::new(Bytes::from("x")), method("Fail"), Plain);
    let status: Status = within("the call", call).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "not today"));
    let answer = by_hand(&daemon, "/test.Echo/Fail", &[]).await;
    assert_eq!((answer.header("grpc-status"), answer.reason()), ("9", ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_failure_after_some_messages_passes_in_the_trailers() {
    let (_daemon, _server, mut caller) = started().await;
    let call = caller.server_streaming(Request::new(Bytes::from("one")), method("Late"), Plain);
    let mut stream = within("the call", call).await.unwrap().into_inner();
    assert_eq!(within("a message", stream.message()).await.unwrap(), Some(Bytes::from("one")));
    let status = within("the failure", stream.message()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DataLoss, "lost on the way"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn grpc_timeout_ends_a_call_that_takes_longer() {
    let (daemon, server, _) = started().await;
    let start = Instant::now();
    let answer = by_hand(&daemon, "/test.Echo/Hang", &[("grpc-timeout", "100m")]).await;
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    assert_trailers_only(&answer, Code::DeadlineExceeded, "timeout");
    eventually("the server's call is cancelled", async || server.running() == 0).await;
    assert_eq!(server.requests(), 1);
    daemon.metric_becomes("errors_total", &[("reason", "timeout")], 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn grpc_timeout_leaves_a_call_that_is_quick_alone() {
    let (daemon, _server, _) = started().await;
    let answer = by_hand(&daemon, "/test.Echo/Unary", &[("grpc-timeout", "5S")]).await;
    assert_eq!((answer.status, answer.trailer("grpc-status")), (200, "0"));
    assert_eq!(answer.body, message("hello"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn grpc_timeout_holds_for_the_whole_stream() {
    let (_daemon, server, mut caller) = started().await;
    let (sender, outgoing) = messages();
    let mut request = Request::new(outgoing);
    request.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
    let mut incoming = within("the call", caller.streaming(request, method("Chat"), Plain)).await.unwrap();
    sender.send("a".into()).await.unwrap();
    assert_eq!(within("its echo", incoming.get_mut().message()).await.unwrap(), Some("a".into()));
    let status = within("the deadline", incoming.get_mut().message()).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    eventually("the server's call is cancelled", async || server.running() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_call_that_its_caller_cancels_is_cancelled_at_the_server() {
    let (daemon, server, mut caller) = started().await;
    let asking = tokio::spawn(async move {
        let _ = caller.unary(Request::new(Bytes::from("x")), method("Hang"), Plain).await;
    });
    eventually("the call is at the server", async || server.running() == 1).await;
    asking.abort();
    eventually("the server sees it go", async || server.running() == 0).await;
    daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stream_that_its_caller_drops_is_cancelled_at_the_server() {
    let (daemon, server, mut caller) = started().await;
    let call = caller.server_streaming(Request::new(Bytes::from("a")), method("Forever"), Plain);
    let mut incoming = within("the call", call).await.unwrap().into_inner();
    assert_eq!(within("a message", incoming.message()).await.unwrap(), Some("a".into()));
    assert_eq!(server.running(), 1);
    drop(incoming);
    eventually("the server sees it go", async || server.running() == 0).await;
    daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_failure_of_towpath_is_trailers_only_to_a_grpc_caller() {
    let server = GrpcServer::start().await;
    let toml = one_service("auto", &[server.address]).replace("\"*\"", "\"known.test\"");
    let daemon = Daemon::start(&toml);
    let answer = by_hand(&daemon, "/test.Echo/Unary", &[]).await;
    assert_trailers_only(&answer, Code::Unimplemented, "no_route");
    assert_eq!(server.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_cannot_be_reached_is_unavailable_to_a_grpc_caller() {
    let free = crate::support::ports::reserved();
    let daemon = Daemon::start(&one_service("auto", &[free]));
    let answer = by_hand(&daemon, "/test.Echo/Unary", &[]).await;
    assert_trailers_only(&answer, Code::Unavailable, "connect_failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_auto_service_gets_grpc_over_http2_and_the_rest_over_http1() {
    let backend = crate::support::Backend::start("one").await;
    let daemon = Daemon::start(&one_service("auto", &[backend.address]));
    let plain = call("POST", "echo.test", "/x");
    let grpc = call("POST", "echo.test", "/x").header("content-type", "application/grpc+proto");
    for (request, version) in [(plain, "HTTP/1.1"), (grpc, "HTTP/2.0")] {
        let mut client = Client::connect(daemon.address(), Speaks::Http2).await;
        assert_eq!(client.ask(request).await.json()["version"], version);
    }
}
