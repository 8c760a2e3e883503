//! Peers that dawdle: what they hold is bounded, and costs nobody else anything.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use crate::support::{
    Backend, Client, Daemon, Process, Raw, RawServer, Speaks, client,
    daemon::one_service,
    eventually,
    frames::{ACK, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, request},
    get,
    wait::HEAVY,
    within,
};

/// Uploads 20,000 bytes in as many chunks and writes, to a server at this path.
async fn dribble(address: std::net::SocketAddr, path: &str) -> tokio::net::TcpStream {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..20_000 {
        let taken = within("a chunk is taken", stream.write_all(b"1\r\nx\r\n")).await;
        assert!(taken.is_ok(), "{path}: {taken:?}");
        std::thread::sleep(Duration::from_micros(20)); // each write is a read of its own at the other end
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    stream
}

/// How much more memory the daemon takes for it; `arrived` says when the server has met it.
async fn growth(process: &Process, path: &str, arrived: impl AsyncFn() -> bool) -> u64 {
    let address = process.address().await;
    let before = process.peak_memory();
    let _stream = dribble(address, path).await;
    eventually("it has arrived", async || arrived().await).await;
    process.peak_memory() - before
}

const LITTLE: u64 = 32 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_in_tiny_chunks_takes_little_memory() {
    let _alone = HEAVY.lock().await;
    for (protocol, path) in [("http1", "/count"), ("http2", "/count"), ("http1", "/unread")] {
        let backend = Backend::start("one").await;
        let process = Process::start(&one_service(protocol, &[backend.address]));
        let growth = growth(&process, path, async || backend.requests() == 1).await;
        assert!(growth < LITTLE, "{protocol} {path}: {growth} bytes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_in_tiny_chunks_that_an_http2_server_does_not_want_takes_little_memory() {
    let _alone = HEAVY.lock().await;
    let server = RawServer::start().await;
    let process = Process::start(&one_service("http2", &[server.address]));
    let serving = tokio::spawn(async move {
        let mut upstream = Frames::accept(&server).await;
        upstream.send(SETTINGS, 0, 0, &NO_WINDOW).await;
        upstream.next_of(&[HEADERS]).await;
        upstream
    });
    let growth = growth(&process, "/", async || serving.is_finished()).await;
    assert!(growth < LITTLE, "{growth} bytes");
}

/// SETTINGS_INITIAL_WINDOW_SIZE of 0.
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_nobody_reads_do_not_stop_other_callers_of_the_same_server() {
    let backend = Backend::start("one").await;
    let one_worker = "[node]\nname = \"test\"\nworkers = 1\n";
    let daemon = Daemon::start(&format!("{one_worker}{}", one_service("http2", &[backend.address])));
    let mut stalled = Vec::new();
    for _ in 0..2 {
        let mut caller = Frames::with_settings(daemon.address(), &NO_WINDOW).await;
        let get = request("GET", "/bytes?n=1000000", &[]);
        for number in 0..200 {
            caller.send(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &get).await;
        }
        for _ in 0..200 {
            caller.next_of(&[HEADERS]).await;
        }
        stalled.push(caller);
    }
    tokio::time::sleep(Duration::from_millis(500)).await; // every window and buffer on the way is full
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let start = Instant::now();
        let answer = client::ask(daemon.address(), speaks, get("svc", "/bytes?n=300000")).await;
        assert_eq!((answer.status, answer.body.len()), (200, 300_000));
        assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    }
    drop(stalled);
    daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
    daemon.metric_becomes("connections", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_http2_caller_that_answers_no_ping_is_closed() {
    let backend = Backend::start("one").await;
    let limits = "[limits]\nidle_timeout = \"300ms\"\n";
    let daemon = Daemon::start(&format!("{limits}{}", one_service("http1", &[backend.address])));
    for asks in [true, false] {
        let mut caller = Frames::connect(daemon.address()).await;
        caller.next_of(&[SETTINGS]).await;
        caller.send(SETTINGS, ACK, 0, &[]).await;
        if asks {
            caller.send(HEADERS, END_STREAM | END_HEADERS, 1, &request("GET", "/", &[])).await;
            caller.next_of(&[HEADERS]).await;
        }
        let start = Instant::now();
        let said = caller.next_of(&[GOAWAY, PING]).await;
        assert!(start.elapsed() > Duration::from_millis(250), "{said:?} after {:?}", start.elapsed());
        caller.raw.read_to_close().await;
        assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
        daemon.metric_becomes("connections", &[], 0.0).await;
    }
}

/// A caller's route has half a second; the server has a response for it that is larger than every buffer.
async fn hurried(protocol: &str) -> (Daemon, Backend) {
    let backend = Backend::start("one").await;
    let toml =
        one_service(protocol, &[backend.address]).replacen("hosts =", "timeout = \"500ms\"\nhosts =", 1);
    (Daemon::start(&toml), backend)
}

const LARGE: &str = "/bytes?n=1000000000";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_caller_that_stops_reading_is_cut_at_the_routes_timeout() {
    for protocol in ["http1", "http2"] {
        let (daemon, backend) = hurried(protocol).await;
        let mut caller = Raw::connect(daemon.address()).await;
        caller.send(format!("GET {LARGE} HTTP/1.1\r\nhost: svc\r\n\r\n")).await;
        assert_eq!(caller.read_head().await.field("content-length"), "1000000000");
        daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
        daemon.metric_becomes("connections", &[], 0.0).await;
        if protocol == "http1" {
            daemon.metric_becomes("upstream_connections", &[], 0.0).await;
            eventually("the server's connection is closed", async || backend.open_connections() == 0).await;
        }
        let rest = caller.read_to_close().await;
        assert!(rest.len() < 500_000_000, "{protocol}: {} bytes", rest.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_stream_whose_caller_stops_reading_is_reset_at_the_routes_timeout() {
    for protocol in ["http1", "http2"] {
        let (daemon, backend) = hurried(protocol).await;
        let mut caller = Frames::connect(daemon.address()).await;
        caller.send(HEADERS, END_STREAM | END_HEADERS, 1, &request("GET", LARGE, &[])).await;
        let ended = caller.next_of(&[RST_STREAM, GOAWAY]).await;
        assert_eq!((ended.kind, ended.stream), (RST_STREAM, 1), "{protocol}: {ended:?}");
        daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
        if protocol == "http1" {
            daemon.metric_becomes("upstream_connections", &[], 0.0).await;
            eventually("the server's connection is closed", async || backend.open_connections() == 0).await;
        }
        let mut other = Client::connect(daemon.address(), Speaks::Http2).await;
        assert_eq!(other.ask(get("svc", "/")).await.status, 200, "{protocol}");
    }
}
