//! Routes for requests that come from other nodes: one for each service, in no router, since the sender has chosen already. Breaker,
//! deadlines and metrics find there what they find in any route.

use std::sync::Arc;

use super::picture::{Backend, Route};
use crate::{
    config::{self, Config, ListenerKind},
    router::Split,
};

/// What they are all called, in metrics and logs.
const NAME: &str = "peer";

/// Whether requests of other nodes can come at all.
pub(super) fn take_nodes(config: &Config) -> bool {
    let verifies = |listener: &config::Listener| {
        let callers = listener.tls.as_ref().and_then(|tls| tls.client_ca.as_ref());
        listener.kind == ListenerKind::Incoming && callers.is_some()
    };
    config.listeners.iter().any(verifies)
}

/// One for each of so many services, in their order.
pub(super) fn all(services: usize) -> impl Iterator<Item = Route> {
    let rule = Arc::new(config::Route::nothing(NAME.into()));
    (0..services).map(move |service| Route {
        rule: rule.clone(),
        name: rule.name.clone(),
        split: Split::new(&[1]),
        backends: vec![Backend::Service(service)],
        stand_ins: 0..0,
        fault: None,
        issuer: None,
        authorizer: None,
        series: None,
        timeout: None,
        attempt_timeout: None,
        persists: false,
    })
}
