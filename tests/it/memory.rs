//! Memory: what the process gives back. The bounds are a fraction of what is measured, and hold for a debug build.

use crate::support::{Backend, Client, Process, Speaks, daemon::one_service, eventually, get};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn it_takes_no_huge_pages_and_gives_back_what_a_burst_of_connections_took() {
    let backend = Backend::start("one").await;
    let process = Process::start(&one_service("http1", &[backend.address]));
    let address = process.address().await;
    let before = process.memory("Anonymous");
    let mut clients = Vec::new();
    for _ in 0..300 {
        let mut client = Client::connect(address, Speaks::Http2).await;
        assert_eq!(client.ask(get("svc", "/")).await.status, 200);
        clients.push(client);
    }
    assert_eq!(process.memory("AnonHugePages"), 0);
    let full = process.memory("Anonymous");
    assert!(full > before + (2 << 20), "connections that take nothing: {before}, then {full} bytes");
    drop(clients);
    let most = before + (full - before) * 3 / 4;
    eventually("memory is given back", async || process.memory("Anonymous") < most).await;
}
