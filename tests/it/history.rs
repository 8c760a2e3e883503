//! What the node did in the last minutes: `/api/history`, `/api/map`, `/api/reloads`.

use serde_json::Value;

use super::policies::{CALLERS, from};
use crate::support::{Backend, Client, Daemon, Speaks, daemon::one_service, eventually, get};

fn numbers(list: &Value) -> u64 {
    list.as_array().unwrap().iter().map(|number| number.as_u64().unwrap()).sum()
}

/// One test for all that takes a step of the history, which is five seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn requests_show_in_the_history_and_on_the_map_by_service_caller_and_route() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&(CALLERS.to_owned() + &one_service("http1", &[backend.address])));
    let mut named = from("127.0.0.2", daemon.address(), Speaks::Http1).await;
    let mut unnamed = Client::connect(daemon.address(), Speaks::Http1).await;
    for _ in 0..3 {
        named.ask(get("svc", "/")).await;
    }
    named.ask(get("svc", "/status/503")).await;
    for path in ["/", "/status/404"] {
        unnamed.ask(get("svc", path)).await;
    }
    let mut past = Value::Null;
    eventually("the history has all", async || {
        past = daemon.admin_get("/api/history").await.json();
        numbers(&past["node"]["requests"]) == 6
    })
    .await;
    assert_eq!(past["interval_seconds"], 5.0);
    assert_eq!(past["times"].as_array().unwrap().len(), past["node"]["requests"].as_array().unwrap().len());
    let echo = &past["services"][0];
    assert_eq!(
        (&echo["name"], numbers(&echo["requests"]), numbers(&echo["failures"])),
        (&"echo".into(), 6, 1)
    );
    assert_eq!((&echo["minute"]["requests"], &echo["minute"]["failures"]), (&6.into(), &1.into()));
    assert!(echo["minute"]["p50_ms"].as_f64().unwrap() <= echo["minute"]["p99_ms"].as_f64().unwrap());
    let one = daemon.admin_get("/api/history?service=nobody").await.json();
    assert_eq!((numbers(&one["services"][0]["requests"]), numbers(&one["node"]["requests"])), (0, 6));
    let map = daemon.admin_get("/api/map").await.json();
    let edge = |caller: &str| {
        let edges = map["edges"].as_array().unwrap().iter();
        let edge = edges.clone().find(|edge| edge["caller"] == caller).unwrap_or_else(|| panic!("{map}"));
        (edge["service"].clone(), edge["requests"].as_u64().unwrap(), edge["failures"].as_u64().unwrap())
    };
    assert_eq!(edge("web"), ("echo".into(), 4, 1));
    assert_eq!(edge("unknown"), ("echo".into(), 2, 0));
    let share = &map["routes"][0];
    assert_eq!(
        (&share["route"], &share["service"], &share["requests"]),
        (&"all".into(), &"echo".into(), &6.into())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn reloads_are_told_with_their_results_the_last_first() {
    let backend = Backend::start("one").await;
    let text = one_service("http1", &[backend.address]);
    let daemon = Daemon::start(&text);
    daemon.reload(Some(&(text.clone() + "connect_timeout = \"3s\"\n"))).unwrap();
    daemon.reload(Some("[nonsense]\n")).unwrap_err();
    let told = daemon.admin_get("/api/reloads").await.json();
    let reloads = told["reloads"].as_array().unwrap();
    let all: Vec<_> = reloads
        .iter()
        .map(|one| (one["result"].as_str().unwrap(), one["generation"].as_u64().unwrap()))
        .collect();
    assert_eq!(all, [("rejected", 2), ("applied", 2), ("applied", 1)]);
    assert!(reloads[0]["error"].as_str().unwrap().contains("nonsense"), "{told}");
    assert!(reloads[1]["error"].is_null() && told["generation"] == 2, "{told}");
    assert_eq!(daemon.admin_get("/api/status").await.json()["last_reload"], reloads[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn services_are_told_one_at_a_time_and_without_their_endpoints() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    let ask = async |query: &str| daemon.admin_get(&format!("/api/services{query}")).await.json();
    let all = ask("").await;
    let endpoints = |answer: &Value| answer["services"][0]["endpoints"].as_array().unwrap().len();
    assert_eq!((endpoints(&all), &all["services"][0]["endpoint_count"]), (1, &1.into()));
    let bare = ask("?endpoints=false").await;
    assert_eq!((endpoints(&bare), &bare["services"][0]["endpoint_count"]), (0, &1.into()));
    assert_eq!(endpoints(&ask("?service=echo").await), 1);
    assert_eq!(ask("?service=nobody").await["services"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn parameters_that_there_are_not_are_refused() {
    let backend = Backend::start("one").await;
    let daemon = Daemon::start(&one_service("http1", &[backend.address]));
    for path in [
        "/api/history?servce=a",
        "/api/history?service=a&service=b",
        "/api/services?endpoints=perhaps",
        "/api/services?name=a",
    ] {
        assert_eq!(daemon.admin_get(path).await.status, 400, "{path}");
    }
}
