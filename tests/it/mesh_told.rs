//! Two nodes that speak mTLS with each other: a trace, and what a trusted caller is told, go through both.

use crate::{
    mesh::{Mesh, Pair, SECOND, service},
    support::{Backend, Daemon, Speaks, client, get},
};

/// Without a collector: the spans are told of all the same.
const TRACED: &str = "[tracing]\nsample = 0\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_trace_and_what_a_trusted_caller_is_told_go_through_both_nodes() {
    let (mesh, backend) = (Mesh::new(), Backend::again("far", SECOND.parse().unwrap()).await);
    let second = Daemon::start(&(mesh.second_toml(&service("echo", &[backend.address], "")) + TRACED));
    let first = Daemon::start(&(Pair::toml(&mesh, &second, &backend, "") + TRACED));
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = get("echo.test", "/").header("traceparent", traceparent).header("towpath-debug", "1");
    let answer = client::ask(first.address(), Speaks::Http1, request).await;
    let told = |name: &str| -> Vec<&str> {
        answer.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    };
    assert_eq!(told("towpath-debug-node"), ["b", "a"]);
    assert_eq!(told("towpath-debug-endpoint"), [backend.address.to_string(), backend.address.to_string()]);
    assert_eq!(told("towpath-debug-trace"), [&traceparent[3..35]; 2]);
    let seen = answer.json();
    let passed = seen["headers"]["traceparent"].as_str().unwrap();
    assert_eq!((&passed[..36], &passed[52..]), (&traceparent[..36], "-01"), "the same trace, sampled");
    assert_ne!(passed[36..52], traceparent[36..52], "below a span of the second node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_node_is_not_asked_by_a_caller_whom_the_first_does_not_trust() {
    let (mesh, backend) = (Mesh::new(), Backend::again("far", SECOND.parse().unwrap()).await);
    let second = mesh.second(&service("echo", &[backend.address], ""));
    let nobody = "[[callers]]\nname = \"anybody\"\naddress = \"127.0.0.0/8\"\n";
    let first = Daemon::start(&(Pair::toml(&mesh, &second, &backend, "") + nobody));
    let request = get("echo.test", "/").header("towpath-debug", "1");
    let answer = client::ask(first.address(), Speaks::Http1, request).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("towpath-debug")), "{answer:?}");
    assert!(answer.json()["headers"]["towpath-debug"].is_null(), "{answer:?}");
}
