//! TLS to endpoints: who is believed, in which words it fails, and that nothing of it costs a request.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    Answer, Backend, Client, Daemon, Speaks, body, call, client,
    dns::DnsServer,
    eventually, get,
    pki::{Authority, Issued},
};

const BOTH: &[&str] = &["h2", "http/1.1"];

/// An authority whose files are in a directory of their own.
struct Office {
    authority: Authority,
    directory: TempDir,
}

impl Office {
    fn new() -> Self {
        Self::named("tests")
    }

    fn named(name: &str) -> Self {
        let (authority, directory) = (Authority::new(name), tempfile::tempdir().unwrap());
        authority.write(directory.path());
        Self { authority, directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// `ca = "..."`.
    fn ca(&self) -> String {
        format!("ca = \"{}\"", self.path("ca.crt"))
    }

    async fn backend(&self, names: &[&str]) -> Backend {
        let issued = self.authority.issue(names);
        Backend::tls("safe", self.authority.server(&issued, false, BOTH)).await
    }
}

/// Every host goes to one service at `backend`, with these keys.
fn toml(backend: &Backend, keys: &str, tls: &str) -> String {
    format!(
        "[[routes]]\nname = \"all\"\nhosts = [\"*\"]\nbackends = [{{ service = \"safe\" }}]\n\
         [services.safe]\nendpoints = [\"{}\"]\n{keys}\ntls = {{ {tls} }}\n",
        backend.address
    )
}

async fn ask(daemon: &Daemon, path: &str) -> Answer {
    client::ask(daemon.address(), Speaks::Http1, get("safe.test", path)).await
}

/// What a request comes to through a service with `tls`.
async fn outcome(backend: &Backend, tls: &str) -> (u16, String) {
    let daemon = Daemon::start(&toml(backend, "", tls));
    let answer = ask(&daemon, "/").await;
    let message = match answer.status {
        200 => String::new(),
        _ => answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned(),
    };
    (answer.status, message)
}

async fn assert_refused(backend: &Backend, tls: &str, words: &str) {
    let (status, message) = outcome(backend, tls).await;
    assert_eq!(status, 502, "{message}");
    assert!(message.contains(words), "{message}");
    assert_eq!(backend.requests(), 0, "not a byte of it was sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_is_believed_by_name_and_authority_only() {
    let office = Office::new();
    let backend = office.backend(&["orders.internal", "127.0.0.1"]).await;
    let ca = office.ca();
    for name in ["orders.internal", "127.0.0.1"] {
        let (status, message) = outcome(&backend, &format!("server_name = \"{name}\", {ca}")).await;
        assert_eq!(status, 200, "{message}");
    }
    let backend = office.backend(&["orders.internal"]).await;
    assert_refused(&backend, &format!("server_name = \"other.internal\", {ca}"), "not for other.internal")
        .await;
    let stranger = Office::new().ca();
    let tls = format!("server_name = \"orders.internal\", {stranger}");
    // The directory of the other authority is gone: the file cannot be read, and the daemon does not start.
    let refused = Daemon::try_start(&toml(&backend, "", &tls)).err().unwrap();
    assert!(refused.contains("services.safe.tls: cannot read"), "{refused}");
    for (name, words) in [("others", "unknown issuer"), ("tests", "signed by another key")] {
        let other = Office::named(name);
        let tls = format!("server_name = \"orders.internal\", {}", other.ca());
        assert_refused(&backend, &tls, words).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_has_expired_and_what_speaks_plain_is_refused_in_words() {
    let office = Office::new();
    let old = office.authority.issue_until(&["old.internal"], Duration::ZERO);
    let expired = Backend::tls("old", office.authority.server(&old, false, BOTH)).await;
    let tls = format!("server_name = \"old.internal\", {}", office.ca());
    eventually("it has expired", async || outcome(&expired, &tls).await.1.contains("has expired")).await;
    let plain = Backend::start("plain").await;
    assert_refused(&plain, &tls, "plain HTTP").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn spiffe_ids_take_the_place_of_names() {
    let office = Office::new();
    let backend = office.backend(&["spiffe://prod/ns/shop/sa/orders"]).await;
    let with = |id: &str| format!("spiffe = [\"{id}\"], {}", office.ca());
    for id in ["spiffe://prod/ns/shop/sa/orders", "spiffe://prod/ns/*/sa/orders"] {
        assert_eq!(outcome(&backend, &with(id)).await, (200, String::new()));
    }
    let backend = office.backend(&["spiffe://prod/ns/shop/sa/orders"]).await;
    assert_refused(&backend, &with("spiffe://prod/ns/shop/sa/cart"), "not among the ids of spiffe").await;
    let named = office.backend(&["orders.internal"]).await;
    assert_refused(&named, &with("spiffe://prod/*"), "no SPIFFE id").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_certificate_is_shown_where_it_is_demanded() {
    let office = Office::new();
    let issued = office.authority.issue(&["orders.internal"]);
    let backend = Backend::tls("strict", office.authority.server(&issued, true, BOTH)).await;
    office.authority.issue(&["node.internal"]).write(office.directory.path(), "node");
    let tls = format!("server_name = \"orders.internal\", {}", office.ca());
    let pair = format!("cert = \"{}\", key = \"{}\"", office.path("node.crt"), office.path("node.key"));
    assert_eq!(outcome(&backend, &format!("{tls}, {pair}")).await, (200, String::new()));
    let (status, message) = outcome(&backend, &tls).await;
    assert_eq!(status, 502);
    assert!(message.contains("CertificateRequired"), "{message}");
    assert_eq!(backend.requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nothing_is_verified_only_where_that_is_spelt_out() {
    let (office, other) = (Office::new(), Office::named("others"));
    let backend = office.backend(&["whatever.internal"]).await;
    assert_eq!(outcome(&backend, "verify = \"none\"").await, (200, String::new()));
    let backend = office.backend(&["whatever.internal"]).await;
    let tls = format!("server_name = \"orders.internal\", {}", other.ca());
    assert_refused(&backend, &tls, "unknown issuer").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn services_made_on_first_use_verify_the_host_that_they_were_made_for() {
    let office = Office::new();
    let backend = office.backend(&["good.test"]).await;
    let dns = DnsServer::start();
    for name in ["good.test", "bad.test"] {
        dns.set_a(name, 60, &[std::net::Ipv4Addr::LOCALHOST]);
    }
    let daemon = Daemon::start(&format!(
        "[dns]\nservers = [\"{}\"]\n[defaults.service]\ntls = {{ {} }}\n\
         [[routes]]\nname = \"all\"\nhosts = [\"*\"]\nbackends = [{{ dns = \"{{host}}:{}\" }}]\n",
        dns.address(),
        office.ca(),
        backend.address.port()
    ));
    let answer = |host: &'static str| client::ask(daemon.address(), Speaks::Http1, get(host, "/"));
    assert_eq!(answer("good.test").await.status, 200);
    let refused = answer("bad.test").await;
    assert_eq!((refused.status, refused.reason()), (502, "connect_failed"));
    assert!(refused.text().contains("not for bad.test"), "{refused:?}");
    assert_eq!(backend.requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn http2_is_agreed_on_and_has_the_scheme_of_tls() {
    let office = Office::new();
    let backend = office.backend(&["orders.internal"]).await;
    let tls = format!("server_name = \"orders.internal\", {}", office.ca());
    let daemon = Daemon::start(&toml(&backend, "protocol = \"http2\"", &tls));
    let seen = ask(&daemon, "/").await.json();
    assert_eq!((&seen["version"], &seen["scheme"]), (&"HTTP/2.0".into(), &"https".into()), "{seen}");
    let issued = office.authority.issue(&["orders.internal"]);
    let old = Backend::tls("old", office.authority.server(&issued, false, &["http/1.1"])).await;
    let none = Backend::tls("none", office.authority.server(&issued, false, &[])).await;
    for backend in [&old, &none] {
        let daemon = Daemon::start(&toml(backend, "protocol = \"http2\"", &tls));
        let answer = ask(&daemon, "/").await;
        assert_eq!(answer.status, 502);
        assert!(answer.text().contains("ALPN"), "{answer:?}");
        // HTTP/1.1 needs no agreement.
        assert_eq!(outcome(backend, &tls).await, (200, String::new()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_hundred_requests_use_one_connection_whose_server_sends_session_tickets() {
    let office = Office::new();
    let backend = office.backend(&["orders.internal"]).await;
    let tls = format!("server_name = \"orders.internal\", {}", office.ca());
    let daemon = Daemon::start(&(toml(&backend, "", &tls) + "[node]\nname = \"n\"\nworkers = 1\n"));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    for number in 0..100 {
        // Those that must not be sent twice ask the kernel about their connection.
        let method = if number % 2 == 0 { "POST" } else { "GET" };
        assert_eq!(client.ask(call(method, "safe.test", "/")).await.status, 200);
    }
    assert_eq!((backend.connections(), backend.requests()), (1, 100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_further_connection_resumes_the_session() {
    let office = Office::new();
    let backend = office.backend(&["orders.internal"]).await;
    let tls = format!("server_name = \"orders.internal\", {}", office.ca());
    let daemon = Daemon::start(&(toml(&backend, "", &tls) + "[node]\nname = \"n\"\nworkers = 1\n"));
    assert_eq!(ask(&daemon, "/").await.status, 200);
    backend.close_connections();
    eventually("a session is resumed", async || {
        backend.close_connections();
        ask(&daemon, "/").await.status == 200 && backend.handshakes().1 > 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_big_body_passes_both_ways() {
    let office = Office::new();
    let backend = office.backend(&["orders.internal"]).await;
    let tls = format!("server_name = \"orders.internal\", {}", office.ca());
    const SIZE: usize = 3 << 20;
    for protocol in ["http1", "http2"] {
        let daemon = Daemon::start(&toml(&backend, &format!("protocol = \"{protocol}\""), &tls));
        let sent = Bytes::from(vec![b'x'; SIZE]);
        let request = call("POST", "safe.test", "/mirror").body(body::full(sent.clone()));
        let answer = client::ask(daemon.address(), Speaks::Http1, request).await;
        assert!(answer.status == 200 && answer.body == sent, "{protocol} {}", answer.body.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn health_checks_use_the_same_tls() {
    let office = Office::new();
    let backend = office.backend(&["orders.internal"]).await;
    let check = "health_check = { http = \"/\", interval = \"100ms\" }";
    for (protocol, name, result) in [
        ("http1", "orders.internal", "pass"),
        ("http2", "orders.internal", "pass"),
        ("http1", "other", "unreachable"),
    ] {
        let tls = format!("server_name = \"{name}\", {}", office.ca());
        let keys = format!("protocol = \"{protocol}\"\n{check}");
        let daemon = Daemon::start(&toml(&backend, &keys, &tls));
        let labels = [("service", "safe"), ("result", result)];
        eventually(result, async || daemon.metric("health_checks_total", &labels).await > 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_service_whose_tls_changes_does_not_use_its_old_connections() {
    let office = Office::new();
    let backend = office.backend(&["orders.internal"]).await;
    let verified = format!("server_name = \"orders.internal\", {}", office.ca());
    let daemon = Daemon::start(&toml(&backend, "", "verify = \"none\""));
    assert_eq!(ask(&daemon, "/").await.status, 200);
    daemon.reload(Some(&toml(&backend, "", &verified))).unwrap();
    eventually("a new connection", async || {
        assert_eq!(ask(&daemon, "/").await.status, 200);
        backend.connections() > 1
    })
    .await;
    let wrong = format!("server_name = \"other.internal\", {}", office.ca());
    daemon.reload(Some(&toml(&backend, "", &wrong))).unwrap();
    eventually("it is not believed any longer", async || ask(&daemon, "/").await.status == 502).await;
    let unread = toml(&backend, "", "server_name = \"a.test\", ca = \"/nowhere/ca.crt\"");
    let problem = daemon.reload(Some(&unread)).unwrap_err();
    assert!(problem.contains("services.safe.tls: cannot read /nowhere/ca.crt"), "{problem}");
}

/// Writes the authorities that are believed, by renaming.
fn believe(directory: &Path, authorities: &[&Authority]) {
    let all: String = authorities.iter().map(|authority| authority.pem.as_str()).collect();
    let new = directory.join("ca.crt.new");
    std::fs::write(&new, all).unwrap();
    std::fs::rename(new, directory.join("ca.crt")).unwrap();
}

/// Requests that run until they are told to stop; how many failed and how many there were.
async fn under_load(daemon: &Daemon, change: impl Future<Output = ()>) -> (u64, u64) {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let address = daemon.address();
    let load = tokio::spawn(async move {
        let (mut failed, mut all) = (0, 0);
        while !*stopped.borrow() {
            let answer = client::ask(address, Speaks::Http1, get("safe.test", "/status/200")).await;
            failed += u64::from(answer.status != 200);
            all += 1;
        }
        (failed, all)
    });
    change.await;
    stop.send_replace(true);
    load.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trust_anchors_rotate_under_load_and_no_request_fails() {
    let directory = tempfile::tempdir().unwrap();
    let mut present = Authority::new("0");
    believe(directory.path(), &[&present]);
    let issue = |authority: &Authority| -> (Issued, Arc<rustls::ServerConfig>) {
        let issued = authority.issue(&["orders.internal"]);
        let config = authority.server(&issued, false, BOTH);
        (issued, config)
    };
    let backend = Backend::tls("safe", issue(&present).1).await;
    let ca = directory.path().join("ca.crt");
    let tls = format!("server_name = \"orders.internal\", ca = \"{}\"", ca.display());
    let daemon = Daemon::start(&toml(&backend, "", &tls));
    let rotations = async {
        for number in 1..=2 {
            let next = Authority::new(&number.to_string());
            let renewed = daemon.metric("tls_reloads_total", &[("result", "renewed")]).await;
            // Both are believed before the endpoint shows the new one's certificate.
            believe(directory.path(), &[&present, &next]);
            daemon.metric_becomes("tls_reloads_total", &[("result", "renewed")], renewed + 1.0).await;
            backend.use_tls(issue(&next).1);
            backend.leave();
            believe(directory.path(), &[&next]);
            daemon.metric_becomes("tls_reloads_total", &[("result", "renewed")], renewed + 2.0).await;
            present = next;
        }
    };
    let (failed, all) = under_load(&daemon, rotations).await;
    assert!(failed == 0 && all > 20, "{failed} of {all} requests failed");
    assert!(backend.handshakes().0 > 2, "{:?}", backend.handshakes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_admin_api_shows_how_endpoints_are_secured() {
    let office = Office::new();
    let backend = office.backend(&["orders.internal"]).await;
    let tls = format!("server_name = \"orders.internal\", {}", office.ca());
    let daemon = Daemon::start(&toml(&backend, "", &tls));
    let services = daemon.admin_get("/api/services").await.json();
    let endpoint: &Value = &services["services"][0]["endpoints"][0];
    assert_eq!((&endpoint["tls"], &endpoint["peer"]), (&true.into(), &Value::Null), "{endpoint}");
}
