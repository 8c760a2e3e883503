//! The wire from discovery to a service.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Service;
use crate::{
    config::Source,
    discovery::{self, Resolver, Schedule},
};

/// Lets `service` hear what `resolver` finds, until it is dropped or handed over. To be called on the control thread;
/// does nothing for a service with fixed endpoints.
pub fn follow(service: &Arc<Service>, resolver: &Resolver) {
    let Source::Dns { host, port } = &service.source else { return };
    let (stop, mut stopped) = oneshot::channel::<()>();
    service.followed_by(stop);
    let listener = Arc::downgrade(service);
    let updates =
        discovery::follow(resolver.clone(), host.clone(), *port, Schedule::default(), move |update| {
            if let Some(service) = listener.upgrade() {
                service.update(update);
            }
        });
    tokio::task::spawn_local(async move {
        tokio::select! {
            () = updates => {}
            _ = &mut stopped => {}
        }
    });
}
