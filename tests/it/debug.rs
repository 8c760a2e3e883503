//! `towpath-debug: 1`: a trusted caller is told how its request was served, on every hop; nobody else is told anything.

use std::time::Duration;

use crate::support::{
    Backend, Daemon, Speaks, client,
    client::Answer,
    daemon::{one_service, service},
    get,
};

const NAMES: [&str; 9] =
    ["node", "caller", "route", "why", "service", "endpoint", "attempts", "timings", "trace"];

fn all(answer: &Answer, name: &str) -> Vec<String> {
    let values = answer.headers.get_all(format!("towpath-debug-{name}"));
    values.iter().map(|value| value.to_str().unwrap().to_owned()).collect()
}

fn silent(answer: &Answer) -> bool {
    NAMES.iter().all(|name| all(answer, name).is_empty())
}

/// A node that trusts nobody on this host.
fn distrusting(toml: &str) -> String {
    format!("[[callers]]\nname = \"anybody\"\naddress = \"127.0.0.0/8\"\n{toml}")
}

over_both_protocols! {
    async fn towpaths_own_user_is_told_which_route_endpoint_and_attempts(speaks: Speaks) {
        let (bad, good) = (Backend::start("bad").await, Backend::start("good").await);
        bad.answers(503);
        let toml = format!(
            "[node]\nname = \"here\"\n[[routes]]\nname = \"v2\"\nhosts = [\"svc\"]\nmatch = [{{ path_prefix = \"/v2\", methods = [\"GET\"] }}]\n\
             backends = [{{ service = \"echo\" }}]\nretry = {{ on = [\"5xx\"] }}\n{}",
            service("echo", "http1", &[bad.address, good.address])
        );
        let daemon = Daemon::start(&toml);
        let ask = async || client::ask(daemon.address(), speaks, get("svc", "/v2/x").header("towpath-debug", "1")).await;
        let mut answer = ask().await;
        for _ in 0..20 {
            if answer.header("towpath-debug-attempts").starts_with("2;") {
                break;
            }
            answer = ask().await;
        }
        let said = |name: &str| all(&answer, name).join("|");
        assert_eq!(answer.status, 200);
        assert_eq!(
            [said("node"), said("caller"), said("route"), said("service"), said("endpoint")],
            ["here", "unknown", "v2", "echo", &good.address.to_string()]
        );
        assert_eq!(said("why"), "host svc, path prefix `/v2`, method GET");
        let attempts = said("attempts");
        let parts: Vec<&str> = attempts.split("; ").collect();
        assert!(parts[1].starts_with(&format!("{} 503 ", bad.address)), "{attempts}");
        assert!(parts[2].starts_with(&format!("{} 200 ", good.address)), "{attempts}");
        assert!(parts[2].ends_with(" because 5xx"), "{attempts}");
        for point in ["routed=", "admitted=", "begun=", "sent=", "head=", "answered="] {
            assert!(said("timings").contains(point), "{}", said("timings"));
        }
    }
}

over_both_protocols! {
    async fn a_caller_that_is_not_trusted_is_told_nothing_and_neither_is_the_endpoint_asked(speaks: Speaks) {
        let backend = Backend::start("one").await;
        let daemon = Daemon::start(&distrusting(&one_service("http1", &[backend.address])));
        let asking = get("svc", "/headers").header("towpath-debug", "1");
        let answer = client::ask(daemon.address(), speaks, asking).await;
        assert_eq!(answer.status, 200);
        assert!(silent(&answer), "{:?}", answer.headers);
        assert!(!answer.text().contains("towpath-debug"), "{}", answer.text());
        let toml = distrusting(&one_service("http1", &[backend.address])).replace("[[callers]]", "[[callers]]\ntrusted = true");
        daemon.reload(Some(&toml)).unwrap();
        let asking = get("svc", "/headers").header("towpath-debug", "1");
        let answer = client::ask(daemon.address(), speaks, asking).await;
        assert_eq!(all(&answer, "caller"), ["anybody"]);
        assert!(answer.text().contains("towpath-debug"), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_does_not_ask_is_told_nothing() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    for call in [get("svc", "/"), get("svc", "/").header("towpath-debug", "0")] {
        let answer = client::ask(daemon.address(), Speaks::Http1, call).await;
        assert!(silent(&answer), "{:?}", answer.headers);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_refusal_tells_as_far_as_the_request_came() {
    let daemon = Daemon::start(&one_service("http1", &["127.0.0.1:1".parse().unwrap()]));
    let ask = async |host| {
        let call = get(host, "/").header("towpath-debug", "1");
        client::ask(daemon.address(), Speaks::Http1, call).await
    };
    let unreachable = ask("svc").await;
    assert_eq!(unreachable.reason(), "connect_failed");
    assert!(all(&unreachable, "attempts")[0].contains("127.0.0.1:1 connect_failed"), "{unreachable:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn of_two_attempts_beside_each_other_the_one_that_answered_is_the_endpoint() {
    let (slow, silent) = (Backend::start("slow").await, Backend::start("silent").await);
    slow.answer_after(Duration::from_millis(60));
    silent.answer_after(Duration::from_secs(60));
    let daemon = Daemon::start(&format!(
        "[[routes]]\nname = \"all\"\nhosts = [\"*\"]\nbackends = [{{ service = \"echo\" }}]\nhedge = {{ after = \"20ms\" }}\n{}balancer = \"round-robin\"\n",
        service("echo", "http1", &[slow.address, silent.address])
    ));
    let mut lost = 0;
    for _ in 0..6 {
        let call = get("svc", "/").header("towpath-debug", "1");
        let answer = client::ask(daemon.address(), Speaks::Http1, call).await;
        assert_eq!(all(&answer, "endpoint"), [slow.address.to_string()], "{:?}", answer.headers);
        let attempts = all(&answer, "attempts").join("");
        lost += u32::from(attempts.starts_with(&format!("2; {}", slow.address)));
    }
    assert!(lost > 0, "no second attempt was made in vain");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_hop_tells_and_the_one_nearest_to_the_endpoint_comes_first() {
    let backend = Backend::start("one").await;
    let inner =
        Daemon::start(&format!("[node]\nname = \"inner\"\n{}", one_service("http1", &[backend.address])));
    let outer =
        Daemon::start(&format!("[node]\nname = \"outer\"\n{}", one_service("http1", &[inner.address()])));
    let call = get("svc", "/").header("towpath-debug", "1");
    let answer = client::ask(outer.address(), Speaks::Http1, call).await;
    assert_eq!(all(&answer, "node"), ["inner", "outer"]);
    assert_eq!(all(&answer, "endpoint"), [backend.address.to_string(), inner.address().to_string()]);
    assert!(NAMES.iter().all(|name| all(&answer, name).len() == 2), "{:?}", answer.headers);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_towpath_adds_is_measured_without_what_the_endpoint_takes() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    backend.answer_after(Duration::from_millis(300));
    client::ask(daemon.address(), Speaks::Http1, get("svc", "/")).await;
    let labels = [("listener", "outgoing")];
    daemon.metric_becomes("proxy_added_seconds_count", &labels, 1.0).await;
    let added = daemon.metric("proxy_added_seconds_sum", &labels).await;
    assert!(added > 0.0 && added < 0.25, "{added}");
}
