//! A second attempt beside a slow first one: whose answer the caller gets, and what becomes of the other.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::support::{
    Answer, Backend, Call, Client, Daemon, Raw, RawServer, Speaks, body, call,
    daemon::{complete, one_service},
    eventually, get,
};

/// One route with these keys to one service of these endpoints, which take turns.
fn start(protocol: &str, endpoints: &[SocketAddr], route: &str, service: &str) -> Daemon {
    let text = one_service(protocol, endpoints).replace("hosts =", &format!("{route}\nhosts ="));
    let toml =
        format!("{text}balancer = \"round-robin\"\nejection = {{ consecutive_failures = 0 }}\n{service}\n");
    Daemon::start(&complete(&toml).replace("workers = 2", "workers = 1"))
}

const AFTER: &str = "hedge = { after = \"50ms\" }";
/// Longer than any test takes.
const SLOW: Duration = Duration::from_secs(30);

async fn pair() -> [Backend; 2] {
    [Backend::start("slow").await, Backend::start("quick").await]
}

fn addresses(backends: &[Backend; 2]) -> [SocketAddr; 2] {
    [backends[0].address, backends[1].address]
}

async fn ask(daemon: &Daemon, count: usize, make: impl Fn() -> Call) -> Vec<Answer> {
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let mut answers = Vec::new();
    for _ in 0..count {
        answers.push(client.ask(make()).await);
    }
    answers
}

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: svc\r\n\r\n";

/// The first attempt and the second, on servers that are written by hand.
async fn both(servers: &[RawServer; 2]) -> [Raw; 2] {
    let (mut first, other) = tokio::select! {
        first = servers[0].accept() => (first, &servers[1]),
        first = servers[1].accept() => (first, &servers[0]),
    };
    first.read_head().await;
    let mut second = other.accept().await;
    second.read_head().await;
    [first, second]
}

async fn hedges(daemon: &Daemon, result: &str, count: f64) {
    daemon.metric_becomes("hedges_total", &[("service", "echo"), ("result", result)], count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_second_attempt_answers_when_the_first_is_slow_and_the_first_is_cancelled() {
    for protocol in ["http1", "http2"] {
        let backends = pair().await;
        backends[0].answer_after(SLOW);
        let daemon = start(protocol, &addresses(&backends), AFTER, "");
        let answers = ask(&daemon, 10, || get("svc", "/")).await;
        assert!(answers.iter().all(|answer| answer.backend() == "quick"), "{protocol}: {answers:?}");
        assert_eq!((backends[0].requests(), backends[1].requests()), (5, 10), "{protocol}");
        eventually("the slow one hears of it", async || backends[0].running() == 0).await;
        hedges(&daemon, "won", 5.0).await;
        daemon.metric_becomes("attempts_total", &[("outcome", "cancelled")], 5.0).await;
        daemon.metric_becomes("attempts_total", &[], 15.0).await;
        daemon.metric_becomes("requests_total", &[], 10.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn quick_answers_are_asked_for_once() {
    let backends = pair().await;
    let daemon = start("http1", &addresses(&backends), "hedge = { after = \"5s\" }", "");
    ask(&daemon, 20, || get("svc", "/")).await;
    assert_eq!(backends[0].requests() + backends[1].requests(), 20);
    hedges(&daemon, "won", 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_first_attempt_that_is_quicker_after_all_answers() {
    let servers = [RawServer::start().await, RawServer::start().await];
    let daemon = start("http1", &[servers[0].address, servers[1].address], AFTER, "");
    let mut caller = Raw::connect(daemon.address()).await;
    caller.send(REQUEST).await;
    let [mut first, mut second] = both(&servers).await;
    first.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst").await;
    assert_eq!(caller.read_response().await.text(), "first");
    second.closes().await;
    hedges(&daemon, "lost", 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_that_must_not_be_sent_twice_are_not() {
    let backends = pair().await;
    backends[0].answer_after(Duration::from_millis(200));
    let daemon = start("http1", &addresses(&backends), AFTER, "");
    let answers = ask(&daemon, 2, || call("POST", "svc", "/").body(body::full("order"))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!((backends[0].requests(), backends[1].requests()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_body_goes_to_both_once_it_is_known_whole() {
    for protocol in ["http1", "http2"] {
        let backends = pair().await;
        backends[0].answer_after(SLOW);
        let daemon = start(protocol, &addresses(&backends), AFTER, "");
        for answer in ask(&daemon, 2, || call("PUT", "svc", "/").body(body::full("a whole body"))).await {
            assert_eq!((answer.backend(), answer.json()["body"].as_str()), ("quick", Some("a whole body")));
        }
        hedges(&daemon, "won", 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_body_that_is_still_coming_is_sent_once() {
    let backends = pair().await;
    let daemon = start("http1", &addresses(&backends), AFTER, "");
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let (sender, body) = body::piecewise();
    sender.send(Ok(Bytes::from_static(b"one "))).await.unwrap();
    let asking = tokio::spawn(async move { client.ask(call("PUT", "svc", "/").body(body)).await });
    let running = || backends[0].running() + backends[1].running();
    eventually("the first has it", async || running() == 1).await;
    tokio::time::sleep(Duration::from_millis(150)).await; // three times the delay of the hedge
    sender.send(Ok(Bytes::from_static(b"two"))).await.unwrap();
    drop(sender);
    assert_eq!(asking.await.unwrap().json()["body"], "one two");
    assert_eq!(backends[0].requests() + backends[1].requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_second_attempt_that_fails_does_not_end_the_first() {
    let servers = [RawServer::start().await, RawServer::start().await];
    let daemon = start("http1", &[servers[0].address, servers[1].address], AFTER, "");
    let mut caller = Raw::connect(daemon.address()).await;
    caller.send(REQUEST).await;
    let [mut first, mut second] = both(&servers).await;
    second.send("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
    assert!(caller.stays_silent(Duration::from_millis(100)).await);
    first.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst").await;
    assert_eq!(caller.read_response().await.text(), "first");
    hedges(&daemon, "lost", 1.0).await;
    daemon.metric_becomes("attempts_total", &[("outcome", "server_error")], 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn when_both_fail_the_caller_gets_an_answer_rather_than_none() {
    let servers = [RawServer::start().await, RawServer::start().await];
    let daemon = start("http1", &[servers[0].address, servers[1].address], AFTER, "");
    let mut caller = Raw::connect(daemon.address()).await;
    caller.send(REQUEST).await;
    let [first, mut second] = both(&servers).await;
    second.send("HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy").await;
    assert!(caller.stays_silent(Duration::from_millis(100)).await);
    drop(first);
    let answer = caller.read_response().await;
    assert_eq!((answer.status, answer.text(), answer.reason()), (503, "busy".to_owned(), String::new()));
    hedges(&daemon, "failed", 1.0).await;
    daemon.metric_becomes("attempts_total", &[("outcome", "reset")], 1.0).await;
    daemon.metric_becomes("attempts_total", &[("outcome", "server_error")], 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn hedges_are_bound_by_the_retry_budget() {
    let backends = pair().await;
    backends.iter().for_each(|backend| backend.answer_after(Duration::from_millis(80)));
    let route = "hedge = { after = \"20ms\" }";
    let daemon =
        start("http1", &addresses(&backends), route, "retry_budget = { percent = 0, min_per_second = 1 }");
    ask(&daemon, 15, || get("svc", "/")).await;
    assert_eq!(backends[0].requests() + backends[1].requests(), 25);
    hedges(&daemon, "denied", 5.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_percentile_is_learnt_from_the_answers() {
    let backends = pair().await;
    let daemon = start("http1", &addresses(&backends), "hedge = { percentile = 95 }", "");
    backends[0].answer_after(Duration::from_millis(300));
    let answers = ask(&daemon, 2, || get("svc", "/")).await;
    assert!(answers.iter().any(|answer| answer.backend() == "slow"), "nothing is known yet: {answers:?}");
    backends[0].answer_after(Duration::ZERO);
    ask(&daemon, 400, || get("svc", "/")).await;
    backends[0].answer_after(SLOW);
    let begun = Instant::now();
    let answers = ask(&daemon, 4, || get("svc", "/")).await;
    assert!(answers.iter().all(|answer| answer.backend() == "quick"), "{answers:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(daemon.metric("hedges_total", &[("result", "won")]).await >= 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn interim_answers_come_from_the_first_attempt_only() {
    let servers = [RawServer::start().await, RawServer::start().await];
    let daemon = start("http1", &[servers[0].address, servers[1].address], AFTER, "");
    let mut caller = Raw::connect(daemon.address()).await;
    caller.send(REQUEST).await;
    let [mut first, mut second] = both(&servers).await;
    first.send("HTTP/1.1 103 Early Hints\r\nlink: </first>\r\n\r\n").await;
    let hint = caller.read_head().await;
    assert_eq!((hint.first.as_str(), hint.field("link").as_str()), ("HTTP/1.1 103 Early Hints", "</first>"));
    second.send("HTTP/1.1 103 Early Hints\r\nlink: </second>\r\n\r\n").await;
    second.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\ntwo").await;
    let answer = caller.read_response().await;
    assert_eq!((answer.status, answer.text(), answer.interim.len()), (200, "two".to_owned(), 0));
    first.closes().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_request_gets_its_own_answer_once() {
    let backends = pair().await;
    let daemon = start(
        "http1",
        &addresses(&backends),
        "hedge = { after = \"1ms\" }",
        "retry_budget = { percent = 100 }",
    );
    backends.iter().for_each(|backend| backend.answer_after(Duration::from_millis(2)));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    for number in 0..200 {
        let path = format!("/number/{number}");
        let answer = client.ask(get("svc", &path)).await;
        assert_eq!(answer.json()["uri"], path);
    }
    daemon.metric_becomes("requests_total", &[("code", "200")], 200.0).await;
    assert!(daemon.metric("hedges_total", &[]).await > 100.0);
}
