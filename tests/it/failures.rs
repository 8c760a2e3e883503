//! Every answer that towpath makes itself, as the table of reasons promises it.

use std::time::{Duration, Instant};

use crate::support::{
    Answer, Backend, Client, Daemon, RawServer, Speaks, client, daemon::one_service, eventually, get,
    ports::reserved, within,
};

/// Status, `towpath-error` and the five keys of the body.
fn assert_failure(answer: &Answer, status: u16, reason: &str, route: Option<&str>, service: Option<&str>) {
    assert_eq!((answer.status, answer.reason()), (status, reason), "{answer:?}");
    assert!(answer.header("content-type").starts_with("application/json"), "{answer:?}");
    let body = answer.json();
    let error = &body["error"];
    assert_eq!(error["reason"], reason);
    assert!(!error["message"].as_str().unwrap().is_empty(), "{body}");
    assert_eq!(error["route"].as_str(), route, "{body}");
    assert_eq!(error["service"].as_str(), service, "{body}");
    assert!(!error["request_id"].as_str().unwrap().is_empty(), "{body}");
}

over_both_protocols! {
    async fn an_unknown_host_is_no_route(speaks: Speaks) {
        let toml = one_service("http1", &[reserved()]).replace("\"*\"", "\"known\"");
        let daemon = Daemon::start(&toml);
        let mut client = Client::connect(daemon.address(), speaks).await;
        let answer = client.ask(get("unknown", "/").header("x-request-id", "mine")).await;
        assert_failure(&answer, 404, "no_route", None, None);
        assert_eq!(answer.json()["error"]["request_id"], "mine");
        daemon.metric_becomes("errors_total", &[("reason", "no_route")], 1.0).await;
        assert_eq!(client.ask(get("unknown", "/")).await.status, 404, "the connection lives on");
    }
}

over_both_protocols! {
    async fn an_endpoint_that_refuses_is_connect_failed(speaks: Speaks) {
        for protocol in ["http1", "http2"] {
            let daemon = Daemon::start(&one_service(protocol, &[reserved()]));
            let answer = client::ask(daemon.address(), speaks, get("svc", "/")).await;
            assert_failure(&answer, 502, "connect_failed", Some("all"), Some("echo"));
            daemon.metric_becomes("errors_total", &[("reason", "connect_failed")], 1.0).await;
            daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
        }
    }
}

over_both_protocols! {
    async fn a_handshake_that_takes_too_long_is_connect_failed(speaks: Speaks) {
        // 192.0.2.0/24 is for documentation: either there is no way to it, or nobody answers.
        let toml = one_service("http1", &["192.0.2.1:9".parse().unwrap()]) + "connect_timeout = \"200ms\"\n";
        let daemon = Daemon::start(&toml);
        let start = Instant::now();
        let answer = client::ask(daemon.address(), speaks, get("svc", "/")).await;
        assert_failure(&answer, 502, "connect_failed", Some("all"), Some("echo"));
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    }
}

over_both_protocols! {
    async fn a_server_that_breaks_off_before_its_answer_is_upstream_reset(speaks: Speaks) {
        let server = RawServer::start().await;
        let daemon = Daemon::start(&one_service("http1", &[server.address]));
        let mut client = Client::connect(daemon.address(), speaks).await;
        let asking = tokio::spawn(async move { client.ask(crate::support::call("POST", "svc", "/")).await });
        let mut upstream = server.accept().await;
        upstream.read_head().await;
        upstream.reset();
        let answer = within("the answer", asking).await.unwrap();
        assert_failure(&answer, 502, "upstream_reset", Some("all"), Some("echo"));
        daemon.metric_becomes("errors_total", &[("reason", "upstream_reset")], 1.0).await;
    }
}

over_both_protocols! {
    async fn an_answer_that_is_not_http_is_upstream_reset(speaks: Speaks) {
        for garbage in ["SSH-2.0-OpenSSH_9.2\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"] {
            let server = RawServer::start().await;
            let daemon = Daemon::start(&one_service("http1", &[server.address]));
            let mut client = Client::connect(daemon.address(), speaks).await;
            let asking = tokio::spawn(async move { client.ask(crate::support::call("POST", "svc", "/")).await });
            let mut upstream = server.accept().await;
            upstream.read_head().await;
            upstream.send(garbage).await;
            let answer = within("the answer", asking).await.unwrap();
            assert_eq!((answer.status, answer.reason()), (502, "upstream_reset"), "{garbage:?}");
        }
    }
}

over_both_protocols! {
    async fn a_request_that_takes_too_long_is_a_timeout(speaks: Speaks) {
        for (protocol, key) in [("http1", "timeout"), ("http2", "timeout"), ("http1", "attempt_timeout")] {
            let backend = Backend::start("one").await;
            let toml = one_service(protocol, &[backend.address])
                .replace("hosts =", &format!("{key} = \"100ms\"\nhosts ="));
            let daemon = Daemon::start(&toml);
            let start = Instant::now();
            let answer = client::ask(daemon.address(), speaks, get("svc", "/hang")).await;
            assert_failure(&answer, 504, "timeout", Some("all"), Some("echo"));
            assert!(start.elapsed() >= Duration::from_millis(100));
            eventually("the server's request is cancelled", async || backend.running() == 0).await;
            daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
        }
    }
}

over_both_protocols! {
    async fn a_timeout_in_the_middle_of_an_answer_cuts_it(speaks: Speaks) {
        let backend = Backend::start("one").await;
        let toml = one_service("http1", &[backend.address]).replace("hosts =", "timeout = \"200ms\"\nhosts =");
        let daemon = Daemon::start(&toml);
        let mut client = Client::connect(daemon.address(), speaks).await;
        let response = client.send(get("svc", "/drip")).await;
        assert_eq!(response.status(), 200);
        let outcome = within("the cut", Answer::read(response)).await;
        assert!(outcome.is_err(), "half an answer must not look whole: {outcome:?}");
        daemon.metric_becomes("requests_in_flight", &[], 0.0).await;
    }
}

over_both_protocols! {
    async fn an_attempt_timeout_leaves_a_slow_body_alone(speaks: Speaks) {
        let server = RawServer::start().await;
        let toml = one_service("http1", &[server.address]).replace("hosts =", "attempt_timeout = \"200ms\"\nhosts =");
        let daemon = Daemon::start(&toml);
        let mut client = Client::connect(daemon.address(), speaks).await;
        let asking = tokio::spawn(async move { client.ask(get("svc", "/")).await });
        let mut upstream = server.accept().await;
        upstream.read_head().await;
        upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab").await;
        tokio::time::sleep(Duration::from_millis(400)).await; // what the timeout would have been, twice
        upstream.send("cd").await;
        assert_eq!(within("the answer", asking).await.unwrap().text(), "abcd");
    }
}

over_both_protocols! {
    async fn a_head_over_the_limit_is_headers_too_large(speaks: Speaks) {
        let backend = Backend::start("one").await;
        let toml = format!("[limits]\nheader_count = 20\n{}", one_service("http1", &[backend.address]));
        let daemon = Daemon::start(&toml);
        let mut client = Client::connect(daemon.address(), speaks).await;
        let request = (0..30).fold(get("svc", "/"), |request, number| request.header(&format!("x-{number}"), "1"));
        let answer = client.ask(request).await;
        assert_eq!((answer.status, answer.reason()), (431, "headers_too_large"));
        assert_eq!(backend.requests(), 0);
        daemon.metric_becomes("errors_total", &[("reason", "headers_too_large")], 1.0).await;
    }
}

over_both_protocols! {
    async fn a_request_that_comes_back_is_loop_detected(speaks: Speaks) {
        let listener = "[[listeners]]\nname = \"outgoing\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:PORT\"\n";
        let port = reserved().port().to_string();
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        for protocol in ["http1", "http2"] {
            let daemon = Daemon::start(&(listener.replace("PORT", &port) + &one_service(protocol, &[address])));
            let answer = client::ask(daemon.address(), speaks, get("svc", "/")).await;
            assert_eq!((answer.status, answer.reason()), (508, "loop_detected"), "{answer:?}");
            let passes = daemon.metric("requests_total", &[]).await;
            assert!(passes <= 12.0, "{passes} passes before it was seen");
        }
    }
}

over_both_protocols! {
    async fn a_name_that_does_not_exist_has_no_endpoints(speaks: Speaks) {
        let toml = "[dns]\nservers = [\"127.0.0.1:9\"]\ntimeout = \"100ms\"\nfirst_answer_timeout = \"300ms\"\n\
            [[routes]]\nname = \"all\"\nhosts = [\"*\"]\nbackends = [{ service = \"named\" }]\n\
            [services.named]\ndns = \"nobody.test:80\"\n";
        let daemon = Daemon::start(toml);
        let answer = client::ask(daemon.address(), speaks, get("svc", "/")).await;
        assert_failure(&answer, 503, "no_endpoints", Some("all"), Some("named"));
    }
}

over_both_protocols! {
    async fn answers_of_servers_pass_whatever_their_status(speaks: Speaks) {
        let backend = Backend::start("one").await;
        let daemon = Daemon::start(&one_service("http1", &[backend.address]));
        let mut client = Client::connect(daemon.address(), speaks).await;
        for status in [200, 299, 301, 404, 418, 500, 503, 599] {
            let answer = client.ask(get("svc", &format!("/status/{status}"))).await;
            assert_eq!((answer.status, answer.reason(), answer.backend()), (status, "", "one"));
        }
        let metric = [("listener", "outgoing"), ("route", "all"), ("service", "echo"), ("code", "503")];
        daemon.metric_becomes("requests_total", &metric, 1.0).await;
        assert!(daemon.metric("request_duration_seconds_count", &[("service", "echo")]).await >= 8.0);
    }
}

over_both_protocols! {
    async fn a_request_that_has_come_through_three_times_is_served_and_one_of_four_is_not(speaks: Speaks) {
        let backend = Backend::start("one").await;
        let daemon = Daemon::start(&one_service("http1", &[backend.address]));
        let own = "1.1 towpath-test";
        let fields: [&dyn Fn(usize) -> Vec<String>; 2] =
            [&|passes| vec![own; passes].into_iter().map(Into::into).collect(), &|passes| vec![[own].repeat(passes).join(", ")]];
        for fields in fields {
            for (passes, status) in [(3, 200), (4, 508)] {
                let started = get("svc", "/").header("via", "1.1 towpath-other");
                let request = fields(passes).iter().fold(started, |request, via| request.header("via", via));
                let answer = client::ask(daemon.address(), speaks, request).await;
                assert_eq!(answer.status, status, "{passes} passes: {answer:?}");
                assert_eq!(answer.reason(), if status == 508 { "loop_detected" } else { "" });
            }
        }
        assert_eq!(backend.requests(), 2);
    }
}
