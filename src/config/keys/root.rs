//! The top level of the file, and `[defaults]`.

use super::super::definition::{Key, Kind, TableDef, Text};
use super::{
    ACCESS_LOG, ADMIN, CALLER, DNS, DRAIN, HOST_SERVICES, JWT_PROVIDER, LIMITS, LISTENER, NODE, OVERLOAD,
    POLICY, ROUTE, ROUTE_DEFAULTS, SERVICE, SERVICE_DEFAULTS, TRACING, node::SUBNETS,
};

/// The whole file.
pub static ROOT: TableDef = TableDef {
    doc: "The whole file.",
    keys: &[&[
        Key::table("node", &NODE),
        Key::table("admin", &ADMIN),
        Key::table("drain", &DRAIN),
        Key::table("limits", &LIMITS),
        Key::table("overload", &OVERLOAD),
        Key::table("dns", &DNS),
        Key::optional(
            "zones",
            Kind::Map { name: Text::Name, value: &SUBNETS, example: "eu-1a" },
            "none",
            "{}",
            "Zones by name, as ranges of addresses: the zone of an endpoint for which nothing else tells it. The longest range counts.",
        ),
        Key::table("access_log", &ACCESS_LOG),
        Key::table("host_services", &HOST_SERVICES),
        Key::table("defaults", &DEFAULTS),
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
        Key::optional(
            "callers",
            Kind::List { item: &Kind::Table(&CALLER), empty: true },
            "none",
            "[]",
            CALLER.doc,
        ),
        Key::optional(
            "policies",
            Kind::List { item: &Kind::Table(&POLICY), empty: true },
            "what default_policy of the listener says",
            "[]",
            POLICY.doc,
        ),
        Key::optional(
            "jwt",
            Kind::Map { name: Text::Name, value: &Kind::Table(&JWT_PROVIDER), example: "company" },
            "none",
            "{}",
            JWT_PROVIDER.doc,
        ),
        Key::optional(
            "tracing",
            Kind::Table(&TRACING),
            "none: trace context that comes is passed on",
            "{}",
            TRACING.doc,
        ),
    ]],
    choose: None,
};

/// `[defaults]`.
pub static DEFAULTS: TableDef = TableDef {
    doc: "Policies of services and routes that are silent about them.",
    keys: &[&[Key::table("service", &SERVICE_DEFAULTS), Key::table("route", &ROUTE_DEFAULTS)]],
    choose: None,
};
