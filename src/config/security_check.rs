//! What several keys of TLS, callers, policies and tokens can get wrong together.

use super::{
    check::Known,
    checked::Source,
    keys,
    problems::Report,
    section::Section,
    security_meaning,
    tree::{Data, Node},
};
use crate::net::Address;

/// `tls` of a listener, or of the admin API.
pub(super) fn server_tls(tls: Section<'_>, report: &mut Report) {
    for key in ["client_auth", "nodes"] {
        if let Some(written) = tls.written(key).filter(|_| tls.written("client_ca").is_none()) {
            report.add(written.at, &written.path, "client_ca is missing: who may vouch for callers");
        }
    }
}

/// `tls` and `peer` of a service whose endpoints `source` finds.
pub(super) fn client_tls(service: Section<'_>, source: &Source, report: &mut Report) {
    let Some(written) = service.written("tls") else { return };
    let tls = service.table("tls");
    if let Some(peer) = service.written("peer") {
        let text =
            "a service with peer is reached through other nodes, whose TLS is in peer.tls; must be left out";
        report.add(written.at.max(peer.at), &written.path, text);
    }
    for (one, other) in [("cert", "key"), ("key", "cert")] {
        if let Some(written) = tls.written(one).filter(|_| tls.written(other).is_none()) {
            report.add(written.at, &written.path, format!("{other} is missing: a certificate needs its key"));
        }
    }
    let unverified = tls.text("verify").as_deref() == Some("none");
    let named = ["server_name", "spiffe"].iter().any(|key| tls.written(key).is_some());
    if !unverified && !named && security_meaning::own_name(source).is_none() {
        let text = "server_name is missing: what must be the name in the endpoints' certificates; or spiffe";
        report.add(written.at, &written.path, text);
    }
    if let Some(ca) = tls.written("ca").filter(|_| unverified) {
        report.add(ca.at, &ca.path, "nothing is verified (verify = \"none\"); must be left out");
    }
}

/// A caller is known by something.
pub(super) fn caller(caller: Section<'_>, report: &mut Report) {
    let known = ["uid", "cgroup", "address", "spiffe"].iter().any(|key| caller.written(key).is_some());
    if !known && !report.has_below(caller.path()) {
        let text = "everybody would be this caller; must have uid, cgroup, address or spiffe";
        report.add(caller.at(), caller.path(), text);
    }
}

/// Policies are for services that are there, and say something.
pub(super) fn policies(root: Section<'_>, known: Known<'_>, report: &mut Report) {
    for node in root.list("policies") {
        let policy = Section::new(&keys::POLICY, node);
        known.policy(policy, report);
        if ["allow", "deny"].iter().all(|key| policy.written(key).is_none()) {
            report.add(
                policy.at(),
                policy.path(),
                "says nothing; must have allow or deny (allow = [] denies everything)",
            );
        }
    }
}

/// Fields that frame or route a message, or that towpath itself sets: nobody else may, on no way.
fn is_own(name: &str) -> bool {
    let own = [
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
    ];
    own.contains(&name) || name.starts_with("towpath-")
}

fn no_own(nodes: &[Node], report: &mut Report) {
    for node in nodes {
        if let Data::Text(name) = &node.data
            && is_own(name)
        {
            report.add(
                node.at,
                &node.path,
                format!("{name} is for towpath itself to set; must be another header"),
            );
        }
    }
}

/// Headers that a route's `authorize` sends along and forwards.
pub(super) fn authorize(authorize: Section<'_>, report: &mut Report) {
    for key in ["headers", "forward"] {
        no_own(authorize.list_if_defined(key), report);
    }
}

/// Keys of `[jwt.NAME]` that belong to URLs, and headers that are not its own.
pub(super) fn jwt(provider: Section<'_>, report: &mut Report) {
    let file = provider.text("jwks").is_some_and(|jwks| !jwks.starts_with("https://"));
    for key in ["ca", "refresh"] {
        if let Some(written) = provider.written(key).filter(|_| file) {
            report.add(written.at, &written.path, "jwks is a file; must be left out");
        }
    }
    let forward = provider.map("forward");
    for (name, node) in forward.filter(|(name, _)| is_own(name)) {
        report.add(
            node.at,
            &node.path,
            format!("{name} is for towpath itself to set; must be another header"),
        );
    }
}

/// Beyond loopback, nobody unknown may ask; and who may read may do no more.
pub(super) fn admin(admin: Section<'_>, report: &mut Report) {
    let (read, control) = (admin.text("read_token"), admin.text("control_token"));
    if let Some(written) = admin.written("read_token").filter(|_| read == control) {
        let text = "is control_token as well: who may read could do everything; must be a file of its own";
        report.add(written.at, &written.path, text);
    }
    let Some(written) = admin.written("listen") else { return };
    if let (Data::Address(Address::Unix(_)), Some(tls)) = (&written.data, admin.written("tls")) {
        let text = "admin.listen is a Unix socket, whose callers the kernel knows; must be left out";
        report.add(tls.at, &tls.path, text);
    }
    let Data::Address(Address::Tcp(address)) = &written.data else { return };
    let certificates = admin.table("tls").written("client_ca").is_some();
    let tokens = ["read_token", "control_token"].iter().any(|key| admin.written(key).is_some());
    if address.ip().is_loopback() || certificates || tokens {
        return;
    }
    let text =
        format!("{address} is not loopback; must have tls with client_ca, or read_token and control_token");
    report.add(written.at, &written.path, text);
}
