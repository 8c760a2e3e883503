//! Bodies stream: memory does not grow with their size, and who does not read stops who sends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http_body_util::BodyExt;

use crate::support::{
    Backend, Client, Daemon, Raw, RawServer, Speaks, body, call, daemon::one_service, get, wait::HEAVY,
    within,
};

const GIB: u64 = 1 << 30;

/// What this process keeps in memory, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// The most memory in use until the flag falls.
async fn peak(running: Arc<AtomicBool>) -> u64 {
    let mut peak = resident();
    while running.load(Ordering::Relaxed) {
        peak = peak.max(resident());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    peak
}

/// Sends 1 GiB to a server that gives each piece back, and reads it; client, proxy and server are this process.
async fn one_gib_both_ways(protocol: &str, speaks: Speaks) {
    let _alone = HEAVY.lock().await;
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service(protocol, &[backend.address]));
    let mut client = Client::connect(daemon.address(), speaks).await;
    client.ask(call("POST", "svc", "/mirror").body(body::endless(1 << 20).1)).await; // pools and buffers are there
    let before = resident();
    let running = Arc::new(AtomicBool::new(true));
    let watching = tokio::spawn(peak(running.clone()));

    let (taken, upload) = body::endless(GIB);
    let mut download = client.send(call("POST", "svc", "/mirror").body(upload)).await.into_body();
    let (mut received, mut ahead) = (0, 0);
    while let Some(frame) = within("a piece", download.frame()).await {
        received += frame.unwrap().data_ref().map_or(0, |data| data.len() as u64);
        ahead = ahead.max(taken.load(Ordering::Relaxed).saturating_sub(received));
    }
    running.store(false, Ordering::Relaxed);
    let growth = watching.await.unwrap().saturating_sub(before);
    assert_eq!(received, GIB);
    // The kernel holds up to 36 MiB for each of the four ways (`tcp_rmem`, `tcp_wmem`), by its own measure.
    assert!(ahead < 256 << 20, "{ahead} bytes were under way at once");
    assert!(growth < 192 << 20, "{growth} bytes of growth"); // other tests run in this process
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_gib_passes_both_ways_in_bounded_memory_over_http1() {
    one_gib_both_ways("http1", Speaks::Http1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_gib_passes_both_ways_in_bounded_memory_over_http2() {
    one_gib_both_ways("http2", Speaks::Http2).await;
}

/// Sends until nothing has gone through for half a second; says how much did.
async fn send_until_stuck(peer: &mut Raw, chunk: &[u8]) -> usize {
    let mut sent = 0;
    let start = Instant::now();
    while let Ok(outcome) = tokio::time::timeout(Duration::from_millis(500), peer.try_send(chunk)).await {
        outcome.unwrap();
        sent += chunk.len();
        assert!(sent < 64 << 20, "{sent} bytes and no end, after {:?}", start.elapsed());
    }
    sent
}

over_both_protocols! {
    async fn a_caller_that_does_not_read_stops_the_server(speaks: Speaks) {
        let server = RawServer::start().await;
        let daemon = Daemon::start(&one_service("http1", &[server.address]));
        let mut client = Client::connect(daemon.address(), speaks).await;
        let asking = tokio::spawn(async move { (client.send(get("svc", "/")).await, client) });
        let mut upstream = server.accept().await;
        upstream.read_head().await;
        upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await;
        let (response, client) = within("the head", asking).await.unwrap();
        send_until_stuck(&mut upstream, &[b'x'; 65536]).await;
        drop((response, client));
        daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_server_that_does_not_read_stops_an_http1_caller() {
    let server = RawServer::start().await;
    let daemon = Daemon::start(&one_service("http1", &[server.address]));
    let mut client = Raw::connect(daemon.address()).await;
    client.send("POST / HTTP/1.1\r\nhost: svc\r\ncontent-length: 1000000000\r\n\r\n").await;
    let mut upstream = server.accept().await;
    upstream.read_head().await;
    send_until_stuck(&mut client, &[b'x'; 65536]).await;
}

over_both_protocols! {
    async fn a_reader_that_stalls_and_goes_on_gets_every_byte(speaks: Speaks) {
        for protocol in ["http1", "http2"] {
            let backend = Backend::start("one").await;
            let daemon = Daemon::start(&one_service(protocol, &[backend.address]));
            let mut client = Client::connect(daemon.address(), speaks).await;
            let response = client.send(get("svc", "/bytes?n=20000000")).await;
            tokio::time::sleep(Duration::from_millis(200)).await; // every window and buffer on the way is full
            let collected = within("the rest", response.into_body().collect()).await.unwrap();
            assert_eq!(collected.to_bytes().len(), 20_000_000, "{protocol}");
        }
    }
}

over_both_protocols! {
    async fn an_answer_that_breaks_off_does_not_look_whole(speaks: Speaks) {
        for head in ["content-length: 10", "transfer-encoding: chunked"] {
            let server = RawServer::start().await;
            let daemon = Daemon::start(&one_service("http1", &[server.address]));
            let mut client = Client::connect(daemon.address(), speaks).await;
            let asking = tokio::spawn(async move { (client.send(get("svc", "/")).await, client) });
            let mut upstream = server.accept().await;
            upstream.read_head().await;
            upstream.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n4\r\nab\r\n")).await;
            let (response, _client) = within("the head", asking).await.unwrap();
            drop(upstream);
            let outcome = within("the break", response.into_body().collect()).await;
            assert!(outcome.is_err(), "{head}: {outcome:?}");
        }
    }
}

over_both_protocols! {
    async fn small_requests_pass_while_large_ones_stream(speaks: Speaks) {
        let backend = Backend::start("one").await;
        let daemon = Daemon::start(&one_service("http1", &[backend.address]));
        let streaming = Arc::new(AtomicU64::new(0));
        let large: Vec<_> = (0..2)
            .map(|_| {
                let (address, streaming) = (daemon.address(), streaming.clone());
                tokio::spawn(async move {
                    let mut client = Client::connect(address, speaks).await;
                    let mut response = client.send(get("svc", "/bytes?n=1000000000000")).await.into_body();
                    while let Some(Ok(frame)) = response.frame().await {
                        let size = frame.data_ref().map_or(0, bytes::Bytes::len);
                        streaming.fetch_add(size as u64, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let mut client = Client::connect(daemon.address(), speaks).await;
        for _ in 0..20 {
            assert_eq!(client.ask(get("svc", "/")).await.status, 200);
        }
        assert!(streaming.load(Ordering::Relaxed) > 0);
        large.iter().for_each(|task| task.abort());
    }
}
