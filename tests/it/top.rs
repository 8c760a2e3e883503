//! `towpath top`: what services do, from the metrics of a running daemon.

use std::process::{Command, Stdio};

use crate::support::{Backend, Client, Daemon, Speaks, daemon::one_service, get};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_table_says_what_happened_between_two_looks() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    let mut client = Client::connect(daemon.address(), Speaks::Http1).await;
    client.ask(get("svc", "/")).await;
    let admin = format!("http://{}", daemon.admin());
    let top = tokio::task::spawn_blocking(move || {
        let arguments = ["top", "--once", "--interval", "1", "--admin", &admin];
        Command::new(env!("CARGO_BIN_EXE_towpath")).args(arguments).stdin(Stdio::null()).output().unwrap()
    });
    // As long as it looks, one request in two fails.
    while !top.is_finished() {
        client.ask(get("svc", "/")).await;
        client.ask(get("svc", "/status/503")).await;
    }
    let output = top.await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains('\x1b'), "{text:?}");
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][..6], ["SERVICE", "RATE", "SUCCESS", "P50", "P95", "P99"]);
    let row = lines.iter().find(|row| row[0] == "echo").unwrap();
    let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<f64>().unwrap();
    assert!(number(row[1]) > 0.0 && row[1].ends_with("/s"), "{text}");
    // Two looks may cut a pair in two, and a busy machine makes few pairs.
    assert!((25.0..=75.0).contains(&number(row[2])), "{text}");
    assert!(number(row[3]) > 0.0 && row[7] == "1/1", "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_daemon_that_is_not_there_is_told() {
    let nobody = crate::support::ports::reserved();
    let arguments = ["top", "--once", "--admin", &format!("http://{nobody}")];
    let output = Command::new(env!("CARGO_BIN_EXE_towpath")).args(arguments).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("cannot reach towpath's admin API"), "{said}");
}
