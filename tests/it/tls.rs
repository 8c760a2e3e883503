//! TLS with callers.

use std::{sync::Arc, time::Duration};

use rustls::{ClientConfig, HandshakeKind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{
    Backend, Client, Daemon, Speaks, body, call,
    client::ask,
    daemon::one_service,
    eventually, get,
    pki::Authority,
    secure::{Site, alpn, refusal, secure, secure_as, without_resumption},
    within,
};

/// A daemon whose listener has TLS with these further keys, in front of a server that echoes.
async fn started(site: &Site, keys: &str, rest: &str) -> (Daemon, Backend) {
    let backend = Backend::start("one").await;
    let toml = format!("{rest}{}{}", site.listener(keys), one_service("http1", &[backend.address]));
    (Daemon::start(&toml), backend)
}

async fn asks(stream: TlsStream<TcpStream>, speaks: Speaks) -> u16 {
    Client::over(stream, speaks).await.ask(get("svc", "/")).await.status
}

fn only(version: &'static rustls::SupportedProtocolVersion, site: &Site) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    let ca = rustls_pem(&site.authority.pem);
    roots.add(ca).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

fn rustls_pem(pem: &str) -> rustls::pki_types::CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

over_both_protocols! {
    async fn requests_of_every_shape_go_over_tls_with_the_agreed_protocol(speaks: Speaks) {
        let site = Site::new();
        let (daemon, _backend) = started(&site, "", "").await;
        let stream = secure(daemon.address(), &site.client(speaks)).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn(speaks).as_bytes()));
        let mut client = Client::over(stream, speaks).await;
        assert_eq!(client.ask(get("svc", "/")).await.backend(), "one");
        assert_eq!(client.ask(get("svc", "/bytes?n=3000000")).await.body.len(), 3_000_000);
        let upload = call("POST", "svc", "/count").body(body::endless(2_000_000).1);
        assert_eq!(client.ask(upload).await.text(), "2000000");
        let answer = client.ask(call("POST", "svc", "/mirror").body(body::full("to and fro"))).await;
        assert_eq!(answer.text(), "to and fro");
        daemon.metric_becomes("tls_handshakes_total", &[("listener", "outgoing"), ("result", "ok")], 1.0).await;
    }
}

over_both_protocols! {
    async fn without_alpn_the_first_bytes_tell(speaks: Speaks) {
        let site = Site::new();
        let (daemon, _backend) = started(&site, "", "").await;
        let stream = secure(daemon.address(), &site.authority.client(None, &[])).await.unwrap();
        assert_eq!(asks(stream, speaks).await, 200);
    }
}

over_both_protocols! {
    async fn an_idle_connection_ends_with_close_notify(speaks: Speaks) {
        let site = Site::new();
        let (daemon, _backend) = started(&site, "", "[limits]\nidle_timeout = \"200ms\"\nfirst_byte_timeout = \"200ms\"\n").await;
        let mut stream = secure(daemon.address(), &site.client(speaks)).await.unwrap();
        // Rustls calls it an error when the socket ends without close_notify.
        assert_eq!(within("the end", stream.read(&mut [0; 1])).await.unwrap(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_idle_connection_that_has_served_ends_with_close_notify() {
    let site = Site::new();
    let (daemon, _backend) = started(&site, "", "[limits]\nidle_timeout = \"200ms\"\n").await;
    let mut stream = secure(daemon.address(), &site.client(Speaks::Http1)).await.unwrap();
    stream.write_all(b"GET /status/204 HTTP/1.1\r\nhost: svc\r\n\r\n").await.unwrap();
    let mut all = Vec::new();
    within("answer and end", stream.read_to_end(&mut all)).await.unwrap();
    assert!(all.starts_with(b"HTTP/1.1 204 "), "{}", String::from_utf8_lossy(&all));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn another_protocol_than_was_agreed_is_not_spoken() {
    let site = Site::new();
    let (daemon, _backend) = started(&site, "", "").await;
    let mut stream = secure(daemon.address(), &site.client(Speaks::Http2)).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: svc\r\n\r\n").await.unwrap();
    let mut all = Vec::new();
    within("the end", stream.read_to_end(&mut all)).await.unwrap();
    assert!(all.is_empty());
    let mut stream = secure(daemon.address(), &site.client(Speaks::Http1)).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    within("answer and end", stream.read_to_end(&mut all)).await.unwrap();
    assert!(all.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&all));
    let foreign = refusal(daemon.address(), &site.authority.client(None, &["acme-tls/1"])).await;
    assert!(foreign.contains("NoApplicationProtocol"), "{foreign}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_certificate_is_the_one_that_was_asked_for_by_name_else_the_first() {
    let site = Site::new();
    let (shop, wild) = (site.authority.issue(&["shop.test"]), site.authority.issue(&["*.wild.test"]));
    shop.write(site.path(), "shop");
    wild.write(site.path(), "wild");
    let further = "certificates = [{ cert = \"DIR/shop.crt\", key = \"DIR/shop.key\" }, { cert = \"DIR/wild.crt\", key = \"DIR/wild.key\" }]";
    let (daemon, _backend) = started(&site, further, "").await;
    let config = site.client(Speaks::Http1);
    for (name, expected) in [("shop.test", Some(&shop)), ("a.wild.test", Some(&wild)), ("node.test", None)] {
        let stream = secure_as(daemon.address(), &config, name).await.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        if let Some(expected) = expected {
            assert_eq!(shown, expected.chain()[0], "{name}");
        }
    }
    // An unknown name gets the first, and refuses it.
    let error = secure_as(daemon.address(), &config, "other.test").await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn both_versions_of_tls_are_spoken_unless_the_older_is_forbidden() {
    let site = Site::new();
    let (old, new) = (only(&rustls::version::TLS12, &site), only(&rustls::version::TLS13, &site));
    let (daemon, _backend) = started(&site, "", "").await;
    for config in [&old, &new] {
        let stream = secure(daemon.address(), config).await.unwrap();
        assert_eq!(asks(stream, Speaks::Http1).await, 200);
    }
    let (strict, _backend) = started(&site, "min_version = \"1.3\"", "").await;
    let stream = secure(strict.address(), &new).await.unwrap();
    assert_eq!(asks(stream, Speaks::Http1).await, 200);
    let error = secure(strict.address(), &old).await.unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    strict.metric_becomes("tls_handshakes_total", &[("result", "failed")], 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn callers_without_a_good_certificate_are_refused_where_one_is_required() {
    let site = Site::new();
    let (daemon, _backend) = started(&site, "client_ca = \"DIR/ca.crt\"", "").await;
    let client = |issued| site.authority.client(issued, &["http/1.1"]);
    let good = site.authority.issue(&["caller.test"]);
    let stream = secure(daemon.address(), &client(Some(&good))).await.unwrap();
    assert_eq!(asks(stream, Speaks::Http1).await, 200);
    let none = refusal(daemon.address(), &client(None)).await;
    assert!(none.contains("CertificateRequired"), "{none}");
    let foreign = Authority::new("foreign").issue(&["caller.test"]);
    let refused = refusal(daemon.address(), &client(Some(&foreign))).await;
    assert!(refused.contains("UnknownCA"), "{refused}");
    let ended = site.authority.issue_ended(&["caller.test"]);
    let refused = refusal(daemon.address(), &client(Some(&ended))).await;
    assert!(refused.contains("Expired"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_optional_certificate_may_be_missing_but_not_wrong() {
    let site = Site::new();
    let (daemon, _backend) =
        started(&site, "client_ca = \"DIR/ca.crt\", client_auth = \"optional\"", "").await;
    let good = site.authority.issue(&["caller.test"]);
    for issued in [None, Some(&good)] {
        let config = site.authority.client(issued, &["http/1.1"]);
        let stream = secure(daemon.address(), &config).await.unwrap();
        assert_eq!(asks(stream, Speaks::Http1).await, 200);
    }
    let foreign = Authority::new("foreign").issue(&["caller.test"]);
    let refused = refusal(daemon.address(), &site.authority.client(Some(&foreign), &["http/1.1"])).await;
    assert!(refused.contains("UnknownCA"), "{refused}");
}

/// How the next handshake goes, after a request.
async fn kind(daemon: &Daemon, config: &Arc<ClientConfig>) -> HandshakeKind {
    let stream = secure(daemon.address(), config).await.unwrap();
    let kind = stream.get_ref().1.handshake_kind().unwrap();
    assert_eq!(asks(stream, Speaks::Http1).await, 200);
    kind
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn sessions_are_resumed_but_not_once_others_are_believed() {
    let site = Site::new();
    let (daemon, _backend) = started(&site, "client_ca = \"DIR/ca.crt\"", "").await;
    let mine = site.authority.issue(&["caller.test"]);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        fs_write(&site, "ca.crt", &site.authority.pem);
        daemon.reload(None).unwrap();
        let config = with_identity(version, &site, &mine);
        assert_eq!(kind(&daemon, &config).await, HandshakeKind::Full);
        assert_eq!(kind(&daemon, &config).await, HandshakeKind::Resumed);
        let both = format!("{}{}", site.authority.pem, Authority::new("next").pem);
        fs_write(&site, "ca.crt", &both);
        daemon.reload(None).unwrap();
        assert_eq!(kind(&daemon, &config).await, HandshakeKind::Full);
        assert_eq!(kind(&daemon, &config).await, HandshakeKind::Resumed);
    }
}

fn fs_write(site: &Site, name: &str, text: &str) {
    std::fs::write(site.path().join(name), text).unwrap();
}

fn with_identity(
    version: &'static rustls::SupportedProtocolVersion,
    site: &Site,
    issued: &crate::support::pki::Issued,
) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls_pem(&site.authority.pem)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let builder = builder.with_root_certificates(roots);
    Arc::new(builder.with_client_auth_cert(issued.chain(), issued.private_key()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_session_is_not_resumed_with_a_certificate_that_has_ended() {
    let site = Site::new();
    let (daemon, _backend) = started(&site, "client_ca = \"DIR/ca.crt\"", "").await;
    let brief = site.authority.issue_until(&["caller.test"], Duration::from_secs(2));
    let config = with_identity(&rustls::version::TLS13, &site, &brief);
    assert_eq!(kind(&daemon, &config).await, HandshakeKind::Full);
    let mut resumed = false;
    eventually("a refusal", async || {
        let stream = secure(daemon.address(), &config).await.unwrap();
        let kind = stream.get_ref().1.handshake_kind().unwrap();
        let mut client = Client::over(stream, Speaks::Http1).await;
        let refused = client.try_ask(get("svc", "/")).await.is_err();
        resumed |= refused && kind == HandshakeKind::Resumed;
        refused
    })
    .await;
    assert!(resumed, "what was refused was a resumed session");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn plain_http_to_a_tls_port_is_told_so() {
    let site = Site::new();
    let (daemon, backend) = started(&site, "", "").await;
    let answer = ask(daemon.address(), Speaks::Http1, get("svc", "/")).await;
    assert_eq!((answer.status, answer.reason()), (400, "bad_request"));
    assert!(answer.text().contains("HTTPS"), "{}", answer.text());
    let mut noise = TcpStream::connect(daemon.address()).await.unwrap();
    noise.write_all(&[0, 1, 2, 3]).await.unwrap();
    let mut all = Vec::new();
    within("the end", noise.read_to_end(&mut all)).await.unwrap();
    assert!(all.is_empty());
    daemon.metric_becomes("tls_handshakes_total", &[("result", "failed")], 2.0).await;
    assert_eq!(backend.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn callers_that_begin_no_handshake_or_do_not_go_on_are_cut_off() {
    let site = Site::new();
    let (daemon, _backend) = started(&site, "", "[limits]\nhandshake_timeout = \"300ms\"\n").await;
    for begun in [&b""[..], &[22, 3, 1, 0, 200, 1]] {
        let mut slow = TcpStream::connect(daemon.address()).await.unwrap();
        slow.write_all(begun).await.unwrap();
        assert!(!matches!(within("the end", slow.read(&mut [0; 1])).await, Ok(1..)));
    }
    daemon.metric_becomes("tls_handshakes_total", &[("result", "timeout")], 2.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn callers_that_are_slow_on_purpose_keep_nobody_out() {
    let site = Site::new();
    let (daemon, _backend) =
        started(&site, "", "[limits]\nhandshake_timeout = \"60s\"\nmax_handshakes = 2\n").await;
    let mut slow = Vec::new();
    for begun in [&b""[..], b"", b"", &[22, 3, 1, 0, 200, 1], &[22, 3], &[22], &[22]] {
        let mut stream = TcpStream::connect(daemon.address()).await.unwrap();
        stream.write_all(begun).await.unwrap();
        slow.push(stream);
    }
    let stream = secure(daemon.address(), &site.client(Speaks::Http1)).await.unwrap();
    assert_eq!(asks(stream, Speaks::Http1).await, 200);
    assert!(daemon.metric("tls_handshakes_total", &[("result", "timeout")]).await >= 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn when_many_are_slow_on_purpose_each_is_waited_for_less() {
    let site = Site::new();
    let (daemon, _backend) =
        started(&site, "", "[limits]\nhandshake_timeout = \"60s\"\nmax_handshakes = 4\n").await;
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(daemon.address()).await.unwrap();
        stream.write_all(&[22]).await.unwrap();
        slow.push(stream);
    }
    // Four a second would take 24 s.
    let start = std::time::Instant::now();
    let stream = secure(daemon.address(), &site.client(Speaks::Http1)).await.unwrap();
    assert_eq!(asks(stream, Speaks::Http1).await, 200);
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn many_more_handshakes_than_may_be_under_way_are_all_made() {
    let site = Site::new();
    let (daemon, _backend) = started(&site, "", "[limits]\nmax_handshakes = 40\n").await;
    let config = without_resumption(&site.client(Speaks::Http1));
    let (address, mut all) = (daemon.address(), tokio::task::JoinSet::new());
    for _ in 0..100 {
        let config = config.clone();
        all.spawn(async move { asks(secure(address, &config).await.unwrap(), Speaks::Http1).await });
    }
    while let Some(status) = within("every one", all.join_next()).await {
        assert_eq!(status.unwrap(), 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_drain_does_not_wait_for_handshakes_that_nobody_makes() {
    let site = Site::new();
    let (daemon, _backend) = started(&site, "", "[drain]\ntimeout = \"60s\"\n").await;
    let _silent = TcpStream::connect(daemon.address()).await.unwrap();
    daemon.metric_becomes("connections", &[("listener", "outgoing")], 1.0).await;
    assert!(daemon.join() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_unix_socket_may_have_tls_as_well() {
    let site = Site::new();
    let backend = Backend::start("one").await;
    let path = site.path().join("socket");
    let listener = site.listener_at(&format!("unix:{}", path.display()), "");
    let _daemon = Daemon::start(&format!("{listener}{}", one_service("http1", &[backend.address])));
    let stream = UnixStream::connect(&path).await.unwrap();
    let connector = TlsConnector::from(site.client(Speaks::Http2));
    let stream = connector.connect("node.test".try_into().unwrap(), stream).await.unwrap();
    let answer = Client::over(stream, Speaks::Http2).await.ask(get("svc", "/bytes?n=500000")).await;
    assert_eq!((answer.status, answer.body.len()), (200, 500_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn files_that_cannot_be_used_stop_the_start_and_all_of_them_are_named() {
    let site = Site::new();
    site.authority.issue(&["other.test"]).write(site.path(), "other");
    fs_write(&site, "empty.crt", "");
    fs_write(&site, "open.key", &site.authority.issue(&["open.test"]).key);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(site.path().join("open.key"), open).unwrap();
    let listener = |name: &str, cert: &str, key: &str| {
        format!(
            "[[listeners]]\nname = \"{name}\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:0\"\n\
             tls = {{ cert = \"{}\", key = \"{}\" }}\n",
            site.file(cert),
            site.file(key)
        )
    };
    let toml = [
        listener("a", "missing.crt", "node.key"),
        listener("b", "node.crt", "other.key"),
        listener("c", "empty.crt", "node.key"),
        listener("d", "node.crt", "open.key"),
        listener("e", "node.crt", "node.key"),
        one_service("http1", &["127.0.0.1:1".parse().unwrap()]),
    ];
    let problems = Daemon::try_start(&toml.concat()).err().unwrap();
    let lines: Vec<_> = problems.lines().collect();
    assert_eq!(lines.len(), 4, "{problems}");
    for (index, (file, what)) in [
        ("missing.crt", "cannot read"),
        ("other.key", "is not the key"),
        ("empty.crt", "no certificate"),
        ("open.key", "chmod 600"),
    ]
    .into_iter()
    .enumerate()
    {
        let line = lines[index];
        assert!(line.starts_with(&format!("listeners[{index}].tls: ")), "{line}");
        assert!(line.contains(&site.file(file)) && line.contains(what), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reload_gives_a_listener_tls_and_takes_it_away() {
    let site = Site::new();
    let backend = Backend::start("one").await;
    let service = one_service("http1", &[backend.address]);
    let daemon = Daemon::start(&service);
    let plain = ask(daemon.address(), Speaks::Http1, get("svc", "/")).await;
    assert_eq!(plain.status, 200);
    daemon.reload(Some(&format!("{}{service}", site.listener("")))).unwrap();
    let stream = secure(daemon.address(), &site.client(Speaks::Http1)).await.unwrap();
    assert_eq!(asks(stream, Speaks::Http1).await, 200);
    let status = daemon.admin_get("/api/status").await.json();
    assert_eq!(status["listeners"][0]["tls"], "tls");
    assert_eq!(status["certificates"][0]["file"], site.file("node.crt"));
    daemon.reload(Some(&service)).unwrap();
    assert_eq!(ask(daemon.address(), Speaks::Http1, get("svc", "/")).await.status, 200);
    let status = daemon.admin_get("/api/status").await.json();
    assert_eq!(status["listeners"][0]["tls"], "plain");
    eventually("its certificates are forgotten", async || {
        daemon.admin_get("/api/status").await.json()["certificates"].as_array().unwrap().is_empty()
    })
    .await;
}
