//! The warning that endpoints are called whose certificates nobody verifies.

use crate::config::{BackendTarget, Config, ServicePolicy, Verify};

/// Services that a warning names.
const NAMED: usize = 10;

/// Warns of the services with `verify = "none"`, if there are any.
pub(super) fn warn(config: &Config) {
    if let Some(services) = unverified(config) {
        tracing::warn!(services, "anybody may answer for these services (tls.verify = \"none\")");
    }
}

/// The services with `verify = "none"`; routes whose services are made on first use with it, as `routes.NAME`.
pub fn unverified(config: &Config) -> Option<String> {
    let is_unverified = |policy: &ServicePolicy| {
        policy.tls.as_ref().is_some_and(|tls| matches!(tls.verify, Verify::Nothing { .. }))
    };
    let services = config.services.iter().filter(|(_, service)| is_unverified(&service.policy));
    let mut all: Vec<String> = services.map(|(name, _)| name.to_string()).collect();
    for route in &config.routes {
        let per_host = route.backends.iter().filter_map(|backend| match &backend.target {
            BackendTarget::PerHost(template) => Some(&template.policy),
            BackendTarget::Service(_) => None,
        });
        if per_host.into_iter().any(|policy| is_unverified(policy)) {
            all.push(format!("routes.{}", route.name));
        }
    }
    let more = all.len().saturating_sub(NAMED);
    all.truncate(NAMED);
    match (all.len(), more) {
        (0, _) => None,
        (_, 0) => Some(all.join(", ")),
        _ => Some(format!("{} and {more} more", all.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn named(verify: [&str; 2], many: usize) -> Option<String> {
        let [service, template] = verify.map(|verify| match verify {
            "" => String::new(),
            verify => format!("tls = {{ server_name = \"a.test\", verify = \"{verify}\" }}\n"),
        });
        let services: String = (0..many)
            .map(|number| format!("[services.s{number:02}]\nendpoints = [\"10.0.0.1:443\"]\n{service}"))
            .collect();
        let text = format!(
            "[[listeners]]\nname = \"l\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:0\"\n\
             [[routes]]\nname = \"r\"\nbackends = [{{ service = \"s00\" }}]\n\
             [[routes]]\nname = \"any\"\nhosts = [\"*\"]\nbackends = [{{ dns = \"{{host}}\" }}]\n\
             [defaults.service]\n{template}{services}"
        );
        unverified(&config::parse(&text, Path::new("t.toml")).unwrap_or_else(|problems| panic!("{problems}")))
    }

    #[test]
    fn services_that_nobody_verifies_are_named_and_beyond_ten_counted() {
        assert_eq!(named(["", ""], 1), None);
        assert_eq!(named(["full", ""], 1), None);
        assert_eq!(named(["none", ""], 2).as_deref(), Some("s00, s01"));
        let many = named(["none", ""], 12).unwrap();
        assert!(many.starts_with("s00, ") && many.ends_with(", s09 and 2 more"), "{many}");
    }

    #[test]
    fn services_made_on_first_use_stand_under_their_route() {
        assert_eq!(named(["full", "none"], 1).as_deref(), Some("routes.any"));
    }
}
