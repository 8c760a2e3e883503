//! Requests that are sent again: what nobody can have processed always, the rest where the route says so, all within budgets.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::support::{
    Answer, Backend, Call, Client, Daemon, Raw, RawServer, Speaks, backend::BREAKS_OFF, body, call,
    daemon::one_service, get, ports,
};

/// One route with these keys to one service with those. Round robin, so that each endpoint gets its share, and no ejection, so that
/// it goes on getting it.
fn toml(endpoints: &[SocketAddr], route: &str, service: &str) -> String {
    let text = one_service("http1", endpoints).replace("hosts =", &format!("{route}\nhosts ="));
    format!("{text}balancer = \"round-robin\"\nejection = {{ consecutive_failures = 0 }}\n{service}\n")
}

/// A daemon with one worker: its endpoints take turns exactly.
fn start(endpoints: &[SocketAddr], route: &str, service: &str) -> Daemon {
    let node = "[node]\nname = \"test\"\nworkers = 1\n";
    Daemon::start(&format!("{}{node}", toml(endpoints, route, service)))
}

/// `retry` for these classes, with short waits.
fn on(classes: &str) -> String {
    format!("retry = {{ on = [{classes}], backoff = [\"1ms\", \"5ms\"] }}")
}

async fn pair() -> [Backend; 2] {
    [Backend::start("bad").await, Backend::start("good").await]
}

fn addresses(backends: &[Backend]) -> Vec<SocketAddr> {
    backends.iter().map(|backend| backend.address).collect()
}

async fn ask(daemon: &Daemon, count: usize, make: impl Fn() -> Call) -> Vec<Answer> {
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let mut answers = Vec::new();
    for _ in 0..count {
        answers.push(client.ask(make()).await);
    }
    answers
}

async fn denied(daemon: &Daemon, reason: &str, count: f64) {
    daemon.metric_becomes("retries_denied_total", &[("service", "echo"), ("reason", reason)], count).await;
}

/// A server that gives one answer after the other, and the last of them for ever; counts requests.
async fn scripted(answers: &'static [&'static str]) -> (SocketAddr, Arc<AtomicU64>) {
    let server = RawServer::start().await;
    let (address, asked) = (server.address, Arc::new(AtomicU64::new(0)));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok(mut connection) = server.try_accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                while connection.skip_past("\r\n\r\n").await {
                    let number = count.fetch_add(1, Ordering::SeqCst) as usize;
                    let answer = answers[number.min(answers.len() - 1)];
                    if connection.try_send(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, asked)
}

const BUSY: &str = "HTTP/1.1 429 Busy\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_route_lists_is_sent_again_to_another_endpoint() {
    for (class, status, reason) in [
        ("\"5xx\"", 500, "5xx"),
        ("\"gateway-error\"", 503, "gateway_error"),
        ("\"429\"", 429, "status"),
        ("\"reset\"", BREAKS_OFF, "reset"),
        ("\"5xx\"", BREAKS_OFF, "5xx"),
    ] {
        let backends = pair().await;
        backends[0].answers(status);
        let daemon = start(&addresses(&backends), &on(class), "");
        let answers = ask(&daemon, 10, || get("svc", "/")).await;
        let good = answers.iter().filter(|answer| (answer.status, answer.backend()) == (200, "good")).count();
        assert_eq!(good, 10, "{class}: {answers:?}");
        assert_eq!((backends[0].requests(), backends[1].requests()), (5, 10), "{class}");
        daemon.metric_becomes("retries_total", &[("service", "echo"), ("reason", reason)], 5.0).await;
        daemon.metric_becomes("errors_total", &[], 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_route_does_not_list_is_passed_on() {
    for (route, status) in [("", 503), (&*on("\"5xx\""), 429), (&*on("\"gateway-error\""), 500)] {
        let backends = pair().await;
        backends[0].answers(status);
        let daemon = start(&addresses(&backends), route, "");
        let answers = ask(&daemon, 4, || get("svc", "/")).await;
        let passed = answers.iter().filter(|answer| answer.status == status && answer.reason().is_empty());
        assert_eq!((passed.count(), backends[0].requests()), (2, 2), "{route}");
        daemon.metric_becomes("retries_total", &[], 0.0).await;
        daemon.metric_becomes("retries_denied_total", &[], 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_that_does_not_answer_in_time_is_left_for_another() {
    let backends = pair().await;
    backends[0].answer_after(Duration::from_secs(30));
    let route = format!("{}\nattempt_timeout = \"100ms\"", on("\"timeout\""));
    let daemon = start(&addresses(&backends), &route, "");
    let answers = ask(&daemon, 4, || get("svc", "/")).await;
    assert!(answers.iter().all(|answer| answer.backend() == "good"), "{answers:?}");
    daemon.metric_becomes("retries_total", &[("reason", "timeout")], 2.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn only_listed_methods_are_sent_again_unless_a_grpc_code_allows_it() {
    for (methods, requests, method_denied) in [("", 1, 1.0), (", methods = [\"POST\"]", 3, 0.0)] {
        let backend = Backend::start("one").await;
        backend.answers(503);
        let route = format!("retry = {{ on = [\"5xx\"], backoff = [\"1ms\", \"2ms\"]{methods} }}");
        let daemon = start(&[backend.address], &route, "");
        let answer = &ask(&daemon, 1, || call("POST", "svc", "/").body(body::full("order"))).await[0];
        assert_eq!((answer.status, answer.text(), answer.reason()), (503, "on purpose".to_owned(), ""));
        assert_eq!(backend.requests(), requests);
        denied(&daemon, "method", method_denied).await;
        denied(&daemon, "attempts", 1.0 - method_denied).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn attempts_are_counted_with_the_first_and_the_last_answer_is_passed_on() {
    let backends = pair().await;
    backends.iter().for_each(|backend| backend.answers(502));
    let route = "retry = { on = [\"5xx\"], attempts = 4, backoff = [\"1ms\", \"2ms\"] }";
    let daemon = start(&addresses(&backends), route, "");
    let answer = &ask(&daemon, 1, || get("svc", "/")).await[0];
    assert_eq!((answer.status, answer.text(), answer.reason()), (502, "on purpose".to_owned(), ""));
    // To and fro: never to the one that has just failed.
    assert_eq!((backends[0].requests(), backends[1].requests()), (2, 2));
    denied(&daemon, "attempts", 1.0).await;
    daemon.metric_becomes("attempts_total", &[("outcome", "server_error")], 4.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_body_is_sent_again_whole_up_to_the_limit() {
    let backends = pair().await;
    backends[0].answers(503);
    let route = "retry = { on = [\"5xx\"], body_limit = \"100KiB\", backoff = [\"1ms\", \"2ms\"] }";
    let daemon = start(&addresses(&backends), route, "");
    let put = |size: usize| move || call("PUT", "svc", "/count").body(body::full(vec![b'x'; size]));
    for answer in ask(&daemon, 4, put(100 << 10)).await {
        assert_eq!((answer.status, answer.text()), (200, "102400".to_owned()));
    }
    assert_eq!(backends[0].requests(), 2);
    let statuses: Vec<u16> =
        ask(&daemon, 2, put(101 << 10)).await.iter().map(|answer| answer.status).collect();
    assert!(statuses.contains(&503) && statuses.contains(&200), "{statuses:?}");
    denied(&daemon, "body", 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_whose_answer_is_not_used_serves_further_requests() {
    let backends = pair().await;
    backends[0].answers(503);
    let daemon = start(&addresses(&backends), &on("\"5xx\""), "");
    ask(&daemon, 40, || get("svc", "/")).await;
    assert_eq!(backends[0].requests(), 20);
    assert!(backends[0].connections() <= 2, "{}", backends[0].connections());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_long_answer_that_is_not_used_is_not_read() {
    let (address, asked) = scripted(&["HTTP/1.1 503 Busy\r\ncontent-length: 100000\r\n\r\nxxx", OK]).await;
    let daemon = start(&[address], &on("\"5xx\""), "");
    let answer = &ask(&daemon, 1, || get("svc", "/")).await[0];
    assert_eq!((answer.status, asked.load(Ordering::SeqCst)), (200, 2));
    daemon.metric_becomes("upstream_connections", &[("service", "echo")], 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn when_everything_fails_the_budget_bounds_what_is_sent_again() {
    let backends = pair().await;
    backends.iter().for_each(|backend| backend.answers(503));
    let daemon = start(&addresses(&backends), &on("\"5xx\""), "");
    let mut callers = JoinSet::new();
    for _ in 0..10 {
        let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
        callers.spawn(async move {
            for _ in 0..200 {
                assert_eq!(client.ask(get("svc", "/")).await.status, 503);
            }
        });
    }
    callers.join_all().await;
    let attempts = backends[0].requests() + backends[1].requests();
    // A fifth of the requests, and ten a second of ten seconds.
    assert!((2400..=2500).contains(&attempts), "{attempts}");
    assert!(daemon.metric("retries_denied_total", &[("reason", "budget")]).await > 1000.0);
    let service = daemon.admin_get("/api/services").await.json()["services"][0].clone();
    assert_eq!(
        (&service["retry_budget_available"], &service["requeue_budget_available"]),
        (&0.into(), &500.into())
    );
    daemon.metric_becomes("retry_budget_available", &[("service", "echo")], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_budget_that_is_spent_stays_so_when_the_policy_of_its_service_changes() {
    let backend = Backend::start("one").await;
    backend.answers(503);
    let budget = "retry_budget = { percent = 0, min_per_second = 1 }";
    let daemon = start(&[backend.address], &on("\"5xx\""), budget);
    ask(&daemon, 10, || get("svc", "/")).await;
    assert_eq!(backend.requests(), 20);
    let changed = toml(&[backend.address], &on("\"5xx\""), &format!("{budget}\nconnect_timeout = \"2s\""));
    daemon.reload(Some(&format!("{changed}[node]\nname = \"test\"\nworkers = 1\n"))).unwrap();
    ask(&daemon, 10, || get("svc", "/")).await;
    assert_eq!(backend.requests(), 30);
    let more = changed.replace("min_per_second = 1 ", "min_per_second = 2 ");
    daemon.reload(Some(&format!("{more}[node]\nname = \"test\"\nworkers = 1\n"))).unwrap();
    ask(&daemon, 10, || get("svc", "/")).await;
    assert_eq!(backend.requests(), 50, "ten more than before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_service_without_a_budget_retries_nothing() {
    let backend = Backend::start("one").await;
    backend.answers(503);
    let budget = "retry_budget = { percent = 0, min_per_second = 0 }";
    let daemon = start(&[backend.address], &on("\"5xx\""), budget);
    ask(&daemon, 20, || get("svc", "/")).await;
    assert_eq!(backend.requests(), 20);
    denied(&daemon, "budget", 20.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_wait_that_an_endpoint_asks_for_is_kept() {
    let (address, _) = scripted(&[BUSY, OK]).await;
    let daemon = start(&[address], &on("\"429\""), "");
    let begun = Instant::now();
    assert_eq!(ask(&daemon, 1, || get("svc", "/")).await[0].status, 200);
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_that_asks_for_too_long_a_wait_is_not_asked_again() {
    for (route, after) in [("", "6"), ("timeout = \"2s\"", "3")] {
        let busy: &'static str =
            format!("HTTP/1.1 503 Busy\r\nretry-after: {after}\r\ncontent-length: 4\r\n\r\nbusy").leak();
        let (address, asked) = scripted(Box::leak(Box::new([busy]))).await;
        let daemon = start(&[address], &format!("{}\n{route}", on("\"5xx\"")), "");
        let answer = &ask(&daemon, 1, || get("svc", "/")).await[0];
        assert_eq!(
            (answer.status, answer.header("retry-after"), answer.text()),
            (503, after, "busy".to_owned())
        );
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        denied(&daemon, "pushback", 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_wait_that_the_deadline_does_not_leave_is_not_begun() {
    let backend = Backend::start("one").await;
    backend.answers(503);
    let route = "retry = { on = [\"5xx\"], backoff = [\"3s\", \"4s\"] }\ntimeout = \"2s\"";
    let daemon = start(&[backend.address], route, "");
    let begun = Instant::now();
    let answer = &ask(&daemon, 1, || get("svc", "/")).await[0];
    assert_eq!((answer.status, answer.reason()), (503, ""));
    assert!(begun.elapsed() < Duration::from_secs(2));
    denied(&daemon, "deadline", 1.0).await;
}

/// The answer to one gRPC call, and how often the server was asked; its answers are HTTP/1.1, which towpath translates.
async fn grpc(classes: &str, answers: &'static [&'static str]) -> (Answer, u64, Duration) {
    let (address, asked) = scripted(answers).await;
    let daemon = start(&[address], &on(classes), "");
    let mut client = Client::connect(daemon.address(), Speaks::Http2).await;
    let begun = Instant::now();
    let request = call("POST", "svc", "/test.Echo/Unary").header("content-type", "application/grpc");
    let answer = client.ask(request).await;
    (answer, asked.load(Ordering::SeqCst), begun.elapsed())
}

const GRPC_OK: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 0\r\ncontent-length: 0\r\n\r\n";
const UNAVAILABLE: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 14\r\ncontent-length: 0\r\n\r\n";
const NOT_FOUND: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 5\r\ncontent-length: 0\r\n\r\n";
const IN_400_MS: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 14\r\ngrpc-retry-pushback-ms: 400\r\ncontent-length: 0\r\n\r\n";
const NEVER: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 14\r\ngrpc-retry-pushback-ms: -1\r\ncontent-length: 0\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_grpc_call_is_sent_again_by_its_status() {
    let (answer, asked, _) = grpc("\"unavailable\"", &[UNAVAILABLE, UNAVAILABLE, GRPC_OK]).await;
    assert_eq!((answer.header("grpc-status"), asked), ("0", 3), "{answer:?}");
    let (answer, asked, _) = grpc("\"unavailable\"", &[NOT_FOUND, GRPC_OK]).await;
    assert_eq!((answer.header("grpc-status"), asked), ("5", 1), "{answer:?}");
    let (answer, asked, _) = grpc("\"5xx\"", &[UNAVAILABLE, GRPC_OK]).await;
    assert_eq!((answer.header("grpc-status"), asked), ("14", 1), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_grpc_server_may_push_back() {
    let (answer, asked, took) = grpc("\"unavailable\"", &[IN_400_MS, GRPC_OK]).await;
    assert_eq!((answer.header("grpc-status"), asked), ("0", 2), "{answer:?}");
    assert!(took >= Duration::from_millis(400), "{took:?}");
    let (answer, asked, _) = grpc("\"unavailable\"", &[NEVER, GRPC_OK]).await;
    assert_eq!((answer.header("grpc-status"), asked), ("14", 1), "{answer:?}");
}

/// A server whose every connection answers once, and closes when the next request has come.
async fn closing_on_reuse() -> (SocketAddr, Arc<AtomicU64>) {
    let server = RawServer::start().await;
    let (address, closed) = (server.address, Arc::new(AtomicU64::new(0)));
    let count = closed.clone();
    tokio::spawn(async move {
        while let Ok(mut connection) = server.try_accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                if connection.skip_past("\r\n\r\n").await && connection.try_send(OK).await.is_ok() {
                    count.fetch_add(u64::from(connection.skip_past("\r\n\r\n").await), Ordering::SeqCst);
                }
            });
        }
    });
    (address, closed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn connections_that_close_when_they_are_reused_cost_no_budget_and_no_caller() {
    let (address, closed) = closing_on_reuse().await;
    let daemon = start(&[address], "", "retry_budget = { percent = 0, min_per_second = 0 }");
    let answers = ask(&daemon, 300, || get("svc", "/")).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(closed.load(Ordering::SeqCst), 299, "every request but the first meets one");
    daemon.metric_becomes("retries_total", &[("reason", "closed_when_reused")], 299.0).await;
    daemon.metric_becomes("retries_denied_total", &[], 0.0).await;
}

/// Asks on so many connections until told to stop; says how many were answered, and that each was.
fn storm(daemon: &Daemon, callers: usize, stop: &Arc<AtomicBool>) -> JoinSet<u64> {
    let mut asking = JoinSet::new();
    for _ in 0..callers {
        let (address, stop) = (daemon.address(), stop.clone());
        asking.spawn(async move {
            let mut client = Client::connect(address, Speaks::Http1).await;
            let mut asked = 0;
            while !stop.load(Ordering::SeqCst) {
                let answer = client.ask(get("svc", "/")).await;
                assert_eq!((answer.status, answer.reason()), (502, "connect_failed"));
                asked += 1;
            }
            asked
        });
    }
    asking
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_storm_on_endpoints_that_refuse_connections_stays_within_the_budget() {
    for route in [String::new(), on("\"connect-failure\", \"5xx\"")] {
        let endpoints: Vec<SocketAddr> = (0..4).map(|_| ports::reserved()).collect();
        let daemon = start(&endpoints, &route, "");
        let stop = Arc::new(AtomicBool::new(false));
        let storm = storm(&daemon, 8, &stop);
        tokio::time::sleep(Duration::from_millis(1500)).await; // the storm's length, not a wait for anything
        stop.store(true, Ordering::SeqCst);
        let requests = storm.join_all().await.into_iter().sum::<u64>() as f64;
        let attempts = daemon.metric("attempts_total", &[("service", "echo")]).await;
        let allowed = requests * 1.2 + 100.0;
        // Less would be no test: what is allowed is also used.
        assert!(
            attempts <= allowed && attempts >= allowed - 60.0,
            "{attempts} for {requests} with {route:?}"
        );
        assert!(requests > 200.0, "{requests}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_single_endpoint_that_comes_back_is_tried_again_by_the_policy() {
    let address = ports::reserved();
    let route = "retry = { on = [\"connect-failure\"], attempts = 100, backoff = [\"20ms\", \"50ms\"] }";
    let daemon = start(&[address], route, "");
    let daemon_address = daemon.address();
    let asking = tokio::spawn(async move {
        Client::connect(daemon_address, Speaks::Http1).await.ask(get("svc", "/")).await
    });
    daemon.metric_becomes("requests_in_flight", &[("service", "echo")], 1.0).await;
    let _backend = Backend::again("back", address).await;
    assert_eq!(asking.await.unwrap().backend(), "back");
    assert!(daemon.metric("retries_total", &[("reason", "connect_failed")]).await >= 1.0);
}

/// A server that answers its first request before it has read the body, which it then reads all the same. It reads the others
/// first, and says how much there was.
async fn answers_early() -> SocketAddr {
    let server = RawServer::start().await;
    let (address, asked) = (server.address, Arc::new(AtomicU64::new(0)));
    tokio::spawn(async move {
        while let Ok(mut connection) = server.try_accept().await {
            let asked = asked.clone();
            tokio::spawn(async move {
                connection.read_head().await;
                if asked.fetch_add(1, Ordering::SeqCst) == 0 {
                    connection.send("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
                    let _ = connection.read_to_end().await;
                    return;
                }
                let length = connection.read_chunked().await.0.len().to_string();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", length.len());
                connection.send(head + &length).await;
            });
        }
    });
    address
}

/// While a retry waits, the attempt before it must not read on: past what is kept, the next would get the rest alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_body_that_was_still_on_its_way_when_its_answer_came_is_sent_again_whole() {
    let route = "retry = { on = [\"5xx\"], backoff = [\"300ms\", \"300ms\"] }";
    let daemon = start(&[answers_early().await], route, "");
    let mut caller = Raw::connect(daemon.address()).await;
    caller.send("PUT / HTTP/1.1\r\nhost: svc\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n").await;
    daemon.metric_becomes("retries_total", &[("service", "echo"), ("reason", "5xx")], 1.0).await;
    let chunk = format!("4000\r\n{}\r\n", "y".repeat(0x4000));
    caller.send(chunk.repeat(10) + "0\r\n\r\n").await;
    let response = caller.read_response().await;
    assert_eq!((response.status, response.text()), (200, (1 + 10 * 0x4000).to_string()));
}
