//! Asking another service whether requests may pass (`authorize` of a route).

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Answer, Backend, Call, Client, Daemon, Raw, RawServer, Speaks, backend::BREAKS_OFF, body, call, client,
    daemon::service, eventually, get, ports, within,
};

fn toml(asked: std::net::SocketAddr, backend: &Backend, authorize: &str) -> String {
    format!(
        "[[routes]]\nname = \"all\"\nhosts = [\"*\"]\nbackends = [{{ service = \"echo\" }}]\n\
         authorize = {{ service = \"authz\", {authorize} }}\n{}{}",
        service("echo", "auto", &[backend.address]),
        service("authz", "auto", &[asked]),
    )
}

async fn send(daemon: &Daemon, call: Call) -> Answer {
    Client::connect(daemon.address(), Speaks::Http1).await.ask(call).await
}

async fn results(daemon: &Daemon, result: &str) -> f64 {
    daemon.metric("authorizations_total", &[("route", "all"), ("result", result)]).await
}

/// A server that answers every request with `answer` and keeps what it was asked.
async fn scripted(
    answer: &'static str,
) -> (std::net::SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let server = RawServer::start().await;
    let (address, (tell, asked)) = (server.address, tokio::sync::mpsc::unbounded_channel());
    tokio::spawn(async move {
        while let Ok(mut connection) = server.try_accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                while let Some(head) = head(&mut connection).await {
                    let _ = tell.send(head);
                    if connection.try_send(answer).await.is_err() || answer.contains("close\r\n") {
                        return;
                    }
                }
            });
        }
    });
    (address, asked)
}

async fn head(connection: &mut Raw) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(connection.try_read_exact(1).await?[0]));
    }
    Some(head)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_question_says_who_asks_what_and_a_yes_lets_the_request_pass() {
    let yes = "HTTP/1.1 200 OK\r\nx-user: ann\r\nx-other: no\r\ncontent-length: 2\r\n\r\nok";
    let ((asked, mut questions), backend) = (scripted(yes).await, Backend::start("echo").await);
    let keys = "on_failure = \"deny\", path = \"/check\", forward = [\"x-user\", \"x-role\"]";
    let daemon = Daemon::start(&toml(asked, &backend, keys));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    for number in 0..2 {
        let answer = client
            .ask(
                call("POST", "shop.test:81", "/v1/a%20b?c=d")
                    .header("authorization", "Bearer t")
                    .header("cookie", "a=1")
                    .header("x-secret", "s")
                    .header("x-user", "root")
                    .header("x_user", "root")
                    .header("x-role", "admin")
                    .body(body::full("content")),
            )
            .await;
        assert_eq!((answer.status, answer.backend()), (200, "echo"), "{number}: {answer:?}");
        let seen = answer.json();
        assert_eq!((&seen["body"], &seen["headers"]["x-user"]), (&json!("content"), &json!("ann")));
        for name in ["x-role", "x_user", "x-other"] {
            assert!(seen["headers"][name].is_null(), "{name}");
        }
        let question = questions.recv().await.unwrap().to_lowercase();
        assert!(question.starts_with("post /check/v1/a%20b?c=d http/1.1\r\n"), "{question}");
        for line in [
            "host: authz",
            "authorization: bearer t",
            "cookie: a=1",
            "x-forwarded-method: post",
            "x-forwarded-host: shop.test:81",
            "x-forwarded-uri: /v1/a%20b?c=d",
            "towpath-caller: unknown",
            "content-length: 0",
            "x-request-id: ",
        ] {
            assert!(question.contains(&format!("\r\n{line}")), "{line} is not in {question}");
        }
        for line in ["x-secret", "x-user", "x_user"] {
            assert!(!question.contains(line), "{line} is in {question}");
        }
    }
    assert_eq!(results(&daemon, "allowed").await, 2.0);
    assert_eq!(daemon.metric("upstream_connections", &[("service", "authz")]).await, 1.0, "it is used again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_no_is_the_callers_answer() {
    for (answer, status, content) in [
        ("HTTP/1.1 403 No\r\nx-why: w\r\ncontent-length: 4\r\n\r\nnope", 403, "nope"),
        ("HTTP/1.1 401 No\r\nwww-authenticate: Basic\r\nx-why: w\r\ncontent-length: 0\r\n\r\n", 401, ""),
        (
            "HTTP/1.1 302 Go\r\nlocation: /login\r\nx-why: w\r\ntransfer-encoding: chunked\r\n\r\n2\r\ngo\r\n0\r\n\r\n",
            302,
            "go",
        ),
        (
            "HTTP/1.1 404 No\r\nx-why: w\r\nx-hop: 1\r\nconnection: x-hop, close\r\n\r\nto the end",
            404,
            "to the end",
        ),
    ] {
        let ((asked, _questions), backend) = (scripted(answer).await, Backend::start("echo").await);
        let daemon = Daemon::start(&toml(asked, &backend, "on_failure = \"allow\""));
        let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
        for method in ["GET", "POST"] {
            let told = client.ask(call(method, "shop.test", "/x")).await;
            assert_eq!((told.status, &*told.text(), told.header("x-why")), (status, content, "w"));
            assert_eq!((told.reason(), told.header("towpath-cause")), ("denied", "authorization_denied"));
            assert!(!told.headers.contains_key("x-hop"));
        }
        assert_eq!((results(&daemon, "denied").await, backend.requests()), (2.0, 0));
        daemon
            .metric_becomes("requests_total", &[("route", "all"), ("code", &status.to_string())], 2.0)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_no_that_is_too_long_comes_without_its_content() {
    let long: &'static str =
        format!("HTTP/1.1 403 No\r\ncontent-length: 70000\r\n\r\n{}", "x".repeat(70_000)).leak();
    let ((asked, _questions), backend) = (scripted(long).await, Backend::start("echo").await);
    let daemon = Daemon::start(&toml(asked, &backend, "on_failure = \"deny\""));
    let told = send(&daemon, get("shop.test", "/x")).await;
    assert_eq!((told.status, told.body.len(), told.reason()), (403, 0, "denied"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_an_answer_on_failure_decides() {
    let (authz, backend) = (Backend::start("authz").await, Backend::start("echo").await);
    let [closed, open] = ["deny", "allow"].map(|on_failure| {
        let keys = format!("on_failure = \"{on_failure}\", timeout = \"150ms\", forward = [\"x-user\"]");
        Daemon::start(&toml(authz.address, &backend, &keys))
    });
    let spoof = || get("shop.test", "/x").header("x-user", "root");
    let check = async |what: &str, count: f64| {
        let told = send(&closed, spoof()).await;
        assert_eq!((told.status, told.reason()), (403, "denied"), "{what}");
        assert_eq!(told.header("towpath-cause"), "authorization_failed", "{what}");
        assert!(!told.text().contains("authz"), "{what}: {}", told.text());
        let told = send(&open, spoof()).await;
        assert_eq!((told.status, told.backend()), (200, "echo"), "{what}");
        assert!(told.json()["headers"]["x-user"].is_null(), "{what}: nobody has said who it is");
        assert_eq!(results(&closed, "failed_closed").await, count, "{what}");
        assert_eq!(results(&open, "failed_open").await, count, "{what}");
    };
    authz.answers(503);
    check("an error", 1.0).await;
    authz.answers(BREAKS_OFF);
    check("no answer", 2.0).await;
    authz.answers(200);
    authz.answer_after(Duration::from_secs(5));
    check("a slow answer", 3.0).await;
    drop(authz);
    check("nobody there", 4.0).await;
    assert_eq!(backend.requests(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_requests_own_deadline_is_not_passed_and_is_what_the_caller_is_told() {
    let (authz, backend) = (Backend::start("authz").await, Backend::start("echo").await);
    authz.answer_after(Duration::from_secs(5));
    let text = toml(authz.address, &backend, "on_failure = \"allow\", timeout = \"8s\"");
    let daemon = Daemon::start(&text.replacen("hosts =", "timeout = \"100ms\"\nhosts =", 1));
    let begun = Instant::now();
    let told = send(&daemon, get("shop.test", "/x")).await;
    assert_eq!((told.status, told.reason(), told.header("towpath-cause")), (504, "timeout", "timeout"));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(backend.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_whose_deadline_leaves_no_time_for_an_answer_does_not_pass() {
    let (authz, backend) = (Backend::start("authz").await, Backend::start("echo").await);
    // As a proxy in front of it answers, a moment before the deadline that it was told.
    authz.answers(504);
    let text = toml(authz.address, &backend, "on_failure = \"allow\", timeout = \"8s\"");
    let daemon = Daemon::start(&text);
    let hurried = get("shop.test", "/x").header("towpath-deadline", "5000");
    let told = send(&daemon, hurried).await;
    assert_eq!((told.status, told.reason()), (504, "timeout"), "{told:?}");
    assert_eq!(backend.requests(), 0);
    // Where the request has more time than the answer may take, nobody is in its way but the service.
    let patient = get("shop.test", "/x").header("towpath-deadline", "60000");
    assert_eq!(send(&daemon, patient).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_request_about_which_nothing_can_be_asked_does_not_pass() {
    let (authz, backend) = (Backend::start("authz").await, Backend::start("echo").await);
    authz.answers(403);
    let text =
        toml(authz.address, &backend, &format!("on_failure = \"allow\", path = \"/{}\"", "q".repeat(200)));
    let limits = "[limits]\nuri_bytes = \"256KiB\"\nheader_bytes = \"512KiB\"\n";
    let daemon = Daemon::start(&format!("{limits}{text}"));
    for (length, cause) in [(100, "authorization_denied"), (65_500, "authorization_failed")] {
        let mut client = Raw::connect(daemon.address()).await;
        client.send(format!("GET /{} HTTP/1.1\r\nhost: shop.test\r\n\r\n", "p".repeat(length))).await;
        let told = client.read_response().await;
        assert_eq!((told.status, told.reason().as_str()), (403, "denied"), "{length}: {cause}");
    }
    assert_eq!((results(&daemon, "denied").await, results(&daemon, "failed_closed").await), (1.0, 1.0));
    assert_eq!(backend.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_reload_of_policies_while_the_question_is_out_lets_nobody_pass() {
    let (authz, backend) = (Backend::start("authz").await, Backend::start("echo").await);
    authz.answers(401);
    authz.answer_after(Duration::from_millis(500));
    let policy = |name: &str, of: &str| {
        format!("[[policies]]\nname = \"{name}\"\nservice = \"{of}\"\nallow = [{{ callers = [\"ops\"] }}]\n")
    };
    // Nobody is to ask it but towpath.
    let text =
        toml(authz.address, &backend, "on_failure = \"allow\", timeout = \"8s\"") + &policy("a", "authz");
    let daemon = Daemon::start(&text);
    let address = daemon.address();
    let asking = tokio::spawn(client::ask(address, Speaks::Http1, get("shop.test", "/x")));
    eventually("the question is out", async || authz.running() == 1).await;
    let other = service("other", "auto", &[backend.address]) + &policy("b", "other");
    daemon.reload(Some(&(text + &other))).unwrap();
    let told = within("the answer", asking).await.unwrap();
    assert_eq!((told.status, told.header("towpath-cause")), (401, "authorization_denied"), "{told:?}");
    assert_eq!(backend.requests(), 0);
    assert_eq!(results(&daemon, "failed_open").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_that_was_closed_while_idle_is_replaced() {
    let (authz, backend) = (Backend::start("authz").await, Backend::start("echo").await);
    let daemon = Daemon::start(&toml(authz.address, &backend, "on_failure = \"deny\""));
    for _ in 0..10 {
        assert_eq!(send(&daemon, get("shop.test", "/x")).await.status, 200);
        authz.close_connections();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_grpc_caller_is_refused_in_its_own_words_and_the_question_is_plain_http() {
    let no = "HTTP/1.1 401 No\r\ncontent-length: 4\r\n\r\nnope";
    let ((asked, mut questions), backend) = (scripted(no).await, Backend::start("echo").await);
    let daemon = Daemon::start(&toml(asked, &backend, "on_failure = \"deny\""));
    let request = call("POST", "shop.test", "/test.Echo/Unary")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body::full("\0\0\0\0\0"));
    let told = Client::connect(daemon.address(), Speaks::Http2).await.ask(request).await;
    assert_eq!((told.status, told.header("grpc-status"), told.reason()), (200, "16", "denied"));
    assert!(told.body.is_empty() && told.header("grpc-message").contains("may not pass"));
    assert!(questions.recv().await.unwrap().starts_with("POST /test.Echo/Unary HTTP/1.1\r\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_http2_service_can_be_asked_too() {
    let (authz, backend) = (Backend::start("authz").await, Backend::start("echo").await);
    let text = toml(authz.address, &backend, "on_failure = \"deny\"");
    let daemon = Daemon::start(&text.replacen(
        "[services.authz]\nprotocol = \"auto\"",
        "[services.authz]\nprotocol = \"http2\"",
        1,
    ));
    assert_eq!(send(&daemon, get("shop.test", "/x")).await.backend(), "echo");
    authz.answers(403);
    assert_eq!(send(&daemon, get("shop.test", "/x")).await.text(), "on purpose");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_service_that_is_full_is_no_answer() {
    let (backend, nobody) = (Backend::start("echo").await, ports::reserved());
    let text = toml(nobody, &backend, "on_failure = \"deny\"");
    let daemon = Daemon::start(&format!("{text}breaker = {{ max_requests = 1, max_pending = 0 }}\n"));
    let told = send(&daemon, get("shop.test", "/x")).await;
    assert_eq!((told.status, told.header("towpath-cause")), (403, "authorization_failed"));
    // Its place was given back.
    let again = send(&daemon, get("shop.test", "/x")).await;
    assert_eq!(again.header("towpath-cause"), "authorization_failed");
    assert_eq!(results(&daemon, "failed_closed").await, 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn explain_says_who_is_asked() {
    let backend = Backend::start("echo").await;
    let daemon = Daemon::start(&toml(backend.address, &backend, "on_failure = \"deny\", path = \"/check\""));
    let answer = daemon.admin_get("/api/explain?method=GET&url=http://shop.test/x").await.json();
    assert_eq!(answer["route"]["authorize"], "by authz at /check within 200ms; without an answer refused");
}
