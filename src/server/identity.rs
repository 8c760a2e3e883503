//! Who a caller is, by what the kernel and its certificate tell.
//!
//! The kernel is asked only for what some rule of `[[callers]]` wants to know (`auth/callers.rs`), and only now: a caller that has gone
//! when it is asked about is unknown.

use std::rc::Rc;

use super::handshake::Secured;
use crate::{
    auth::{self, Identity, Origin, Wanted},
    config::ListenerKind,
    net::cgroup_of_process,
    proxy::Worker,
    snapshot::{Door, Rules},
};

/// Who is at the other end of a connection.
pub(super) async fn identify(worker: &Worker, door: &Door, secured: &Secured) -> Rc<Identity> {
    let rules = worker.view().snapshot.rules.clone();
    let mut origin = Origin {
        address: secured.stream.tcp_ends().map(|(_, peer)| peer.ip().to_canonical()),
        certificate: secured.certificate.clone(),
        ..Origin::default()
    };
    // Costs no more than a look at the socket, and cannot be learnt later: the process may have ended by then.
    let connected_by = secured.stream.connected_by();
    origin.uid = connected_by.map(|(uid, _)| uid);
    let wanted = auth::wanted(&rules.callers, &origin);
    match connected_by {
        Some((uid, pid)) if wanted.cgroup => origin.cgroup = pid.and_then(|pid| cgroup_of_process(pid, uid)),
        Some(_) => {}
        None if wanted.uid || wanted.cgroup => ask(secured, &rules, wanted, &mut origin).await,
        None => {}
    }
    let name = auth::named(&rules.callers, &origin);
    // Nodes come through incoming listeners: whoever calls through another speaks for itself alone, whatever its certificate says.
    let is_node = secured.is_node && door.kind == ListenerKind::Incoming;
    Rc::new(Identity { name, origin, is_node })
}

/// Asks the kernel about the peer's socket. It answers at once; only what a control group is called may take a while.
async fn ask(secured: &Secured, rules: &Rules, wanted: Wanted, origin: &mut Origin) {
    let Some(owner) = secured.stream.owner() else { return };
    origin.uid = Some(owner.uid);
    let still_wanted = wanted.cgroup && auth::wanted(&rules.callers, origin).cgroup;
    if let Some(id) = owner.cgroup.filter(|_| still_wanted) {
        origin.cgroup = rules.cgroups.path(id).await;
    }
}
