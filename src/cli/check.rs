//! `towpath check`: whether a configuration means something, and whether the certificates that it names can be used.
//!
//! A file that is not there, or that this user may not read, is only warned of: configurations are checked on other machines than they
//! are for, and before certificates are issued. One that is there and cannot be used stops a start, so it is a problem here as well.

use std::{
    collections::HashSet,
    fs::File,
    io,
    path::{Path, PathBuf},
};

use super::outcome::{Failure, Outcome};
use crate::{
    admin, auth,
    config::{self, BackendTarget, ClientTls, Config, KeyPair, Otlp, ServerTls},
    export, snapshot,
    tls::Keeper,
};

pub(super) fn check(file: &Path) -> Outcome {
    let config = config::load(file).map_err(|problems| Failure::usage(problems.to_string()))?;
    let found = Found::of(&config);
    if !found.problems.is_empty() {
        let lines = found.problems.iter().map(|problem| format!("{}: {problem}", file.display()));
        return Err(Failure::usage(lines.collect::<Vec<_>>().join("\n")));
    }
    let counts = [
        count(config.listeners.len(), "listener"),
        count(config.routes.len(), "route"),
        count(config.services.len(), "service"),
    ];
    let of_admin = admin::warnings(&config.admin);
    let of_rules = auth::warnings(&config);
    let warnings = found
        .warnings
        .iter()
        .chain(&of_admin)
        .chain(&of_rules)
        .map(|warning| format!("{}: warning: {warning}\n", file.display()));
    Ok(format!("{}{}: ok ({})\n", warnings.collect::<String>(), file.display(), counts.join(", ")))
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// What there is to say about a configuration that means something.
#[derive(Default)]
struct Found {
    problems: Vec<String>,
    warnings: Vec<String>,
    keeper: Keeper,
}

impl Found {
    fn of(config: &Config) -> Self {
        let mut found = Self::default();
        for (index, listener) in config.listeners.iter().enumerate() {
            if let Some(tls) = &listener.tls {
                found.server(&format!("listeners[{index}].tls"), tls);
            }
        }
        if let Some(tls) = &config.admin.access.tls {
            found.server("admin.tls", tls);
        }
        // A default stands in many services, and is told of once.
        let mut seen = HashSet::new();
        for (path, tls) in clients(config) {
            if seen.insert(tls) {
                found.client(&path, tls);
            }
        }
        if let Some(otlp) = config.tracing.as_ref().and_then(|tracing| tracing.otlp.as_ref()) {
            found.collector(otlp);
        }
        found.warnings.extend(admin::warnings(&config.admin));
        let unverified = snapshot::unverified(config);
        found.warnings.extend(
            unverified.map(|names| format!("anybody may answer for {names} (tls.verify = \"none\")")),
        );
        found
    }

    fn server(&mut self, path: &str, tls: &ServerTls) {
        let files = tls.certificates.iter().flat_map(files_of).chain(&tls.client_ca);
        if let Some(warning) = unreadable(files) {
            return self.warnings.push(format!("{path}: {warning}"));
        }
        self.problems.extend(self.keeper.server(tls).err().map(|problem| format!("{path}: {problem}")));
    }

    fn client(&mut self, path: &str, tls: &ClientTls) {
        let files = tls.identity.iter().flat_map(files_of).chain(&tls.ca);
        if let Some(warning) = unreadable(files) {
            return self.warnings.push(format!("{path}: {warning}"));
        }
        self.problems.extend(self.keeper.client(tls).err().map(|problem| format!("{path}: {problem}")));
    }

    fn collector(&mut self, otlp: &Otlp) {
        if let Some(warning) = unreadable(otlp.ca.iter()) {
            return self.warnings.push(format!("tracing.ca: {warning}"));
        }
        self.problems.extend(export::check(otlp, &self.keeper).err());
    }
}

fn clients(config: &Config) -> impl Iterator<Item = (String, &ClientTls)> {
    let services = config.services.iter().flat_map(|(name, service)| {
        let tls = service.policy.tls.as_deref().map(|tls| (format!("services.{name}.tls"), tls));
        let peer = service.policy.peer.as_deref();
        tls.into_iter().chain(peer.map(|peer| (format!("services.{name}.peer.tls"), &peer.tls)))
    });
    let backends = config.routes.iter().flat_map(|route| &route.backends);
    let templates = backends.filter_map(|backend| match &backend.target {
        BackendTarget::PerHost(template) => template.policy.tls.as_deref(),
        BackendTarget::Service(_) => None,
    });
    services.chain(templates.map(|tls| ("defaults.service.tls".to_owned(), tls)))
}

fn files_of(pair: &KeyPair) -> [&PathBuf; 2] {
    [&pair.cert, &pair.key]
}

/// The first that is not there, or that this user may not read.
fn unreadable<'a>(mut files: impl Iterator<Item = &'a PathBuf>) -> Option<String> {
    files.find_map(|file| match File::open(file) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            Some(format!("cannot read {} here: {error}; nothing starts without it", file.display()))
        }
        _ => None,
    })
}
