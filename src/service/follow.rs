//! The wire from discovery to a service.

use std::{cell::Cell, net::SocketAddr, rc::Rc, sync::Arc};

use tokio::sync::oneshot;

use super::{Known, Service};
use crate::discovery::{Discovery, Update};

/// Lets `service` hear what `discovery` finds, until it is dropped or handed over; `urgent`: a request waits for it.
/// To be called on the control thread; does nothing for a service with fixed endpoints.
pub fn follow(service: &Arc<Service>, discovery: &Discovery, urgent: bool) {
    let listener = Arc::downgrade(service);
    let beginning = Rc::new(Cell::new(true));
    let begins = beginning.clone();
    let following = discovery.follow(&service.source, move |update| {
        if let Some(service) = listener.upgrade()
            && !(begins.get() && is_known(&service, &update))
        {
            service.update(update);
        }
    });
    beginning.set(false);
    let Some(following) = following else { return };
    if urgent {
        following.urgent();
    }
    let (stop, mut stopped) = oneshot::channel::<()>();
    service.followed_by(stop);
    let wanted = service.wanted.clone();
    tokio::task::spawn_local(async move {
        loop {
            tokio::select! {
                // It never gets anything: the other end is dropped.
                _ = &mut stopped => return,
                () = wanted.notified() => following.urgent(),
            }
        }
    });
}

/// Whether a service that took over its predecessor's endpoints is told just those again. Taking them for an answer
/// would make old knowledge look new. What it took over from another source is no answer yet.
fn is_known(service: &Service, update: &Update) -> bool {
    let Update::Endpoints(found) = update else { return false };
    let known = service.endpoints();
    if matches!(known.known, Known::Nothing) {
        return false;
    }
    let known: Vec<SocketAddr> = known.endpoints.iter().map(|endpoint| endpoint.target.address).collect();
    known.iter().eq(found.iter().map(|endpoint| &endpoint.address))
}
