//! Keys of `[services.NAME]` and `[defaults.service]`.

use super::{
    super::definition::{Choice, Choose, Key, Kind, TableDef, Text},
    BREAKER, HEALTH_CHECK, PEER, RETRY_BUDGET, SERVICE_TLS,
};

const POSITIVE: Kind = Kind::Text(Text::Duration { zero: false });
const MILLION: u64 = 1_000_000;

/// `[services.NAME]`.
pub static SERVICE: TableDef = TableDef {
    doc: "A name, where its endpoints come from, and its policies.",
    keys: &[
        &[
            Key::optional(
                "dns",
                Kind::Text(Text::DnsName),
                "another source is given instead",
                r#""reviews.prod.svc.cluster.local:8080""#,
                "NAME:PORT; the A and AAAA records of the name, all on this port.",
            ),
            Key::optional(
                "endpoints",
                Kind::List { item: &Kind::Or(Text::Endpoint, &ENDPOINT), empty: false },
                "another source is given instead",
                r#"["10.0.0.1:8080", { address = "10.0.0.2:8080", weight = 2 }]"#,
                "Fixed addresses: IP:PORT, or a table.",
            ),
            Key::optional(
                "srv",
                Kind::Text(Text::SrvName),
                "another source is given instead",
                r#""_http._tcp.reviews.prod.svc.cluster.local""#,
                "SRV records: targets, ports, weights, priorities. The lowest priority is used, the next when that has no usable endpoint.",
            ),
            Key::optional(
                "file",
                Kind::Text(Text::File),
                "another source is given instead",
                r#""endpoints/reviews""#,
                "A watched file, a line for each endpoint: \"IP:PORT [weight=N] [zone=Z]\".",
            ),
        ],
        SERVICE_POLICY,
    ],
    choose: Some(Choose { keys: &["dns", "endpoints", "srv", "file"], required: true }),
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
                Choice::built("peak-ewma", "of two random endpoints the one with less latency times load"),
                Choice::built("round-robin", "in turn"),
            ]),
            &BALANCER,
        ),
        r#""least-request""#,
        "How an endpoint is chosen.",
    ),
    Key::default(
        "slow_start",
        Kind::Text(Text::Duration { zero: true }),
        r#""0s""#,
        "Duration over which an endpoint that joins others comes to its full share, from a tenth.",
    ),
    Key::table("locality", &LOCALITY),
    Key::optional(
        "aperture",
        Kind::Number { min: 1, max: MILLION },
        "all endpoints are used",
        "32",
        "Endpoints that this node uses of many; which ones is even over all nodes.",
    ),
    Key::default(
        "panic_percent",
        Kind::Number { min: 0, max: 100 },
        "0",
        "When less than this share of the endpoints is usable, all are used. 0: never; with none usable, requests fail as all_unhealthy.",
    ),
    Key::default("connect_timeout", POSITIVE, r#""1s""#, "Duration of the TCP handshake."),
    Key::optional(
        "head_timeout",
        POSITIVE,
        "no limit",
        r#""5s""#,
        "Duration from sending a request to the head of its response. While the request's body comes it begins anew: a slow upload is not the endpoint's fault.",
    ),
    Key::default(
        "stream_idle_timeout",
        POSITIVE,
        r#""1h""#,
        "Duration for which a request may stand still, with nothing sent either way, whoever it is that waits. It ends up to two seconds later.",
    ),
    Key::table("pool", &POOL),
    Key::table("ejection", &EJECTION),
    Key::table("breaker", &BREAKER),
    Key::table("retry_budget", &RETRY_BUDGET),
    Key::optional(
        "health_check",
        Kind::Table(&HEALTH_CHECK),
        "none",
        r#"{ http = "/healthz" }"#,
        HEALTH_CHECK.doc,
    ),
    Key::optional(
        "tls",
        Kind::Table(&SERVICE_TLS),
        "plain",
        r#"{ server_name = "orders.internal", ca = "tls/ca.crt" }"#,
        SERVICE_TLS.doc,
    ),
    Key::optional(
        "peer",
        Kind::Table(&PEER),
        "endpoints are called directly",
        r#"{ port = 4141, tls = { ca = "tls/ca.crt", cert = "tls/node.crt", key = "tls/node.key" } }"#,
        PEER.doc,
    ),
];

/// The long form of `balancer`.
pub static BALANCER: TableDef = TableDef {
    doc: "A balancer with a parameter.",
    keys: &[&[
        Key::optional(
            "hash",
            Kind::Text(Text::HashKey),
            "not by a hash",
            r#""header:x-user""#,
            "Equal keys go to the same endpoint, unless that is loaded a quarter above the average. Requests without the key go to the less loaded of two.",
        ),
        Key::optional(
            "peak_ewma",
            POSITIVE,
            "not by latency",
            r#""10s""#,
            "peak-ewma with this duration, over which an estimate of latency fades, in place of 10s.",
        ),
    ]],
    choose: Some(Choose { keys: &["hash", "peak_ewma"], required: true }),
};

/// `locality` of a service.
pub static LOCALITY: TableDef = TableDef {
    doc: "Nearer endpoints first.",
    keys: &[&[
        Key::default(
            "prefer",
            Kind::Text(Text::Choice(&[
                Choice::built("node", "endpoints of this node, then of its zone, then the rest"),
                Choice::built("zone", "endpoints of this node's zone, then the rest"),
                Choice::built("none", "all alike"),
            ])),
            r#""node""#,
            "Which endpoints are taken first.",
        ),
        Key::default(
            "max_requests",
            Kind::Number { min: 1, max: MILLION },
            "32",
            "Requests of this node that run on each near endpoint before farther, less loaded ones share the rest.",
        ),
    ]],
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

/// `ejection` of a service.
pub static EJECTION: TableDef = TableDef {
    doc: "Endpoints that fail again and again get no requests for a while.",
    keys: &[&[
        Key::default(
            "consecutive_failures",
            Kind::Number { min: 0, max: MILLION },
            "5",
            "Failed attempts in a row (no connection, reset, timeout, 5xx) that eject an endpoint; 0: none do.",
        ),
        Key::default(
            "success_percent",
            Kind::Number { min: 0, max: 100 },
            "0",
            "An endpoint of whose attempts within the window less than this share succeeds is ejected; 0: none is.",
        ),
        Key::default("window", POSITIVE, r#""10s""#, "Duration over which the share of successes is taken."),
        Key::default(
            "min_requests",
            Kind::Number { min: 1, max: MILLION },
            "20",
            "Attempts within the window before the share of successes counts.",
        ),
        Key::optional(
            "max_latency",
            POSITIVE,
            "no limit",
            r#""2s""#,
            "Duration: an answer whose head takes longer counts as a failure.",
        ),
        Key::default(
            "backoff",
            Kind::List { item: &POSITIVE, empty: false },
            r#"["5s", "5m"]"#,
            "Durations of the first and the longest ejection. Each is twice as long as the one before, and up to a quarter more by chance; then one request at a time tries whether the endpoint works.",
        ),
        Key::default(
            "max_percent",
            Kind::Number { min: 0, max: 100 },
            "50",
            "Share of the endpoints that may be ejected at a time, rounded down. The only endpoint never is.",
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
        Key::optional(
            "zone",
            Kind::Text(Text::Name),
            "[zones] tells, else unknown",
            r#""eu-1b""#,
            "The zone that it stands in.",
        ),
    ]],
    choose: None,
};

/// `[defaults.service]`.
pub static SERVICE_DEFAULTS: TableDef = TableDef {
    doc: "Used key by key where a service is silent, and for services made from a \"{host}\" backend.",
    keys: &[SERVICE_POLICY],
    choose: None,
};
