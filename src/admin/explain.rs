//! Why a request would go where it goes: which listener, which route, and what became of every other route.
//!
//! The decision and the reasons are the router's. This file reads the question and gives the answer its names, for the
//! command line (which has only a file) and for `/api/explain` (which asks the router in force).
//!
//! # Which host
//! A `host` header wins over the URL's, as with curl: `-H 'host: reviews' http://127.0.0.1:4140/` asks about `reviews`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::{
    explain_policy::{self, Allowed},
    resilience_view::{fault_in_words, hedge_in_words, retry_in_words},
    server::{Shared, refused},
    token_view::{authorize_in_words, token_in_words},
    words,
};
use crate::{
    auth::Facts,
    config::{Backend, BackendTarget, Config, ListenerKind, Route, ServicePolicy},
    http::authority,
    router::{self, RequestView, Router, Verdict},
};

/// A request that somebody asks about.
#[derive(Debug)]
pub struct Question {
    method: Method,
    host: String,
    port: Option<u16>,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    caller: String,
}

/// Where a request goes and why.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The listener that it came to.
    pub listener: String,
    /// Who asks.
    pub caller: String,
    /// Its method.
    pub method: String,
    /// Without port.
    pub host: String,
    /// Without query.
    pub path: String,
    /// Without the question mark.
    pub query: Option<String>,
    /// Where it goes; none is the failure `no_route`.
    pub route: Option<Chosen>,
    /// The listener's other routes, in file order.
    pub others: Vec<Other>,
}

/// The route that won.
#[derive(Debug, Serialize)]
pub struct Chosen {
    /// Its name.
    pub name: String,
    /// What of it the request met.
    pub because: String,
    /// The whole request.
    pub timeout: Option<String>,
    /// One attempt.
    pub attempt_timeout: Option<String>,
    /// Where its requests go.
    pub backends: Vec<Share>,
    /// What of them is sent again.
    pub retry: Option<String>,
    /// When a second attempt is made beside a slow one.
    pub hedge: Option<String>,
    /// Services that stand in for them, in order.
    pub failover: Vec<String>,
    /// For how long a service has to be able to take requests before they come back to it.
    pub failover_back_after: String,
    /// What is done to requests on purpose.
    pub fault: Option<String>,
    /// The token that its requests must have.
    pub token: Option<String>,
    /// Who is asked whether they may pass.
    pub authorize: Option<String>,
}

/// One backend of the route that won.
#[derive(Debug, Serialize)]
pub struct Share {
    /// The service's name.
    pub service: String,
    /// Of the route's requests.
    pub percent: f64,
    /// Where its endpoints come from.
    pub source: String,
    /// `auto`, `http1` or `http2`.
    pub protocol: String,
    /// `least-request` or `round-robin`.
    pub balancer: String,
    /// Of the TCP handshake.
    pub connect_timeout: String,
    /// Whether the caller may.
    pub policy: Allowed,
}

/// A route that did not win.
#[derive(Debug, Serialize)]
pub struct Other {
    /// Its name.
    pub name: String,
    /// Whether the request meets it too.
    pub matches: bool,
    /// Why it does not match, or what the winner has over it.
    pub reason: String,
}

impl Question {
    /// `url`: `http://host[:port]/path?query`, without scheme too, or a path alone with a `host` header, or `*`.
    /// `headers`: `name: value`.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn read(method: &str, url: &str, headers: &[String]) -> Result<Self, String> {
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| format!("`{method}` is no method"))?;
        let headers = read_headers(headers)?;
        let (in_url, rest) = read_url(url)?;
        let in_header = headers.get(header::HOST).map(|host| host.to_str().unwrap_or_default().to_owned());
        let Some(named) = in_header.or(in_url) else {
            return Err(format!("`{url}` names no host; write http://HOST{url}, or give a `host` header"));
        };
        let (host, port) =
            authority::split(&named).ok_or_else(|| format!("`{named}` is no host and port"))?;
        let host = host.to_ascii_lowercase();
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (rest, None),
        };
        Ok(Self { method, host, port, path, query, headers, caller: explain_policy::caller(None) })
    }

    /// The same, asked by the caller of this name; an unknown one without.
    pub fn asked_by(self, caller: Option<&str>) -> Self {
        Self { caller: explain_policy::caller(caller), ..self }
    }

    fn facts(&self) -> Facts<'_> {
        let Self { caller, method, path, headers, .. } = self;
        Facts { caller, method, path, headers, claims: None }
    }

    fn view(&self) -> RequestView<'_> {
        RequestView {
            host: &self.host,
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
        }
    }
}

/// The authority, if there is one, and the path with its query.
fn read_url(url: &str) -> Result<(Option<String>, String), String> {
    if url == "*" {
        return Ok((None, url.to_owned()));
    }
    let whole =
        if url.starts_with('/') || url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let uri: Uri = whole.parse().map_err(|error| format!("`{url}` is no URL: {error}"))?;
    let rest = uri.path_and_query().map_or("/", |rest| rest.as_str());
    Ok((uri.authority().map(|authority| authority.to_string()), rest.to_owned()))
}

fn read_headers(lines: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let parts = line.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        let (name, value) = parts.ok_or_else(|| format!("`{line}` is no header; write `name: value`"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// The listener of this name; without one, the first that takes requests of local services.
///
/// # Errors
/// Which listeners there are, when there is none of this name.
pub fn listener(config: &Config, name: Option<&str>) -> Result<usize, String> {
    let found = match name {
        Some(name) => config.listeners.iter().position(|listener| &*listener.name == name),
        None => {
            let outgoing =
                config.listeners.iter().position(|listener| listener.kind == ListenerKind::Outgoing);
            outgoing.or(Some(0))
        }
    };
    found.ok_or_else(|| {
        let names: Vec<&str> = config.listeners.iter().map(|listener| &*listener.name).collect();
        format!("there is no listener `{}`; there are: {}", name.unwrap_or_default(), names.join(", "))
    })
}

/// Answers from a configuration alone.
pub fn offline(config: &Config, listener: usize, question: &Question) -> Explanation {
    let routes = config.routes.iter().map(|rule| &**rule).enumerate();
    let rules = routes.filter(|(_, rule)| rule.listeners.contains(&listener));
    explain(config, &Router::new(rules), listener, question)
}

/// Answers from `router`, which has the rules of `listener` in `config`.
fn explain(config: &Config, router: &Router, listener: usize, question: &Question) -> Explanation {
    let mut answer = Explanation {
        listener: config.listeners[listener].name.to_string(),
        caller: question.caller.clone(),
        method: question.method.to_string(),
        host: question.host.clone(),
        path: question.path.clone(),
        query: question.query.clone(),
        route: None,
        others: Vec::new(),
    };
    for rule in router.explain(&question.view()).rules {
        let route = &config.routes[rule.route];
        match rule.verdict {
            Verdict::Won { host, entry } => {
                answer.route = Some(chosen((config, listener), route, &host, entry, question))
            }
            verdict => answer.others.push(other(config, route, &verdict)),
        }
    }
    answer
}

fn other(config: &Config, route: &Route, verdict: &Verdict) -> Other {
    let (matches, reason) = match verdict {
        Verdict::NoMatch(mismatch) => (false, mismatch.to_string()),
        Verdict::Lost { to, by, .. } => (true, lost(&config.routes[*to].name, *by)),
        Verdict::Won { .. } => (true, String::new()),
    };
    Other { name: route.name.to_string(), matches, reason }
}

fn lost(winner: &str, by: router::LostBy) -> String {
    format!("`{winner}` takes precedence: {by}")
}

fn chosen(
    (config, listener): (&Config, usize),
    route: &Route,
    host: &str,
    entry: usize,
    question: &Question,
) -> Chosen {
    let shares = words::percentages(route.backends.iter().map(|backend| backend.weight));
    let backends = route.backends.iter().zip(shares);
    Chosen {
        name: route.name.to_string(),
        because: format!("host `{host}`, {}", route.matches[entry]),
        timeout: route.timeout.map(words::duration),
        attempt_timeout: route.attempt_timeout.map(words::duration),
        backends: backends
            .map(|(backend, percent)| share((config, listener), backend, percent, question))
            .collect(),
        retry: route.retry.as_ref().map(retry_in_words),
        hedge: route.hedge.map(hedge_in_words),
        failover: route.failover.services.iter().map(ToString::to_string).collect(),
        failover_back_after: words::duration(route.failover.back_after),
        fault: route.fault.as_ref().map(fault_in_words),
        token: route.jwt.as_ref().map(token_in_words),
        authorize: route.authorize.as_ref().map(authorize_in_words),
    }
}

fn share(
    (config, listener): (&Config, usize),
    backend: &Backend,
    percent: f64,
    question: &Question,
) -> Share {
    let (service, source, policy): (String, String, &ServicePolicy) = match &backend.target {
        BackendTarget::Service(name) => {
            let service = &config.services[name];
            (name.to_string(), words::source(&service.source), &service.policy)
        }
        BackendTarget::PerHost(template) => {
            let port = template.port.or(question.port).unwrap_or(80);
            let host = question.host.trim_end_matches('.');
            let bare = format!("{}{host}{}", template.prefix, template.suffix).to_ascii_lowercase();
            let name = format!("{bare}:{port}");
            let source = if config.host_services.allow(&bare) {
                format!("dns {name}, made on first use")
            } else {
                "none: in none of the domains of host_services.suffixes, the answer is 403 denied".to_owned()
            };
            (name, source, &*template.policy)
        }
    };
    let named = match &backend.target {
        BackendTarget::Service(name) => Some(&**name),
        BackendTarget::PerHost(_) => None,
    };
    Share {
        policy: explain_policy::allowed(config, listener, named, &question.facts()),
        service,
        percent,
        source,
        protocol: words::protocol(policy.protocol).to_owned(),
        balancer: words::balancer(&policy.balancer),
        connect_timeout: words::duration(policy.connect_timeout),
    }
}

/// `/api/explain?listener=&method=&url=&caller=&header=k:v`, `header` any number of times.
pub(super) async fn answer(
    State(shared): State<Arc<Shared>>,
    Query(parameters): Query<Vec<(String, String)>>,
) -> Response {
    let snapshot = shared.snapshot();
    let named = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let headers: Vec<String> =
        parameters.iter().filter(|(key, _)| key == "header").map(|(_, value)| value.clone()).collect();
    let explained = check_names(&parameters).and_then(|()| {
        let url = named("url").ok_or("the parameter `url` is missing")?;
        let caller = named("caller").filter(|name| !name.is_empty());
        let question = Question::read(named("method").unwrap_or("GET"), url, &headers)?.asked_by(caller);
        let listener = listener(&snapshot.config, named("listener").filter(|name| !name.is_empty()))?;
        Ok(explain(&snapshot.config, &snapshot.listeners[listener].router, listener, &question))
    });
    match explained {
        Ok(explanation) => Json(explanation).into_response(),
        Err(error) => refused(StatusCode::BAD_REQUEST, error),
    }
}

fn check_names(parameters: &[(String, String)]) -> Result<(), String> {
    let known = ["listener", "method", "url", "header", "caller"];
    match parameters.iter().find(|(name, _)| !known.contains(&name.as_str())) {
        Some((name, _)) => Err(format!("there is no parameter `{name}`; there are: {}", known.join(", "))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn config() -> Config {
        let text = r#"
            [[listeners]]
            name = "incoming"
            kind = "incoming"
            listen = "127.0.0.1:4141"
            [[listeners]]
            name = "outgoing"
            kind = "outgoing"
            listen = "127.0.0.1:4140"
            [[routes]]
            name = "android"
            hosts = ["reviews"]
            match = [{ path_prefix = "/v2", headers = { client = "Android" } }]
            backends = [{ service = "v2" }]
            [[routes]]
            name = "reviews"
            hosts = ["reviews"]
            backends = [{ service = "v2", weight = 10 }, { service = "v1", weight = 90 }]
            timeout = "2s"
            retry = { on = ["5xx"], attempts = 2, methods = ["GET"] }
            hedge = { after = "100ms" }
            [[routes]]
            name = "rest"
            hosts = ["*.local"]
            backends = [{ dns = "{host}" }]
            [services.v1]
            dns = "v1.prod:8080"
            [services.v2]
            endpoints = ["10.0.0.1:80"]
            protocol = "http2"
        "#;
        config::parse(text, Path::new("t.toml")).unwrap()
    }

    fn ask(url: &str, headers: &[&str]) -> Explanation {
        let config = config();
        let headers: Vec<String> = headers.iter().map(|&header| header.to_owned()).collect();
        let question = Question::read("GET", url, &headers).unwrap();
        offline(&config, listener(&config, None).unwrap(), &question)
    }

    #[test]
    fn the_winner_comes_with_its_shares_and_the_others_with_their_reasons() {
        let answer = ask("http://Reviews:8080/v2/x?a=b", &["client: iPhone"]);
        let route = answer.route.as_ref().unwrap();
        assert_eq!((&*route.name, route.timeout.as_deref()), ("reviews", Some("2s")));
        let shares: Vec<_> = route.backends.iter().map(|share| (&*share.service, share.percent)).collect();
        assert_eq!(shares, [("v2", 10.0), ("v1", 90.0)]);
        assert_eq!(route.backends[0].protocol, "http2");
        let others: Vec<_> = answer.others.iter().map(|other| (&*other.name, other.matches)).collect();
        assert_eq!(others, [("android", false), ("rest", false)]);
        assert!(answer.others[0].reason.contains("`client` is `iPhone`"), "{}", answer.others[0].reason);
        let text = answer.to_string();
        for line in [
            "route     reviews\n",
            "retry     on 5xx; 2 attempts, GET, backoff 25ms to 250ms\n",
            "hedge     a second attempt after 100ms\n",
            "   90.0 %  v1  dns v1.prod:8080; protocol auto",
            "path /v2/x?a=b\n",
        ] {
            assert!(text.contains(line), "no {line:?} in\n{text}");
        }
    }

    #[test]
    fn a_route_that_matches_too_says_what_the_winner_has_over_it() {
        let answer = ask("reviews/v2", &["client: Android"]);
        assert_eq!(
            answer.route.unwrap().because,
            "host `reviews`, path prefix `/v2`, header `client` is `Android`"
        );
        assert!(answer.others[0].matches);
        assert!(
            answer.others[0].reason.starts_with("`android` takes precedence: "),
            "{}",
            answer.others[0].reason
        );
    }

    #[test]
    fn a_host_service_is_named_as_the_daemon_would_name_it() {
        let share = |url| ask(url, &[]).route.unwrap().backends.remove(0).service;
        assert_eq!(share("http://A.Local/"), "a.local:80");
        assert_eq!(share("http://a.local:8080/"), "a.local:8080");
    }

    #[test]
    fn without_a_route_the_answer_is_no_route() {
        let answer = ask("/", &["host: nobody"]);
        assert!(answer.route.is_none());
        assert!(answer.to_string().contains("no_route"));
        assert!(serde_json::to_value(&answer).unwrap()["route"].is_null());
    }

    #[test]
    fn a_host_header_wins_over_the_url_as_with_curl() {
        assert_eq!(ask("http://127.0.0.1:4140/", &["Host: reviews"]).route.unwrap().name, "reviews");
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let error =
            |method, url, header: &str| Question::read(method, url, &[header.to_owned()]).unwrap_err();
        assert!(error("G T", "a/", "a: b").contains("`G T`"));
        assert!(error("GET", "/x", "a: b").contains("names no host"));
        assert!(error("GET", "http://a b/", "a: b").contains("no URL"));
        assert!(error("GET", "http://u@a/", "a: b").contains("no host and port"));
        assert!(error("GET", "a/", "nonsense").contains("`nonsense`"));
        assert!(listener(&config(), Some("x")).unwrap_err().contains("incoming, outgoing"));
    }
}
