//! towpath: a service mesh data plane, one proxy daemon per host.
//!
//! Modules stand in the order a request travels. The number is the module's level: a module imports only from
//! lower levels, and siblings never import each other (`tests/it/architecture.rs` proves it).

/// 10: admin API and explain.
pub mod admin;
/// 11: composition root: checked config -> running node -> handles.
pub mod app;
/// 4: who a caller is, policy decisions, tokens and the keys of their issuers.
pub mod auth;
/// 3: pure choice of an endpoint: least-request, round-robin.
pub mod balance;
/// 12: the command line.
pub mod cli;
/// 1: typed -> checked; problems with positions; schema and reference are generated from it.
pub mod config;
/// 4: where a service's endpoints come from: fixed, DNS; the last good answer is kept.
pub mod discovery;
/// 0: shutdown as a type: trigger, watcher, deadline.
pub mod drain;
/// 4: spans to an OpenTelemetry collector, on a thread of its own.
pub mod export;
/// 5: the gate that says whether an endpoint may be used; ejection feeds it.
pub mod health;
/// 0: the one body type; hop-by-hop rules; authorities; HTTP/1.1 framing.
pub mod http;
/// 10: signals, drain, readiness.
pub mod lifecycle;
/// 3: limits as pure arithmetic: places and queues, adaptive limits, retry budgets, latency quantiles, the memory ceiling.
pub mod limit;
/// 0: sockets: addresses, listening, streams, the kernel's view of a peer.
pub mod net;
/// 8: one request: phases in order, attempts, deadline, failure table, headers.
pub mod proxy;
/// 0: one value that control publishes and workers read.
pub mod published;
/// 3: pure matching: host, path, method, header, query, split.
pub mod router;
/// 9: one connection: accept, detect, serve HTTP/1.1 and HTTP/2.
pub mod server;
/// 6: endpoints + balancer + policies of one name.
pub mod service;
/// 7: checked config + previous snapshot -> snapshot; reload.
pub mod snapshot;
/// 2: metrics declared once; access log; trace context; towpath's own log.
pub mod telemetry;
/// 3: certificates, verification, hot reload of their files.
pub mod tls;
/// 4: connect, worker-local pools, HTTP/1.1 and HTTP/2 towards endpoints.
pub mod upstream;
