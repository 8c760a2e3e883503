//! Tokens (`jwt` of a route): which requests pass, what endpoints are told, and where the keys come from.

use std::{fs, path::Path};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    Answer, Backend, Client, Daemon, Speaks, body, call,
    daemon::service,
    eventually, get,
    issuer::{ISSUER, Key, KeyServer, from_now, ok, set},
    pki::Authority,
    within,
};

/// Routes `/open` (a token may come), `/orders` (with claims) and all else (a token must come) to one backend.
fn toml(provider: &str, backend: &Backend) -> String {
    let route = |name: &str, prefix: &str, jwt: &str| {
        format!(
            "[[routes]]\nname = \"{name}\"\nhosts = [\"*\"]\nmatch = [{{ path_prefix = \"{prefix}\" }}]\n\
             backends = [{{ service = \"echo\" }}]\njwt = {{ provider = \"company\", {jwt} }}\n"
        )
    };
    format!(
        "{}{}{}{}[jwt.company]\nissuer = \"{ISSUER}\"\n{provider}\n",
        route("open", "/open", "required = false"),
        route("orders", "/orders", "claims = { scope = \"orders\", \"realm.roles\" = \"clerk\" }"),
        route("all", "/", "required = true"),
        service("echo", "auto", &[backend.address]),
    )
}

struct Setup {
    daemon: Daemon,
    backend: Backend,
    key: Key,
    directory: TempDir,
}

/// The keys are in a file; `provider`: further keys of the issuer.
async fn start(provider: &str) -> Setup {
    let (directory, key) = (tempfile::tempdir().unwrap(), Key::new("one"));
    let backend = Backend::start("echo").await;
    write(directory.path(), &set(&[&key]));
    let daemon = Daemon::start(&toml(&in_file(directory.path(), provider), &backend));
    Setup { daemon, backend, key, directory }
}

fn in_file(directory: &Path, provider: &str) -> String {
    format!("jwks = \"{}\"\n{provider}", directory.join("keys.json").display())
}

fn write(directory: &Path, text: &str) {
    fs::write(directory.join("new"), text).unwrap();
    fs::rename(directory.join("new"), directory.join("keys.json")).unwrap();
}

impl Setup {
    async fn ask(&self, path: &str, authorization: Option<&str>) -> Answer {
        ask(&self.daemon, path, authorization).await
    }

    async fn counted(&self, result: &str) -> f64 {
        self.daemon.metric("tokens_total", &[("provider", "company"), ("result", result)]).await
    }
}

async fn ask(daemon: &Daemon, path: &str, authorization: Option<&str>) -> Answer {
    let mut request = get("echo.test", path);
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    Client::connect(daemon.address(), Speaks::Http1).await.ask(request).await
}

fn headers(answer: &Answer) -> Value {
    answer.json()["headers"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_valid_token_passes_and_any_other_does_not() {
    let setup = start("audience = [\"orders\"]\nleeway = \"0s\"").await;
    let aud = |other: Value| {
        let mut claims = json!({ "aud": "orders" });
        claims.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
        claims
    };
    let good = setup.key.bearer(&aud(json!({})));
    let answer = setup.ask("/x", Some(&good)).await;
    assert_eq!((answer.status, &headers(&answer)["authorization"]), (200, &json!(good)));
    let stranger = Key::new("other");
    let impostor = Key::new("one");
    let secret = EncodingKey::from_secret(set(&[&setup.key]).as_bytes());
    let hs256 = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &aud(json!({})), &secret).unwrap();
    let crit = Header { crit: Some(vec!["exp".to_owned()]), ..setup.key.header() };
    let cases = [
        ("token_expired", "expired", setup.key.bearer(&aud(json!({ "exp": from_now(-1) })))),
        ("token_invalid", "not_yet", setup.key.bearer(&aud(json!({ "nbf": from_now(60) })))),
        ("token_invalid", "issuer", setup.key.bearer(&aud(json!({ "iss": "https://evil.example" })))),
        ("token_invalid", "audience", setup.key.bearer(&json!({ "aud": "stock" }))),
        ("token_invalid", "unknown_key", stranger.bearer(&aud(json!({})))),
        ("token_invalid", "signature", impostor.bearer(&aud(json!({})))),
        ("token_invalid", "signature", format!("Bearer {hs256}")),
        ("token_invalid", "malformed", format!("Bearer {}", setup.key.token(&crit, &aud(json!({}))))),
        ("token_invalid", "malformed", setup.key.bearer(&aud(json!({ "exp": null })))),
        ("token_invalid", "malformed", "Bearer eyJhbGciOiJub25lIn0.e30.".to_owned()),
        ("token_invalid", "malformed", "Bearer".to_owned()),
        ("token_invalid", "malformed", format!("Bearer {}", "x".repeat(17 << 10))),
    ];
    for (cause, result, shown) in cases {
        // Shown where it need not be, it is as wrong.
        for path in ["/x", "/open"] {
            let before = setup.counted(result).await;
            let answer = setup.ask(path, Some(&shown)).await;
            assert_eq!((answer.status, answer.reason()), (401, "unauthenticated"), "{result}: {shown}");
            assert_eq!(answer.header("towpath-cause"), cause, "{result}");
            assert_eq!(answer.header("www-authenticate"), "Bearer error=\"invalid_token\"", "{result}");
            assert!(!answer.text().contains(result) || result == "expired", "{}", answer.text());
            assert_eq!(setup.counted(result).await, before + 1.0, "{result}");
        }
    }
    assert_eq!(setup.backend.requests(), 1, "only the good one went on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_missing_token_is_refused_where_it_is_required_only() {
    let setup = start("").await;
    for none in [None, Some("Basic YTpi")] {
        let refused = setup.ask("/x", none).await;
        assert_eq!((refused.status, refused.reason()), (401, "unauthenticated"));
        assert_eq!(refused.header("www-authenticate"), "Bearer");
        assert_eq!(refused.header("towpath-cause"), "token_missing");
        assert_eq!(setup.ask("/open", none).await.status, 200);
    }
    assert_eq!(setup.counted("missing").await, 4.0);
    setup.daemon.metric_becomes("requests_total", &[("route", "all"), ("code", "401")], 2.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn several_authorization_headers_are_refused() {
    let setup = start("").await;
    let good = setup.key.bearer(&json!({}));
    for second in [&*good, "Basic YTpi"] {
        let request =
            get("echo.test", "/open").header("authorization", &good).header("authorization", second);
        let answer = Client::connect(setup.daemon.address(), Speaks::Http1).await.ask(request).await;
        assert_eq!(answer.status, 401, "{second}");
    }
    assert_eq!(setup.counted("malformed").await, 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_token_must_say_what_its_route_wants() {
    let setup = start("").await;
    let all = json!({ "scope": "stock orders", "realm": { "roles": ["clerk", "boss"] } });
    assert_eq!(setup.ask("/orders", Some(&setup.key.bearer(&all))).await.status, 200);
    for lacking in [
        json!({}),
        json!({ "scope": "orders" }),
        json!({ "scope": "orders2", "realm": { "roles": "clerk" } }),
    ] {
        let answer = setup.ask("/orders", Some(&setup.key.bearer(&lacking))).await;
        assert_eq!((answer.status, answer.reason()), (403, "denied"), "{lacking}");
        assert!(!answer.text().contains("scope") && !answer.text().contains("clerk"), "{}", answer.text());
        assert_eq!(setup.ask("/x", Some(&setup.key.bearer(&lacking))).await.status, 200);
    }
    assert_eq!((setup.counted("claims").await, setup.counted("valid").await), (3.0, 4.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn endpoints_hear_what_the_token_says_and_never_what_the_caller_says_of_itself() {
    let setup = start("forward = { x-user = \"sub\", x-groups = \"groups\", x-level = \"level\" }").await;
    let claims = json!({ "groups": ["a", "b"], "level": 7 });
    let send = async |path: &str, token: Option<String>| {
        let mut request = get("echo.test", path)
            .header("x-user", "root")
            .header("X_User", "root")
            .header("x-groups", "wheel")
            .header("x-groups", "admin")
            .header("x-other", "kept");
        if let Some(token) = token {
            request = request.header("authorization", &token);
        }
        let answer = Client::connect(setup.daemon.address(), Speaks::Http1).await.ask(request).await;
        assert_eq!(answer.status, 200);
        headers(&answer)
    };
    let told = send("/x", Some(setup.key.bearer(&claims))).await;
    assert_eq!(
        (&told["x-user"], &told["x-groups"], &told["x-level"]),
        (&json!("ann"), &json!("a,b"), &json!("7"))
    );
    let told = send("/open", None).await;
    for name in ["x-user", "x_user", "x-groups", "x-level"] {
        assert_eq!(told[name], Value::Null, "{name}");
    }
    assert_eq!(told["x-other"], "kept");
    let evil = setup.key.bearer(&json!({ "sub": "ann\r\nx-admin: 1" }));
    assert_eq!(setup.ask("/x", Some(&evil)).await.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_only_towpath_may_say_is_left_out_of_trailers_as_well() {
    let setup = start("forward = { x-user = \"sub\" }").await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let trailers = [("x-user", "root"), ("x_user", "root"), ("towpath_caller", "root"), ("x-sum", "42")];
        let mirrored = call("POST", "echo.test", "/mirror")
            // Over HTTP/2, which passes all trailers on.
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("trailer", "x-user, x_user, towpath_caller, x-sum")
            .header("authorization", &setup.key.bearer(&json!({})))
            .body(body::with_trailers(&["one"], &trailers));
        let answer = Client::connect(setup.daemon.address(), speaks).await.ask(mirrored).await;
        let left: Vec<_> = answer.trailers.unwrap().keys().map(ToString::to_string).collect();
        assert_eq!((answer.status, left), (200, vec!["x-sum".to_owned()]), "{speaks:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_grpc_caller_gets_trailers_only() {
    let setup = start("").await;
    let request = call("POST", "echo.test", "/orders")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body::full("\0\0\0\0\0"));
    let answer = Client::connect(setup.daemon.address(), Speaks::Http2).await.ask(request).await;
    assert_eq!(
        (answer.status, answer.header("grpc-status"), answer.reason()),
        (200, "16", "unauthenticated")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn claims_can_be_used_by_policies() {
    let (directory, key) = (tempfile::tempdir().unwrap(), Key::new("one"));
    let backend = Backend::start("echo").await;
    write(directory.path(), &set(&[&key]));
    let policy = "[[policies]]\nname = \"p\"\nservice = \"echo\"\nallow = [{ claims = { sub = \"ann\" } }]\n";
    let daemon = Daemon::start(&format!("{}{policy}", toml(&in_file(directory.path(), ""), &backend)));
    for (path, token, status) in [
        ("/x", Some(key.bearer(&json!({}))), 200),
        ("/x", Some(key.bearer(&json!({ "sub": "bob" }))), 403),
        ("/open", None, 403),
    ] {
        assert_eq!(ask(&daemon, path, token.as_deref()).await.status, status, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn keys_in_a_file_rotate_without_a_failed_request() {
    let setup = start("").await;
    let new = Key::new("two");
    let (of_old, of_new) = (setup.key.bearer(&json!({})), new.bearer(&json!({})));
    let updates = async |result: &str| {
        setup.daemon.metric("jwks_updates_total", &[("provider", "company"), ("result", result)]).await
    };
    assert_eq!(setup.ask("/x", Some(&of_new)).await.status, 401);
    write(setup.directory.path(), &set(&[&setup.key, &new]));
    eventually("the new key counts", async || {
        assert_eq!(setup.ask("/x", Some(&of_old)).await.status, 200, "the old one counts all the time");
        setup.ask("/x", Some(&of_new)).await.status == 200
    })
    .await;
    // Half a file changes nothing, and is told.
    write(setup.directory.path(), &set(&[&new])[..40]);
    eventually("the broken file is noticed", async || updates("failed").await > 0.0).await;
    for token in [&of_old, &of_new] {
        assert_eq!(setup.ask("/x", Some(token)).await.status, 200);
    }
    let status = setup.daemon.admin_get("/api/status").await.json();
    let state = &status["issuers"][0];
    assert_eq!((&state["name"], &state["keys"]), (&json!("company"), &json!(2)));
    assert!(state["problem"].as_str().unwrap().contains("keys.json"), "{state}");
    write(setup.directory.path(), &set(&[&new]));
    eventually("the old key no longer counts", async || {
        assert_eq!(setup.ask("/x", Some(&of_new)).await.status, 200);
        setup.ask("/x", Some(&of_old)).await.status == 401
    })
    .await;
    assert_eq!(updates("changed").await, 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reload_reads_the_keys_at_once_and_a_file_without_keys_stops_a_start() {
    let setup = start("").await;
    let new = Key::new("two");
    write(setup.directory.path(), &set(&[&new]));
    setup.daemon.reload(None).unwrap();
    assert_eq!(setup.ask("/x", Some(&new.bearer(&json!({})))).await.status, 200);
    let wrong = Daemon::try_start(&toml("jwks = \"/nowhere/keys.json\"", &setup.backend)).err().unwrap();
    assert!(wrong.contains("jwt.company.jwks: cannot read /nowhere/keys.json"), "{wrong}");
}

/// A daemon whose issuer publishes at `server`, and the directory of `ca.crt`.
fn by_url(authority: &Authority, server: &KeyServer, backend: &Backend, more: &str) -> (Daemon, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let ca = authority.write(directory.path());
    let provider = format!("jwks = \"https://{}/keys\"\nca = \"{}\"\n{more}", server.address, ca.display());
    (Daemon::start(&toml(&provider, backend)), directory)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn keys_of_a_url_are_fetched_refreshed_and_kept() {
    let (authority, backend) = (Authority::new("ids"), Backend::start("echo").await);
    let [old, new] = [Key::new("old"), Key::new("new")];
    let server = KeyServer::start(&authority, "127.0.0.1", ok(&set(&[&old]))).await;
    let (daemon, _files) = by_url(&authority, &server, &backend, "refresh = \"200ms\"");
    let [of_old, of_new] = [&old, &new].map(|key| key.bearer(&json!({})));
    eventually("the keys are there", async || ask(&daemon, "/x", Some(&of_old)).await.status == 200).await;
    server.says(ok(&set(&[&old, &new])));
    eventually("the new key counts", async || {
        assert_eq!(ask(&daemon, "/x", Some(&of_old)).await.status, 200);
        ask(&daemon, "/x", Some(&of_new)).await.status == 200
    })
    .await;
    for bad in [
        "HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n".to_owned(),
        ok("{\"keys\":[]}"),
        ok("no json"),
        ok(&set(&[&old])).replace("200 OK", "302 Found\r\nlocation: https://evil.example/keys"),
        format!("HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n{}", " ".repeat(1_100_000)),
        "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nbroken off".to_owned(),
    ] {
        let failed = async || daemon.metric("jwks_updates_total", &[("result", "failed")]).await;
        let before = failed().await;
        server.says(bad.clone());
        eventually("the failure is noticed", async || failed().await > before).await;
        for token in [&of_old, &of_new] {
            assert_eq!(ask(&daemon, "/x", Some(token)).await.status, 200, "{}", &bad[..30]);
        }
    }
    server.says(ok(&set(&[&new])));
    eventually("it is over", async || ask(&daemon, "/x", Some(&of_old)).await.status == 401).await;
    assert_eq!(ask(&daemon, "/x", Some(&of_new)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_token_of_an_unknown_key_has_the_keys_fetched_but_not_again_and_again() {
    let (authority, backend) = (Authority::new("ids"), Backend::start("echo").await);
    let [old, new] = [Key::new("old"), Key::new("new")];
    let server = KeyServer::start(&authority, "127.0.0.1", ok(&set(&[&old]))).await;
    let (daemon, _files) = by_url(&authority, &server, &backend, "refresh = \"1h\"");
    let [of_old, of_new] = [&old, &new].map(|key| key.bearer(&json!({})));
    eventually("the keys are there", async || ask(&daemon, "/x", Some(&of_old)).await.status == 200).await;
    let asked = server.asked();
    server.says(ok(&set(&[&old, &new])));
    eventually("the new key counts", async || ask(&daemon, "/x", Some(&of_new)).await.status == 200).await;
    assert_eq!(server.asked(), asked + 1);
    let stranger = Key::new("stranger").bearer(&json!({}));
    for _ in 0..50 {
        assert_eq!(ask(&daemon, "/x", Some(&stranger)).await.status, 401);
    }
    assert_eq!(server.asked(), asked + 1, "the next one is due in half a minute");
    // Whoever reloads wants them now.
    daemon.reload(None).unwrap();
    eventually("a reload fetches them", async || server.asked() == asked + 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_keys_no_token_is_valid_and_requests_that_need_none_pass() {
    let (authority, backend) = (Authority::new("ids"), Backend::start("echo").await);
    let key = Key::new("k");
    // For another name than it is asked by, and by nobody who is believed.
    let wrong_name = KeyServer::start(&authority, "id.example", ok(&set(&[&key]))).await;
    let stranger = KeyServer::start(&Authority::new("others"), "127.0.0.1", ok(&set(&[&key]))).await;
    for server in [&wrong_name, &stranger] {
        let (daemon, _files) = by_url(&authority, server, &backend, "");
        daemon.metric_becomes("jwks_updates_total", &[("result", "failed")], 1.0).await;
        let answer = ask(&daemon, "/x", Some(&key.bearer(&json!({})))).await;
        assert_eq!((answer.status, answer.header("towpath-cause")), (401, "token_keys"));
        assert_eq!(ask(&daemon, "/open", None).await.status, 200);
        assert_eq!(server.asked(), 0);
        let status = daemon.admin_get("/api/status").await.json();
        assert!(status["issuers"][0]["problem"].as_str().unwrap().contains("certificate"), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn one_redirection_on_the_same_host_is_followed() {
    let (authority, backend) = (Authority::new("ids"), Backend::start("echo").await);
    let server = KeyServer::start(&authority, "127.0.0.1", String::new()).await;
    server.says(format!(
        "HTTP/1.1 301 Moved\r\nlocation: https://{}/elsewhere\r\ncontent-length: 0\r\n\r\n",
        server.address
    ));
    let (daemon, _files) = by_url(&authority, &server, &backend, "");
    daemon.metric_becomes("jwks_updates_total", &[("result", "failed")], 1.0).await;
    assert_eq!(server.asked(), 2, "the second answer redirects again, which is too much");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn keys_survive_a_reload_that_changes_their_issuer_otherwise() {
    let (authority, backend) = (Authority::new("ids"), Backend::start("echo").await);
    let key = Key::new("k");
    let server = KeyServer::start(&authority, "127.0.0.1", ok(&set(&[&key]))).await;
    let (directory, token) = (tempfile::tempdir().unwrap(), key.bearer(&json!({ "aud": "orders" })));
    let ca = authority.write(directory.path());
    let url = format!("jwks = \"https://{}/keys\"\nca = \"{}\"\n", server.address, ca.display());
    let daemon = Daemon::start(&toml(&url, &backend));
    eventually("the keys are there", async || ask(&daemon, "/x", Some(&token)).await.status == 200).await;
    server.says("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n".to_owned());
    for (audience, status) in [("orders", 200), ("stock", 401), ("orders", 200)] {
        daemon.reload(Some(&toml(&format!("{url}audience = [\"{audience}\"]"), &backend))).unwrap();
        assert_eq!(ask(&daemon, "/x", Some(&token)).await.status, status, "{audience}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn explain_says_that_a_token_is_wanted() {
    let setup = start("").await;
    let path = "/api/explain?method=GET&url=http://echo.test/orders";
    let answer = within("explain", setup.daemon.admin_get(path)).await.json();
    let token = answer["route"]["token"].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(token, "of company, required; realm.roles = clerk, scope = orders");
}
