//! Keys of `[[routes]]` and `[defaults.route]`.

use super::{
    super::definition::{Choose, Key, Kind, TableDef, Text},
    AUTHORIZE, FAULT, HEDGE, RETRY, ROUTE_JWT,
    resilience::PRIORITY,
};

const POSITIVE: Kind = Kind::Text(Text::Duration { zero: false });
const MILLION: u64 = 1_000_000;

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
    Key::default(
        "priority",
        PRIORITY,
        r#""normal""#,
        "Who goes first when this node or a service is at its limit.",
    ),
    Key::optional(
        "failover",
        Kind::List { item: &Kind::Text(Text::ServiceName), empty: true },
        "none",
        r#"["reviews-dr"]"#,
        "Services that are tried in order when the backend cannot take a request.",
    ),
    Key::default(
        "failover_back_after",
        Kind::Text(Text::Duration { zero: true }),
        r#""10s""#,
        "Duration for which a backend has to be able to take requests before they come back to it.",
    ),
    Key::optional(
        "retry",
        Kind::Table(&RETRY),
        "a request is sent again only when nothing can have come of it",
        "{}",
        RETRY.doc,
    ),
    Key::optional("hedge", Kind::Table(&HEDGE), "none", r#"{ after = "50ms" }"#, HEDGE.doc),
    Key::optional("fault", Kind::Table(&FAULT), "none", r#"{ abort = 503, abort_percent = 1 }"#, FAULT.doc),
    Key::optional(
        "jwt",
        Kind::Table(&ROUTE_JWT),
        "none",
        r#"{ provider = "company", claims = { scope = "orders" } }"#,
        ROUTE_JWT.doc,
    ),
    Key::optional(
        "authorize",
        Kind::Table(&AUTHORIZE),
        "nobody is asked",
        r#"{ service = "authz", on_failure = "deny" }"#,
        AUTHORIZE.doc,
    ),
];

const HEADERS: Kind =
    Kind::Map { name: Text::HeaderName, value: &Kind::Or(Text::Value, &VALUE_MATCH), example: "x-tier" };

/// What routes and policies tell requests by.
pub(super) const PATH_METHODS_HEADERS: &[Key] = &[
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
        HEADERS,
        "any headers",
        r#"{ client = "Android", x-tier = { regex = "gold|silver" }, x-debug = { absent = true } }"#,
        "Header values, all of them; names in any case.",
    ),
];

/// An entry of a route's `match`.
pub static MATCH: TableDef = TableDef {
    doc: "Conditions that must all hold.",
    keys: &[
        PATH_METHODS_HEADERS,
        &[
            Key::optional(
                "query",
                Kind::Map {
                    name: Text::QueryName,
                    value: &Kind::Or(Text::Value, &VALUE_MATCH),
                    example: "page",
                },
                "any query",
                r#"{ page = { present = true } }"#,
                "Query parameters, all of them; the first of a name decides.",
            ),
            Key::refused("body", "matching on a body is not built yet"),
        ],
    ],
    choose: Some(Choose { keys: &["path", "path_prefix", "path_regex"], required: false }),
};

/// A condition on a value, in its long form.
pub static VALUE_MATCH: TableDef = TableDef {
    doc: "A condition on a value; a plain string is the exact value.",
    keys: &[&[
        Key::optional(
            "regex",
            Kind::Text(Text::Regex),
            "another of the three is given",
            r#""gold|silver""#,
            "A regular expression that the whole value must match.",
        ),
        Key::optional(
            "present",
            Kind::Flag,
            "another of the three is given",
            "true",
            "Whether it must be there, or must not.",
        ),
        Key::optional("absent", Kind::True, "another of the three is given", "true", "It must not be there."),
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
            "dns is given instead",
            r#""reviews""#,
            "The name of a service in [services].",
        ),
        Key::optional(
            "dns",
            Kind::Text(Text::HostTemplate),
            "service is given instead",
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

/// `[defaults.route]`.
pub static ROUTE_DEFAULTS: TableDef =
    TableDef { doc: "Used key by key where a route is silent.", keys: &[ROUTE_POLICY], choose: None };
