//! Keys of what keeps the node safe: TLS of listeners, services and peers; `[[callers]]`, `[[policies]]`, `[jwt.NAME]`, and what a
//! route asks of its callers.

use super::{
    super::definition::{Choice, Choose, Key, Kind, TableDef, Text},
    PATH_METHODS_HEADERS,
};

const POSITIVE: Kind = Kind::Text(Text::Duration { zero: false });
const FILE: Kind = Kind::Text(Text::File);
const MIN_VERSION: Kind = Kind::Text(Text::Choice(&[
    Choice::built("1.2", "TLS 1.2 and 1.3"),
    Choice::built("1.3", "TLS 1.3 only"),
]));
const CLAIMS: Kind = Kind::Map { name: Text::Claim, value: &Kind::Text(Text::Value), example: "scope" };
/// Names of callers, with `*`.
const CALLERS: Kind = Kind::List { item: &Kind::Text(Text::Pattern), empty: false };

/// `tls` of a listener.
pub static LISTENER_TLS: TableDef = TableDef {
    doc: "TLS towards callers.",
    keys: &[&[
        Key::required(
            "cert",
            FILE,
            r#""tls/node.crt""#,
            "PEM file: the certificate, then those that vouch for it.",
        ),
        Key::required(
            "key",
            FILE,
            r#""tls/node.key""#,
            "PEM file: the certificate's private key. Nobody else should read it.",
        ),
        Key::optional(
            "certificates",
            Kind::List { item: &Kind::Table(&CERTIFICATE), empty: true },
            "none",
            r#"[{ cert = "tls/shop.crt", key = "tls/shop.key" }]"#,
            "Further certificates. The one that the caller asks for by name (SNI) is used, else the first.",
        ),
        Key::optional(
            "client_ca",
            FILE,
            "callers show no certificate",
            r#""tls/ca.crt""#,
            "PEM file: who may vouch for callers' certificates. Callers must show one.",
        ),
        Key::default(
            "client_auth",
            Kind::Text(Text::Choice(&[
                Choice::built("require", "callers must show a certificate"),
                Choice::built("optional", "callers may show a certificate; one that is shown is verified"),
            ])),
            r#""require""#,
            "Whether callers must show a certificate. Needs client_ca.",
        ),
        Key::optional(
            "nodes",
            Kind::List { item: &Kind::Text(Text::Pattern), empty: true },
            "with a SPIFFE id in cert: those that differ from it in the last segment only; else everybody whom client_ca vouches for",
            r#"["spiffe://prod/node/*"]"#,
            "Identities of the nodes of the mesh, which may speak for their callers. Needs client_ca.",
        ),
        Key::default("min_version", MIN_VERSION, r#""1.2""#, "Oldest version that is spoken."),
    ]],
    choose: None,
};

/// An entry of a listener's `tls.certificates`.
pub static CERTIFICATE: TableDef = TableDef {
    doc: "A certificate and its key.",
    keys: &[&[
        Key::required(
            "cert",
            FILE,
            r#""tls/shop.crt""#,
            "PEM file: the certificate, then those that vouch for it.",
        ),
        Key::required("key", FILE, r#""tls/shop.key""#, "PEM file: the certificate's private key."),
    ]],
    choose: None,
};

/// `tls` of a service.
pub static SERVICE_TLS: TableDef =
    TableDef { doc: "TLS towards endpoints.", keys: &[SERVICE_TLS_KEYS], choose: None };

const SERVICE_TLS_KEYS: &[Key] = &[
    Key::optional(
        "server_name",
        Kind::Text(Text::ServerName),
        "the name that dns resolves",
        r#""orders.internal""#,
        "Name or IP address that the endpoint's certificate must be for; sent as SNI.",
    ),
    Key::optional(
        "ca",
        FILE,
        "those whom the system trusts",
        r#""tls/ca.crt""#,
        "PEM file: who may vouch for endpoints' certificates.",
    ),
    Key::optional(
        "cert",
        FILE,
        "none is shown",
        r#""tls/node.crt""#,
        "PEM file: the certificate that is shown to endpoints. Needs key.",
    ),
    Key::optional(
        "key",
        FILE,
        "none is shown",
        r#""tls/node.key""#,
        "PEM file: its private key. Needs cert.",
    ),
    Key::optional(
        "spiffe",
        Kind::List { item: &Kind::Text(Text::Spiffe), empty: false },
        "the certificate is verified by name",
        r#"["spiffe://prod/ns/shop/sa/orders"]"#,
        "SPIFFE ids, one of which the endpoint's certificate must have, in place of a name.",
    ),
    Key::default(
        "verify",
        Kind::Text(Text::Choice(&[
            Choice::built("full", "by name or SPIFFE id, and ca"),
            Choice::built("none", "not at all: anybody may answer; a warning at every reload"),
        ])),
        r#""full""#,
        "How endpoints' certificates are verified.",
    ),
    Key::default("min_version", MIN_VERSION, r#""1.2""#, "Oldest version that is spoken."),
];

/// `peer` of a service.
pub static PEER: TableDef = TableDef {
    doc: "Calls go to the towpath of the endpoint's node, over one mTLS connection per node and worker; that hands them to the endpoint.",
    keys: &[&[
        Key::required(
            "port",
            Kind::Number { min: 1, max: 65535 },
            "4141",
            "The port of that towpath's incoming listener.",
        ),
        Key::default(
            "node",
            Kind::Text(Text::NodeOf),
            r#""same-address""#,
            "Where the endpoint's node is: \"same-address\"; \"subnet/24\", the first address of the endpoint's range of that length; or a DNS name with {address}, the endpoint's address with dashes.",
        ),
        Key::default(
            "local",
            Kind::Text(Text::Choice(&[
                Choice::built("direct", "endpoints of this node are called directly"),
                Choice::built("peer", "endpoints of this node are called through a towpath as well"),
            ])),
            r#""direct""#,
            "How endpoints of this node are called.",
        ),
        Key::required(
            "tls",
            Kind::Table(&PEER_TLS),
            r#"{ ca = "tls/ca.crt", cert = "tls/node.crt", key = "tls/node.key" }"#,
            PEER_TLS.doc,
        ),
    ]],
    choose: None,
};

/// `tls` of a `peer`.
pub static PEER_TLS: TableDef = TableDef {
    doc: "TLS towards other nodes. Without server_name and spiffe, a node's certificate must be for its address or name, or have a SPIFFE id that differs from that in cert in the last segment only.",
    keys: &[&[
        Key::required("ca", FILE, r#""tls/ca.crt""#, "PEM file: who may vouch for nodes' certificates."),
        Key::required("cert", FILE, r#""tls/node.crt""#, "PEM file: this node's certificate."),
        Key::required("key", FILE, r#""tls/node.key""#, "PEM file: its private key."),
        Key::optional(
            "server_name",
            Kind::Text(Text::ServerName),
            "see above",
            r#""node.internal""#,
            "Name that every node's certificate must be for.",
        ),
        Key::optional(
            "spiffe",
            Kind::List { item: &Kind::Text(Text::Spiffe), empty: false },
            "see above",
            r#"["spiffe://prod/node/*"]"#,
            "SPIFFE ids, one of which a node's certificate must have.",
        ),
    ]],
    choose: None,
};

/// `[[callers]]`.
pub static CALLER: TableDef = TableDef {
    doc: "Who a caller is, by what the kernel or TLS tells of it. The first entry of which everything holds counts; a caller for which none does is \"unknown\", or who its certificate says.",
    keys: &[&[
        Key::required(
            "name",
            Kind::Text(Text::Name),
            r#""checkout""#,
            "The caller's name; in policies, metrics and logs. Several entries may have the same.",
        ),
        Key::optional(
            "uid",
            Kind::Number { min: 0, max: u32::MAX as u64 },
            "any",
            "1001",
            "The user who owns the caller's socket; of callers on this node.",
        ),
        Key::optional(
            "cgroup",
            Kind::Text(Text::Pattern),
            "any",
            r#""*/checkout*""#,
            "The caller's cgroup, as a path; of callers on this node.",
        ),
        Key::optional(
            "address",
            Kind::Text(Text::Subnet),
            "any",
            r#""10.1.2.0/24""#,
            "The range of addresses that the caller's is in.",
        ),
        Key::optional(
            "spiffe",
            Kind::Text(Text::Spiffe),
            "any",
            r#""spiffe://prod/ns/shop/sa/checkout""#,
            "The SPIFFE id in the caller's certificate.",
        ),
        Key::default(
            "trusted",
            Kind::Flag,
            "false",
            "Whether the caller may see how its requests are served (towpath-debug), and have all of them traced. Of callers for which no entry holds, root and towpath's own user on this node may.",
        ),
    ]],
    choose: None,
};

/// `[[policies]]`.
pub static POLICY: TableDef = TableDef {
    doc: "Who may call a service. A service with a policy denies what none of its policies' rules allows; deny rules win.",
    keys: &[&[
        Key::required(
            "name",
            Kind::Text(Text::Name),
            r#""orders-from-checkout""#,
            "Unique; in metrics and logs.",
        ),
        Key::required(
            "service",
            Kind::Text(Text::ServiceOrAny),
            r#""orders""#,
            "The name of the service, or \"*\" for every service.",
        ),
        Key::default(
            "mode",
            Kind::Text(Text::Choice(&[
                Choice::built("enforce", "what is denied is refused"),
                Choice::built("dry-run", "what would be denied is counted and logged, and let through"),
            ])),
            r#""enforce""#,
            "What comes of it.",
        ),
        Key::optional(
            "allow",
            Kind::List { item: &Kind::Table(&POLICY_RULE), empty: true },
            "nothing is allowed by it",
            r#"[{ callers = ["checkout"] }]"#,
            "What is allowed: any entry; all of an entry.",
        ),
        Key::optional(
            "deny",
            Kind::List { item: &Kind::Table(&POLICY_RULE), empty: true },
            "nothing is denied by it",
            r#"[{ path_prefix = "/admin" }]"#,
            "What is denied, whatever allows it: any entry; all of an entry.",
        ),
    ]],
    choose: None,
};

/// A rule of a policy.
pub static POLICY_RULE: TableDef = TableDef {
    doc: "What a request has to be like; everything that is written must hold.",
    keys: &[
        &[Key::optional(
            "callers",
            CALLERS,
            "any caller",
            r#"["checkout", "spiffe://prod/ns/shop/*"]"#,
            "Names of callers; \"*\" stands for any characters.",
        )],
        PATH_METHODS_HEADERS,
        &[Key::optional(
            "claims",
            CLAIMS,
            "any claims",
            r#"{ scope = "orders" }"#,
            "Claims of the request's token, all of them; see jwt of a route.",
        )],
    ],
    choose: Some(Choose { keys: &["path", "path_prefix", "path_regex"], required: false }),
};

/// `[jwt.NAME]`.
pub static JWT_PROVIDER: TableDef = TableDef {
    doc: "Who issues tokens (JSON Web Tokens, RFC 7519), and how they are verified.",
    keys: &[&[
        Key::required(
            "issuer",
            Kind::Text(Text::Value),
            r#""https://id.example""#,
            "What a token's iss must be.",
        ),
        Key::required(
            "jwks",
            Kind::Text(Text::FileOrUrl),
            r#""keys/company.json""#,
            "The issuer's keys (RFC 7517): a file, which is watched, or an https URL.",
        ),
        Key::optional(
            "ca",
            FILE,
            "those whom the system trusts",
            r#""tls/ca.crt""#,
            "PEM file: who may vouch for the server of the URL.",
        ),
        Key::default(
            "refresh",
            POSITIVE,
            r#""5m""#,
            "Duration after which the keys of a URL are fetched again. The last good ones stay until there are others.",
        ),
        Key::default(
            "audience",
            Kind::List { item: &Kind::Text(Text::Value), empty: true },
            "[]",
            "A token's aud must be one of these; any when empty.",
        ),
        Key::default(
            "leeway",
            Kind::Text(Text::Duration { zero: true }),
            r#""60s""#,
            "Duration by which clocks may differ, for exp and nbf.",
        ),
        Key::default(
            "algorithms",
            Kind::List {
                item: &Kind::Text(Text::Choice(&[
                    Choice::built("RS256", "RSA PKCS#1 v1.5 with SHA-256"),
                    Choice::built("ES256", "ECDSA P-256 with SHA-256"),
                    Choice::built("EdDSA", "Ed25519"),
                ])),
                empty: false,
            },
            r#"["RS256", "ES256", "EdDSA"]"#,
            "Signatures that are taken.",
        ),
        Key::default(
            "header",
            Kind::Text(Text::HeaderName),
            r#""authorization""#,
            "The header that the token stands in, behind \"Bearer \"; in another than authorization, that may be left out.",
        ),
        Key::optional(
            "forward",
            Kind::Map { name: Text::HeaderName, value: &Kind::Text(Text::Claim), example: "x-user" },
            "none",
            r#"{ x-user = "sub" }"#,
            "Headers that endpoints get, by the claim whose value they have. Such headers from callers are removed.",
        ),
    ]],
    choose: None,
};

/// `jwt` of a route.
pub static ROUTE_JWT: TableDef = TableDef {
    doc: "A token that requests must have.",
    keys: &[&[
        Key::required(
            "provider",
            Kind::Text(Text::Provider),
            r#""company""#,
            "The name of its issuer in [jwt].",
        ),
        Key::default(
            "required",
            Kind::Flag,
            "true",
            "Whether a request without a token is refused. One whose token is not valid always is.",
        ),
        Key::optional(
            "claims",
            CLAIMS,
            "any claims",
            r#"{ scope = "orders" }"#,
            "Claims that the token must have: the value, one of an array, or one of the words of a string. A name with dots leads into objects.",
        ),
    ]],
    choose: None,
};

/// `authorize` of a route.
pub static AUTHORIZE: TableDef = TableDef {
    doc: "A service that is asked over HTTP whether a request may pass: with the request's method, its path behind that of `path`, and some of its headers. 2xx lets it pass; any other answer is the caller's.",
    keys: &[&[
        Key::required(
            "service",
            Kind::Text(Text::ServiceName),
            r#""authz""#,
            "The name of that service in [services].",
        ),
        Key::default("path", Kind::Text(Text::Path), r#""/""#, "Put in front of the request's path."),
        Key::default("timeout", POSITIVE, r#""200ms""#, "Duration of the question."),
        Key::required(
            "on_failure",
            Kind::Text(Text::Choice(&[
                Choice::built("deny", "a request is refused when no answer comes"),
                Choice::built("allow", "a request passes when no answer comes"),
            ])),
            r#""deny""#,
            "What happens when no answer comes, or a 5xx.",
        ),
        Key::default(
            "headers",
            Kind::List { item: &Kind::Text(Text::HeaderName), empty: true },
            r#"["authorization", "cookie"]"#,
            "Headers of the request that are sent along.",
        ),
        Key::default(
            "forward",
            Kind::List { item: &Kind::Text(Text::HeaderName), empty: true },
            "[]",
            "Headers of the answer that the endpoint gets with the request, in place of the caller's.",
        ),
    ]],
    choose: None,
};

/// `tls` of `[admin]`.
pub static ADMIN_TLS: TableDef = TableDef {
    doc: "TLS of the admin API.",
    keys: &[&[
        Key::required(
            "cert",
            FILE,
            r#""tls/node.crt""#,
            "PEM file: the certificate, then those that vouch for it.",
        ),
        Key::required("key", FILE, r#""tls/node.key""#, "PEM file: the certificate's private key."),
        Key::optional(
            "client_ca",
            FILE,
            "callers show no certificate",
            r#""tls/ca.crt""#,
            "PEM file: who may vouch for callers' certificates. Who shows one may do everything; who shows none needs a token.",
        ),
    ]],
    choose: None,
};
