//! Each way in which a server can fail, and what its caller gets without any policy: one answer to each request, with its
//! reason, and the failure counted at the endpoint that it belongs to.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::support::{
    Answer, BlackHole, Call, Client, Daemon, Fault, Fault2, Faulty, Faulty2, Raw, RawServer, Speaks, body,
    call, client, daemon::one_service, get, within,
};

/// A service of these endpoints, with further keys of its route and of its own.
fn toml(protocol: &str, endpoints: &[SocketAddr], route: &str, service: &str) -> String {
    let toml = one_service(protocol, endpoints).replace("hosts =", &format!("{route}\nhosts ="));
    format!("{toml}{service}\n")
}

fn addresses(servers: &[Faulty]) -> Vec<SocketAddr> {
    servers.iter().map(|server| server.address).collect()
}

/// What the caller sees of a request: an answer, or that it was cut.
async fn see(daemon: &Daemon, speaks: Speaks, call: Call) -> Option<Answer> {
    let mut client = Client::connect(daemon.address(), speaks).await;
    within("an answer or its end", client.try_ask(call)).await.ok()
}

/// The endpoint has had so many attempts with this outcome, and no others.
async fn endpoint_counts(daemon: &Daemon, endpoint: SocketAddr, outcome: &str, count: f64) {
    let endpoint = endpoint.to_string();
    let labels = [("service", "echo"), ("endpoint", &*endpoint)];
    daemon.metric_becomes("endpoint_requests_total", &labels, count).await;
    let labels = [labels[0], labels[1], ("outcome", outcome)];
    daemon.metric_becomes("endpoint_requests_total", &labels, count).await;
}

async fn nothing_is_left(daemon: &Daemon) {
    daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
}

over_both_protocols! {
    async fn an_endpoint_that_fails_before_its_answer_is_answered_for_once(speaks: Speaks) {
        let wait = "attempt_timeout = \"200ms\"";
        for (fault, keys, (status, reason), outcome) in [
            (Fault::ResetBeforeHead, "", (502, "upstream_reset"), "reset"),
            (Fault::ResetInHead, "", (502, "upstream_reset"), "reset"),
            (Fault::Silent, wait, (504, "timeout"), "timeout"),
            (Fault::SlowHead(Duration::from_secs(60)), wait, (504, "timeout"), "timeout"),
        ] {
            let server = Faulty::start(fault).await;
            let daemon = Daemon::start(&toml("http1", &[server.address], keys, ""));
            let answer = see(&daemon, speaks, get("svc", "/")).await.expect("an answer");
            assert_eq!((answer.status, answer.reason()), (status, reason), "{fault:?}: {answer:?}");
            if reason == "timeout" {
                assert_eq!(answer.json()["error"]["cause"], "attempt_timeout");
            }
            assert_eq!(server.requests(), 1, "{fault:?}");
            endpoint_counts(&daemon, server.address, outcome, 1.0).await;
            daemon.metric_becomes("errors_total", &[("reason", reason)], 1.0).await;
            nothing_is_left(&daemon).await;
        }
    }
}

over_both_protocols! {
    async fn an_answer_that_breaks_off_in_its_body_does_not_look_whole(speaks: Speaks) {
        for fault in [Fault::ResetInBody, Fault::ShortLength, Fault::ShortChunks] {
            let server = Faulty::start(fault).await;
            let daemon = Daemon::start(&toml("http1", &[server.address], "", ""));
            let seen = see(&daemon, speaks, get("svc", "/")).await;
            assert!(seen.is_none(), "{fault:?}: {seen:?}");
            assert_eq!(server.requests(), 1, "{fault:?}");
            nothing_is_left(&daemon).await;
        }
    }
}

over_both_protocols! {
    async fn an_endpoint_that_is_slow_is_waited_for(speaks: Speaks) {
        let wait = Duration::from_millis(50);
        for fault in [Fault::SlowHead(wait), Fault::SlowBody(wait)] {
            let server = Faulty::start(fault).await;
            let daemon = Daemon::start(&toml("http1", &[server.address], "", ""));
            let start = Instant::now();
            let answer = see(&daemon, speaks, get("svc", "/")).await.expect("an answer");
            assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{fault:?}");
            assert!(start.elapsed() >= wait, "{fault:?}: {:?}", start.elapsed());
            endpoint_counts(&daemon, server.address, "success", 1.0).await;
        }
    }
}

over_both_protocols! {
    async fn errors_that_endpoints_answer_pass_and_are_theirs(speaks: Speaks) {
        let server = Faulty::start(Fault::Status(503)).await;
        let daemon = Daemon::start(&toml("http1", &[server.address], "", ""));
        let mut client = Client::connect(daemon.address(), speaks).await;
        for _ in 0..20 {
            let answer = client.ask(get("svc", "/")).await;
            assert_eq!((answer.status, answer.reason()), (503, ""));
        }
        server.does(Fault::None);
        assert_eq!(client.ask(get("svc", "/")).await.status, 200, "the burst is over");
        assert_eq!((server.requests(), server.connections()), (21, 1));
        daemon.metric_becomes("endpoint_requests_total", &[("outcome", "server_error")], 20.0).await;
        daemon.metric_becomes("errors_total", &[], 0.0).await;
    }
}

over_both_protocols! {
    async fn a_connection_whose_server_has_ended_its_half_is_not_used_again(speaks: Speaks) {
        let server = Faulty::start(Fault::HalfCloses).await;
        let daemon = Daemon::start(&toml("http1", &[server.address], "", ""));
        let mut client = Client::connect(daemon.address(), speaks).await;
        for number in 1..=10 {
            let call = call("POST", "svc", "/").body(body::full("order"));
            assert_eq!(client.ask(call).await.text(), "ok");
            // An order must not meet an end that is on its way.
            daemon.metric_becomes("upstream_connections", &[], 0.0).await;
            assert_eq!((server.requests(), server.connections()), (number, number));
        }
        daemon.metric_becomes("retries_total", &[], 0.0).await;
    }
}

over_both_protocols! {
    async fn an_endpoint_that_refuses_costs_its_callers_nothing_while_others_listen(speaks: Speaks) {
        let servers = Faulty::several(3, Fault::None).await;
        let daemon = Daemon::start(&toml("http1", &addresses(&servers), "", "balancer = \"round-robin\""));
        let mut client = Client::connect(daemon.address(), speaks).await;
        for turn in 0..60 {
            match turn {
                10 => servers[1].refuses().await,
                40 => servers[1].listens().await,
                _ => {}
            }
            let call = call("POST", "svc", "/").body(body::full("order"));
            let answer = client.ask(call).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{turn}");
        }
        let answered: u64 = servers.iter().map(Faulty::requests).sum();
        assert_eq!(answered, 60, "each order once");
        daemon.metric_becomes("errors_total", &[], 0.0).await;
    }
}

over_both_protocols! {
    async fn a_black_hole_costs_a_caller_its_connect_timeout_and_no_error_while_others_listen(speaks: Speaks) {
        let (hole, server) = (BlackHole::open(), Faulty::start(Fault::None).await);
        let keys = "balancer = \"round-robin\"\nconnect_timeout = \"200ms\"";
        let daemon = Daemon::start(&toml("http1", &[hole.address, server.address], "", keys));
        let mut client = Client::connect(daemon.address(), speaks).await;
        let start = Instant::now();
        for _ in 0..20 {
            assert_eq!(client.ask(call("POST", "svc", "/")).await.status, 200);
        }
        let took = start.elapsed();
        assert!(took < Duration::from_secs(3), "5 attempts at the hole are to take 1 s in all: {took:?}");
        assert_eq!(server.requests(), 20);
        endpoint_counts(&daemon, hole.address, "connect_failed", 5.0).await;
        daemon.metric_becomes("errors_total", &[], 0.0).await;
    }
}

over_both_protocols! {
    async fn a_black_hole_alone_is_connect_failed_after_its_connect_timeout(speaks: Speaks) {
        let hole = BlackHole::open();
        for protocol in ["http1", "http2"] {
            let daemon = Daemon::start(&toml(protocol, &[hole.address], "", "connect_timeout = \"200ms\""));
            let start = Instant::now();
            let answer = client::ask(daemon.address(), speaks, get("svc", "/")).await;
            assert_eq!((answer.status, answer.reason()), (502, "connect_failed"), "{answer:?}");
            assert_eq!(answer.json()["error"]["cause"], "connect_timeout", "{answer:?}");
            let took = start.elapsed();
            assert!((200..2000).contains(&took.as_millis()), "{protocol}: {took:?}");
            endpoint_counts(&daemon, hole.address, "connect_failed", 1.0).await;
        }
    }
}

over_both_protocols! {
    async fn what_an_http2_endpoint_leaves_unprocessed_is_sent_again_whatever_its_method(speaks: Speaks) {
        for (fault, outcome) in [(Fault2::Refuses, "reset"), (Fault2::LeavesAtOnce, "reset")] {
            for method in ["GET", "POST"] {
                let (bad, good) = (Faulty2::start(fault).await, Faulty2::start(Fault2::None).await);
                let keys = "balancer = \"round-robin\"";
                let daemon = Daemon::start(&toml("http2", &[bad.address, good.address], "", keys));
                let mut client = Client::connect(daemon.address(), speaks).await;
                for _ in 0..4 {
                    let answer = client.ask(call(method, "svc", "/")).await;
                    assert_eq!((answer.status, answer.reason()), (200, ""), "{fault:?} {method}");
                }
                assert_eq!(good.requests(), 4, "{fault:?} {method}");
                endpoint_counts(&daemon, bad.address, outcome, bad.requests() as f64).await;
                let again = [("service", "echo"), ("reason", "unprocessed")];
                daemon.metric_becomes("retries_total", &again, bad.requests() as f64).await;
            }
        }
    }
}

over_both_protocols! {
    async fn what_an_http2_endpoint_may_have_processed_is_not_sent_again(speaks: Speaks) {
        for fault in [Fault2::ResetsStream, Fault2::LeavesUnanswered] {
            let server = Faulty2::start(fault).await;
            let daemon = Daemon::start(&toml("http2", &[server.address], "", ""));
            let answer = client::ask(daemon.address(), speaks, call("POST", "svc", "/")).await;
            assert_eq!((answer.status, answer.reason()), (502, "upstream_reset"), "{fault:?}");
            assert_eq!(server.requests(), 1, "{fault:?}");
            endpoint_counts(&daemon, server.address, "reset", 1.0).await;
            nothing_is_left(&daemon).await;
        }
    }
}

over_both_protocols! {
    async fn a_stream_that_is_reset_in_its_body_does_not_look_whole(speaks: Speaks) {
        let server = Faulty2::start(Fault2::ResetsInBody).await;
        let daemon = Daemon::start(&toml("http2", &[server.address], "", ""));
        assert!(see(&daemon, speaks, get("svc", "/")).await.is_none());
        server.does(Fault2::None);
        assert_eq!(see(&daemon, speaks, get("svc", "/")).await.expect("an answer").status, 200);
        assert_eq!(server.requests(), 2);
        nothing_is_left(&daemon).await;
    }
}

over_both_protocols! {
    async fn an_answer_goes_on_to_its_end_beside_a_goaway(speaks: Speaks) {
        let server = Faulty2::start(Fault2::LeavesInBody).await;
        let daemon = Daemon::start(&toml("http2", &[server.address], "", ""));
        let mut client = Client::connect(daemon.address(), speaks).await;
        for number in 1..=5 {
            let answer = client.ask(call("POST", "svc", "/")).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "halfwhole"));
            assert_eq!(server.requests(), number);
        }
        daemon.metric_becomes("errors_total", &[], 0.0).await;
    }
}

over_both_protocols! {
    async fn a_silent_http2_endpoint_is_given_up_after_the_attempt_timeout(speaks: Speaks) {
        let server = Faulty2::start(Fault2::Silent).await;
        let daemon = Daemon::start(&toml("http2", &[server.address], "attempt_timeout = \"200ms\"", ""));
        let answer = client::ask(daemon.address(), speaks, get("svc", "/")).await;
        assert_eq!((answer.status, answer.reason()), (504, "timeout"));
        assert_eq!(answer.json()["error"]["cause"], "attempt_timeout");
        assert_eq!(server.requests(), 1);
        endpoint_counts(&daemon, server.address, "timeout", 1.0).await;
    }
}

/// Requests to servers that close idle connections just when the next request may be on its way. Both ends wait for whole
/// milliseconds of one clock, so that a close and a request meet far more often than once in a while.
async fn race(speaks: Speaks, requests: usize) {
    const CLIENTS: usize = 20;
    let servers = Faulty::several(4, Fault::ClosesIdle).await;
    let daemon = Daemon::start(&toml("http1", &addresses(&servers), "", ""));
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let address = daemon.address();
        clients.spawn(async move {
            let mut client = Client::connect(address, speaks).await;
            for _ in 0..requests / CLIENTS {
                let answer = client.ask(get("svc", "/")).await;
                assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{answer:?}");
                tokio::time::sleep(Duration::from_millis(crate::support::faulty::below(3))).await;
            }
        });
    }
    clients.join_all().await;
    let raced = daemon.metric("retries_total", &[("service", "echo")]).await;
    assert!(raced > 0.0, "no close met a request: this has proved nothing");
    daemon.metric_becomes("errors_total", &[], 0.0).await;
    daemon.metric_becomes("ejections_total", &[], 0.0).await;
}

over_both_protocols! {
    /// `tests/interop/run resilience` does this a million times.
    async fn no_caller_sees_that_idle_connections_close_under_its_requests(speaks: Speaks) {
        race(speaks, 10_000).await;
    }
}

/// Two endpoints, one of them with this fault, and a route that retries; what became of ten requests with this method.
async fn retried(speaks: Speaks, fault: Fault, method: &str) -> (usize, Faulty, Faulty) {
    let (bad, good) = (Faulty::start(fault).await, Faulty::start(Fault::None).await);
    let route = "attempt_timeout = \"100ms\"\n\
        retry = { on = [\"reset\", \"timeout\", \"5xx\"], backoff = [\"1ms\", \"1ms\"] }";
    let daemon =
        Daemon::start(&toml("http1", &[bad.address, good.address], route, "balancer = \"round-robin\""));
    let mut well = 0;
    for _ in 0..10 {
        let answer = see(&daemon, speaks, call(method, "svc", "/")).await;
        well +=
            usize::from(answer.is_some_and(|answer| (answer.status, answer.text().as_str()) == (200, "ok")));
    }
    nothing_is_left(&daemon).await;
    assert!(bad.requests() > 0, "{fault:?}: nobody asked it");
    (well, bad, good)
}

over_both_protocols! {
    async fn retries_hide_what_fails_before_the_head_from_callers(speaks: Speaks) {
        let slow = Fault::SlowHead(Duration::from_secs(60));
        for fault in [Fault::ResetBeforeHead, Fault::ResetInHead, Fault::Silent, slow, Fault::Status(503)] {
            let (well, _, good) = retried(speaks, fault, "GET").await;
            assert_eq!((well, good.requests()), (10, 10), "{fault:?}: each is answered once");
        }
    }
}

over_both_protocols! {
    async fn nothing_is_retried_after_the_head_nor_with_a_method_that_is_not_idempotent(speaks: Speaks) {
        for (fault, method) in [
            (Fault::ResetInBody, "GET"),
            (Fault::ShortLength, "GET"),
            (Fault::ShortChunks, "GET"),
            (Fault::ResetBeforeHead, "POST"),
            (Fault::Silent, "POST"),
            (Fault::Status(503), "POST"),
        ] {
            let (well, bad, good) = retried(speaks, fault, method).await;
            assert_eq!(bad.requests() + good.requests(), 10, "{fault:?} {method}: each is sent once");
            assert_eq!(well as u64, good.requests(), "{fault:?} {method}");
        }
    }
}

/// The next connection of either server.
async fn accept_any(servers: &[RawServer; 2]) -> Raw {
    tokio::select! {
        raw = servers[0].accept() => raw,
        raw = servers[1].accept() => raw,
    }
}

/// Closes these when the next request of each has come, or at least that of some: none gets a byte.
async fn close_together(connections: Vec<Raw>) {
    let mut reading: tokio::task::JoinSet<_> = connections
        .into_iter()
        .map(|mut connection| async move {
            connection.skip_past("\r\n\r\n").await;
            connection
        })
        .collect();
    let mut read: Vec<Raw> = reading.join_next().await.into_iter().map(Result::unwrap).collect();
    while let Ok(Some(next)) = tokio::time::timeout(Duration::from_millis(300), reading.join_next()).await {
        read.push(next.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_that_closes_all_its_idle_connections_at_once_is_not_ejected() {
    const CALLERS: usize = 8;
    let servers = [RawServer::start().await, RawServer::start().await];
    let keys = "balancer = \"round-robin\"\nejection = { consecutive_failures = 2 }";
    let toml = toml("http1", &servers.each_ref().map(|server| server.address), "", keys);
    let daemon = Daemon::start(&toml);
    let mut clients = Vec::new();
    for _ in 0..CALLERS {
        clients.push(Client::connect(daemon.address(), Speaks::Http1).await);
    }
    for round in ["on new connections", "on connections that close under them"] {
        let mut asking = tokio::task::JoinSet::new();
        for mut client in clients.drain(..) {
            asking.spawn(async move {
                let answer = client.ask(get("svc", "/")).await;
                (client, answer)
            });
        }
        let mut connections = Vec::new();
        for _ in 0..CALLERS {
            let mut connection = accept_any(&servers).await;
            connection.read_head().await;
            connections.push(connection);
        }
        for connection in &mut connections {
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
        for (client, answer) in within("the answers", asking.join_all()).await {
            assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{round}");
            clients.push(client);
        }
        nothing_is_left(&daemon).await;
        tokio::spawn(close_together(connections));
    }
    let closed = daemon.metric("attempts_total", &[("outcome", "closed")]).await;
    assert!(closed >= 4.0, "only {closed} met a close: it may be that none of the two had two in a row");
    daemon.metric_becomes("ejections_total", &[], 0.0).await;
}
