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
    let listener = Arc::downgrade(service);
    let on_update = move |update| {
        if let Some(service) = listener.upgrade() {
            service.update(update);
        }
    };
    match &service.source {
        Source::Dns { host, port } => {
            let (resolver, host) = (resolver.clone(), host.clone());
            let updates = discovery::follow(resolver, host, *port, Schedule::default(), on_update);
            run(service, updates);
        }
        Source::File(path) => run(service, discovery::follow_file(path.clone(), on_update)),
        Source::Srv(_) | Source::Fixed(_) => {}
    }
}

fn run(service: &Service, updates: impl Future<Output = ()> + 'static) {
    let (stop, mut stopped) = oneshot::channel::<()>();
    service.followed_by(stop);
    tokio::task::spawn_local(async move {
        tokio::select! {
            () = updates => {}
            _ = &mut stopped => {}
        }
    });
}
