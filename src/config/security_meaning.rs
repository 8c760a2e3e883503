//! What was read -> TLS, callers, policies, tokens.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use super::{
    checked::{
        Authorize, CallerRule, ClientTls, DefaultPolicy, Jwks, JwtAlgorithm, JwtProvider, KeyPair, Name,
        NodeOf, Peer, Policy, PolicyRule, RouteJwt, ServerTls, Source, Verify,
    },
    keys, meaning,
    problems::Report,
    route_meaning,
    section::Section,
    security_check,
    tree::{Data, Node},
};

/// `tls` of a listener or of the admin API. Relative paths start at `directory`.
pub(super) fn server_tls(
    section: Section<'_>,
    directory: &Path,
    report: &mut Report,
) -> Option<Arc<ServerTls>> {
    let written = section.written("tls")?;
    let tls = section.table("tls");
    security_check::server_tls(tls, report);
    let further = tls.list_if_defined("certificates");
    let first = pair(tls, directory);
    let others = further.iter().filter_map(|node| pair(Section::new(&keys::CERTIFICATE, node), directory));
    let nodes = tls.list_if_defined("nodes");
    let tls = ServerTls {
        certificates: first.into_iter().chain(others).collect(),
        client_ca: tls.text("client_ca").map(|file| directory.join(file)),
        client_required: tls.text("client_ca").is_some()
            && tls.text_if_defined("client_auth").as_deref() != Some("optional"),
        nodes: written.entry("nodes").map(|_| route_meaning::texts(nodes).map(str::to_owned).collect()),
        only_13: tls.text_if_defined("min_version").as_deref() == Some("1.3"),
    };
    Some(Arc::new(tls))
}

fn pair(section: Section<'_>, directory: &Path) -> Option<KeyPair> {
    let [cert, key] = ["cert", "key"].map(|key| section.text(key).map(|file| directory.join(file)));
    Some(KeyPair { cert: cert?, key: key? })
}

/// `default_policy` of a listener.
pub(super) fn default_policy(listener: Section<'_>) -> DefaultPolicy {
    match listener.text("default_policy").as_deref() {
        Some("deny") => DefaultPolicy::Deny,
        _ => DefaultPolicy::Allow,
    }
}

/// `tls` of a service. `named`: what its endpoints are called where nothing else is written; none for services made on first use.
pub(super) fn client_tls(
    section: Section<'_>,
    directory: &Path,
    source: Option<&Source>,
) -> Option<Arc<ClientTls>> {
    section.written("tls")?;
    let tls = section.table("tls");
    let name = tls.text("server_name").or_else(|| source.and_then(own_name));
    let ids = tls.texts("spiffe");
    let verify = match name {
        name if tls.text("verify").as_deref() == Some("none") => Verify::Nothing { name },
        name if !ids.is_empty() => Verify::Spiffe { ids, name },
        Some(name) => Verify::Name(name),
        None => Verify::Host,
    };
    Some(Arc::new(ClientTls { verify, ..trust(tls, directory) }))
}

/// Who vouches, and what is shown.
fn trust(tls: Section<'_>, directory: &Path) -> ClientTls {
    ClientTls {
        ca: tls.text("ca").map(|file| directory.join(file)),
        identity: pair(tls, directory),
        verify: Verify::Node,
        only_13: tls.text_if_defined("min_version").as_deref() == Some("1.3"),
    }
}

/// The name by which a source finds its endpoints, if it is one that certificates are for.
pub(super) fn own_name(source: &Source) -> Option<String> {
    match source {
        Source::Dns { host, .. } => Some(host.clone()),
        _ => None,
    }
}

/// `peer` of a service.
pub(super) fn peer(section: Section<'_>, directory: &Path) -> Option<Arc<Peer>> {
    section.written("peer")?;
    let peer = section.table("peer");
    let tls = peer.table("tls");
    let (name, ids) = (tls.text("server_name"), tls.texts("spiffe"));
    let verify = match name {
        name if !ids.is_empty() => Verify::Spiffe { ids, name },
        Some(name) => Verify::Name(name),
        None => Verify::Node,
    };
    let node = match peer.written("node").map(|node| &node.data) {
        Some(Data::NodeOf(node)) => node.clone(),
        _ => NodeOf::SameAddress,
    };
    Some(Arc::new(Peer {
        port: peer.count("port"),
        node,
        local_direct: peer.text("local").as_deref() != Some("peer"),
        tls: ClientTls { verify, only_13: true, ..trust(tls, directory) },
    }))
}

/// `[[callers]]`, in file order.
pub(super) fn callers(root: Section<'_>, report: &mut Report) -> Vec<CallerRule> {
    let caller = |node: &Node| {
        let section = Section::new(&keys::CALLER, node);
        security_check::caller(section, report);
        CallerRule {
            name: meaning::name(section, "name"),
            uid: section.number("uid").and_then(|uid| u32::try_from(uid).ok()),
            cgroup: section.text("cgroup"),
            address: match section.written("address").map(|node| &node.data) {
                Some(Data::Subnet(subnet)) => Some(*subnet),
                _ => None,
            },
            spiffe: section.text("spiffe"),
            trusted: section.flag("trusted").unwrap_or_default(),
        }
    };
    root.list("callers").iter().map(caller).collect()
}

/// `[[policies]]`, in file order.
pub(super) fn policies(root: Section<'_>, report: &mut Report) -> Vec<Arc<Policy>> {
    super::check::names(root.list("policies"), &keys::POLICY, report);
    root.list("policies").iter().map(|node| Arc::new(policy(Section::new(&keys::POLICY, node)))).collect()
}

fn policy(section: Section<'_>) -> Policy {
    let rules =
        |key| section.list(key).iter().map(|node| rule(Section::new(&keys::POLICY_RULE, node))).collect();
    Policy {
        name: meaning::name(section, "name"),
        service: section.text("service").filter(|service| service != "*").map(Name::from),
        dry_run: section.text("mode").as_deref() == Some("dry-run"),
        allow: rules("allow"),
        deny: rules("deny"),
    }
}

fn rule(section: Section<'_>) -> PolicyRule {
    PolicyRule {
        callers: section.texts("callers"),
        matches: route_meaning::conditions(section),
        claims: pairs(section, "claims"),
    }
}

/// The strings of a map, sorted by name.
fn pairs(section: Section<'_>, key: &str) -> Vec<(String, String)> {
    let text = |(name, node): (&String, &Node)| match &node.data {
        Data::Text(text) => Some((name.clone(), text.clone())),
        _ => None,
    };
    section.map(key).filter_map(text).collect()
}

/// `[jwt.NAME]`.
pub(super) fn jwt(
    root: Section<'_>,
    directory: &Path,
    report: &mut Report,
) -> BTreeMap<Name, Arc<JwtProvider>> {
    let mut providers = BTreeMap::new();
    for (name, node) in root.map("jwt") {
        let section = Section::new(&keys::JWT_PROVIDER, node);
        security_check::jwt(section, report);
        if let Some(provider) = provider(section, directory) {
            providers.insert(Name::from(name.as_str()), Arc::new(provider));
        }
    }
    providers
}

fn provider(section: Section<'_>, directory: &Path) -> Option<JwtProvider> {
    let jwks = section.text("jwks")?;
    let jwks = match jwks.starts_with("https://") {
        true => Jwks::Url {
            url: jwks,
            ca: section.text("ca").map(|file| directory.join(file)),
            refresh: section.duration("refresh").unwrap_or_default(),
        },
        false => Jwks::File(directory.join(jwks)),
    };
    let algorithm = |text: String| match text.as_str() {
        "RS256" => JwtAlgorithm::Rs256,
        "ES256" => JwtAlgorithm::Es256,
        _ => JwtAlgorithm::EdDsa,
    };
    let written = section.texts("algorithms").into_iter().map(algorithm).collect::<Vec<_>>();
    let all = vec![JwtAlgorithm::Rs256, JwtAlgorithm::Es256, JwtAlgorithm::EdDsa];
    Some(JwtProvider {
        issuer: section.text("issuer")?,
        jwks,
        audience: section.texts("audience"),
        leeway: section.duration("leeway").unwrap_or_default(),
        algorithms: if written.is_empty() { all } else { written },
        header: section.text("header")?,
        forward: pairs(section, "forward"),
    })
}

/// `jwt` of a route.
pub(super) fn route_jwt(route: Section<'_>) -> Option<RouteJwt> {
    route.written("jwt")?;
    let jwt = route.table("jwt");
    Some(RouteJwt {
        provider: meaning::name(jwt, "provider"),
        required: jwt.flag("required").unwrap_or(true),
        claims: pairs(jwt, "claims"),
    })
}

/// `authorize` of a route.
pub(super) fn authorize(route: Section<'_>) -> Option<Authorize> {
    route.written("authorize")?;
    let authorize = route.table("authorize");
    let headers = match authorize.written("headers") {
        Some(_) => authorize.texts("headers"),
        None => ["authorization", "cookie"].map(str::to_owned).into(),
    };
    Some(Authorize {
        service: meaning::name(authorize, "service"),
        path: authorize.text("path").unwrap_or_default().trim_end_matches('/').to_owned(),
        timeout: authorize.duration("timeout").unwrap_or_default(),
        fail_open: authorize.text("on_failure").as_deref() == Some("allow"),
        headers,
        forward: authorize.texts("forward"),
    })
}
