//! Whether one more connection of a listener, and of a caller, is taken.
//!
//! Who a caller is shows later than that it is there: until then it counts by its address.

use tokio::time::Instant;

use crate::{
    auth::Identity,
    limit::{CallerConnection, CallerKey, HeldConnection},
    net::Accepted,
    snapshot::{Door, NodeLimits},
    telemetry::Metrics,
};

/// A connection's places, until this is dropped.
pub(super) struct Held {
    caller: CallerConnection,
    _door: HeldConnection,
}

/// Places for a connection that has come through `door`; none: it is to be closed.
pub(super) fn admit(
    accepted: &Accepted,
    door: &Door,
    limits: &NodeLimits,
    metrics: &Metrics,
) -> Option<Held> {
    let Some(place) = door.open.open(limits.connections()) else {
        metrics.connection_refused("listener");
        if let Some(count) = limits.refused_by_listener.note(Instant::now()) {
            tracing::warn!(
                listener = &*door.name,
                limit = limits.connections(),
                count,
                "connections were closed at once: the listener has as many as it may (limits.connections)"
            );
        }
        return None;
    };
    let key = key(accepted);
    match limits.callers.open(key.clone(), limits.connections_per_caller()) {
        Some(caller) => Some(Held { caller, _door: place }),
        None => {
            refuse(&key, door, limits, metrics);
            None
        }
    }
}

impl Held {
    /// The caller's place, now that it is known who it is; none: the connection is to be closed.
    pub(super) fn of(
        self,
        identity: &Identity,
        door: &Door,
        limits: &NodeLimits,
        metrics: &Metrics,
    ) -> Option<(CallerConnection, HeldConnection)> {
        let Self { caller, _door: place } = self;
        if &*identity.name == Identity::UNKNOWN {
            return Some((caller, place));
        }
        let key = CallerKey::Name(identity.name.clone());
        match caller.belongs_to(key.clone(), limits.connections_per_caller()) {
            Some(caller) => Some((caller, place)),
            None => {
                refuse(&key, door, limits, metrics);
                None
            }
        }
    }
}

fn refuse(key: &CallerKey, door: &Door, limits: &NodeLimits, metrics: &Metrics) {
    metrics.connection_refused("caller");
    if let Some(count) = limits.refused_by_caller.note(Instant::now()) {
        tracing::warn!(
            caller = %key, listener = &*door.name, limit = limits.connections_per_caller(), count,
            "connections were closed at once: their caller, the last was this, has as many as it may (limits.connections_per_caller)"
        );
    }
}

/// What is known when it is accepted.
fn key(accepted: &Accepted) -> CallerKey {
    match accepted {
        Accepted::Tcp(_, peer) => CallerKey::of_address(peer.ip()),
        Accepted::Unix(stream) => match rustix::net::sockopt::socket_peercred(stream) {
            Ok(credentials) => CallerKey::User(credentials.uid.as_raw()),
            Err(_) => CallerKey::Nobody,
        },
    }
}
