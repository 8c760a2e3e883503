//! `/api/config`: the configuration in force in the shape of the file, with every default filled in.

use std::{path::Path, sync::Arc};

use axum::{Json, extract::State};
use serde_json::{Map, Value, json};

use super::{access_log_view, resilience_view, routes, server::Shared, words};
use crate::{
    config::{
        Admin, Balancer, Config, Ejection, FixedEndpoint, Limits, Listener, Locality, Pool, Service,
        ServicePolicy, Source,
    },
    net::Subnet,
};

pub(super) async fn config(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let snapshot = shared.snapshot();
    Json(json!({ "generation": snapshot.generation, "config": whole(&snapshot.config) }))
}

fn whole(config: &Config) -> Value {
    let services: Map<_, _> =
        config.services.iter().map(|(name, given)| (name.to_string(), service(given))).collect();
    let servers: Vec<String> = config.dns.servers.iter().map(ToString::to_string).collect();
    json!({
        "node": {
            "name": &*config.node.name,
            "zone": config.node.zone.as_deref(),
            "workers": config.node.workers.get(),
            "subnets": subnets(&config.node.subnets),
            "position": config.node.position.map(|of| json!({ "index": of.index, "count": of.count })),
        },
        "admin": admin(&config.admin),
        "drain": { "timeout": words::duration(config.drain.timeout) },
        "limits": limits(&config.limits),
        "overload": resilience_view::concurrency(config.overload),
        "dns": {
            "servers": servers,
            "timeout": words::duration(config.dns.timeout),
            "first_answer_timeout": words::duration(config.dns.first_answer_timeout),
            "max_stale": words::duration(config.dns.max_stale),
        },
        "zones": config.zones.iter().map(|(name, of)| (name.to_string(), json!(subnets(of)))).collect::<Map<_, _>>(),
        "access_log": config.access_log.as_ref().map(access_log_view::access_log),
        "host_services": {
            "max": config.host_services.max,
            "idle_timeout": words::duration(config.host_services.idle_timeout),
            "suffixes": config.host_services.suffixes,
        },
        "listeners": config.listeners.iter().map(listener).collect::<Vec<_>>(),
        "routes": routes::all(config),
        "services": services,
    })
}

/// Files are named, never shown.
fn admin(admin: &Admin) -> Value {
    let file = |file: &Path| json!(file.display().to_string());
    let tls = admin.access.tls.as_ref().and_then(|tls| {
        let pair = tls.certificates.first()?;
        let client_ca = tls.client_ca.as_deref().map(file);
        Some(json!({ "cert": file(&pair.cert), "key": file(&pair.key), "client_ca": client_ca }))
    });
    json!({
        "listen": admin.listen.to_string(),
        "tls": tls,
        "read_token": admin.access.read_token.as_deref().map(file),
        "control_token": admin.access.control_token.as_deref().map(file),
    })
}

fn subnets(subnets: &[Subnet]) -> Vec<String> {
    subnets.iter().map(ToString::to_string).collect()
}

fn limits(limits: &Limits) -> Value {
    json!({
        "header_bytes": words::size(limits.header_bytes),
        "header_count": limits.header_count,
        "first_byte_timeout": words::duration(limits.first_byte_timeout),
        "head_timeout": words::duration(limits.head_timeout),
        "idle_timeout": words::duration(limits.idle_timeout),
        "max_streams": limits.max_streams,
        "memory": limits.memory.map(|bytes| words::size(bytes as usize)),
    })
}

fn listener(listener: &Listener) -> Value {
    json!({
        "name": &*listener.name,
        "kind": words::kind(listener.kind),
        "listen": listener.address.to_string(),
    })
}

fn service(service: &Service) -> Value {
    let mut written = policy(&service.policy);
    match &service.source {
        Source::Dns { host, port } => drop(written.insert("dns".to_owned(), json!(format!("{host}:{port}")))),
        Source::Fixed(endpoints) => {
            let list: Vec<Value> = endpoints.iter().map(endpoint).collect();
            written.insert("endpoints".to_owned(), json!(list));
        }
        Source::Srv(name) => drop(written.insert("srv".to_owned(), json!(name))),
        Source::File(path) => drop(written.insert("file".to_owned(), json!(path.display().to_string()))),
    }
    Value::Object(written)
}

fn endpoint(endpoint: &FixedEndpoint) -> Value {
    json!({ "address": endpoint.address.to_string(), "weight": endpoint.weight, "zone": endpoint.zone.as_deref() })
}

fn policy(policy: &ServicePolicy) -> Map<String, Value> {
    let mut written = Map::new();
    written.insert("protocol".to_owned(), json!(words::protocol(policy.protocol)));
    written.insert("balancer".to_owned(), balancer(&policy.balancer));
    written.insert("connect_timeout".to_owned(), json!(words::duration(policy.connect_timeout)));
    written.insert("pool".to_owned(), pool(&policy.pool));
    written.insert("slow_start".to_owned(), json!(words::duration(policy.slow_start)));
    written.insert("locality".to_owned(), locality(policy.locality));
    written.insert("aperture".to_owned(), json!(policy.aperture));
    written.insert("panic_percent".to_owned(), json!(policy.panic_percent));
    written.insert("ejection".to_owned(), ejection(policy.ejection));
    written.append(&mut resilience_view::service(policy));
    written
}

fn balancer(balancer: &Balancer) -> Value {
    match balancer {
        Balancer::PeakEwma { decay } => json!({ "peak_ewma": words::duration(*decay) }),
        Balancer::Hash(key) => json!({ "hash": words::hash_key(key) }),
        plain => json!(words::balancer(plain)),
    }
}

fn locality(locality: Locality) -> Value {
    json!({ "prefer": words::prefer(locality.prefer), "max_requests": locality.max_requests })
}

fn ejection(ejection: Ejection) -> Value {
    json!({
        "consecutive_failures": ejection.consecutive_failures,
        "success_percent": ejection.success_percent,
        "window": words::duration(ejection.window),
        "min_requests": ejection.min_requests,
        "max_latency": ejection.max_latency.map(words::duration),
        "backoff": [words::duration(ejection.first), words::duration(ejection.longest)],
        "max_percent": ejection.max_percent,
    })
}

fn pool(pool: &Pool) -> Value {
    json!({
        "max_idle": pool.max_idle,
        "idle_timeout": words::duration(pool.idle_timeout),
        "max_lifetime": words::duration(pool.max_lifetime),
        "max_connections": pool.max_connections,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Environment};

    /// What this file shows must be what the daemon means, so it is read back.
    #[test]
    fn what_is_shown_means_the_same_configuration() {
        let text = r#"
            [admin]
            listen = "10.0.0.1:9990"
            tls = { cert = "/tls/a.crt", key = "/tls/a.key", client_ca = "/tls/ca.crt" }
            read_token = "/tokens/read"
            control_token = "/tokens/control"
            [dns]
            servers = ["127.0.0.1:5353"]
            [limits]
            header_bytes = "1025B"
            memory = "512MiB"
            [overload]
            max_requests = 77
            adaptive = true
            [[listeners]]
            name = "outgoing"
            kind = "outgoing"
            listen = "127.0.0.1:4140"
            [[listeners]]
            name = "in"
            kind = "incoming"
            listen = "unix:/run/towpath.sock"
            [[routes]]
            name = "reviews"
            listeners = ["in", "outgoing"]
            hosts = ["reviews", "*.reviews.internal"]
            match = [
                { path_prefix = "/v2", methods = ["GET"], headers = { client = "Android", x = { absent = true } } },
                { path_regex = "/v[0-9]+", query = { page = { present = true }, y = { regex = "a|b" } } },
                { path = "/healthz" },
            ]
            backends = [{ service = "b", weight = 10 }, { service = "a", weight = 90 }]
            timeout = "2s"
            attempt_timeout = "1500ms"
            priority = "high"
            failover = ["c", "d"]
            failover_back_after = "3s"
            retry = { on = ["5xx", "timeout", "429", "unavailable"], attempts = 4, methods = ["GET", "POST"], body_limit = "1KiB" }
            hedge = { percentile = 95 }
            fault = { delay = "1s", delay_max = "2s", delay_percent = 0.25, abort = "grpc:data-loss", match = [{ headers = { x = "y" } }] }
            [[routes]]
            name = "rest"
            backends = [{ dns = "{host}.local:8080" }]
            [services.a]
            dns = "a.local:80"
            protocol = "http2"
            [services.b]
            endpoints = ["10.0.0.1:80", { address = "10.0.0.2:80", weight = 3, zone = "z" }]
            balancer = "round-robin"
            pool = { max_idle = 3 }
            head_timeout = "3s"
            stream_idle_timeout = "2m"
            breaker = { max_connections = 5, max_requests = 6, max_pending = 0, pending_timeout = "7ms" }
            retry_budget = { percent = 0, min_per_second = 3 }
            health_check = { http = "/up", expect = [204], host = "b.local", port = 81, initially = "unhealthy" }
            [services.c]
            srv = "_http._tcp.c.local"
            balancer = { hash = "cookie:Session" }
            locality = { prefer = "zone", max_requests = 5 }
            aperture = 7
            [services.d]
            file = "/etc/endpoints/d"
            balancer = { peak_ewma = "5s" }
            slow_start = "30s"
            panic_percent = 40
            ejection = { consecutive_failures = 7, backoff = ["100ms", "1m"], max_percent = 30, success_percent = 80, max_latency = "2s" }
            health_check = { grpc = "" }
            [services.e]
            srv = "e.local"
            balancer = "peak-ewma"
            [zones]
            a = ["10.1.0.0/16", "fd00::/32"]
            [node]
            subnets = ["10.2.0.0/24"]
            position = { index = 3, count = 9 }
            [host_services]
            suffixes = [".Internal", "svc.local"]
        "#;
        let environment = Environment::of_process();
        let parse = |text: &str| {
            config::parse_in(text, Path::new("t.toml"), &environment)
                .unwrap_or_else(|problems| panic!("{problems}"))
        };
        let config = parse(text);
        let mut shown = whole(&config);
        // TOML has no null, and silence means the same.
        without_nulls(&mut shown);
        assert_eq!(parse(&toml::to_string(&shown).unwrap()), config);
    }

    fn without_nulls(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.retain(|_, value| !value.is_null());
                map.values_mut().for_each(without_nulls);
            }
            Value::Array(list) => list.iter_mut().for_each(without_nulls),
            _ => {}
        }
    }
}
