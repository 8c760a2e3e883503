//! Keys of the node as a whole, and of its listeners.

use super::{
    super::definition::{Choice, Key, Kind, TableDef, Text},
    ADMIN_TLS, LISTENER_TLS,
};

const POSITIVE: Kind = Kind::Text(Text::Duration { zero: false });
const HEAD_SIZE: Text = Text::Size { min: 1 << 10, max: 16 << 20 };
const MILLION: u64 = 1_000_000;
/// A list of ranges of addresses.
pub(super) const SUBNETS: Kind = Kind::List { item: &Kind::Text(Text::Subnet), empty: true };

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
            "Worker threads.",
        ),
        Key::default(
            "subnets",
            SUBNETS,
            "[]",
            "Addresses of endpoints on this node, besides the host's own: its range of pod addresses.",
        ),
        Key::table("position", &POSITION),
    ]],
    choose: None,
};

/// `position` of `[node]`.
pub static POSITION: TableDef = TableDef {
    doc: "This node's place among all nodes, which makes apertures even. Without it the node's name says where an aperture begins.",
    keys: &[&[
        Key::default("index", Kind::Number { min: 0, max: MILLION }, "0", "From 0; below count."),
        Key::default(
            "count",
            Kind::Number { min: 0, max: MILLION },
            "0",
            "All nodes that run towpath; 0 is unknown.",
        ),
    ]],
    choose: None,
};

/// `[admin]`.
pub static ADMIN: TableDef = TableDef {
    doc: "The admin API: health, metrics, status, reload and drain.",
    keys: &[&[
        Key::default(
            "listen",
            Kind::Text(Text::Listen),
            r#""127.0.0.1:9990""#,
            "ADDRESS:PORT of the admin API (port 0 lets the kernel choose), or unix:PATH, to which only towpath's own user and root may connect. Beyond loopback it takes tls with client_ca, or tokens.",
        ),
        Key::optional(
            "tls",
            Kind::Table(&ADMIN_TLS),
            "plain",
            r#"{ cert = "tls/node.crt", key = "tls/node.key" }"#,
            ADMIN_TLS.doc,
        ),
        Key::optional(
            "read_token",
            Kind::Text(Text::File),
            "none",
            r#""admin/read.token""#,
            "A file; who sends its content as a bearer token may read, and change nothing. At least 16 characters; read again when it changes.",
        ),
        Key::optional(
            "control_token",
            Kind::Text(Text::File),
            "none",
            r#""admin/control.token""#,
            "A file; who sends its content as a bearer token may do everything. At least 16 characters; read again when it changes.",
        ),
    ]],
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
            "uri_bytes",
            Kind::Text(Text::Size { min: 256, max: 1 << 20 }),
            r#""16KiB""#,
            "Size of a request's target.",
        ),
        Key::default("handshake_timeout", POSITIVE, r#""10s""#, "Duration of a TLS handshake."),
        Key::default(
            "max_handshakes",
            Kind::Number { min: 1, max: MILLION },
            "512",
            "TLS handshakes under way at a time; connections beyond wait.",
        ),
        Key::default(
            "connections",
            Kind::Number { min: 1, max: MILLION },
            "65536",
            "Connections of one listener at a time; those beyond are closed at once.",
        ),
        Key::default(
            "connections_per_caller",
            Kind::Number { min: 1, max: MILLION },
            "16384",
            "Connections of one caller at a time, by its name in [[callers]] or certificate, else by its address; those beyond are closed at once.",
        ),
        Key::optional(
            "requests_per_caller",
            Kind::Number { min: 1, max: MILLION },
            "as many as the node carries",
            "256",
            "Requests of one caller at a time; those beyond are refused as caller_limit.",
        ),
        Key::default(
            "http2_resets",
            Kind::Number { min: 1, max: MILLION },
            "100",
            "Streams of one connection that end in a reset, each second, beyond as many as were answered to their end; the connection is closed above it.",
        ),
        Key::default(
            "http2_control_frames",
            Kind::Number { min: 1, max: MILLION },
            "200",
            "Frames of one connection that carry nothing (PING, SETTINGS, PRIORITY, empty ones), each second; the connection is closed above it.",
        ),
        Key::default(
            "max_streams",
            Kind::Number { min: 1, max: MILLION },
            "256",
            "Concurrent HTTP/2 streams of one connection.",
        ),
        Key::optional(
            "memory",
            Kind::Text(Text::Size { min: 16 << 20, max: 1 << 40 }),
            "nine tenths of what the cgroup allows, if it sets a limit",
            r#""512MiB""#,
            "Resident memory of the daemon, without mapped files, above which new requests and connections are refused.",
        ),
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
        Key::default(
            "timeout",
            POSITIVE,
            r#""2s""#,
            "Duration of one look-up, over all servers and the search list.",
        ),
        Key::default(
            "first_answer_timeout",
            POSITIVE,
            r#""5s""#,
            "Duration that a request waits for a service that has no answer yet.",
        ),
        Key::default(
            "max_stale",
            Kind::Text(Text::Duration { zero: true }),
            r#""1h""#,
            "Duration for which the last good answer is kept when no further one comes.",
        ),
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
        Key::default(
            "suffixes",
            Kind::List { item: &Kind::Text(Text::DnsSuffix), empty: true },
            "[]",
            "Domains that the names of such services must be in; a request for another name is denied. Empty: any.",
        ),
    ]],
    choose: None,
};

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
        Key::optional(
            "tls",
            Kind::Table(&LISTENER_TLS),
            "plain",
            r#"{ cert = "tls/node.crt", key = "tls/node.key", client_ca = "tls/ca.crt" }"#,
            LISTENER_TLS.doc,
        ),
        Key::default(
            "default_policy",
            Kind::Text(Text::Choice(&[
                Choice::built("allow", "everything is allowed"),
                Choice::built("deny", "nothing is allowed"),
            ])),
            r#""allow""#,
            "What its requests may do to services that no policy is for.",
        ),
    ]],
    choose: None,
};
