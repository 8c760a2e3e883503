//! Listening sockets: TCP and Unix, any number.

use std::{os::unix::net::UnixListener, path::Path};

use tokio::net::UnixStream;

use crate::support::{Backend, Client, Daemon, Speaks, client, daemon::one_service, get, within};

fn listener(name: &str, listen: &str) -> String {
    format!("[[listeners]]\nname = \"{name}\"\nkind = \"outgoing\"\nlisten = \"{listen}\"\n")
}

fn unix(path: &Path) -> String {
    listener("unix", &format!("unix:{}", path.display()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_unix_socket_speaks_both_protocols_and_is_gone_after_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("towpath.sock");
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&(unix(&path) + &one_service("http1", &[backend.address])));
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let stream = within("connect", UnixStream::connect(&path)).await.unwrap();
        let answer = Client::over(stream, speaks).await.ask(get("svc", "/")).await;
        assert_eq!((answer.status, answer.backend()), (200, "one"), "{speaks:?}");
    }
    daemon.metric_becomes("requests_total", &[("listener", "unix")], 2.0).await;
    daemon.join();
    assert!(!path.exists(), "the socket's file is left behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_unix_socket_that_a_dead_process_left_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("towpath.sock");
    drop(UnixListener::bind(&path).unwrap());
    let backend = Backend::start("one").await;
    let _daemon = Daemon::start(&(unix(&path) + &one_service("http1", &[backend.address])));
    let stream = within("connect", UnixStream::connect(&path)).await.unwrap();
    assert_eq!(Client::over(stream, Speaks::Http1).await.ask(get("svc", "/")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_unix_socket_that_someone_serves_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("towpath.sock");
    let _theirs = UnixListener::bind(&path).unwrap();
    let toml = unix(&path) + &one_service("http1", &["127.0.0.1:9".parse().unwrap()]);
    let problems = Daemon::try_start(&toml).err().unwrap();
    assert!(problems.contains(&path.display().to_string()), "{problems}");
    assert!(path.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn every_listener_serves_and_is_counted_by_its_name() {
    let backend = Backend::start("one").await;
    let names = ["a", "b", "c", "d"];
    let listeners: String = names.iter().map(|name| listener(name, "127.0.0.1:0")).collect();
    let daemon = Daemon::start(&(listeners + &one_service("http1", &[backend.address])));
    for name in names {
        let address = daemon.listener(name).unwrap();
        assert_eq!(client::ask(address, Speaks::Http1, get("svc", "/")).await.status, 200);
        daemon.metric_becomes("requests_total", &[("listener", name), ("code", "200")], 1.0).await;
    }
    assert_eq!(daemon.listener("e"), None);
}
