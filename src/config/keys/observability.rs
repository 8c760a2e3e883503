//! Keys of what towpath tells about requests: `[tracing]`, `[access_log]`.

use super::super::definition::{Choice, Key, Kind, TableDef, Text};

const MILLION: u64 = 1_000_000;

/// `[tracing]`.
pub static TRACING: TableDef = TableDef {
    doc: "Distributed tracing: a span for each request and one for each of its attempts.",
    keys: &[&[
        Key::optional(
            "otlp",
            Kind::Text(Text::Otlp),
            "spans are not exported",
            r#""http://127.0.0.1:4317""#,
            "URL of an OpenTelemetry collector: without a path, or with / alone, OTLP over gRPC (port 4317 where none is given); with a path such as /v1/traces, OTLP over HTTP (4318).",
        ),
        Key::optional(
            "ca",
            Kind::Text(Text::File),
            "those whom the system trusts",
            r#""tls/ca.crt""#,
            "PEM file: who may vouch for the collector of an https URL.",
        ),
        Key::default(
            "sample",
            Kind::Percent,
            "1.0",
            "Percent of new traces that are sampled. What a caller has decided for a trace holds for its requests.",
        ),
        Key::default(
            "propagate",
            Kind::List {
                item: &Kind::Text(Text::Choice(&[
                    Choice::built("w3c", "traceparent and tracestate (W3C Trace Context)"),
                    Choice::built("b3", "the x-b3-* fields of Zipkin"),
                    Choice::built("b3-single", "Zipkin's one field b3"),
                    Choice::built("jaeger", "uber-trace-id"),
                ])),
                empty: true,
            },
            r#"["w3c"]"#,
            "Formats in which endpoints are told of the trace, besides those in which the caller told towpath. All are read.",
        ),
        Key::table("keep", &KEEP),
    ]],
    choose: None,
};

/// `keep` of `[tracing]`.
pub static KEEP: TableDef = TableDef {
    doc: "Requests whose spans are exported although their trace is not sampled: those that failed (5xx, or broken off), and slow ones.",
    keys: &[&[
        Key::default(
            "slower_than",
            Kind::Text(Text::Duration { zero: false }),
            r#""1s""#,
            "Duration: a request is slow that has no head of a response earlier. How long the rest takes does not count.",
        ),
        Key::default(
            "per_second",
            Kind::Number { min: 0, max: MILLION },
            "10",
            "Failed ones each second at most on this node, and as many slow ones.",
        ),
    ]],
    choose: None,
};

/// Names, in which `*` stands for any characters.
const NAMES: Kind = Kind::List { item: &Kind::Text(Text::Pattern), empty: true };

/// `[access_log]`.
pub static ACCESS_LOG: TableDef = TableDef {
    doc: "The access log: one line per request.",
    keys: &[&[
        Key::optional(
            "path",
            Kind::Text(Text::LogPath),
            "no access log",
            r#""/var/log/towpath/access.log""#,
            "Where lines go: \"stdout\"; a file, which is appended to, and opened again on SIGUSR1; or a Unix socket, datagram or stream, that somebody listens on.",
        ),
        Key::default(
            "format",
            Kind::Text(Text::LogFormat),
            r#""json""#,
            "What a line looks like: one JSON object, or a template.",
        ),
        Key::table("only", &ACCESS_LOG_ONLY),
    ]],
    choose: None,
};

/// `only` of `[access_log]`.
pub static ACCESS_LOG_ONLY: TableDef = TableDef {
    doc: "Which requests have a line: those that all of these hold for.",
    keys: &[&[
        Key::default(
            "status",
            Kind::List { item: &Kind::Text(Text::Status), empty: true },
            "[]",
            "Its status is any of these. Empty: whatever it is.",
        ),
        Key::optional(
            "slower_than",
            Kind::Text(Text::Duration { zero: true }),
            "however long it took",
            r#""250ms""#,
            "Duration: it took longer.",
        ),
        Key::default(
            "routes",
            NAMES,
            "[]",
            "Its route has one of these names. Empty: also requests without a route.",
        ),
        Key::default(
            "services",
            NAMES,
            "[]",
            "Its service has one of these names. Empty: also requests without a service.",
        ),
        Key::default("callers", NAMES, "[]", "Its caller has one of these names. Empty: any."),
        Key::default(
            "sample",
            Kind::Percent,
            "100",
            "Percent of requests, chosen by trace id, else by x-request-id: every node that a request crosses chooses alike.",
        ),
    ]],
    choose: None,
};
