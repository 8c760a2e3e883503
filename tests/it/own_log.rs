//! towpath's own log: silent about requests, not to be filled by what repeats, and without secrets at any level.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::support::{
    Backend, Client, Process, Speaks, call, client, daemon::one_service, eventually, get, ports::reserved,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_leave_no_line_at_the_default_level() {
    let backend = Backend::start("one").await;
    let toml = one_service("http1", &[backend.address]).replace("hosts = [\"*\"]", "hosts = [\"svc\"]");
    let process = Process::start(&toml);
    let mut client = Client::connect(process.address().await, Speaks::Http1).await;
    client.ask(get("svc", "/")).await;
    let before = process.log().lines().count();
    for _ in 0..50 {
        assert_eq!(client.ask(get("svc", "/")).await.status, 200);
        assert_eq!(client.ask(get("svc", "/status/404")).await.status, 404);
        assert_eq!(client.ask(get("nowhere", "/")).await.status, 404);
    }
    process.admin_get("/metrics").await;
    let log = process.log();
    assert_eq!(log.lines().count(), before, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_that_fail_leave_a_few_lines_and_no_more() {
    let process = Process::start(&one_service("http1", &[reserved(), reserved()]));
    let mut client = Client::connect(process.address().await, Speaks::Http1).await;
    let before = process.log().lines().count();
    for _ in 0..200 {
        assert!(client.ask(get("svc", "/")).await.status >= 500);
    }
    let lines = process.log().lines().count() - before;
    assert!(lines < 20, "{lines} lines:\n{}", process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_repeats_is_written_a_few_times_and_the_rest_is_counted() {
    let backend = Backend::start("one").await;
    let process = Process::start(&one_service("http1", &[backend.address]));
    process.configure("nonsense");
    for _ in 0..20 {
        process.admin().await.ask(call("POST", "localhost", "/api/reload")).await;
    }
    eventually("lines are held back", async || process.metric("log_suppressed_total", &[]).await >= 10.0)
        .await;
    let log = process.log();
    let written = log.matches("configuration not reloaded").count();
    assert!((1..=10).contains(&written), "{written} lines:\n{log}");
}

/// Each is somewhere in what the node is given.
const SECRETS: [&str; 8] = [
    "bearer-secret-1",
    "cookie-secret-2",
    "proxy-secret-3",
    "control-secret-4-long-enough",
    "wrong-secret-5",
    "key-secret-6",
    "basic-secret-7",
    "query-secret-8",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn secrets_are_in_the_log_at_no_level() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("control");
    fs::write(&token, SECRETS[3]).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let backend = Backend::start("one").await;
    let admin = format!("[admin]\nlisten = \"127.0.0.1:0\"\ncontrol_token = \"{}\"\n", token.display());
    let toml = format!("{admin}{}", one_service("auto", &[backend.address, reserved()]));
    let process = Process::logging(&toml, "trace");
    let control = format!("Bearer {}", SECRETS[3]);
    let admin = async |authorization: &str, method: &str, path: &str| {
        let call = call(method, "localhost", path).header("authorization", authorization);
        process.admin().await.ask(call).await
    };
    let status = admin(&control, "GET", "/api/status").await;
    assert_eq!(status.status, 200, "{status:?}");
    assert!(admin(&control, "GET", "/api/log-level").await.text().contains("trace"));
    let listeners = status.json()["listeners"].clone();
    let address = listeners[0]["address"].as_str().unwrap().parse().unwrap();
    for speaks in [Speaks::Http1, Speaks::Http2] {
        for path in ["/", "/status/500", "/other"] {
            let call = get("svc", &format!("{path}?access_token={}", SECRETS[7]))
                .header("authorization", &format!("Bearer {}", SECRETS[0]))
                .header("cookie", &format!("session={}", SECRETS[1]))
                .header("proxy-authorization", &format!("Basic {}", SECRETS[2]))
                .header("x-api-key", SECRETS[5]);
            client::ask(address, speaks, call).await;
        }
    }
    for authorization in [format!("Bearer {}", SECRETS[4]), format!("Basic {}", SECRETS[6])] {
        assert_eq!(admin(&authorization, "POST", "/api/reload").await.status, 401);
    }
    process.configure("nonsense");
    admin(&control, "POST", "/api/reload").await;
    eventually("the reload is told of", async || process.log().contains("not reloaded")).await;
    let log = process.log();
    for secret in SECRETS {
        assert!(!log.contains(secret), "{secret} is in\n{log}");
    }
}
