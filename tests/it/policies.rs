//! Who may call what, over real sockets: callers by their addresses (127.0.0.2 is `web`, 127.0.0.3 `ops`), policies, reloads.

use std::{
    net::{IpAddr, SocketAddr},
    process::Command,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::Value;
use tokio::net::TcpSocket;
use tonic::Code;

use crate::support::{
    Answer, Backend, Call, Client, Daemon, Raw, Speaks, body, call,
    daemon::{complete, one_service, service},
    eventually, get,
    grpc::{GrpcServer, Plain, method},
    within,
};

pub const CALLERS: &str = "[[callers]]\nname = \"web\"\naddress = \"127.0.0.2/32\"\n\
                           [[callers]]\nname = \"ops\"\naddress = \"127.0.0.3/32\"\n";
const WEB: &str = "127.0.0.2";
const OPS: &str = "127.0.0.3";
const NOBODY: &str = "127.0.0.4";

/// A connection from an address of this host.
pub async fn from(address: &str, daemon: SocketAddr, speaks: Speaks) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(address.parse::<IpAddr>().unwrap(), 0)).unwrap();
    let stream = within("connect", socket.connect(daemon)).await.unwrap();
    Client::over(stream, speaks).await
}

async fn ask(address: &str, daemon: &Daemon, speaks: Speaks, call: Call) -> Answer {
    from(address, daemon.address(), speaks).await.ask(call).await
}

/// A route for each service, by the host of its name.
fn routes(services: &[(&str, SocketAddr)]) -> String {
    services
        .iter()
        .map(|(name, address)| {
            format!("[[routes]]\nname = \"{name}\"\nhosts = [\"{name}\"]\nbackends = [{{ service = \"{name}\" }}]\n")
                + &service(name, "auto", &[*address])
        })
        .collect()
}

fn policy(name: &str, of: &str, rest: &str) -> String {
    format!("[[policies]]\nname = \"{name}\"\nservice = \"{of}\"\n{rest}\n")
}

const ORDERS: &str = r#"allow = [{ callers = ["web"], methods = ["GET", "POST"], path_prefix = "/v1" }, { callers = ["ops"] }]
                        deny = [{ path_prefix = "/v1/admin" }]"#;

over_both_protocols! {
    async fn a_caller_may_do_what_the_policies_of_the_service_allow(speaks: Speaks) {
        let backend = Backend::start("one").await;
        let services = routes(&[("orders", backend.address), ("open", backend.address)]);
        let daemon = Daemon::start(&(CALLERS.to_owned() + &services + &policy("p", "orders", ORDERS)));
        for (caller, method, path, status) in [
            (WEB, "GET", "/v1/x", 200),
            (WEB, "PUT", "/v1/x", 403),
            (WEB, "GET", "/v2", 403),
            (WEB, "GET", "/v1/admin/x", 403),
            (OPS, "PUT", "/v2", 200),
            (OPS, "PUT", "/v1/admin", 403),
            (NOBODY, "GET", "/v1/x", 403),
        ] {
            let answer = ask(caller, &daemon, speaks, call(method, "orders", path)).await;
            assert_eq!(answer.status, status, "{caller} {method} {path}: {answer:?}");
            if status == 403 {
                assert_eq!(answer.reason(), "denied");
                let text = answer.text();
                assert!(!text.contains("\"p\"") && !text.contains("web") && !text.contains("deny["), "{text}");
            }
        }
        assert_eq!(ask(NOBODY, &daemon, speaks, get("open", "/")).await.status, 200);
        assert_eq!(backend.requests(), 3);
        daemon.metric_becomes("policy_decisions_total", &[("policy", "p"), ("decision", "denied")], 5.0).await;
        daemon.metric_becomes("caller_requests_total", &[("caller", "web"), ("service", "orders"), ("code", "403")], 3.0).await;
        daemon.metric_becomes("caller_requests_total", &[("caller", "ops"), ("code", "200")], 1.0).await;
        daemon.metric_becomes("caller_requests_total", &[("caller", "unknown")], 0.0).await;
        daemon.metric_becomes("errors_total", &[("reason", "denied")], 5.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn no_spelling_of_a_path_gets_around_a_rule() {
    let backend = Backend::start("one").await;
    let rules = r#"allow = [{ path_prefix = "/v1" }, { callers = ["ops"] }]
                   deny = [{ path_prefix = "/admin" }]"#;
    let toml = routes(&[("orders", backend.address)]) + &policy("p", "*", rules);
    let daemon = Daemon::start(&toml);
    for (path, status) in [
        ("/v1/../admin", 403),
        ("/v1/%2e%2e/admin", 403),
        ("/%61dmin", 403),
        ("//admin", 403),
        ("/admin;x=1", 403),
        ("/v1/..;/admin", 403),
        ("/v1/..%2fadmin", 403),
        ("/v1/../v2", 403),
        ("/v1/a%20b;c", 200),
        ("/v1/./x", 200),
    ] {
        let mut client = Raw::connect(daemon.address()).await;
        client.send(format!("GET {path} HTTP/1.1\r\nhost: orders\r\n\r\n")).await;
        assert_eq!(client.read_response().await.status, status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_grpc_caller_is_told_permission_denied() {
    let server = GrpcServer::start().await;
    let rules = "allow = [{ path = \"/test.Echo/Unary\" }]";
    let daemon = Daemon::start(&(one_service("auto", &[server.address]) + &policy("p", "echo", rules)));
    let mut caller = crate::support::grpc::connect(daemon.address(), "echo.test").await;
    for (name, expected) in [("Unary", None), ("Fail", Some(Code::PermissionDenied))] {
        within("ready", caller.ready()).await.unwrap();
        let call = caller.unary(tonic::Request::new(Bytes::from("x")), method(name), Plain);
        assert_eq!(within("the call", call).await.err().map(|status| status.code()), expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_dry_run_denies_nothing_and_counts_and_the_log_says_who_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let backend = Backend::start("one").await;
    let toml = format!("[access_log]\npath = \"{}\"\n{CALLERS}", path.display())
        + &routes(&[("orders", backend.address), ("other", backend.address)])
        + &policy("dry", "orders", "mode = \"dry-run\"\nallow = [{ callers = [\"ops\"] }]")
        + &policy("real", "other", "allow = [{ callers = [\"ops\"] }]\ndeny = [{ path = \"/x\" }]");
    let daemon = Daemon::start(&toml);
    for (caller, host, path, status) in [
        (WEB, "orders", "/", 200),
        (OPS, "orders", "/", 200),
        (NOBODY, "other", "/", 403),
        (OPS, "other", "/x", 403),
    ] {
        assert_eq!(ask(caller, &daemon, Speaks::Http1, get(host, path)).await.status, status);
    }
    daemon
        .metric_becomes("policy_decisions_total", &[("policy", "dry"), ("decision", "would_deny")], 1.0)
        .await;
    daemon.metric_becomes("policy_decisions_total", &[("policy", "dry"), ("decision", "denied")], 0.0).await;
    daemon.join();
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<(Value, Value)> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| (line["caller"].clone(), line["policy"].clone()))
        .collect();
    // Workers write as they come.
    lines.sort_by_key(|line| format!("{line:?}"));
    let expected = [
        ("ops", Value::Null),
        ("ops", "real/deny[0]".into()),
        ("unknown", "real".into()),
        ("web", "would deny: dry".into()),
    ];
    assert_eq!(lines, expected.map(|(caller, policy)| (Value::from(caller), policy)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_listener_that_denies_lets_pass_only_what_a_policy_allows() {
    let backend = Backend::start("one").await;
    let listener = "[[listeners]]\nname = \"outgoing\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:0\"\ndefault_policy = \"deny\"\n";
    let made = format!(
        "[[routes]]\nname = \"made\"\nhosts = [\"*\"]\nbackends = [{{ dns = \"{{host}}:{}\" }}]\n",
        backend.address.port()
    );
    let toml = format!("{listener}{CALLERS}{made}")
        + &routes(&[("orders", backend.address), ("other", backend.address)])
        + &policy("p", "orders", "allow = [{ callers = [\"web\"] }]");
    let daemon = Daemon::start(&toml);
    for (host, status) in [("orders", 200), ("other", 403), ("127.0.0.1", 403)] {
        assert_eq!(ask(WEB, &daemon, Speaks::Http1, get(host, "/")).await.status, status, "{host}");
    }
    daemon.metric_becomes("policy_decisions_total", &[("policy", "default")], 2.0).await;
    let everything = policy("all", "*", "allow = [{ callers = [\"ops\"] }]");
    daemon.reload(Some(&(toml + &everything))).unwrap();
    for (caller, host, status) in [
        (OPS, "other", 200),
        (OPS, "127.0.0.1", 200),
        (OPS, "orders", 200),
        (WEB, "127.0.0.1", 403),
        (WEB, "orders", 200),
    ] {
        assert_eq!(
            ask(caller, &daemon, Speaks::Http1, get(host, "/")).await.status,
            status,
            "{caller} {host}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_service_that_stands_in_must_be_allowed_as_well() {
    let backend = Backend::start("two").await;
    let gone = "127.0.0.1:9".parse().unwrap();
    let toml = CALLERS.to_owned()
        + "[[routes]]\nname = \"r\"\nhosts = [\"svc\"]\nbackends = [{ service = \"first\" }]\nfailover = [\"second\"]\n"
        + &service("first", "http1", &[gone])
        + &service("second", "http1", &[backend.address])
        + &policy("p", "second", "allow = [{ callers = [\"ops\"] }]");
    let daemon = Daemon::start(&toml);
    let refused = ask(WEB, &daemon, Speaks::Http1, get("svc", "/")).await;
    assert_eq!((refused.status, refused.reason()), (502, "connect_failed"), "{refused:?}");
    assert_eq!(ask(OPS, &daemon, Speaks::Http1, get("svc", "/")).await.backend(), "two");
    assert_eq!(backend.requests(), 1);
}

over_both_protocols! {
    async fn what_a_reload_forbids_ends_within_a_second_and_nothing_else_does(speaks: Speaks) {
        for protocol in ["http1", "http2"] {
            let backend = Backend::start("one").await;
            let toml = CALLERS.to_owned()
                + "[[routes]]\nname = \"r\"\nhosts = [\"*\"]\nbackends = [{ service = \"orders\" }]\n"
                + &service("orders", protocol, &[backend.address]);
            let daemon = Daemon::start(&toml);
            let mut web = from(WEB, daemon.address(), speaks).await;
            let mut ops = from(OPS, daemon.address(), speaks).await;
            let (stream, kept) = (web.send(get("a", "/drip")).await, ops.send(get("a", "/drip")).await);
            let (mut waiting, mut uploading) =
                (from(WEB, daemon.address(), speaks).await, from(WEB, daemon.address(), speaks).await);
            let waiting = tokio::spawn(async move { waiting.try_ask(get("a", "/hang")).await });
            let (sender, upload) = body::piecewise();
            let uploading =
                tokio::spawn(async move { uploading.try_ask(call("POST", "a", "/count").body(upload)).await });
            sender.send(Ok(Bytes::from_static(b"begun"))).await.unwrap();
            eventually("all run", async || backend.requests() == 4).await;
            daemon.reload(Some(&(toml + &policy("p", "orders", "allow = [{ callers = [\"ops\"] }]")))).unwrap();
            let begun = Instant::now();
            assert!(within("the cut", Answer::read(stream)).await.is_err(), "it must not look whole");
            for asking in [waiting, uploading] {
                // Its connection is closed, or it is told.
                let answer = within("the end", asking).await.unwrap();
                assert!(answer.as_ref().map_or(403, |answer| answer.status) == 403, "{answer:?}");
            }
            assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
            daemon.metric_becomes("attempts_total", &[("outcome", "cancelled")], 3.0).await;
            daemon.metric_becomes("errors_total", &[("reason", "denied")], 3.0).await;
            daemon.metric_becomes("requests_in_flight", &[], 1.0).await;
            daemon.metric_becomes("connections", &[], 1.0).await;
            drop((sender, kept));
        }
    }
}

over_both_protocols! {
    async fn a_request_that_waits_for_a_place_learns_that_it_is_forbidden(speaks: Speaks) {
        let backend = Backend::start("one").await;
        let toml = CALLERS.to_owned()
            + &routes(&[("open", backend.address), ("orders", backend.address)])
            + "breaker = { max_requests = 1, pending_timeout = \"30s\" }\n";
        let daemon = Daemon::start(&toml);
        let mut holding = from(OPS, daemon.address(), speaks).await;
        let holding = tokio::spawn(async move { holding.try_ask(get("orders", "/hang")).await.is_ok() });
        eventually("the place is taken", async || backend.running() == 1).await;
        let mut web = from(WEB, daemon.address(), speaks).await;
        let waiting = tokio::spawn(async move { web.ask(get("orders", "/")).await });
        daemon.metric_becomes("requests_in_flight", &[("service", "orders")], 2.0).await;
        let begun = Instant::now();
        daemon.reload(Some(&(toml + &policy("p", "orders", "allow = [{ callers = [\"ops\"] }]")))).unwrap();
        let answer = within("the answer", waiting).await.unwrap();
        assert_eq!((answer.status, answer.reason()), (403, "denied"), "{answer:?}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert_eq!(backend.requests(), 1);
        holding.abort();
    }
}

over_both_protocols! {
    async fn a_connection_lives_while_its_caller_may_do_anything(speaks: Speaks) {
        let backend = Backend::start("one").await;
        let toml = CALLERS.to_owned() + &routes(&[("orders", backend.address), ("other", backend.address)]);
        let daemon = Daemon::start(&toml);
        let mut web = from(WEB, daemon.address(), speaks).await;
        assert_eq!(web.ask(get("orders", "/")).await.status, 200);
        let one = policy("p", "orders", "allow = [{ callers = [\"ops\"] }]");
        daemon.reload(Some(&format!("{toml}{one}"))).unwrap();
        assert_eq!(web.ask(get("orders", "/")).await.status, 403);
        assert_eq!(web.ask(get("other", "/")).await.status, 200);
        let all = policy("all", "*", "allow = [{ callers = [\"ops\"] }]");
        daemon.reload(Some(&format!("{toml}{one}{all}"))).unwrap();
        eventually("the connection is closed", async || web.is_closed()).await;
        daemon.reload(Some(&toml)).unwrap();
        let mut again = from(WEB, daemon.address(), speaks).await;
        assert_eq!(again.ask(get("orders", "/")).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn explain_tells_the_decision_of_the_running_daemon_and_of_the_file() {
    let backend = Backend::start("one").await;
    let toml = CALLERS.to_owned()
        + &routes(&[("orders", backend.address), ("open", backend.address)])
        + &policy("p", "orders", ORDERS)
        + &policy("dry", "open", "mode = \"dry-run\"\nallow = []");
    let daemon = Daemon::start(&toml);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("towpath.toml");
    std::fs::write(&file, complete(&toml)).unwrap();
    for (caller, url, decision, by, would) in [
        ("web", "http://orders/v1/x", "allowed", "p/allow[0]", None),
        ("web", "http://orders/v1/admin", "denied", "p/deny[0]", None),
        ("", "http://orders/v1/x", "denied", "p", None),
        ("ops", "http://open/", "allowed", "default", Some("dry")),
    ] {
        let path = format!("/api/explain?url={url}&caller={caller}");
        let answer = daemon.admin_get(&path).await.json();
        let policy = &answer["route"]["backends"][0]["policy"];
        assert_eq!((&policy["decision"], &policy["by"]), (&decision.into(), &by.into()), "{answer}");
        assert_eq!(policy["would_deny"], would.map_or(Value::Null, Value::from), "{answer}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_towpath"));
        command.args(["explain", "--config"]).arg(&file);
        if !caller.is_empty() {
            command.args(["--caller", caller]);
        }
        let output = command.args(["GET", url]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains(&format!("policy {by}: {decision} (")),
            "{output:?}"
        );
    }
}

#[test]
fn check_warns_of_rules_that_decide_nothing_and_is_content() {
    let address = "127.0.0.1:9".parse().unwrap();
    let rules = r#"allow = [{ callers = ["web", "nobody"] }, { callers = ["web"], path = "/x" }]"#;
    let toml = CALLERS.to_owned() + &routes(&[("orders", address)]) + &policy("p", "orders", rules);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("towpath.toml");
    std::fs::write(&file, complete(&toml)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_towpath")).arg("check").arg(&file).output().unwrap();
    let warnings = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(warnings.matches("warning:").count(), 2, "{warnings}");
    for expected in [
        "warning: policies[0] (p): no caller is \"nobody\"",
        "warning: policies[0].allow[1] (p): changes nothing",
    ] {
        assert!(warnings.contains(expected), "{warnings}");
    }
}
