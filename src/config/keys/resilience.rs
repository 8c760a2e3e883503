//! Keys of what keeps calls alive: of routes `retry`, `hedge` and `fault`; of services `breaker`, `retry_budget` and
//! `health_check`; `[overload]`.

use super::{
    super::definition::{Choice, Choose, Key, Kind, TableDef, Text},
    MATCH,
};

const POSITIVE: Kind = Kind::Text(Text::Duration { zero: false });
const MILLION: u64 = 1_000_000;
const STATUS: Kind = Kind::Number { min: 200, max: 599 };

/// `priority` of a route.
pub(super) const PRIORITY: Kind = Kind::Text(Text::Choice(&[
    Choice::built("low", "refused first"),
    Choice::built("normal", "before low"),
    Choice::built("high", "before all others"),
]));

/// `retry` of a route.
pub static RETRY: TableDef = TableDef {
    doc: "Which failed requests are sent again. A request that cannot have been processed is sent again without it.",
    keys: &[&[
        Key::default(
            "on",
            Kind::List { item: &Kind::Text(Text::RetryOn), empty: false },
            r#"["connect-failure", "reset", "gateway-error"]"#,
            "What makes a request one that is sent again: connect-failure, reset (no response, the connection broke), timeout (attempt_timeout or head_timeout), 5xx and gateway-error (502, 503, 504; both also without any response), a status, or a gRPC code by its name, which holds for every gRPC call whatever the methods.",
        ),
        Key::default(
            "attempts",
            Kind::Number { min: 1, max: 100 },
            "3",
            "Attempts of a request at most, the first included. What is sent again because nothing can have come of it does not count.",
        ),
        Key::default(
            "methods",
            Kind::List { item: &Kind::Text(Text::Method), empty: false },
            r#"["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]"#,
            "Methods of requests that may be sent again.",
        ),
        Key::default(
            "backoff",
            Kind::List { item: &POSITIVE, empty: false },
            r#"["25ms", "250ms"]"#,
            "Durations of the shortest and the longest wait before a further attempt; by chance between the shortest and three times the wait before.",
        ),
        Key::default(
            "body_limit",
            Kind::Text(Text::Size { min: 0, max: 16 << 20 }),
            r#""64KiB""#,
            "Size of the largest request body that is kept for a further attempt.",
        ),
    ]],
    choose: None,
};

/// `hedge` of a route.
pub static HEDGE: TableDef = TableDef {
    doc: "A second attempt beside a slow first one, for requests of the methods that `retry` lists (else the idempotent ones); the first answer wins.",
    keys: &[&[
        Key::optional(
            "after",
            POSITIVE,
            "percentile is given instead",
            r#""50ms""#,
            "Duration without a response.",
        ),
        Key::optional(
            "percentile",
            Kind::Number { min: 50, max: 99 },
            "after is given instead",
            "95",
            "As long as this share of the responses of the service takes.",
        ),
    ]],
    choose: Some(Choose { keys: &["after", "percentile"], required: true }),
};

/// `fault` of a route.
pub static FAULT: TableDef = TableDef {
    doc: "What is done to requests on purpose, to see what becomes of them.",
    keys: &[&[
        Key::optional("delay", POSITIVE, "no delay", r#""100ms""#, "Duration by which requests are delayed."),
        Key::optional(
            "delay_max",
            POSITIVE,
            "the delay is fixed",
            r#""200ms""#,
            "The longest duration; the delay is between the two, by chance.",
        ),
        Key::default("delay_percent", Kind::Percent, "100", "Share of the requests that are delayed."),
        Key::optional(
            "abort",
            Kind::NumberOr(&STATUS, Text::Abort),
            "no abort",
            "503",
            "The HTTP status, or \"grpc:CODE\" (such as \"grpc:unavailable\"), that requests are answered with; \"reset\" breaks the connection or stream.",
        ),
        Key::default("abort_percent", Kind::Percent, "100", "Share of the requests that are aborted."),
        Key::optional(
            "match",
            Kind::List { item: &Kind::Table(&MATCH), empty: false },
            "every request of the route",
            r#"[{ headers = { x-chaos = "on" } }]"#,
            "Only requests that meet any entry, and all of an entry.",
        ),
    ]],
    choose: None,
};

/// How many requests may run and wait, over all workers.
macro_rules! concurrency {
    ($max:literal) => {
        &[
            Key::default(
                "max_requests",
                Kind::Number { min: 1, max: MILLION },
                $max,
                "Requests that run at a time at most.",
            ),
            Key::default(
                "max_pending",
                Kind::Number { min: 0, max: MILLION },
                "1024",
                "Requests that wait for a place at most; one more is refused as overloaded.",
            ),
            Key::default(
                "pending_timeout",
                POSITIVE,
                r#""1s""#,
                "Duration that a request waits for a place; then it is refused as overloaded.",
            ),
            Key::default(
                "adaptive",
                Kind::Flag,
                "false",
                "Whether the limit follows latency: it falls while answers take longer than they used to, and rises to max_requests while they do not.",
            ),
        ]
    };
}

/// `breaker` of a service.
pub static BREAKER: TableDef = TableDef {
    doc: "How much of this node a service may have, over all workers.",
    keys: &[
        &[Key::default(
            "max_connections",
            Kind::Number { min: 1, max: MILLION },
            "10000",
            "Connections to its endpoints at most; a request over it waits for one, like one over max_requests.",
        )],
        concurrency!("10000"),
    ],
    choose: None,
};

/// `[overload]`.
pub static OVERLOAD: TableDef = TableDef {
    doc: "How much this node carries at a time, over all listeners. What waits goes by the priority of its route.",
    keys: &[concurrency!("20000")],
    choose: None,
};

/// `retry_budget` of a service.
pub static RETRY_BUDGET: TableDef = TableDef {
    doc: "How many further attempts a service's requests may cause. Those that nothing can have come of have a budget of the same size for themselves.",
    keys: &[&[
        Key::default(
            "percent",
            Kind::Number { min: 0, max: 1000 },
            "20",
            "Of the requests of the last ten seconds.",
        ),
        Key::default(
            "min_per_second",
            Kind::Number { min: 0, max: MILLION },
            "10",
            "Further attempts per second that are allowed besides, averaged over ten seconds.",
        ),
    ]],
    choose: None,
};

/// `health_check` of a service.
pub static HEALTH_CHECK: TableDef = TableDef {
    doc: "Probes that find out which endpoints are well.",
    keys: &[&[
        Key::optional(
            "http",
            Kind::Text(Text::RequestPath),
            "another probe is given instead",
            r#""/healthz""#,
            "A GET of this path, with query if there is one, by the service's protocol.",
        ),
        Key::optional(
            "tcp",
            Kind::True,
            "another probe is given instead",
            "true",
            "Whether a connection can be made.",
        ),
        Key::optional(
            "grpc",
            Kind::Text(Text::GrpcService),
            "another probe is given instead",
            r#""""#,
            "grpc.health.v1.Health/Check of this service; \"\" of the server as a whole.",
        ),
        Key::default(
            "expect",
            Kind::List { item: &STATUS, empty: false },
            "[200]",
            "HTTP statuses of an endpoint that is well.",
        ),
        Key::optional(
            "host",
            Kind::Text(Text::Authority),
            "the endpoint's address",
            r#""orders.internal""#,
            "Host of an HTTP probe.",
        ),
        Key::optional(
            "port",
            Kind::Number { min: 1, max: 65_535 },
            "the endpoint's own",
            "8081",
            "Port that is probed.",
        ),
        Key::default(
            "interval",
            POSITIVE,
            r#""5s""#,
            "Duration from one probe of an endpoint to the next, give or take a tenth.",
        ),
        Key::default("timeout", POSITIVE, r#""1s""#, "Duration of one probe, connecting included."),
        Key::default(
            "healthy",
            Kind::Number { min: 1, max: 1000 },
            "2",
            "Passes in a row that make an unhealthy endpoint healthy.",
        ),
        Key::default(
            "unhealthy",
            Kind::Number { min: 1, max: 1000 },
            "3",
            "Failures in a row that make a healthy endpoint unhealthy.",
        ),
        Key::default(
            "initially",
            Kind::Text(Text::Choice(&[
                Choice::built("healthy", "a new endpoint gets requests at once"),
                Choice::built("unhealthy", "a new endpoint gets none before its first pass"),
            ])),
            r#""healthy""#,
            "What an endpoint is before its first probe.",
        ),
    ]],
    choose: Some(Choose { keys: &["http", "tcp", "grpc"], required: true }),
};
