//! Who may use the admin API: its socket, tokens, certificates, and bounds.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use rustls::{HandshakeKind, pki_types::ServerName};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    task::block_in_place,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{
    Answer, Call, Client, Daemon, Raw, Speaks, body, call, client,
    daemon::one_service,
    eventually, get,
    pki::{Authority, Issued},
    within,
};

const READ: &str = "reader-0123456789";
const CONTROL: &str = "control-0123456789";

/// A configuration whose admin API has these keys.
fn config(admin: &str) -> String {
    format!("[admin]\n{admin}\n{}", one_service("http1", &["127.0.0.1:1".parse().unwrap()]))
}

/// Files with both tokens, and the keys that name them.
fn tokens(directory: &Path) -> String {
    for (name, token) in [("read", READ), ("control", CONTROL)] {
        write(&directory.join(name), token);
    }
    let directory = directory.display();
    format!("read_token = \"{directory}/read\"\ncontrol_token = \"{directory}/control\"\n")
}

fn write(file: &Path, token: &str) {
    let new = file.with_extension("new");
    fs::write(&new, format!("{token}\n")).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&new, file).unwrap();
}

fn with_tokens() -> (Daemon, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let keys = tokens(directory.path());
    (Daemon::start(&config(&format!("listen = \"127.0.0.1:0\"\n{keys}"))), directory)
}

async fn ask(daemon: &Daemon, call: Call) -> Answer {
    client::ask(daemon.admin(), Speaks::Http1, call).await
}

fn bearing(token: &str, call: Call) -> Call {
    call.header("authorization", &format!("Bearer {token}"))
}

fn get_status() -> Call {
    get("localhost", "/api/status")
}

fn post(path: &str) -> Call {
    call("POST", "localhost", path)
}

fn towpath(args: &[&str]) -> Output {
    block_in_place(|| Command::new(env!("CARGO_BIN_EXE_towpath")).args(args).output().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn on_a_unix_socket_only_its_own_user_may_ask() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let daemon = Daemon::start(&config(&format!("listen = \"unix:{}\"", path.display())));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let stream = UnixStream::connect(&path).await.unwrap();
    let mut client = Client::over(stream, Speaks::Http1).await;
    // No browser gets here, so any name will do.
    let status = client.ask(get("whatever", "/api/status")).await.json();
    assert_eq!(status["admin"]["address"], format!("unix:{}", path.display()));
    let admin = format!("unix:{}", path.display());
    let output = towpath(&["status", "--admin", &admin]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("generation 1"), "{output:?}");
    assert!(towpath(&["drain", "--admin", &admin]).status.success());
    daemon.join();
    assert!(!path.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_caller_without_a_token_learns_that_the_node_lives_and_nothing_else() {
    let (daemon, _directory) = with_tokens();
    for path in ["/live", "/ready"] {
        assert_eq!(ask(&daemon, get("localhost", path)).await.status, 200, "{path}");
    }
    for path in [
        "/",
        "/metrics",
        "/api/status",
        "/api/config",
        "/api/nothing",
        "/live/",
        "//live",
        "/ready/../api/status",
    ] {
        let answer = ask(&daemon, get("localhost", path)).await;
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"towpath\"");
    }
    assert_eq!(ask(&daemon, post("/live")).await.status, 401);
    for token in ["reader-012345678", "", "reader-0123456789x"] {
        assert_eq!(ask(&daemon, bearing(token, get_status())).await.status, 401, "{token}");
    }
    let metrics = ask(&daemon, bearing(READ, get("localhost", "/metrics"))).await.text();
    assert!(metrics.contains("towpath_admin_refused_total{cause=\"unauthenticated\"} 12\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_read_token_reads_and_the_control_token_does_everything() {
    let (daemon, _directory) = with_tokens();
    assert_eq!(ask(&daemon, bearing(READ, get_status())).await.status, 200);
    for refused in [post("/api/reload"), post("/api/drain"), call("PUT", "localhost", "/api/log-level")] {
        let answer = ask(&daemon, bearing(READ, refused)).await;
        assert_eq!(answer.status, 403);
        assert!(answer.text().contains("control token"), "{answer:?}");
    }
    assert_eq!(ask(&daemon, bearing(CONTROL, post("/api/reload"))).await.json()["result"], "unchanged");
    // Tokens are not sent by browsers of themselves, so any name will do.
    let answer = ask(&daemon, bearing(CONTROL, get("node-7.example", "/metrics"))).await.text();
    assert!(answer.contains("towpath_admin_refused_total{cause=\"read_only\"} 3\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_the_node_tells_names_token_files_and_never_tokens() {
    let (daemon, directory) = with_tokens();
    for path in ["/api/config", "/api/status", "/"] {
        let text = ask(&daemon, bearing(READ, get("localhost", path))).await.text();
        assert!(!text.contains(READ) && !text.contains(CONTROL), "{text}");
    }
    let shown = ask(&daemon, bearing(READ, get("localhost", "/api/config"))).await.json();
    let file = directory.path().join("control").display().to_string();
    assert_eq!(shown["config"]["admin"]["control_token"], file);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_token_that_changes_in_its_file_changes_and_one_whose_file_goes_is_void() {
    let (daemon, directory) = with_tokens();
    let (file, second) = (directory.path().join("read"), "another-0123456789");
    write(&file, second);
    eventually("the new token counts", async || {
        ask(&daemon, bearing(second, get_status())).await.status == 200
    })
    .await;
    assert_eq!(ask(&daemon, bearing(READ, get_status())).await.status, 401);
    fs::remove_file(&file).unwrap();
    eventually("no token counts", async || ask(&daemon, bearing(second, get_status())).await.status == 401)
        .await;
    let status = ask(&daemon, bearing(CONTROL, get_status())).await.json();
    let problem = status["admin"]["problems"][0].as_str().unwrap();
    assert!(problem.contains("admin.read_token: there is no file"), "{problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_whose_token_cannot_be_used_does_not_start_and_says_all_that_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let keys = tokens(directory.path());
    write(&directory.path().join("read"), "short");
    fs::remove_file(directory.path().join("control")).unwrap();
    let problems = Daemon::try_start(&config(&format!("listen = \"127.0.0.1:0\"\n{keys}"))).err().unwrap();
    let lines: Vec<&str> = problems.lines().collect();
    assert_eq!(lines.len(), 2, "{problems}");
    assert!(lines[0].contains("admin.read_token") && lines[0].contains("has 5 characters"), "{problems}");
    assert!(lines[1].contains("admin.control_token: there is no file"), "{problems}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn beyond_loopback_tokens_in_the_clear_are_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("towpath.toml");
    let keys = tokens(directory.path());
    let listener = "[[listeners]]\nname = \"outgoing\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:0\"\n";
    fs::write(&file, config(&format!("listen = \"0.0.0.0:0\"\n{keys}{listener}"))).unwrap();
    let output = towpath(&["check", file.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("warning: admin.listen is 0.0.0.0:0"), "{output:?}");
    let daemon = Daemon::from_file(&file);
    let at = std::net::SocketAddr::from(([127, 0, 0, 1], daemon.admin().port()));
    assert_eq!(client::ask(at, Speaks::Http1, get_status()).await.status, 401);
    assert_eq!(client::ask(at, Speaks::Http1, bearing(READ, get_status())).await.status, 200);
}

/// An authority, files of its certificates, and a daemon whose admin API verifies callers.
fn with_certificates() -> (Daemon, Authority, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("admin");
    authority.write(directory.path());
    authority.issue(&["localhost", "127.0.0.1"]).write(directory.path(), "node");
    let at = directory.path().display();
    let keys = format!(
        "listen = \"0.0.0.0:0\"\ntls = {{ cert = \"{at}/node.crt\", key = \"{at}/node.key\", client_ca = \"{at}/ca.crt\" }}"
    );
    (Daemon::start(&config(&keys)), authority, directory)
}

async fn handshake(
    daemon: &Daemon,
    authority: &Authority,
    identity: Option<&Issued>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let config = authority.client(identity, &["h2", "http/1.1"]);
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(("127.0.0.1", daemon.admin().port())).await.unwrap();
    within("handshake", TlsConnector::from(config).connect(name, stream)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_certificate_that_is_verified_opens_everything_and_none_nothing() {
    let (daemon, authority, _directory) = with_certificates();
    let operator = authority.issue(&["operator.internal"]);
    let stream = handshake(&daemon, &authority, Some(&operator)).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut known = Client::over(stream, Speaks::Http1).await;
    let status = known.ask(get_status()).await.json();
    assert_eq!(
        (status["admin"]["tls"].as_bool(), status["admin"]["demands"][0].as_str()),
        (Some(true), Some("tls.client_ca"))
    );
    assert_eq!(known.ask(post("/api/reload")).await.status, 200);
    let own = post("/api/reload").header("origin", "https://evil.test");
    assert_eq!(known.ask(own).await.status, 403);

    let stream = handshake(&daemon, &authority, None).await.unwrap();
    let mut unknown = Client::over(stream, Speaks::Http1).await;
    assert_eq!(unknown.ask(get_status()).await.status, 401);
    assert_eq!(unknown.ask(post("/api/drain")).await.status, 401);
    assert_eq!(unknown.ask(get("localhost", "/ready")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_certificate_that_has_ended_opens_nothing_by_a_session_that_is_resumed() {
    let (daemon, authority, _directory) = with_certificates();
    let brief = authority.issue_until(&["operator.internal"], Duration::from_secs(2));
    let config = authority.client(Some(&brief), &["http/1.1"]);
    let (name, at) = (ServerName::try_from("localhost").unwrap(), ("127.0.0.1", daemon.admin().port()));
    let mut resumed = false;
    eventually("a refusal", async || {
        let stream = TcpStream::connect(at).await.unwrap();
        let Ok(stream) = TlsConnector::from(config.clone()).connect(name.clone(), stream).await else {
            return true;
        };
        let kind = stream.get_ref().1.handshake_kind().unwrap();
        let answer = Client::over(stream, Speaks::Http1).await.try_ask(get_status()).await;
        assert!(answer.as_ref().is_err() || answer.as_ref().unwrap().status == 200, "{answer:?}");
        resumed |= answer.is_err() && kind == HandshakeKind::Resumed;
        answer.is_err()
    })
    .await;
    assert!(resumed, "what was refused was a resumed session");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_certificate_of_another_authority_ends_the_handshake() {
    let (daemon, authority, _directory) = with_certificates();
    let stranger = Authority::new("stranger").issue(&["operator.internal"]);
    // TLS 1.3 lets a client go on before the server has judged its certificate.
    if let Ok(stream) = handshake(&daemon, &authority, Some(&stranger)).await {
        let mut client = Client::over(stream, Speaks::Http1).await;
        assert!(client.try_ask(get("localhost", "/ready")).await.is_err());
    }
    let operator = authority.issue(&["operator.internal"]);
    let stream = handshake(&daemon, &authority, Some(&operator)).await.unwrap();
    let metrics = Client::over(stream, Speaks::Http1).await.ask(get("localhost", "/metrics")).await.text();
    assert!(metrics.contains("towpath_admin_refused_total{cause=\"handshake\"} 1\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_certificate_that_is_renewed_is_shown_to_the_next_caller() {
    let (daemon, authority, directory) = with_certificates();
    let operator = authority.issue(&["operator.internal"]);
    let mut held = Client::over(handshake(&daemon, &authority, None).await.unwrap(), Speaks::Http1).await;
    assert_eq!(held.ask(get("localhost", "/live")).await.status, 200);
    let renewed = authority.issue(&["localhost"]);
    renewed.write(directory.path(), "node");
    eventually("the new certificate is shown", async || {
        let stream = handshake(&daemon, &authority, None).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0] == renewed.chain()[0]
    })
    .await;
    eventually("who came before has to come again", async || held.is_closed()).await;
    let stream = handshake(&daemon, &authority, Some(&operator)).await.unwrap();
    let metrics = Client::over(stream, Speaks::Http1).await.ask(get("localhost", "/metrics")).await.text();
    let file = directory.path().join("node.crt").display().to_string();
    assert!(metrics.contains(&format!("towpath_tls_days_to_expiry{{file=\"{file}\"}} ")), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_command_line_shows_certificates_and_tokens() {
    let (daemon, authority, directory) = with_certificates();
    authority.issue(&["operator.internal"]).write(directory.path(), "operator");
    let file = |name: &str| directory.path().join(name).display().to_string();
    let (ca, cert, key) = (file("ca.crt"), file("operator.crt"), file("operator.key"));
    let admin = format!("https://127.0.0.1:{}", daemon.admin().port());
    let certified =
        ["reload", "--admin", &admin, "--admin-ca", &ca, "--admin-cert", &cert, "--admin-key", &key];
    let output = towpath(&certified);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "unchanged: generation 1 stays in force\n",
        "{output:?}"
    );
    let output = towpath(&["reload", "--admin", &admin, "--admin-ca", &ca]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && text.contains("--admin-token-file"), "{output:?}");
    // Whom the system trusts does not vouch for it.
    assert_eq!(towpath(&["reload", "--admin", &admin]).status.code(), Some(1));

    let (daemon, directory) = with_tokens();
    let token = directory.path().join("control").display().to_string();
    let admin = format!("http://{}", daemon.admin());
    let output = towpath(&["reload", "--admin", &admin, "--admin-token-file", &token]);
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn other_sites_names_and_pages_are_refused_and_counted() {
    let daemon = Daemon::start(&config("listen = \"127.0.0.1:0\""));
    assert_eq!(ask(&daemon, get("evil.test", "/api/status")).await.status, 403);
    let cross = post("/api/drain").header("origin", "http://evil.test");
    assert_eq!(ask(&daemon, cross).await.status, 403);
    daemon.metric_becomes("admin_refused_total", &[("cause", "host")], 1.0).await;
    daemon.metric_becomes("admin_refused_total", &[("cause", "origin")], 1.0).await;
    assert_eq!(daemon.admin_get("/ready").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_caller_cannot_have_the_proxy_ask_the_admin_api() {
    let toml = "[admin]\nlisten = \"127.0.0.1:0\"\n\
        [[routes]]\nname = \"all\"\nhosts = [\"*\"]\nbackends = [{ dns = \"{host}\" }]\n";
    let daemon = Daemon::start(toml);
    let drain = call("POST", &daemon.admin().to_string(), "/api/drain");
    let answer = client::ask(daemon.address(), Speaks::Http1, drain).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    daemon.metric_becomes("admin_refused_total", &[("cause", "forwarded")], 1.0).await;
    assert_eq!(daemon.admin_get("/ready").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whoever_holds_many_connections_keeps_nobody_out() {
    let (daemon, _directory) = with_tokens();
    let mut held = Vec::new();
    for _ in 0..80 {
        held.push(TcpStream::connect(daemon.admin()).await.unwrap());
    }
    assert_eq!(ask(&daemon, get("localhost", "/live")).await.status, 200);
    let metrics = ask(&daemon, bearing(READ, get("localhost", "/metrics"))).await.text();
    let crowded = metrics.lines().find(|line| line.contains("cause=\"crowded\"")).unwrap();
    assert!(crowded.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap() >= 16, "{crowded}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tap_in_progress_keeps_its_place_before_connections_that_ask_for_nothing() {
    let daemon = Daemon::start(&config("listen = \"127.0.0.1:0\""));
    let mut tap = Raw::connect(daemon.admin()).await;
    tap.send("GET /api/tap HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    tap.read_until(": requests from now on\n\n").await;
    let mut held = Vec::new();
    for _ in 0..80 {
        held.push(TcpStream::connect(daemon.admin()).await.unwrap());
    }
    assert_eq!(ask(&daemon, get_status()).await.json()["taps"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_tap_ends_when_its_token_does_and_when_its_certificate_is_outdated() {
    let (daemon, directory) = with_tokens();
    let mut tap = Raw::connect(daemon.admin()).await;
    let head = format!("GET /api/tap HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {READ}\r\n\r\n");
    tap.send(head).await;
    tap.read_until(": requests from now on\n\n").await;
    write(&directory.path().join("read"), "another-0123456789");
    tap.read_until(": you may look on no longer\n\n").await;

    let (daemon, authority, directory) = with_certificates();
    let operator = authority.issue(&["operator.internal"]);
    let mut stream = handshake(&daemon, &authority, Some(&operator)).await.unwrap();
    stream.write_all(b"GET /api/tap HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    authority.issue(&["localhost"]).write(directory.path(), "node");
    let mut said = Vec::new();
    // However it ends: a TLS connection may be cut off.
    let _ = within("the end", stream.read_to_end(&mut said)).await;
    assert!(said.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_body_without_end_is_refused() {
    let daemon = Daemon::start(&config("listen = \"127.0.0.1:0\""));
    let long = call("PUT", "localhost", "/api/log-level").body(body::full(vec![b'a'; 1 << 20]));
    assert_eq!(ask(&daemon, long).await.status, 413);
}
