//! Keys of TLS, callers, policies and tokens: the contract as it is written, and what it means.

use std::path::{Path, PathBuf};

use towpath::config::{self, Config, DefaultPolicy, Jwks, JwtAlgorithm, NodeOf, Source, Verify};

fn read(text: &str) -> Result<Config, String> {
    config::parse(text, Path::new("/etc/towpath/t.toml")).map_err(|problems| problems.to_string())
}

const CONTRACT: &str = r#"
[[listeners]]
name   = "outgoing"
kind   = "outgoing"
listen = "127.0.0.1:4140"

[[listeners]]
name   = "incoming"
kind   = "incoming"
listen = "0.0.0.0:4141"
tls    = { cert = "tls/node.crt", key = "tls/node.key", client_ca = "tls/ca.crt" }   # client_ca: require and verify

[[callers]]
name = "checkout"
uid  = 1001

[[policies]]
name    = "orders-from-checkout"
service = "orders"
mode    = "enforce"
allow   = [{ callers = ["checkout"], methods = ["GET", "POST"], path_prefix = "/v1" }]

[jwt.company]
issuer = "https://id.example"
jwks   = "keys/company.json"

[[routes]]
name     = "orders"
backends = [{ service = "orders" }]
jwt      = { provider = "company", required = true, claims = { scope = "orders" } }

[services.orders]
dns  = "orders.internal:8080"
peer = { port = 4141, node = "same-address", tls = { ca = "tls/ca.crt", cert = "tls/node.crt", key = "tls/node.key" } }

[services.orders-gold]
endpoints = ["10.0.1.1:8443"]
tls       = { server_name = "orders.internal", ca = "tls/ca.crt", cert = "tls/node.crt", key = "tls/node.key" }
"#;

fn below(file: &str) -> PathBuf {
    Path::new("/etc/towpath").join(file)
}

#[test]
fn tls_of_the_contract_is_read_with_files_beside_the_configuration() {
    let config = read(CONTRACT).unwrap();
    let tls = config.listeners[1].tls.as_deref().unwrap();
    assert_eq!(tls.certificates[0].cert, below("tls/node.crt"));
    assert_eq!((tls.client_ca.as_ref(), tls.client_required), (Some(&below("tls/ca.crt")), true));
    assert!(config.listeners[0].tls.is_none());
    let gold = &config.services["orders-gold"].policy;
    let tls = gold.tls.as_deref().unwrap();
    assert_eq!(tls.verify, Verify::Name("orders.internal".into()));
    assert_eq!(tls.identity.as_ref().unwrap().key, below("tls/node.key"));
    let peer = config.services["orders"].policy.peer.as_deref().unwrap();
    assert_eq!((peer.port, &peer.node, peer.local_direct), (4141, &NodeOf::SameAddress, true));
    assert_eq!((&peer.tls.verify, peer.tls.only_13), (&Verify::Node, true));
}

#[test]
fn callers_policies_and_tokens_of_the_contract_are_read() {
    let config = read(CONTRACT).unwrap();
    assert_eq!((&*config.callers[0].name, config.callers[0].uid), ("checkout", Some(1001)));
    let policy = &config.policies[0];
    assert_eq!((policy.service.as_deref(), policy.dry_run), (Some("orders"), false));
    assert_eq!(policy.allow[0].callers, ["checkout"]);
    assert_eq!(policy.allow[0].matches.methods, ["GET", "POST"]);
    assert_eq!(config.listeners[0].default_policy, DefaultPolicy::Allow);
    let company = &config.jwt["company"];
    assert_eq!(company.jwks, Jwks::File(below("keys/company.json")));
    assert_eq!(company.algorithms, [JwtAlgorithm::Rs256, JwtAlgorithm::Es256, JwtAlgorithm::EdDsa]);
    let jwt = config.routes[0].jwt.as_ref().unwrap();
    assert_eq!((&*jwt.provider, jwt.required), ("company", true));
    assert_eq!(jwt.claims, [("scope".to_owned(), "orders".to_owned())]);
}

#[test]
fn a_service_that_is_found_by_name_is_verified_by_it_and_others_must_be_told_one() {
    let with = |service: &str| {
        read(&format!(
            "[[listeners]]\nname = \"l\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:0\"\n[services.a]\n{service}"
        ))
    };
    let verify = |service: &str| {
        let config = with(service).unwrap();
        config.services["a"].policy.tls.as_deref().unwrap().verify.clone()
    };
    assert_eq!(verify("dns = \"A.internal:443\"\ntls = {}"), Verify::Name("a.internal".into()));
    let unnamed = verify("endpoints = [\"10.0.0.1:443\"]\ntls = { verify = \"none\" }");
    assert_eq!(unnamed, Verify::Nothing { name: None });
    let ids = vec!["spiffe://prod/a".to_owned()];
    let spiffe = verify("endpoints = [\"10.0.0.1:443\"]\ntls = { spiffe = [\"spiffe://prod/a\"] }");
    assert_eq!(spiffe, Verify::Spiffe { ids, name: None });
    let literal = with("dns = \"10.0.0.1:443\"\ntls = {}");
    assert!(literal.unwrap_err().contains("server_name is missing"));
    assert!(with("srv = \"_https._tcp.a\"\ntls = {}").unwrap_err().contains("server_name is missing"));
}

#[test]
fn a_service_made_on_first_use_is_verified_by_its_host_and_never_reached_through_peers() {
    let with = |defaults: &str| {
        read(&format!(
            "[[listeners]]\nname = \"l\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:0\"\n[defaults.service]\n{defaults}\n\
             [[routes]]\nname = \"r\"\nbackends = [{{ dns = \"{{host}}\" }}]\n"
        ))
    };
    let config = with("tls = { ca = \"ca.crt\" }").unwrap();
    let config::BackendTarget::PerHost(template) = &config.routes[0].backends[0].target else {
        panic!("a template")
    };
    assert_eq!(template.policy.tls.as_deref().unwrap().verify, Verify::Host);
    let peer = "peer = { port = 1, tls = { ca = \"a\", cert = \"b\", key = \"c\" } }";
    assert!(with(peer).unwrap_err().contains("does not reach services that are made on first use"));
}

#[test]
fn the_admin_api_beyond_loopback_takes_somebody_known() {
    let with = |admin: &str| {
        read(&format!(
            "[[listeners]]\nname = \"l\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"0.0.0.0:9990\"\n{admin}"
        ))
    };
    for enough in [
        "read_token = \"r\"",
        "control_token = \"c\"",
        "tls = { cert = \"a\", key = \"b\", client_ca = \"c\" }",
    ] {
        assert!(with(enough).is_ok(), "{enough}");
    }
    for not in ["", "tls = { cert = \"a\", key = \"b\" }"] {
        assert!(with(not).unwrap_err().contains("is not loopback"), "{not}");
    }
}

#[test]
fn policies_for_services_of_blocks_are_checked_as_those_of_the_whole() {
    let many: String = (0..50).map(|n| format!("[services.s{n}]\nendpoints = [\"10.0.0.1:80\"]\n")).collect();
    let with = |service: &str| {
        read(&format!(
            "[[listeners]]\nname = \"l\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:0\"\n\
             [[policies]]\nname = \"p\"\nservice = \"{service}\"\nallow = []\n{many}"
        ))
    };
    assert!(matches!(with("s7").unwrap().services["s7"].source, Source::Fixed(_)));
    assert!(with("s77").unwrap_err().contains("there is no service \"s77\""));
}

#[test]
fn headers_that_frame_a_message_or_are_towpaths_own_are_nobodys_to_forward() {
    let with = |route: &str, jwt: &str| {
        read(&format!(
            "[[listeners]]\nname = \"l\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:0\"\n\
             [[routes]]\nname = \"r\"\nbackends = [{{ service = \"a\" }}]\n{route}\n\
             [services.a]\nendpoints = [\"10.0.0.1:80\"]\n[jwt.j]\nissuer = \"i\"\njwks = \"k.json\"\n{jwt}"
        ))
    };
    for name in ["Host", "content-length", "transfer-encoding", "connection", "towpath-caller", "via"] {
        for key in ["headers", "forward"] {
            let route = format!(
                "authorize = {{ service = \"a\", on_failure = \"deny\", {key} = [\"x-a\", \"{name}\"] }}"
            );
            let problem = with(&route, "").unwrap_err();
            assert!(problem.contains(&format!("routes[0].authorize.{key}[1]: ")), "{name}: {problem}");
        }
        let problem = with("", &format!("forward = {{ {name} = \"sub\" }}")).unwrap_err();
        assert!(
            problem.contains("jwt.j.forward.") && problem.contains("for towpath itself"),
            "{name}: {problem}"
        );
    }
    let fine =
        "authorize = { service = \"a\", on_failure = \"deny\", headers = [\"x-a\"], forward = [\"x-b\"] }";
    assert!(with(fine, "forward = { x-user = \"sub\" }").is_ok());
}
