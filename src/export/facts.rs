//! What of a span stands in the configuration, not in the request: who this node is, which listeners and services have TLS, and what a
//! route says of paths.

use std::collections::{HashMap, HashSet};

use crate::config::{Config, Name, PathMatch, Route};

/// Of the configuration in force.
pub(super) struct Facts {
    pub(super) node: Name,
    pub(super) zone: Option<Name>,
    secure_listeners: HashSet<Name>,
    secure_services: HashSet<Name>,
    templates: HashMap<Name, String>,
}

impl Facts {
    pub(super) fn of(config: &Config) -> Self {
        let listeners = config.listeners.iter().filter(|listener| listener.tls.is_some());
        let services = config.services.iter().filter(|(_, service)| service.policy.tls.is_some());
        let templates = config.routes.iter().filter_map(|route| Some((route.name.clone(), template(route)?)));
        Self {
            node: config.node.name.clone(),
            zone: config.node.zone.clone(),
            secure_listeners: listeners.map(|listener| listener.name.clone()).collect(),
            secure_services: services.map(|(name, _)| name.clone()).collect(),
            templates: templates.collect(),
        }
    }

    /// `http` or `https`, as the caller spoke.
    pub(super) fn caller_scheme(&self, listener: &str) -> &'static str {
        scheme(self.secure_listeners.contains(listener))
    }

    /// `http` or `https`, as the endpoint is spoken to.
    pub(super) fn endpoint_scheme(&self, service: &str) -> &'static str {
        scheme(self.secure_services.contains(service))
    }

    /// `http.route` of requests that take this route.
    pub(super) fn template(&self, route: &str) -> Option<&str> {
        self.templates.get(route).map(String::as_str)
    }
}

fn scheme(secure: bool) -> &'static str {
    if secure { "https" } else { "http" }
}

/// The one path, or the one prefix, that requests on this route have; none where there are several, an expression, or none at all: the
/// conventions want a template of few values, and the path itself is none.
fn template(route: &Route) -> Option<String> {
    let mut templates = route.matches.iter().map(|entry| match &entry.path {
        Some(PathMatch::Exact(path)) => Some(path.clone()),
        Some(PathMatch::Prefix(prefix)) if prefix != "/" => Some(format!("{prefix}/*")),
        _ => None,
    });
    let first = templates.next()??;
    templates.all(|other| other.as_ref() == Some(&first)).then_some(first)
}
