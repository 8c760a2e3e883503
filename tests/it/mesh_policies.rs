//! Policies over two nodes: the receiving one goes by the caller that a node names, and believes nobody else.

use std::time::{Duration, Instant};

use super::mesh::{Mesh, Pair, ROUTE, SECOND, ask, service};
use crate::support::{
    Answer, Backend, Client, Daemon, Speaks, client, eventually, get, secure::secure_as, within,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_other_node_knows_who_asks_and_goes_by_that() {
    let (mesh, backend) = (Mesh::new(), Backend::again("far", SECOND.parse().unwrap()).await);
    let policy = "[[policies]]\nname = \"p\"\nservice = \"echo\"\nallow = [{ callers = [\"shop\"] }]\n";
    let second = mesh.second(&(service("echo", &[backend.address], "") + policy));
    let called = |name: &str| format!("[[callers]]\nname = \"{name}\"\naddress = \"127.0.0.0/8\"\n");
    let toml = Pair::toml(&mesh, &second, &backend, "");
    let first = Daemon::start(&(toml.clone() + &called("shop")));
    let lie = get("echo.test", "/").header("towpath-caller", "root");
    assert_eq!(client::ask(first.address(), Speaks::Http1, lie).await.status, 200);
    second.metric_becomes("caller_requests_total", &[("caller", "shop"), ("service", "echo")], 1.0).await;
    let other = Daemon::start(&(toml + &called("stranger")));
    let lie = get("echo.test", "/").header("towpath-caller", "shop");
    let answer = client::ask(other.address(), Speaks::Http1, lie).await;
    assert_eq!((answer.status, answer.reason()), (403, "denied"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn policies_on_the_receiving_node_hold_for_nodes_and_for_those_who_only_say_so() {
    let (mesh, backend) = (Mesh::new(), Backend::again("far", SECOND.parse().unwrap()).await);
    let route = ROUTE.replacen("hosts =", "listeners = [\"incoming\"]\nhosts =", 1);
    let rules = "allow = [{ callers = [\"shop\"] }, { callers = [\"spiffe://mesh/ns/*\"], methods = [\"HEAD\"] }]\n\
                 deny = [{ callers = [\"*\"], path_prefix = \"/admin\" }]";
    let policy = format!("[[policies]]\nname = \"p\"\nservice = \"echo\"\n{rules}\n");
    let second = mesh.second(&(route + &service("echo", &[backend.address], "") + &policy));
    let node = mesh.issue("c", &["spiffe://mesh/node/c"]);
    let workload = mesh.issue("w", &["spiffe://mesh/ns/shop"]);
    let at = backend.address.to_string();
    let pin = [("towpath-service", "echo"), ("towpath-endpoint", &*at)];
    let shop = ("towpath-caller", "shop");
    for (identity, fields, status, why) in [
        (&node, &[pin[0], pin[1], shop][..], 200, "it speaks for shop"),
        (&node, &[shop], 200, "by the listener's routes as well"),
        (&node, &pin, 403, "a node itself is not shop"),
        (&node, &[pin[0], pin[1], ("towpath-caller", "cart")], 403, "it speaks for somebody else"),
        (&node, &[pin[0], pin[1], shop, shop], 403, "who is meant nobody can tell"),
        (&node, &[pin[0], pin[1], ("towpath_caller", "shop")], 403, "another field"),
        (&workload, &[pin[0], pin[1], shop], 403, "it is not shop"),
        (&workload, &[shop], 403, "it is not shop by any route"),
    ] {
        let config = mesh.authority.client(Some(identity), &["h2"]);
        let stream = secure_as(second.listener("incoming").unwrap(), &config, "b.test").await.unwrap();
        let request =
            fields.iter().fold(get("echo.test", "/"), |request, (name, value)| request.header(name, value));
        let answer = Client::over(stream, Speaks::Http2).await.ask(request).await;
        assert_eq!(answer.status, status, "{why}: {answer:?}");
    }
    assert_eq!(backend.requests(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_the_receiving_node_forbids_ends_there_within_a_second() {
    let (mesh, backend) = (Mesh::new(), Backend::again("far", SECOND.parse().unwrap()).await);
    let services = service("echo", &[backend.address], "");
    let second = mesh.second(&services);
    let called = "[[callers]]\nname = \"shop\"\naddress = \"127.0.0.0/8\"\n";
    let first = Daemon::start(&(Pair::toml(&mesh, &second, &backend, "") + called));
    let mut client = Client::connect(first.address(), Speaks::Http1).await;
    let stream = client.send(get("echo.test", "/drip")).await;
    eventually("it runs", async || backend.requests() == 1).await;
    let policy = "[[policies]]\nname = \"p\"\nservice = \"echo\"\nallow = [{ callers = [\"ops\"] }]\n";
    let begun = Instant::now();
    second.reload(Some(&mesh.second_toml(&(services + policy)))).unwrap();
    assert!(within("the cut", Answer::read(stream)).await.is_err(), "it must not look whole");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let answer = ask(&first, "/").await;
    assert_eq!((answer.status, answer.reason()), (403, "denied"), "{answer:?}");
}
