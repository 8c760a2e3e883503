//! Which request goes where: every kind of condition, precedence, weights, per-host services.

use std::collections::HashMap;

use crate::support::{Backend, Call, Client, Daemon, Speaks, call, client, daemon::service, get};

/// A daemon with these routes; every service that they name is a backend of that name.
async fn routed(routes: &str, services: &[&str]) -> (Daemon, Vec<Backend>) {
    let mut toml = routes.to_owned();
    let mut backends = Vec::new();
    for name in services {
        let backend = Backend::start(name).await;
        toml.push_str(&service(name, "http1", &[backend.address]));
        backends.push(backend);
    }
    (Daemon::start(&toml), backends)
}

/// One route to the service of the same name.
fn route(name: &str, rest: &str) -> String {
    format!("[[routes]]\nname = \"{name}\"\nbackends = [{{ service = \"{name}\" }}]\n{rest}\n")
}

/// Asks each, and compares the backend that answered (`-`: no route).
async fn assert_routed(daemon: &Daemon, speaks: Speaks, expected: Vec<(Call, &str)>) {
    let mut client = Client::connect(daemon.address(), speaks).await;
    for (number, (request, backend)) in expected.into_iter().enumerate() {
        let answer = client.ask(request).await;
        let got = if answer.reason() == "no_route" { "-" } else { answer.backend() };
        assert_eq!(got, backend, "request {number}: {answer:?}");
    }
}

over_both_protocols! {
    async fn hosts_exact_then_longest_suffix_then_any(speaks: Speaks) {
        let routes = [
            route("any", "hosts = [\"*\"]"),
            route("wide", "hosts = [\"*.test\"]"),
            route("narrow", "hosts = [\"*.b.test\"]"),
            route("exact", "hosts = [\"A.b.Test\"]"),
        ]
        .concat();
        let (daemon, _backends) = routed(&routes, &["any", "wide", "narrow", "exact"]).await;
        let expected = vec![
            (get("a.b.test", "/"), "exact"),
            (get("A.B.TEST:8080", "/"), "exact"),
            (get("x.b.test", "/"), "narrow"),
            (get("x.a.b.test", "/"), "narrow"),
            (get("b.test", "/"), "wide"),
            (get("test", "/"), "any"),
            (get("bb.test.other", "/"), "any"),
            (get("127.0.0.1:80", "/"), "any"),
        ];
        assert_routed(&daemon, speaks, expected).await;
    }
}

over_both_protocols! {
    async fn paths_exact_then_longest_prefix_then_regex(speaks: Speaks) {
        let routes = [
            route("rest", "hosts = [\"svc\"]"),
            route("regex", "hosts = [\"svc\"]\nmatch = [{ path_regex = \"/[0-9]+/x\" }]"),
            route("short", "hosts = [\"svc\"]\nmatch = [{ path_prefix = \"/v2\" }]"),
            route("long", "hosts = [\"svc\"]\nmatch = [{ path_prefix = \"/v2/deep\" }]"),
            route("exact", "hosts = [\"svc\"]\nmatch = [{ path = \"/v2/deep/one\" }]"),
        ]
        .concat();
        let (daemon, _backends) = routed(&routes, &["rest", "regex", "short", "long", "exact"]).await;
        let expected = vec![
            (get("svc", "/v2/deep/one"), "exact"),
            (get("svc", "/v2/deep/one?q=1"), "exact"),
            (get("svc", "/v2/deep/two"), "long"),
            (get("svc", "/v2/deeper"), "short"),
            (get("svc", "/v2"), "short"),
            (get("svc", "/v2/"), "short"),
            (get("svc", "/v20"), "rest"),
            (get("svc", "/12/x"), "regex"),
            (get("svc", "/12/xx"), "rest"),
            (get("svc", "/"), "rest"),
            (get("other", "/v2"), "-"),
        ];
        assert_routed(&daemon, speaks, expected).await;
    }
}

over_both_protocols! {
    async fn methods_headers_and_query_decide_among_equal_paths(speaks: Speaks) {
        let routes = [
            route("rest", "hosts = [\"svc\"]"),
            route("post", "hosts = [\"svc\"]\nmatch = [{ methods = [\"POST\", \"PUT\"] }]"),
            route("android", "hosts = [\"svc\"]\nmatch = [{ headers = { client = \"Android\" } }]"),
            route("debug", "hosts = [\"svc\"]\nmatch = [{ query = { debug = \"1\" } }]"),
            route("both", "hosts = [\"svc\"]\nmatch = [{ headers = { client = \"Android\", beta = \"yes\" } }]"),
        ]
        .concat();
        let (daemon, _backends) = routed(&routes, &["rest", "post", "android", "debug", "both"]).await;
        let expected = vec![
            (get("svc", "/"), "rest"),
            (call("POST", "svc", "/").header("client", "Android"), "post"),
            (get("svc", "/").header("Client", "Android"), "android"),
            (get("svc", "/").header("client", "android"), "rest"),
            (get("svc", "/").header("client", "Android").header("beta", "yes"), "both"),
            (get("svc", "/?a=b&debug=1"), "debug"),
            (get("svc", "/?debug=%31"), "debug"),
            (get("svc", "/?debug=12"), "rest"),
            (get("svc", "/?debug=1").header("client", "Android"), "android"),
        ];
        assert_routed(&daemon, speaks, expected).await;
    }
}

over_both_protocols! {
    async fn values_may_be_matched_by_regex_presence_and_absence(speaks: Speaks) {
        let routes = [
            route("rest", "hosts = [\"svc\"]"),
            route("regex", "hosts = [\"svc\"]\nmatch = [{ path = \"/1\", headers = { user = { regex = \"[a-f]+\" } } }]"),
            route("present", "hosts = [\"svc\"]\nmatch = [{ path = \"/2\", headers = { user = { present = true } } }]"),
            route("absent", "hosts = [\"svc\"]\nmatch = [{ path = \"/3\", query = { user = { present = false } } }]"),
        ]
        .concat();
        let (daemon, _backends) = routed(&routes, &["rest", "regex", "present", "absent"]).await;
        let expected = vec![
            (get("svc", "/1").header("user", "fade"), "regex"),
            (get("svc", "/1").header("user", "faded!"), "rest"),
            (get("svc", "/2").header("user", ""), "present"),
            (get("svc", "/2"), "rest"),
            (get("svc", "/3?other=1"), "absent"),
            (get("svc", "/3?user"), "rest"),
        ];
        assert_routed(&daemon, speaks, expected).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn any_entry_of_match_is_enough_and_file_order_breaks_ties() {
    let routes = [
        route(
            "first",
            "hosts = [\"svc\"]\nmatch = [{ path = \"/a\" }, { path = \"/b\", methods = [\"GET\"] }]",
        ),
        route("second", "hosts = [\"svc\"]\nmatch = [{ path = \"/a\" }]"),
    ]
    .concat();
    let (daemon, _backends) = routed(&routes, &["first", "second"]).await;
    let expected =
        vec![(get("svc", "/a"), "first"), (get("svc", "/b"), "first"), (call("PUT", "svc", "/b"), "-")];
    assert_routed(&daemon, Speaks::Http1, expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_more_specific_host_without_a_matching_rule_falls_back_to_the_next() {
    let routes = [
        route("wide", "hosts = [\"*.test\"]"),
        route("exact", "hosts = [\"a.test\"]\nmatch = [{ path = \"/only\" }]"),
    ]
    .concat();
    let (daemon, _backends) = routed(&routes, &["wide", "exact"]).await;
    let expected = vec![(get("a.test", "/only"), "exact"), (get("a.test", "/else"), "wide")];
    assert_routed(&daemon, Speaks::Http1, expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn weights_share_the_requests() {
    let routes = "[[routes]]\nname = \"split\"\nhosts = [\"svc\"]\nbackends = [\
        { service = \"few\", weight = 10 }, { service = \"many\", weight = 90 }, { service = \"none\", weight = 0 }]\n";
    let (daemon, _backends) = routed(routes, &["few", "many", "none"]).await;
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let mut shares: HashMap<String, u32> = HashMap::new();
    for _ in 0..1000 {
        *shares.entry(client.ask(get("svc", "/")).await.backend().to_owned()).or_default() += 1;
    }
    assert_eq!(shares.get("none"), None);
    let few = shares["few"];
    assert!((40..=190).contains(&few), "{shares:?}"); // ten standard deviations: 100 +- 9.5
    daemon.metric_becomes("requests_total", &[("service", "few")], f64::from(few)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_route_holds_on_its_own_listeners_only() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let daemon = Daemon::start(&format!(
        "[[listeners]]\nname = \"outgoing\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:0\"\n\
         [[listeners]]\nname = \"incoming\"\nkind = \"incoming\"\nlisten = \"127.0.0.1:0\"\n\
         [[routes]]\nname = \"out\"\nhosts = [\"*\"]\nbackends = [{{ service = \"one\" }}]\n\
         [[routes]]\nname = \"in\"\nlisteners = [\"incoming\"]\nhosts = [\"*\"]\nbackends = [{{ service = \"two\" }}]\n{}{}",
        service("one", "http1", &[one.address]),
        service("two", "http1", &[two.address])
    ));
    for (listener, backend) in [("outgoing", "one"), ("incoming", "two")] {
        let answer = client::ask(daemon.listener(listener).unwrap(), Speaks::Http1, get("x", "/")).await;
        assert_eq!(answer.backend(), backend);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ten_thousand_hosts_route_like_one() {
    use std::fmt::Write;
    let backend = Backend::start("all").await;
    let mut toml = String::new();
    for number in 0..10_000 {
        writeln!(toml, "[[routes]]\nname = \"r{number}\"\nhosts = [\"h{number}.test\"]").unwrap();
        writeln!(toml, "backends = [{{ service = \"all\" }}]").unwrap();
    }
    toml.push_str(&service("all", "http1", &[backend.address]));
    let daemon = Daemon::start(&toml);
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    for number in [0, 1, 4999, 9999] {
        assert_eq!(client.ask(get(&format!("h{number}.test"), "/")).await.status, 200);
    }
    assert_eq!(client.ask(get("h10000.test", "/")).await.reason(), "no_route");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_per_host_service_is_made_for_each_host_by_its_address() {
    let backend = Backend::start("one").await;
    let port = backend.address.port();
    let daemon =
        Daemon::start("[[routes]]\nname = \"rest\"\nhosts = [\"*\"]\nbackends = [{ dns = \"{host}\" }]\n");
    let answer = client::ask(daemon.address(), Speaks::Http1, get(&format!("127.0.0.1:{port}"), "/")).await;
    assert_eq!((answer.status, answer.backend()), (200, "one"));
}
