//! Spans: what they tell, which requests get them, and what becomes of them when the collector is slow, silent or away.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::Signal;
use tonic::Request;

use crate::support::{
    Backend, Client, Daemon, Process, Speaks, body, call, client,
    collector::{Collector, Order, Over, Told},
    daemon::one_service,
    eventually, get,
    grpc::{GrpcServer, Plain, connect, method},
    pki::Authority,
    ports::reserved,
    within,
};

/// `[tracing]` towards `url`, with a sample of so many percent.
fn tracing(url: &str, sample: &str, more: &str) -> String {
    format!("[tracing]\notlp = \"{url}\"\nsample = {sample}\n{more}\n")
}

fn traced(collector: &Collector, routes: &str) -> Daemon {
    Daemon::start(&(tracing(&collector.url(), "100", "") + routes))
}

async fn ask(daemon: &Daemon, path: &str) -> u16 {
    client::ask(daemon.address(), Speaks::Http1, get("svc", path)).await.status
}

fn assert_attributes(told: &Told, expected: &[(&str, &str)]) {
    for (key, value) in expected {
        assert_eq!(told.get(key), *value, "{key} of {told:#?}");
    }
}

async fn tracing_state(daemon: &Daemon) -> serde_json::Value {
    daemon.admin_get("/api/status").await.json()["tracing"].clone()
}

async fn state_becomes(daemon: &Daemon, state: &str) {
    eventually(state, async || tracing_state(daemon).await["state"] == state).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_is_a_span_and_its_attempt_one_below_it() {
    for over in [Over::Grpc, Over::Http] {
        let (collector, backend) = (Collector::start(over).await, Backend::start("one").await);
        let routes = one_service("http1", &[backend.address])
            .replace("hosts =", "match = [{ path_prefix = \"/v2\" }]\nhosts =");
        let node = "[node]\nname = \"n1\"\nzone = \"z1\"\nworkers = 1\n";
        let daemon = Daemon::start(&(tracing(&collector.url(), "100", "") + &routes + node));
        let request = call("POST", "svc:8080", "/v2/orders?a=b&sig=secret").body(body::full("12345"));
        let answer = client::ask(daemon.address(), Speaks::Http1, request).await;
        assert_eq!(answer.status, 200);
        let told = collector.spans(2).await;
        let (request, attempt) = (&told[0], &told[1]);
        let node =
            ["service.name", "towpath.node", "cloud.availability_zone"].map(|key| &*request.resource[key]);
        assert_eq!(node, ["towpath", "n1", "z1"]);
        assert_eq!(request.span.name, "POST /v2/*");
        assert_attributes(
            request,
            &[
                ("http.request.method", "POST"),
                ("http.route", "/v2/*"),
                ("http.response.status_code", "200"),
                ("url.scheme", "http"),
                ("url.path", "/v2/orders"),
                ("url.query", "a=b&sig=REDACTED"),
                ("server.address", "svc"),
                ("server.port", "8080"),
                ("client.address", "127.0.0.1"),
                ("network.protocol.version", "1.1"),
                ("towpath.listener", "outgoing"),
                ("towpath.route", "all"),
                ("towpath.service", "echo"),
                ("towpath.endpoint", &backend.address.to_string()),
                ("towpath.attempts", "1"),
                ("error.type", ""),
            ],
        );
        assert_eq!(request.events(), ["towpath.routed", "towpath.admitted", "towpath.answered"]);
        assert!(request.span.parent_span_id.is_empty() && !request.is_error());
        assert_eq!((request.span.trace_id.len(), request.span.span_id.len()), (16, 8));
        assert_eq!(attempt.span.name, "POST");
        assert_eq!(attempt.span.parent_span_id, request.span.span_id);
        assert_eq!(attempt.span.trace_id, request.span.trace_id);
        assert_attributes(
            attempt,
            &[
                ("url.full", "http://svc:8080/v2/orders?a=b&sig=REDACTED"),
                ("network.peer.port", &backend.address.port().to_string()),
                ("http.response.status_code", "200"),
                ("http.request.resend_count", ""),
                ("towpath.outcome", "success"),
            ],
        );
        assert_eq!(attempt.events(), ["towpath.sent", "towpath.head"]);
        let times = |told: &Told| (told.span.start_time_unix_nano, told.span.end_time_unix_nano);
        let ((begun, ended), (sent, done)) = (times(request), times(attempt));
        assert!(begun <= sent && sent < done && done <= ended, "{told:#?}");
        daemon.metric_becomes("spans_total", &[("result", "exported")], 2.0).await;
        let state = tracing_state(&daemon).await;
        let protocol = if over == Over::Grpc { "grpc" } else { "http" };
        assert_eq!((&state["state"], &state["exported"]), (&"working".into(), &2.into()), "{state}");
        assert_eq!((&state["url"], &state["protocol"]), (&collector.url().into(), &protocol.into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_through_two_nodes_is_one_trace() {
    let (collector, backend) = (Collector::start(Over::Grpc).await, Backend::start("far").await);
    let second = traced(&collector, &(one_service("http1", &[backend.address]) + "[node]\nname = \"b\"\n"));
    let first = traced(&collector, &(one_service("http1", &[second.address()]) + "[node]\nname = \"a\"\n"));
    assert_eq!(ask(&first, "/x").await, 200);
    let told = collector.spans(4).await;
    let of = |node: &str, server: bool| {
        let found =
            told.iter().find(|told| told.resource["towpath.node"] == node && told.is_server() == server);
        found.unwrap_or_else(|| panic!("{node} {server}: {told:#?}"))
    };
    let chain = [of("a", true), of("a", false), of("b", true), of("b", false)];
    assert!(chain[0].span.parent_span_id.is_empty());
    for pair in chain.windows(2) {
        assert_eq!(pair[1].span.parent_span_id, pair[0].span.span_id, "{told:#?}");
        assert_eq!(pair[1].span.trace_id, pair[0].span.trace_id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_attempt_is_a_span_and_the_request_tells_why_there_was_another() {
    let collector = Collector::start(Over::Grpc).await;
    let (bad, good) = (Backend::start("bad").await, Backend::start("good").await);
    bad.answers(503);
    let retry = "retry = { on = [\"5xx\"], backoff = [\"1ms\", \"5ms\"] }\nhosts =";
    let routes = one_service("http1", &[bad.address, good.address]).replace("hosts =", retry);
    let more = "balancer = \"round-robin\"\nejection = { consecutive_failures = 0 }\n";
    let node = "[node]\nname = \"test\"\nworkers = 1\n";
    let daemon = traced(&collector, &format!("{routes}{more}{node}"));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    // In turn: one of two requests meets the bad one first.
    for _ in 0..2 {
        assert_eq!(client.ask(get("svc", "/")).await.status, 200);
    }
    let told = collector.spans(5).await;
    let request = told.iter().find(|told| told.get("towpath.attempts") == "2").expect("a second attempt");
    assert!(request.events().contains(&"towpath.retry") && !request.is_error(), "{request:#?}");
    let mut attempts: Vec<_> =
        told.iter().filter(|told| told.span.parent_span_id == request.span.span_id).collect();
    attempts.sort_by_key(|told| told.span.start_time_unix_nano);
    assert_eq!(attempts.len(), 2, "{told:#?}");
    assert_attributes(attempts[0], &[("http.response.status_code", "503"), ("error.type", "503")]);
    assert!(attempts[0].is_error() && !attempts[1].is_error());
    assert_attributes(
        attempts[1],
        &[
            ("http.request.resend_count", "1"),
            ("towpath.endpoint", &good.address.to_string()),
            ("towpath.why", "5xx"),
        ],
    );
    assert_ne!(attempts[0].span.span_id, attempts[1].span.span_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_hedge_is_a_span_beside_the_one_that_was_slow() {
    let (collector, backend) = (Collector::start(Over::Http).await, Backend::start("slow").await);
    let quick = Backend::start("quick").await;
    backend.answer_after(Duration::from_secs(30));
    let hedge = "hedge = { after = \"30ms\" }\nhosts =";
    let routes = one_service("http1", &[backend.address, quick.address]).replace("hosts =", hedge);
    let more = "balancer = \"round-robin\"\nejection = { consecutive_failures = 0 }\n";
    let node = "[node]\nname = \"test\"\nworkers = 1\n";
    let daemon = traced(&collector, &format!("{routes}{more}{node}"));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    for _ in 0..2 {
        assert_eq!(client.ask(get("svc", "/")).await.backend(), "quick");
    }
    let told = collector.spans(5).await;
    let request = told.iter().find(|told| told.events().contains(&"towpath.hedge")).expect("a hedge");
    let attempts = told.iter().filter(|told| told.span.parent_span_id == request.span.span_id);
    let mut outcomes: Vec<_> = attempts
        .map(|told| (told.get("towpath.outcome"), told.get("towpath.why"), told.is_error()))
        .collect();
    outcomes.sort();
    let expected = [("cancelled", "", false), ("success", "hedge", false)];
    assert_eq!(
        outcomes,
        expected.map(|(outcome, why, error)| (String::from(outcome), String::from(why), error))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_grpc_call_is_told_by_its_method_and_status() {
    let (collector, server) = (Collector::start(Over::Grpc).await, GrpcServer::start().await);
    let daemon = traced(&collector, &one_service("auto", &[server.address]));
    let mut caller = connect(daemon.address(), "echo.test").await;
    for name in ["Unary", "Nothing"] {
        within("ready", caller.ready()).await.unwrap();
        let request = Request::new(Bytes::from("hello"));
        let _ = within("an answer", caller.unary(request, method(name), Plain)).await;
    }
    let told = collector.spans(4).await;
    for (told, name, code, in_words) in
        [(&told[0], "Unary", "0", "OK"), (&told[1], "Nothing", "12", "UNIMPLEMENTED")]
    {
        assert_eq!(told.span.name, format!("test.Echo/{name}"));
        assert_attributes(
            told,
            &[
                ("rpc.system", "grpc"),
                ("rpc.service", "test.Echo"),
                ("rpc.method", name),
                ("rpc.grpc.status_code", code),
                ("rpc.response.status_code", in_words),
            ],
        );
        assert_eq!(told.is_error(), code != "0", "{told:#?}");
    }
    let attempt = told.iter().rfind(|told| !told.is_server() && told.is_error()).expect("a failed attempt");
    assert_attributes(attempt, &[("error.type", "UNIMPLEMENTED")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn failures_and_slow_requests_are_kept_though_nothing_is_sampled() {
    let (collector, backend) = (Collector::start(Over::Grpc).await, Backend::start("one").await);
    let keep = "keep = { slower_than = \"100ms\" }";
    let daemon =
        Daemon::start(&(tracing(&collector.url(), "0", keep) + &one_service("http1", &[backend.address])));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    for path in ["/", "/status/404", "/status/503", "/slow?ms=150", "/"] {
        client.ask(get("svc", path)).await;
    }
    let told = collector.spans(4).await;
    let paths: Vec<_> =
        told.iter().filter(|told| told.is_server()).map(|told| told.get("url.path")).collect();
    assert_eq!(paths, ["/status/503", "/slow"]);
    assert!(told[0].is_error() && told[0].get("error.type") == "503", "{told:#?}");
    assert_eq!(told[0].span.flags & 1, 0, "it is kept, not sampled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn towpaths_own_failures_tell_their_reason() {
    let collector = Collector::start(Over::Grpc).await;
    let daemon = Daemon::start(&(tracing(&collector.url(), "0", "") + &one_service("http1", &[reserved()])));
    assert_eq!(ask(&daemon, "/").await, 502);
    let told = collector.spans(2).await;
    assert_attributes(
        &told[0],
        &[
            ("error.type", "connect_failed"),
            ("towpath.reason", "connect_failed"),
            ("http.response.status_code", "502"),
        ],
    );
    assert_attributes(&told[1], &[("error.type", "connect_failed"), ("http.response.status_code", "")]);
    assert!(told[0].is_error() && told[1].is_error());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_more_are_kept_each_second_than_allowed() {
    let (collector, backend) = (Collector::start(Over::Grpc).await, Backend::start("one").await);
    let keep = "keep = { per_second = 2 }";
    let daemon =
        Daemon::start(&(tracing(&collector.url(), "0", keep) + &one_service("http1", &[backend.address])));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let begun = Instant::now();
    for _ in 0..50 {
        client.ask(get("svc", "/status/500")).await;
    }
    let seconds = begun.elapsed().as_secs() + 2;
    let total = async || daemon.metric("spans_total", &[]).await;
    eventually("all are counted", async || total().await >= 100.0).await;
    let exported = daemon.metric("spans_total", &[("result", "exported")]).await;
    assert!(exported >= 4.0 && exported <= (4 * seconds) as f64, "{exported} in {seconds} s");
    daemon.metric_becomes("spans_total", &[("result", "not_kept")], 100.0 - exported).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_silent_collector_costs_requests_nothing_and_what_is_too_much_is_dropped() {
    let (collector, backend) = (Collector::start(Over::Grpc).await, Backend::start("one").await);
    collector.obey(Order::Silence);
    let daemon = traced(&collector, &one_service("http1", &[backend.address]));
    let address = daemon.address();
    let callers = (0..8).map(|_| {
        tokio::spawn(async move {
            let mut client = Client::connect(address, Speaks::Http1).await;
            for _ in 0..700 {
                assert_eq!(client.ask(get("svc", "/status/200")).await.status, 200);
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        within("5600 requests", caller).await.unwrap();
    }
    // 4096 requests wait, and a batch of 256 is on its way.
    eventually("drops", async || {
        daemon.metric("spans_total", &[("result", "dropped")]).await >= 2.0 * (5600.0 - 4096.0 - 512.0)
    })
    .await;
    assert_eq!(ask(&daemon, "/").await, 200);
    let took = within("the end", async { daemon.join() }).await;
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_collector_that_comes_back_gets_what_has_waited() {
    let (address, backend) = (reserved(), Backend::start("one").await);
    let url = format!("http://{address}");
    let daemon = Daemon::start(&(tracing(&url, "100", "") + &one_service("http1", &[backend.address])));
    assert_eq!(ask(&daemon, "/first").await, 200);
    state_becomes(&daemon, "failing").await;
    let error = tracing_state(&daemon).await["last_error"].to_string();
    assert!(error.contains(&address.to_string()) && error.contains("nothing listens"), "{error}");
    let collector = Collector::at(address, Over::Grpc, None).await;
    assert_eq!(ask(&daemon, "/second").await, 200);
    collector.spans(4).await;
    state_becomes(&daemon, "working").await;
    daemon.metric_becomes("spans_total", &[("result", "exported")], 4.0).await;
    assert_eq!(daemon.metric("spans_total", &[]).await, 4.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_a_collector_may_take_later_is_sent_again_and_what_it_never_takes_is_not() {
    for over in [Over::Grpc, Over::Http] {
        let (collector, backend) = (Collector::start(over).await, Backend::start("one").await);
        let daemon = traced(&collector, &one_service("http1", &[backend.address]));
        collector.obey(Order::Later);
        assert_eq!(ask(&daemon, "/later").await, 200);
        eventually("two tries", async || collector.requests() >= 2).await;
        collector.obey(Order::Take);
        collector.spans(2).await;
        collector.obey(Order::Never);
        let before = collector.requests();
        assert_eq!(ask(&daemon, "/never").await, 200);
        daemon.metric_becomes("spans_total", &[("result", "failed")], 2.0).await;
        state_becomes(&daemon, "failing").await;
        assert_eq!(collector.requests(), before + 1);
        collector.obey(Order::AllBut(1));
        assert_eq!(ask(&daemon, "/part").await, 200);
        daemon.metric_becomes("spans_total", &[("result", "failed")], 3.0).await;
        daemon.metric_becomes("spans_total", &[("result", "exported")], 3.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_slow_collector_gets_everything_in_the_end() {
    let (collector, backend) = (Collector::start(Over::Http).await, Backend::start("one").await);
    collector.obey(Order::After(Duration::from_millis(300)));
    let daemon = traced(&collector, &one_service("http1", &[backend.address]));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    for _ in 0..300 {
        client.ask(get("svc", "/status/200")).await;
    }
    collector.spans(600).await;
    daemon.metric_becomes("spans_total", &[("result", "exported")], 600.0).await;
    assert!(collector.requests() < 20, "in batches: {}", collector.requests());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reload_changes_the_collector_and_the_old_one_gets_what_was_its() {
    let (old, new) = (Collector::start(Over::Grpc).await, Collector::start(Over::Http).await);
    let backend = Backend::start("one").await;
    let routes = one_service("http1", &[backend.address]);
    let daemon = traced(&old, &routes);
    assert_eq!(ask(&daemon, "/old").await, 200);
    daemon.reload(Some(&(tracing(&new.url(), "100", "") + &routes))).unwrap();
    assert_eq!(ask(&daemon, "/new").await, 200);
    let paths = [old.spans(2).await, new.spans(2).await].map(|told| told[0].get("url.path"));
    assert_eq!(paths, ["/old", "/new"]);
    let instance = |collector: &Collector| collector.told()[0].resource["service.instance.id"].clone();
    assert_eq!(instance(&old), instance(&new), "the process is the same");
    daemon.reload(Some(&routes)).unwrap();
    assert_eq!(ask(&daemon, "/untold").await, 200);
    assert!(tracing_state(&daemon).await.is_null());
    daemon.join();
    assert_eq!((old.told().len(), new.told().len()), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reload_that_leaves_the_collector_leaves_the_exporter() {
    let (collector, backend) = (Collector::start(Over::Grpc).await, Backend::start("one").await);
    let routes = one_service("http1", &[backend.address]);
    let daemon = traced(&collector, &routes);
    assert_eq!(ask(&daemon, "/a").await, 200);
    let exact = "match = [{ path = \"/b\" }]\nhosts =";
    let routes = routes.replace("hosts =", exact);
    daemon.reload(Some(&(tracing(&collector.url(), "100", "") + &routes))).unwrap();
    assert_eq!(ask(&daemon, "/b").await, 200);
    let told = collector.spans(4).await;
    let names: Vec<_> = told.iter().filter(|told| told.is_server()).map(|told| &*told.span.name).collect();
    assert_eq!(names[1], "GET /b", "the new configuration is followed: {names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reload_that_changes_which_requests_are_kept_leaves_the_exporter() {
    let (collector, backend) = (Collector::start(Over::Grpc).await, Backend::start("one").await);
    let routes = one_service("http1", &[backend.address]);
    let daemon = traced(&collector, &routes);
    assert_eq!(ask(&daemon, "/a").await, 200);
    state_becomes(&daemon, "working").await;
    let keep = "keep = { per_second = 100 }";
    daemon.reload(Some(&(tracing(&collector.url(), "0", keep) + &routes))).unwrap();
    assert_eq!(tracing_state(&daemon).await["state"], "working", "a new one would be idle");
    assert_eq!((ask(&daemon, "/b").await, ask(&daemon, "/status/500").await), (200, 500));
    let told = collector.spans(4).await;
    assert_eq!([&told[0], &told[1]].map(|told| told.get("url.path")), ["/a", "/status/500"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_waits_is_sent_before_the_node_ends() {
    let (collector, backend) = (Collector::start(Over::Grpc).await, Backend::start("one").await);
    let daemon = traced(&collector, &one_service("http1", &[backend.address]));
    assert_eq!(ask(&daemon, "/last").await, 200);
    let took = daemon.join();
    assert_eq!(collector.told().len(), 2);
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_second_sigterm_is_obeyed_while_what_waits_is_sent() {
    let (collector, backend) = (Collector::start(Over::Grpc).await, Backend::start("one").await);
    collector.obey(Order::Silence);
    let routes = one_service("http1", &[backend.address]);
    let mut process = Process::start(&(tracing(&collector.url(), "100", "") + &routes));
    client::ask(process.address().await, Speaks::Http1, get("svc", "/")).await;
    eventually("the collector is silent", async || collector.requests() == 1).await;
    process.signal(Signal::TERM);
    eventually("only spans wait", async || process.log().contains("drained")).await;
    process.signal(Signal::TERM);
    assert_eq!(process.ends().await.code(), Some(1), "{}", process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_collector_with_tls_must_be_vouched_for() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("collectors");
    let ca = authority.write(directory.path());
    for (over, protocol) in [(Over::Grpc, "h2"), (Over::Http, "http/1.1")] {
        let server = authority.server(&authority.issue(&["localhost"]), false, &[protocol]);
        let collector = Collector::at("127.0.0.1:0".parse().unwrap(), over, Some(server)).await;
        let backend = Backend::start("one").await;
        let url = collector.url().replace("http://127.0.0.1", "https://localhost");
        let routes = one_service("http1", &[backend.address]);
        let ca_key = format!("ca = \"{}\"", ca.display());
        let daemon = Daemon::start(&(tracing(&url, "100", &ca_key) + &routes));
        assert_eq!(ask(&daemon, "/").await, 200);
        collector.spans(2).await;
        Authority::new("others").write(directory.path());
        let other = directory.path().join("other.crt");
        std::fs::rename(directory.path().join("ca.crt"), &other).unwrap();
        authority.write(directory.path());
        let strange = tracing(&url, "100", &format!("ca = \"{}\"", other.display()));
        daemon.reload(Some(&(strange + &routes))).unwrap();
        assert_eq!(ask(&daemon, "/").await, 200);
        state_becomes(&daemon, "failing").await;
        assert_eq!(collector.told().len(), 2);
    }
    let missing = tracing("https://localhost", "100", "ca = \"/nowhere/ca.crt\"");
    let problem = Daemon::try_start(&(missing + &one_service("http1", &[reserved()])));
    let problem = problem.err().expect("there is no such file");
    assert!(problem.contains("tracing.ca: ") && problem.contains("/nowhere/ca.crt"), "{problem}");
}
