//! Requests that stay with an endpoint: balancing by a hash of a header, a cookie, the caller or the path.

use std::collections::{HashMap, HashSet};

use crate::support::{Backend, Client, Daemon, Speaks, client::Call, daemon::one_service, get};

/// Ten servers behind a service that is balanced by a hash of `key`.
async fn ten(key: &str) -> (Vec<Backend>, Daemon) {
    let mut backends = Vec::new();
    for name in 0..10 {
        backends.push(Backend::start(&name.to_string()).await);
    }
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let service = one_service("http1", &addresses);
    let daemon = Daemon::start(&format!("{service}balancer = {{ hash = \"{key}\" }}\n"));
    (backends, daemon)
}

/// Which backend answers each call.
async fn answers(daemon: &Daemon, calls: impl Iterator<Item = Call>) -> Vec<String> {
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    let mut answers = Vec::new();
    for call in calls {
        let answer = client.ask(call).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answers.push(answer.backend().to_owned());
    }
    answers
}

fn users(name: &str, of: impl Fn(usize) -> String) -> impl Iterator<Item = Call> {
    (0..60).map(move |user| get("svc", "/").header(name, &of(user % 30)))
}

/// Each of 30 users asked twice.
fn assert_sticky(answers: &[String]) {
    assert_eq!(answers[..30], answers[30..], "a key moved from one endpoint to another");
    let used: HashSet<_> = answers.iter().collect();
    assert!(used.len() >= 7, "30 keys went to {used:?} only");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_with_the_same_header_go_to_the_same_endpoint() {
    let (_backends, daemon) = ten("header:X-User").await;
    assert_sticky(&answers(&daemon, users("x-user", |user| format!("user-{user}"))).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_with_the_same_cookie_go_to_the_same_endpoint() {
    let (_backends, daemon) = ten("cookie:sid").await;
    assert_sticky(&answers(&daemon, users("cookie", |user| format!("a=b; sid=s{user}; c=d"))).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_of_the_same_path_go_to_the_same_endpoint_whatever_the_query() {
    let (_backends, daemon) = ten("path").await;
    let calls = (0..60).map(|call| get("svc", &format!("/item/{}?call={call}", call % 30)));
    assert_sticky(&answers(&daemon, calls).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn all_requests_of_a_caller_go_to_the_same_endpoint() {
    let (_backends, daemon) = ten("source").await;
    let mut used = HashSet::new();
    for _ in 0..5 {
        used.extend(answers(&daemon, (0..4).map(|_| get("svc", "/"))).await);
    }
    assert_eq!(used.len(), 1, "{used:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_without_the_key_are_spread() {
    let (_backends, daemon) = ten("header:x-user").await;
    let answers = answers(&daemon, (0..200).map(|_| get("svc", "/"))).await;
    let used: HashSet<_> = answers.iter().collect();
    assert_eq!(used.len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_endpoint_that_goes_moves_its_own_keys_only_and_one_that_refuses_is_stepped_over() {
    let (mut backends, daemon) = ten("header:x-user").await;
    let of_user = || users("x-user", |user| format!("user-{user}")).take(30);
    let before = answers(&daemon, of_user()).await;
    let gone = before[0].clone();
    backends.retain(|backend| backend.name() != gone);
    // Nothing listens there any more, and its keys go to the next on the ring: always the same one.
    let refused = answers(&daemon, of_user()).await;
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let service = one_service("http1", &addresses);
    daemon
        .reload(Some(&crate::support::daemon::complete(&format!(
            "{service}balancer = {{ hash = \"header:x-user\" }}\n"
        ))))
        .unwrap();
    let removed = answers(&daemon, of_user()).await;
    assert_eq!(refused, removed);
    let mut moved: HashMap<&str, u32> = HashMap::new();
    for (before, after) in before.iter().zip(&removed).filter(|(before, after)| before != after) {
        assert_eq!(*before, gone, "moved to {after}");
        *moved.entry(after).or_default() += 1;
    }
    assert!(!moved.is_empty());
}
