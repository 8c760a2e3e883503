//! The keys of issuers of tokens: kept current on the control thread for as long as the snapshot in force has the issuer.

use std::sync::Arc;

use tokio::{sync::watch, task::AbortHandle};

use super::build::Shared;
use crate::{
    auth::{Provider, Resolved, keep_current},
    config::{Config, Source},
    discovery::{Discovery, Following, Update},
};

/// The issuers of `config`, in the order of their names; those of `previous` that are the same, with their keys.
///
/// # Errors
/// Each file or URL that cannot be used, a line each.
pub(super) fn providers(
    config: &Config,
    previous: &[Arc<Provider>],
    shared: &Shared,
) -> Result<Vec<Arc<Provider>>, String> {
    let (mut providers, mut problems) = (Vec::new(), Vec::new());
    for (name, wanted) in &config.jwt {
        let old = previous.iter().find(|old| old.name == *name);
        if let Some(same) = old.filter(|old| old.config == *wanted) {
            providers.push(same.clone());
            continue;
        }
        let series = shared.metrics.token_series(name);
        match Provider::new(name, wanted, &shared.keeper, series, old.map(|old| &**old)) {
            Ok(provider) => providers.push(Arc::new(provider)),
            Err(problem) => problems.push(format!("jwt.{name}.{problem}")),
        }
    }
    if problems.is_empty() { Ok(providers) } else { Err(problems.join("\n")) }
}

/// What keeps keys current.
#[derive(Default)]
pub(super) struct KeySets(Vec<Kept>);

struct Kept {
    provider: Arc<Provider>,
    /// None for files, which are looked at.
    _fetching: Option<Fetching>,
}

/// Ends when dropped.
struct Fetching {
    task: AbortHandle,
    _name: Option<Following>,
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl KeySets {
    /// Keeps these current from now on, and no others.
    pub(super) fn follow(&mut self, providers: &[Arc<Provider>], discovery: &Discovery) {
        self.0.retain(|kept| providers.iter().any(|provider| Arc::ptr_eq(provider, &kept.provider)));
        for provider in providers {
            if !self.0.iter().any(|kept| Arc::ptr_eq(&kept.provider, provider)) {
                self.0.push(Kept { provider: provider.clone(), _fetching: fetching(provider, discovery) });
            }
        }
    }

    /// Has all keys read or fetched now.
    pub(super) fn renew(&mut self, discovery: &Discovery) {
        self.look();
        for kept in &mut self.0 {
            kept._fetching = fetching(&kept.provider, discovery);
        }
    }

    /// Reads files that have changed. To be called about once a second.
    pub(super) fn look(&self) {
        self.0.iter().for_each(|kept| kept.provider.look());
    }
}

fn fetching(provider: &Arc<Provider>, discovery: &Discovery) -> Option<Fetching> {
    let (host, port) = provider.key_server()?;
    let (tell, resolved) = watch::channel(Resolved::default());
    let source = Source::Dns { host: host.to_owned(), port };
    let name = discovery.follow(&source, move |update| tell.send_modify(|resolved| note(update, resolved)));
    if let Some(name) = &name {
        name.urgent();
    }
    let task = tokio::task::spawn_local(keep_current(provider.clone(), resolved));
    Some(Fetching { task: task.abort_handle(), _name: name })
}

fn note(update: Update, resolved: &mut Resolved) {
    match update {
        Update::Endpoints(endpoints) => {
            resolved.addresses = endpoints.iter().map(|endpoint| endpoint.address).collect();
            resolved.problem = None;
        }
        Update::Failed(failure) => resolved.problem = Some(failure.message),
        Update::Expired(failure) => {
            *resolved = Resolved { problem: Some(failure.message), ..Resolved::default() }
        }
    }
}
