//! Every key of the configuration file, once: name, syntax, default, meaning, and whether it is built.
//!
//! The parser, the schema, `config/full.toml` and `docs/configuration.md` all follow from these tables. To build a
//! refused feature, replace its `Key::refused` by a real key and read it in `meaning.rs` or its neighbours.

use super::definition::{Choice, Choose, Key, Kind, Need, TableDef, Text};

const POSITIVE: Kind = Kind::Text(Text::Duration { zero: false });
const HEAD_SIZE: Text = Text::Size { min: 1 << 10, max: 16 << 20 };
const MILLION: u64 = 1_000_000;

/// The whole file.
pub static ROOT: TableDef = TableDef {
    doc: "The whole file.",
    keys: &[&[
        table("node", &NODE),
        table("admin", &ADMIN),
        table("drain", &DRAIN),
        table("limits", &LIMITS),
        table("dns", &DNS),
        table("access_log", &ACCESS_LOG),
        table("host_services", &HOST_SERVICES),
        table("defaults", &DEFAULTS),
        Key::required(
            "listeners",
            Kind::List { item: &Kind::Table(&LISTENER), empty: false },
            "[]",
            "Sockets that take requests. At least one.",
        ),
        Key::optional(
            "routes",
            Kind::List { item: &Kind::Table(&ROUTE), empty: true },
            "every request is answered no_route",
            "[]",
            "Rules: which requests, and where they go. The most specific rule wins: host, exact path, longest path_prefix, path_regex, method, most headers, most query parameters, file order.",
        ),
        Key::optional(
            "services",
            Kind::Map { name: Text::Name, value: &Kind::Table(&SERVICE), example: "reviews" },
            "none",
            "{}",
            "Services by name: where their endpoints come from, and their policies.",
        ),
        Key::refused("callers", "limits and identities of callers are not built yet"),
        Key::refused("policies", "authorization policies are not built yet"),
        Key::refused("jwt", "JWT validation is not built yet"),
        Key::refused("tracing", "trace export is not built yet"),
    ]],
    choose: None,
};

const fn table(name: &'static str, def: &'static TableDef) -> Key {
    Key {
        name,
        kind: Kind::Table(def),
        need: Need::Default("{}"),
        example: "{}",
        doc: def.doc,
        refused: None,
    }
}

/// `[node]`.
pub static NODE: TableDef = TableDef {
    doc: "Who this node is.",
    keys: &[&[
        Key::optional(
            "name",
            Kind::Text(Text::Name),
            "$NODE_NAME, else the host's name",
            r#""node-7""#,
            "The node's name, in metrics and logs.",
        ),
        Key::optional(
            "zone",
            Kind::Text(Text::Name),
            "$NODE_ZONE, else none",
            r#""eu-1a""#,
            "The zone that the node stands in.",
        ),
        Key::optional(
            "workers",
            Kind::Number { min: 1, max: 1024 },
            "the CPUs that the cgroup allows",
            "2",
            "Worker threads. A change takes effect at the next start.",
        ),
    ]],
    choose: None,
};

/// `[admin]`.
pub static ADMIN: TableDef = TableDef {
    doc: "The admin API: health, metrics, status, reload and drain.",
    keys: &[&[Key::default(
        "listen",
        Kind::Text(Text::AdminListen),
        r#""127.0.0.1:9990""#,
        "ADDRESS:PORT of the admin API; port 0 lets the kernel choose.",
    )]],
    choose: None,
};

/// `[drain]`.
pub static DRAIN: TableDef = TableDef {
    doc: "How a node stops.",
    keys: &[&[Key::default(
        "timeout",
        Kind::Text(Text::Duration { zero: true }),
        r#""30s""#,
        "Duration: requests that still run after this are cut off.",
    )]],
    choose: None,
};

/// `[limits]`.
pub static LIMITS: TableDef = TableDef {
    doc: "What a client may send, over every listener.",
    keys: &[&[
        Key::default(
            "header_bytes",
            Kind::Text(HEAD_SIZE),
            r#""64KiB""#,
            "Size of a request's head (HTTP/1.1) or decoded header list (HTTP/2).",
        ),
        Key::default("header_count", Kind::Number { min: 1, max: 10_000 }, "100", "Fields in a head."),
        Key::default("first_byte_timeout", POSITIVE, r#""10s""#, "Duration from accept to the first byte."),
        Key::default("head_timeout", POSITIVE, r#""10s""#, "Duration from a head's first byte to its last."),
        Key::default(
            "idle_timeout",
            POSITIVE,
            r#""10m""#,
            "Duration after which a connection without a running request is closed.",
        ),
        Key::default(
            "max_streams",
            Kind::Number { min: 1, max: MILLION },
            "256",
            "Concurrent HTTP/2 streams of one connection.",
        ),
        Key::refused("memory", "a memory limit is not built yet"),
    ]],
    choose: None,
};

/// `[dns]`.
pub static DNS: TableDef = TableDef {
    doc: "How names are resolved.",
    keys: &[&[
        Key::default(
            "servers",
            Kind::List { item: &Kind::Text(Text::DnsServer), empty: true },
            "[]",
            "Addresses of DNS servers, port 53 where none is given. Empty: those of the system's resolv.conf.",
        ),
        Key::default("timeout", POSITIVE, r#""2s""#, "Duration that one query waits for its answer."),
        Key::default(
            "first_answer_timeout",
            POSITIVE,
            r#""5s""#,
            "Duration that a request waits for a service that has no answer yet.",
        ),
        Key::refused("max_stale", "an age limit of DNS answers is not built yet"),
    ]],
    choose: None,
};

/// `[access_log]`.
pub static ACCESS_LOG: TableDef = TableDef {
    doc: "The access log: one line per request.",
    keys: &[&[
        Key::optional(
            "path",
            Kind::Text(Text::LogPath),
            "no access log",
            r#""stdout""#,
            "Where lines go: \"stdout\" or a file, which is appended to.",
        ),
        Key::default(
            "format",
            Kind::Text(Text::Choice(&[
                Choice::built("json", "one JSON object per line"),
                Choice::refused("text", "access log formats other than \"json\" are not built yet"),
            ])),
            r#""json""#,
            "What a line looks like.",
        ),
        Key::refused("only", "a filter of the access log is not built yet"),
    ]],
    choose: None,
};

/// `[host_services]`.
pub static HOST_SERVICES: TableDef = TableDef {
    doc: "Bounds on services that are made on first use from a \"{host}\" backend.",
    keys: &[&[
        Key::default(
            "max",
            Kind::Number { min: 1, max: MILLION },
            "1024",
            "Such services at once; a request for one more is refused as overloaded.",
        ),
        Key::default(
            "idle_timeout",
            POSITIVE,
            r#""10m""#,
            "Duration without a request after which one is dropped.",
        ),
    ]],
    choose: None,
};

/// `[defaults]`.
pub static DEFAULTS: TableDef = TableDef {
    doc: "Policies of services and routes that are silent about them.",
    keys: &[&[table("service", &SERVICE_DEFAULTS), table("route", &ROUTE_DEFAULTS)]],
    choose: None,
};

/// `[defaults.service]`.
pub static SERVICE_DEFAULTS: TableDef = TableDef {
    doc: "Used key by key where a service is silent, and for services made from a \"{host}\" backend.",
    keys: &[SERVICE_POLICY],
    choose: None,
};

/// `[defaults.route]`.
pub static ROUTE_DEFAULTS: TableDef =
    TableDef { doc: "Used key by key where a route is silent.", keys: &[ROUTE_POLICY], choose: None };

/// `[[listeners]]`.
pub static LISTENER: TableDef = TableDef {
    doc: "A socket that takes requests.",
    keys: &[&[
        Key::required("name", Kind::Text(Text::Name), r#""outgoing""#, "Unique; in metrics and logs."),
        Key::required(
            "kind",
            Kind::Text(Text::Choice(&[
                Choice::built("outgoing", "requests of services on this host"),
                Choice::built("incoming", "requests of other nodes"),
            ])),
            r#""outgoing""#,
            "Which way requests go.",
        ),
        Key::required(
            "listen",
            Kind::Text(Text::Listen),
            r#""127.0.0.1:4140""#,
            "ADDRESS:PORT or unix:PATH; port 0 lets the kernel choose.",
        ),
        Key::refused("tls", "TLS on listeners is not built yet"),
    ]],
    choose: None,
};

/// `[[routes]]`.
pub static ROUTE: TableDef = TableDef {
    doc: "A rule: which requests, and where they go.",
    keys: &[
        &[
            Key::required("name", Kind::Text(Text::Name), r#""everything""#, "Unique; in metrics and logs."),
            Key::optional(
                "listeners",
                Kind::List { item: &Kind::Text(Text::ListenerName), empty: false },
                "every outgoing listener",
                r#"["outgoing"]"#,
                "Names of the listeners whose requests it takes.",
            ),
            Key::default(
                "hosts",
                Kind::List { item: &Kind::Text(Text::HostPattern), empty: false },
                r#"["*"]"#,
                "Hosts without port, in any case: \"name\", \"*.suffix\" or \"*\".",
            ),
            Key::optional(
                "match",
                Kind::List { item: &Kind::Table(&MATCH), empty: false },
                "every request of its hosts",
                r#"[{ path_prefix = "/" }]"#,
                "Conditions: any entry must hold, and all of an entry.",
            ),
            Key::required(
                "backends",
                Kind::List { item: &Kind::Table(&BACKEND), empty: false },
                r#"[{ service = "reviews" }]"#,
                "Where its requests go, shared out by weight.",
            ),
        ],
        ROUTE_POLICY,
    ],
    choose: None,
};

/// What `[defaults.route]` may set.
const ROUTE_POLICY: &[Key] = &[
    Key::optional(
        "timeout",
        POSITIVE,
        "no limit",
        r#""2s""#,
        "Duration of the whole request, retries included.",
    ),
    Key::optional(
        "attempt_timeout",
        POSITIVE,
        "no limit",
        r#""500ms""#,
        "Duration of one attempt, up to the response's head.",
    ),
    Key::refused("failover", "failover is not built yet"),
    Key::refused("retry", "retries are not built yet"),
    Key::refused("fault", "fault injection is not built yet"),
    Key::refused("hedge", "hedging is not built yet"),
    Key::refused("jwt", "JWT validation is not built yet"),
];

/// An entry of a route's `match`.
pub static MATCH: TableDef = TableDef {
    doc: "Conditions that must all hold.",
    keys: &[&[
        Key::optional(
            "path",
            Kind::Text(Text::Path),
            "any path",
            r#""/healthz""#,
            "The whole path, without query, as sent.",
        ),
        Key::optional(
            "path_prefix",
            Kind::Text(Text::PathPrefix),
            "any path",
            r#""/v2""#,
            "The beginning of the path, on segment boundaries: \"/v2\" holds for \"/v2\" and \"/v2/x\", not for \"/v20\".",
        ),
        Key::optional(
            "path_regex",
            Kind::Text(Text::Regex),
            "any path",
            r#""/v[0-9]+/.*""#,
            "A regular expression that the whole path must match.",
        ),
        Key::optional(
            "methods",
            Kind::List { item: &Kind::Text(Text::Method), empty: false },
            "any method",
            r#"["GET", "HEAD"]"#,
            "Methods, any of them.",
        ),
        Key::optional(
            "headers",
            Kind::Map {
                name: Text::HeaderName,
                value: &Kind::Or(Text::Value, &VALUE_MATCH),
                example: "x-tier",
            },
            "any headers",
            r#"{ client = "Android", x-tier = { regex = "gold|silver" }, x-debug = { absent = true } }"#,
            "Header values, all of them; names in any case.",
        ),
        Key::optional(
            "query",
            Kind::Map { name: Text::QueryName, value: &Kind::Or(Text::Value, &VALUE_MATCH), example: "page" },
            "any query",
            r#"{ page = { present = true } }"#,
            "Query parameters, all of them; the first of a name decides.",
        ),
        Key::refused("body", "matching on a body is not built yet"),
    ]],
    choose: Some(Choose { keys: &["path", "path_prefix", "path_regex"], required: false }),
};

/// A condition on a value, in its long form.
pub static VALUE_MATCH: TableDef = TableDef {
    doc: "A condition on a value; a plain string is the exact value.",
    keys: &[&[
        Key::optional(
            "regex",
            Kind::Text(Text::Regex),
            "see the others",
            r#""gold|silver""#,
            "A regular expression that the whole value must match.",
        ),
        Key::optional(
            "present",
            Kind::Flag,
            "see the others",
            "true",
            "Whether it must be there, or must not.",
        ),
        Key::optional("absent", Kind::True, "see the others", "true", "It must not be there."),
    ]],
    choose: Some(Choose { keys: &["regex", "present", "absent"], required: true }),
};

/// An entry of a route's `backends`.
pub static BACKEND: TableDef = TableDef {
    doc: "A share of a route's requests.",
    keys: &[&[
        Key::optional(
            "service",
            Kind::Text(Text::ServiceName),
            "see dns",
            r#""reviews""#,
            "The name of a service in [services].",
        ),
        Key::optional(
            "dns",
            Kind::Text(Text::HostTemplate),
            "see service",
            r#""{host}""#,
            "A service per distinct host, made on first use. Port: that of the template, else of the request's authority, else 80.",
        ),
        Key::default(
            "weight",
            Kind::Number { min: 0, max: MILLION },
            "1",
            "Share of the sum of the weights; 0 takes nothing.",
        ),
    ]],
    choose: Some(Choose { keys: &["service", "dns"], required: true }),
};

/// `[services.NAME]`.
pub static SERVICE: TableDef = TableDef {
    doc: "A name, where its endpoints come from, and its policies.",
    keys: &[
        &[
            Key::optional(
                "dns",
                Kind::Text(Text::DnsName),
                "see endpoints",
                r#""reviews.prod.svc.cluster.local:8080""#,
                "NAME:PORT; the A and AAAA records of the name, all on this port.",
            ),
            Key::optional(
                "endpoints",
                Kind::List { item: &Kind::Or(Text::Endpoint, &ENDPOINT), empty: false },
                "see dns",
                r#"["10.0.0.1:8080", { address = "10.0.0.2:8080", weight = 2 }]"#,
                "Fixed addresses: IP:PORT, or a table.",
            ),
            Key::refused("srv", "discovery through SRV records is not built yet"),
            Key::refused("file", "discovery from a file is not built yet"),
        ],
        SERVICE_POLICY,
    ],
    choose: Some(Choose { keys: &["endpoints", "dns", "srv", "file"], required: true }),
};

/// What `[defaults.service]` may set.
const SERVICE_POLICY: &[Key] = &[
    Key::default(
        "protocol",
        Kind::Text(Text::Choice(&[
            Choice::built("auto", "gRPC over HTTP/2, the rest over HTTP/1.1"),
            Choice::built("http1", "HTTP/1.1"),
            Choice::built("http2", "HTTP/2 with prior knowledge"),
            Choice::refused("tcp", "plain TCP is not built yet"),
        ])),
        r#""auto""#,
        "What is spoken to endpoints.",
    ),
    Key::default(
        "balancer",
        Kind::Or(
            Text::Choice(&[
                Choice::built("least-request", "the less loaded of two random endpoints"),
                Choice::built("round-robin", "in turn"),
                Choice::refused("peak-ewma", "balancing by latency is not built yet"),
            ]),
            &HASH,
        ),
        r#""least-request""#,
        "How an endpoint is chosen.",
    ),
    Key::default("connect_timeout", POSITIVE, r#""1s""#, "Duration of the TCP handshake."),
    table("pool", &POOL),
    Key::refused("breaker", "circuit breakers are not built yet"),
    Key::refused("ejection", "ejection of failing endpoints is not built yet"),
    Key::refused("health_check", "health checks are not built yet"),
    Key::refused("tls", "TLS to endpoints is not built yet"),
    Key::refused("peer", "peer nodes are not built yet"),
];

/// The long form of `balancer`.
pub static HASH: TableDef = TableDef {
    doc: "Balancing by a hash.",
    keys: &[&[Key::refused("hash", "balancing by a hash is not built yet")]],
    choose: None,
};

/// `pool` of a service.
pub static POOL: TableDef = TableDef {
    doc: "Connections kept for reuse, per endpoint and worker.",
    keys: &[&[
        Key::default(
            "max_idle",
            Kind::Number { min: 0, max: MILLION },
            "128",
            "Idle HTTP/1.1 connections kept at most; 0 keeps none.",
        ),
        Key::default(
            "idle_timeout",
            POSITIVE,
            r#""60s""#,
            "Duration after which an idle connection is closed.",
        ),
        Key::default(
            "max_lifetime",
            POSITIVE,
            r#""1h""#,
            "Duration after which a connection takes no new request.",
        ),
        Key::default(
            "max_connections",
            Kind::Number { min: 1, max: MILLION },
            "1024",
            "Connections at most, idle or not; a request over it waits for one.",
        ),
    ]],
    choose: None,
};

/// An entry of a service's `endpoints`, in its long form.
pub static ENDPOINT: TableDef = TableDef {
    doc: "One fixed address; a plain string is the address alone.",
    keys: &[&[
        Key::required("address", Kind::Text(Text::Endpoint), r#""10.0.0.2:8080""#, "IP:PORT."),
        Key::default(
            "weight",
            Kind::Number { min: 1, max: MILLION },
            "1",
            "Relative to the other endpoints.",
        ),
        Key::refused("zone", "locality-aware balancing is not built yet"),
    ]],
    choose: None,
};
