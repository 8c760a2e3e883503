//! Keys of `[services.NAME]` and `[defaults.service]`.

use super::super::definition::{Choice, Choose, Key, Kind, TableDef, Text};

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
                "endpoints is given instead",
                r#""reviews.prod.svc.cluster.local:8080""#,
                "NAME:PORT; the A and AAAA records of the name, all on this port.",
            ),
            Key::optional(
                "endpoints",
                Kind::List { item: &Kind::Or(Text::Endpoint, &ENDPOINT), empty: false },
                "dns is given instead",
                r#"["10.0.0.1:8080", { address = "10.0.0.2:8080", weight = 2 }]"#,
                "Fixed addresses: IP:PORT, or a table.",
            ),
            Key::refused("srv", "discovery through SRV records is not built yet"),
            Key::refused("file", "discovery from a file is not built yet"),
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
                Choice::built("round-robin", "in turn"),
                Choice::refused("peak-ewma", "balancing by latency is not built yet"),
            ]),
            &HASH,
        ),
        r#""least-request""#,
        "How an endpoint is chosen.",
    ),
    Key::default("connect_timeout", POSITIVE, r#""1s""#, "Duration of the TCP handshake."),
    Key::table("pool", &POOL),
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

/// `[defaults.service]`.
pub static SERVICE_DEFAULTS: TableDef = TableDef {
    doc: "Used key by key where a service is silent, and for services made from a \"{host}\" backend.",
    keys: &[SERVICE_POLICY],
    choose: None,
};
