//! From node to node: calls go to the towpath of the endpoint's node over mTLS, and that hands them to just that endpoint.
//!
//! Both nodes are on this host: the second node, and what it serves, is at 127.0.0.2.

use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::Value;
use tempfile::TempDir;
use tokio_stream::StreamExt;

use crate::support::{
    Answer, Backend, Client, Daemon, Speaks, body, call, client,
    dns::DnsServer,
    eventually,
    frames::{Frames, HEADERS, RST_STREAM, frame, request},
    get,
    grpc::{GrpcServer, connect, messages, method},
    pki::{Authority, Issued},
    ports::reserved,
    secure::secure_as,
    within,
};

pub const SECOND: &str = "127.0.0.2:0";

/// An authority, with files for two nodes.
pub struct Mesh {
    pub authority: Authority,
    directory: TempDir,
}

impl Mesh {
    pub fn new() -> Self {
        let mesh = Self { authority: Authority::new("mesh"), directory: tempfile::tempdir().unwrap() };
        mesh.authority.write(mesh.directory.path());
        for node in ["a", "b"] {
            mesh.issue(node, &[&format!("spiffe://mesh/node/{node}"), &format!("{node}.test")]);
        }
        mesh
    }

    pub fn issue(&self, name: &str, names: &[&str]) -> Issued {
        let issued = self.authority.issue(names);
        issued.write(self.directory.path(), name);
        issued
    }

    /// `ca`, `cert` and `key` of a node, the first as `authority`.
    fn tls(&self, node: &str, authority: &str) -> String {
        let path = self.directory.path().display();
        format!("{authority} = \"{path}/ca.crt\", cert = \"{path}/{node}.crt\", key = \"{path}/{node}.key\"")
    }

    /// The second node, which hands requests on to the services in `services`.
    pub fn second(&self, services: &str) -> Daemon {
        Daemon::start(&self.second_toml(services))
    }

    pub fn second_toml(&self, services: &str) -> String {
        let tls = self.tls("b", "client_ca");
        format!(
            "[node]\nname = \"b\"\nworkers = 1\n\
             [[listeners]]\nname = \"incoming\"\nkind = \"incoming\"\nlisten = \"{SECOND}\"\ntls = {{ {tls} }}\n\
             {services}"
        )
    }

    /// `peer` of a service as the node `a` has it; `second` is the other's incoming listener.
    fn peer(&self, second: SocketAddr, more: &str) -> String {
        let tls = self.tls("a", "ca");
        format!("peer = {{ port = {}, {more} tls = {{ {tls} }} }}\n", second.port())
    }
}

pub fn service(name: &str, endpoints: &[SocketAddr], keys: &str) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(|address| format!("\"{address}\"")).collect();
    format!("[services.{name}]\nendpoints = [{}]\n{keys}\n", endpoints.join(", "))
}

/// Every host goes to the service `echo`.
pub const ROUTE: &str = "[[routes]]\nname = \"all\"\nhosts = [\"*\"]\nbackends = [{ service = \"echo\" }]\n";
/// The first node.
const FIRST: &str = "[node]\nname = \"a\"\nworkers = 1\n";

/// Two nodes, and a backend at the second.
pub struct Pair {
    mesh: Mesh,
    backend: Backend,
    second: Daemon,
    first: Daemon,
}

impl Pair {
    /// `keys` are of the service, on both.
    async fn with(keys: &str) -> Self {
        let (mesh, backend) = (Mesh::new(), Backend::again("far", SECOND.parse().unwrap()).await);
        let second = mesh.second(&service("echo", &[backend.address], keys));
        let first = Self::first(&mesh, &second, &backend, keys);
        Self { mesh, backend, second, first }
    }

    pub fn first(mesh: &Mesh, second: &Daemon, backend: &Backend, keys: &str) -> Daemon {
        Daemon::start(&Self::toml(mesh, second, backend, keys))
    }

    pub fn toml(mesh: &Mesh, second: &Daemon, backend: &Backend, keys: &str) -> String {
        let peer = mesh.peer(second.listener("incoming").unwrap(), "");
        format!("{FIRST}{ROUTE}{}", service("echo", &[backend.address], &format!("{keys}\n{peer}")))
    }
}

pub async fn ask(daemon: &Daemon, path: &str) -> Answer {
    client::ask(daemon.address(), Speaks::Http1, get("echo.test", path)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_call_goes_through_the_towpath_of_the_endpoints_node() {
    let pair = Pair::with("").await;
    let request = call("POST", "echo.test", "/a?b=c")
        .header("x-tag", "blue")
        .header("towpath-endpoint", "127.0.0.1:1")
        .header("towpath-service", "other")
        .header("towpath-caller", "root")
        .body(body::full("hello"));
    let answer = client::ask(pair.first.address(), Speaks::Http1, request).await;
    assert_eq!((answer.status, answer.backend()), (200, "far"), "{answer:?}");
    let seen = answer.json();
    for (key, expected) in [
        ("method", "POST"),
        ("uri", "/a?b=c"),
        ("host", "echo.test"),
        ("body", "hello"),
        ("version", "HTTP/1.1"),
    ] {
        assert_eq!(seen[key], expected, "{seen}");
    }
    let fields = seen["headers"].as_object().unwrap();
    assert_eq!(fields["x-tag"], "blue");
    assert_eq!(fields["via"], "1.1 towpath-a, 2.0 towpath-b");
    let told: Vec<_> = fields.keys().filter(|name| name.starts_with("towpath-")).collect();
    assert!(told.is_empty(), "no endpoint sees {told:?}");
    assert!(!answer.headers.contains_key("towpath-peer-error"));
    let labels = [("listener", "incoming"), ("route", "peer"), ("service", "echo"), ("code", "200")];
    pair.second.metric_becomes("requests_total", &labels, 1.0).await;
    pair.first.metric_becomes("peer_connections", &[], 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn all_services_and_endpoints_of_a_node_share_one_connection() {
    let mesh = Mesh::new();
    let backends = [
        Backend::again("one", SECOND.parse().unwrap()).await,
        Backend::again("two", SECOND.parse().unwrap()).await,
        Backend::again("three", SECOND.parse().unwrap()).await,
    ];
    let (first, last) = ([backends[0].address, backends[1].address], [backends[2].address]);
    let second = mesh.second(&(service("echo", &first, "") + &service("cart", &last, "")));
    let peer = mesh.peer(second.listener("incoming").unwrap(), "");
    let node = Daemon::start(&format!(
        "{FIRST}[[routes]]\nname = \"cart\"\nhosts = [\"cart.test\"]\nbackends = [{{ service = \"cart\" }}]\n{ROUTE}{}{}",
        service("echo", &first, &format!("balancer = \"round-robin\"\n{peer}")),
        service("cart", &last, &peer)
    ));
    let mut client = Client::connect(node.address(), Speaks::Http1).await;
    for number in 0..30 {
        let host = if number % 3 == 0 { "cart.test" } else { "echo.test" };
        assert_eq!(client.ask(get(host, "/")).await.status, 200);
    }
    assert_eq!(backends.each_ref().map(Backend::requests), [10, 10, 10]);
    assert_eq!(second.metric("connections", &[("listener", "incoming")]).await, 1.0);
    let services = node.admin_get("/api/services").await.json();
    let endpoint: &Value = &services["services"][0]["endpoints"][0];
    assert_eq!(endpoint["peer"], second.listener("incoming").unwrap().to_string(), "{endpoint}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn endpoints_of_this_node_are_called_directly_unless_the_service_says_otherwise() {
    let (mesh, backend) = (Mesh::new(), Backend::start("near").await);
    let (client, server) = (mesh.tls("a", "ca"), mesh.tls("a", "client_ca"));
    for (local, calls) in [("", 0.0), ("local = \"peer\",", 1.0)] {
        let port = reserved().port();
        let peer = format!("peer = {{ port = {port}, {local} tls = {{ {client} }} }}");
        let node = Daemon::start(&format!(
            "{FIRST}[[listeners]]\nname = \"outgoing\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:0\"\n\
             [[listeners]]\nname = \"incoming\"\nkind = \"incoming\"\nlisten = \"127.0.0.1:{port}\"\ntls = {{ {server} }}\n\
             {ROUTE}{}",
            service("echo", &[backend.address], &peer)
        ));
        assert_eq!(ask(&node, "/").await.backend(), "near");
        node.metric_becomes("requests_total", &[("listener", "outgoing")], 1.0).await;
        node.metric_becomes("requests_total", &[("route", "peer")], calls).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_is_found_at_the_first_address_of_a_range_or_by_its_name() {
    let (mesh, dns) = (Mesh::new(), DnsServer::start());
    let second = mesh.second("");
    let port = second.listener("incoming").unwrap().port();
    drop(second);
    let backend = Backend::again("far", "127.0.0.77:0".parse().unwrap()).await;
    let tls = mesh.tls("b", "client_ca");
    let node = |listen: &str| {
        format!(
            "[node]\nname = \"b\"\nworkers = 1\n[[listeners]]\nname = \"incoming\"\nkind = \"incoming\"\n\
             listen = \"{listen}:{port}\"\ntls = {{ {tls} }}\n{}",
            service("echo", &[backend.address], "")
        )
    };
    dns.set_a("node-127-0-0-77.test", 60, &[std::net::Ipv4Addr::new(127, 0, 0, 2)]);
    for (of, listen) in [("subnet/27", "127.0.0.65"), ("node-{address}.test", "127.0.0.2")] {
        let second = Daemon::start(&node(listen));
        let peer = mesh.peer(second.listener("incoming").unwrap(), &format!("node = \"{of}\","));
        let first = Daemon::start(&format!(
            "[dns]\nservers = [\"{}\"]\n{FIRST}{ROUTE}{}",
            dns.address(),
            service("echo", &[backend.address], &peer)
        ));
        let answer = ask(&first, "/").await;
        assert_eq!((answer.status, answer.backend()), (200, "far"), "{of}: {answer:?}");
        second.metric_becomes("requests_total", &[("route", "peer")], 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_whose_name_is_unknown_fails_in_words() {
    let (mesh, dns) = (Mesh::new(), DnsServer::start());
    dns.nxdomain("node-127-0-0-77.test");
    let peer = mesh.peer("127.0.0.2:4141".parse().unwrap(), "node = \"node-{address}.test\",");
    let endpoint = "127.0.0.77:80".parse().unwrap();
    let first = Daemon::start(&format!(
        "[dns]\nservers = [\"{}\"]\n{FIRST}{ROUTE}{}",
        dns.address(),
        service("echo", &[endpoint], &peer)
    ));
    let answer = ask(&first, "/").await;
    assert_eq!((answer.status, answer.reason()), (502, "connect_failed"));
    assert!(answer.text().contains("its node node-127-0-0-77.test"), "{answer:?}");
}

/// What a caller of the second node's incoming listener with this certificate gets.
async fn directly(mesh: &Mesh, second: &Daemon, identity: &Issued, fields: &[(&str, &str)]) -> Answer {
    let address = second.listener("incoming").unwrap();
    let config = mesh.authority.client(Some(identity), &["h2"]);
    let stream = secure_as(address, &config, "b.test").await.unwrap();
    let mut client = Client::over(stream, Speaks::Http2).await;
    let mut request = get("echo.test", "/");
    for (name, value) in fields {
        request = request.header(name, value);
    }
    client.ask(request).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn only_a_node_may_choose_the_endpoint_and_only_one_that_is_known() {
    let mesh = Mesh::new();
    let (known, other) = (Backend::start("known").await, Backend::start("other").await);
    let away = "192.0.2.1:80".parse().unwrap();
    let second =
        mesh.second(&format!("{}{}", service("echo", &[known.address], ""), service("away", &[away], "")));
    let node = mesh.issue("c", &["spiffe://mesh/node/c"]);
    let workload = mesh.issue("w", &["spiffe://mesh/ns/shop/sa/cart"]);
    let (at_known, at_other) = (known.address.to_string(), other.address.to_string());
    let asked = async |identity: &Issued, service: &str, endpoint: &str| {
        let fields = [("towpath-service", service), ("towpath-endpoint", endpoint)];
        let answer = directly(&mesh, &second, identity, &fields).await;
        (answer.status, answer.reason().to_owned())
    };
    assert_eq!(asked(&node, "echo", &at_known).await.0, 200);
    let nothing = || (503, "no_endpoints".to_owned());
    assert_eq!(asked(&node, "echo", &at_other).await, nothing(), "it is no endpoint of the service");
    assert_eq!(asked(&node, "cart", &at_known).await, nothing(), "there is no such service");
    assert_eq!(asked(&node, "away", &away.to_string()).await, nothing(), "it is on another node");
    assert_eq!(asked(&node, "echo", "nowhere").await, (400, "bad_request".to_owned()));
    // For anybody else the routes hold, of which this listener has none.
    assert_eq!(asked(&workload, "echo", &at_known).await, (404, "no_route".to_owned()));
    assert_eq!((known.requests(), other.requests()), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_the_other_node_cannot_reach_counts_as_unreachable_here() {
    let mesh = Mesh::new();
    let backend = Backend::again("far", SECOND.parse().unwrap()).await;
    let free = Backend::again("gone", SECOND.parse().unwrap()).await;
    let gone = free.address;
    drop(free);
    let both = [backend.address, gone];
    let second = mesh.second(&service("echo", &both, ""));
    let peer = mesh.peer(second.listener("incoming").unwrap(), "");
    let keys = format!("balancer = \"round-robin\"\nejection = {{ consecutive_failures = 2 }}\n{peer}");
    let first = Daemon::start(&format!("{FIRST}{ROUTE}{}", service("echo", &both, &keys)));
    // Sent again to the other endpoint, whatever the method: nothing of it has been processed.
    for _ in 0..8 {
        let request = call("POST", "echo.test", "/").body(body::full("once"));
        let answer = client::ask(first.address(), Speaks::Http1, request).await;
        assert_eq!((answer.status, answer.backend()), (200, "far"), "{answer:?}");
    }
    let failed = [("service", "echo"), ("outcome", "connect_failed")];
    assert_eq!(first.metric("attempts_total", &failed).await, 2.0, "then it is ejected");
    drop(backend);
    let answer = ask(&first, "/").await;
    assert_eq!((answer.status, answer.reason()), (502, "connect_failed"), "{answer:?}");
    assert!(answer.text().contains("its node says: cannot connect"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_that_is_down_is_a_connection_that_cannot_be_made_and_comes_back() {
    let Pair { mesh, backend, second, first } = Pair::with("ejection = { consecutive_failures = 0 }").await;
    assert_eq!(ask(&first, "/").await.status, 200);
    let port = second.listener("incoming").unwrap().port();
    second.join();
    let answer = ask(&first, "/").await;
    assert_eq!((answer.status, answer.reason()), (502, "connect_failed"), "{answer:?}");
    let tls = mesh.tls("b", "client_ca");
    let _second = Daemon::start(&format!(
        "[[listeners]]\nname = \"incoming\"\nkind = \"incoming\"\nlisten = \"127.0.0.2:{port}\"\ntls = {{ {tls} }}\n{}",
        service("echo", &[backend.address], "")
    ));
    eventually("it is back", async || ask(&first, "/").await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_wrong_authority_on_either_side_lets_nothing_through() {
    let (mesh, other) = (Mesh::new(), Mesh { authority: Authority::new("other"), ..Mesh::new() });
    other.authority.write(other.directory.path());
    for node in ["a", "b"] {
        other.issue(node, &[&format!("spiffe://mesh/node/{node}")]);
    }
    let backend = Backend::again("far", SECOND.parse().unwrap()).await;
    let echo = service("echo", &[backend.address], "");
    for (here, there) in [(&mesh, &other), (&other, &mesh)] {
        let second = there.second(&echo);
        let first = Pair::first(here, &second, &backend, "");
        let answer = ask(&first, "/").await;
        assert_eq!((answer.status, answer.reason()), (502, "connect_failed"), "{answer:?}");
        assert!(answer.text().contains("unknown issuer"), "{answer:?}");
    }
    // The first believes the second, but not the other way round.
    let second = mesh.second(&echo);
    let mut tls = Pair::toml(&mesh, &second, &backend, "");
    let (own, foreign) = (mesh.directory.path().join("a."), other.directory.path().join("a."));
    tls = tls.replace(&own.display().to_string(), &foreign.display().to_string());
    let first = Daemon::start(&tls);
    let answer = ask(&first, "/").await;
    assert_eq!((answer.status, answer.reason()), (502, "connect_failed"), "{answer:?}");
    assert_eq!(backend.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn big_bodies_trailers_and_deadlines_pass_between_nodes() {
    let pair = Pair::with("protocol = \"http2\"").await;
    let sent = Bytes::from(vec![b'x'; 3 << 20]);
    let request = call("POST", "echo.test", "/mirror").body(body::full(sent.clone()));
    let answer = client::ask(pair.first.address(), Speaks::Http1, request).await;
    assert!(answer.status == 200 && answer.body == sent, "{}", answer.body.len());
    let trailers = get("echo.test", "/trailers").header("te", "trailers");
    let answer = client::ask(pair.first.address(), Speaks::Http2, trailers).await;
    assert_eq!(answer.trailers.unwrap()["x-checksum"], "42");
    let late = get("echo.test", "/hang").header("towpath-deadline", "100");
    let answer = client::ask(pair.first.address(), Speaks::Http1, late).await;
    assert_eq!((answer.status, answer.reason()), (504, "timeout"), "{answer:?}");
    eventually("the other node has given up as well", async || pair.backend.running() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_streams_both_ways_between_nodes() {
    let (mesh, server) = (Mesh::new(), GrpcServer::start().await);
    let second = mesh.second(&service("echo", &[server.address], ""));
    let of = "node = \"node-{address}.test\",";
    let dns = DnsServer::start();
    dns.set_a("node-127-0-0-1.test", 60, &[std::net::Ipv4Addr::new(127, 0, 0, 2)]);
    let peer = mesh.peer(second.listener("incoming").unwrap(), of);
    let first = Daemon::start(&format!(
        "[dns]\nservers = [\"{}\"]\n{FIRST}{ROUTE}{}",
        dns.address(),
        service("echo", &[server.address], &peer)
    ));
    let mut caller = connect(first.address(), "echo.test").await;
    within("ready", caller.ready()).await.unwrap();
    let (sender, stream) = messages();
    sender.send(Bytes::from("one")).await.unwrap();
    let codec = crate::support::grpc::Plain;
    let request = tonic::Request::new(stream);
    let answer = within("headers", caller.streaming(request, method("Chat"), codec)).await.unwrap();
    let mut answers = answer.into_inner();
    assert_eq!(within("first", answers.next()).await.unwrap().unwrap(), "one");
    sender.send(Bytes::from("two")).await.unwrap();
    assert_eq!(within("second", answers.next()).await.unwrap().unwrap(), "two");
    drop(sender);
    assert!(within("end", answers.next()).await.is_none());
    second.metric_becomes("requests_total", &[("route", "peer")], 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reload_puts_nodes_in_the_way_and_takes_them_out() {
    let Pair { mesh, backend, second, first } = Pair::with("").await;
    let plain = format!("{FIRST}{ROUTE}{}", service("echo", &[backend.address], ""));
    let through = Pair::toml(&mesh, &second, &backend, "");
    let passed = async || second.metric("requests_total", &[("route", "peer")]).await;
    assert_eq!(ask(&first, "/").await.status, 200);
    first.reload(Some(&plain)).unwrap();
    let mut before = passed().await;
    eventually("straight", async || {
        let answer = ask(&first, "/").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let now = passed().await;
        std::mem::replace(&mut before, now) == now
    })
    .await;
    first.metric_becomes("peer_connections", &[], 0.0).await;
    first.reload(Some(&through)).unwrap();
    eventually("through", async || {
        let answer = ask(&first, "/").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        passed().await > before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_nodes_rotate_under_load_and_no_request_fails() {
    let pair = Pair::with("pool = { max_lifetime = \"100ms\" }").await;
    let address = pair.first.address();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let load = tokio::spawn(async move {
        let mut all = 0;
        while !*stopped.borrow() {
            let answer = client::ask(address, Speaks::Http1, get("echo.test", "/status/200")).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            all += 1;
        }
        all
    });
    for (node, daemon) in [("a", &pair.first), ("b", &pair.second)] {
        let renewed = [("result", "renewed")];
        let before = daemon.metric("tls_reloads_total", &renewed).await;
        pair.mesh.issue(node, &[&format!("spiffe://mesh/node/{node}")]);
        eventually("renewed", async || daemon.metric("tls_reloads_total", &renewed).await > before).await;
    }
    stop.send_replace(true);
    assert!(within("the load", load).await.unwrap() > 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn services_made_on_first_use_are_not_reached_through_nodes() {
    let mesh = Mesh::new();
    let tls = mesh.tls("a", "ca");
    let refused = Daemon::try_start(&format!(
        "[defaults.service]\npeer = {{ port = 4141, tls = {{ {tls} }} }}\n\
         [[routes]]\nname = \"all\"\nhosts = [\"*\"]\nbackends = [{{ dns = \"{{host}}\" }}]\n"
    ));
    let refused = refused.err().unwrap();
    assert!(refused.contains("defaults.service.peer"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn callers_that_give_up_do_not_have_their_nodes_connection_cut_for_others() {
    let pair = Pair::with("").await;
    let (hang, cancel) = (request("GET", "/hang", &[]), 8u32.to_be_bytes());
    for _ in 0..12 {
        let mut caller = Frames::connect(pair.first.address()).await;
        caller.raw.send((0..100).flat_map(|n| frame(HEADERS, 5, 2 * n + 1, &hang)).collect::<Vec<_>>()).await;
        eventually("all are asked for", async || pair.backend.running() == 100).await;
        caller
            .raw
            .send((0..100).flat_map(|n| frame(RST_STREAM, 0, 2 * n + 1, &cancel)).collect::<Vec<_>>())
            .await;
        eventually("they are given up", async || pair.backend.running() == 0).await;
    }
    pair.second.metric_becomes("http2_floods_total", &[], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_busy_node_is_no_failure_of_its_endpoint() {
    let mesh = Mesh::new();
    let backend = Backend::again("far", SECOND.parse().unwrap()).await;
    let limit = "breaker = { max_requests = 1, max_pending = 0 }";
    let second = mesh.second(&service("echo", &[backend.address], limit));
    let first = Pair::first(&mesh, &second, &backend, "");
    let address = first.address();
    let held = tokio::spawn(client::ask(address, Speaks::Http1, get("echo.test", "/slow?ms=600")));
    eventually("the place is taken", async || backend.running() == 1).await;
    let answer = ask(&first, "/").await;
    assert_eq!((answer.status, answer.reason(), answer.header("towpath-cause")), (503, "overloaded", "peer"));
    let overloaded = [("service", "echo"), ("outcome", "overloaded")];
    assert!(first.metric("attempts_total", &overloaded).await >= 1.0);
    assert_eq!(within("the slow one", held).await.unwrap().status, 200);
}
