//! The order in which a configuration takes force: read, check, bind, build, swap, retire.
//!
//! Everything that can fail comes before the swap, so a reload either happens whole or changes nothing.

use std::{sync::Arc, time::SystemTime};

use tokio::sync::{mpsc, oneshot};

use super::{
    HostServices, NodeLimits,
    attempts::Attempts,
    build::{self, Shared},
    certificates::Certificates,
    clients::Clients,
    doors::{Door, DoorCommand, Doors, Plan},
    faults, idle_rules,
    key_sets::{self, KeySets},
    observers::Observers,
    picture::{Backend, Snapshot},
    source::Reader,
    unverified,
};
use crate::{
    auth::Provider,
    config::{Config, HostTemplate},
    discovery::{Discovery, Prepared},
    health::Prober,
    published::Published,
    service::{self, Hops, Neighbourhood, Service},
    telemetry::Metrics,
    tls::Keeper,
};

/// What a reload did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The new configuration is in force.
    Applied {
        /// Its number.
        generation: u64,
    },
    /// The file means what is in force already.
    Unchanged {
        /// The number in force.
        generation: u64,
    },
}

/// A configuration that was read, and what came of it.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// When.
    pub at: SystemTime,
    /// What came of it; the error names every problem, a line each.
    pub outcome: Result<Reloaded, String>,
    /// Number of the configuration in force after it.
    pub generation: u64,
}

/// Asks the control thread for a reload.
pub struct ReloadRequest {
    /// Replaces the text of a [`super::Source::Text`].
    pub text: Option<String>,
    /// Where the outcome goes.
    pub reply: oneshot::Sender<Result<Reloaded, String>>,
}

/// What others may know of reloads. Cheap to clone.
#[derive(Clone)]
pub struct Seen {
    /// What requests are served by.
    pub snapshot: Published<Snapshot>,
    /// The listeners that are open.
    pub doors: Published<Vec<Arc<Door>>>,
    /// The last configurations that were read, in force or not.
    pub attempts: Published<Attempts>,
    /// Certificates and keys in use.
    pub keeper: Arc<Keeper>,
}

/// The ends of the channels that a reloader speaks through.
pub struct Wiring {
    /// Where everything counts.
    pub metrics: Arc<Metrics>,
    /// To the acceptor.
    pub acceptor: mpsc::UnboundedSender<DoorCommand>,
    /// Brings the services that workers make; see [`Reloader::follow`].
    pub made: mpsc::UnboundedSender<Arc<Service>>,
    /// Certificates and keys of the whole node.
    pub keeper: Arc<Keeper>,
}

/// Puts configurations into force. Lives on the control thread.
pub struct Reloader {
    source: Reader,
    seen: Seen,
    doors: Doors,
    shared: Shared,
    discovery: Discovery,
    prober: Prober,
    key_sets: KeySets,
    certificates: Certificates,
    draining: bool,
    /// Snapshots that have been replaced: the last to let go frees ten thousand routes, which no worker should do.
    replaced: Vec<Arc<Snapshot>>,
    /// Access logs and tracers that have been replaced. Dropping the last handle waits for the writer, which no worker should do.
    observers: Vec<Observers>,
}

impl Reloader {
    /// Puts the first configuration into force, which was read from `source`.
    ///
    /// # Errors
    /// What could not be bound or built, a line each.
    pub fn start(source: Reader, config: Config, wiring: Wiring) -> Result<Self, String> {
        let neighbourhood = Arc::new(Neighbourhood::new(&config));
        let host_services = Arc::new(HostServices::new(wiring.metrics.clone(), neighbourhood, wiring.made));
        let limits = NodeLimits::new(&wiring.metrics, &config);
        let (named, nodes) = mpsc::unbounded_channel();
        let hops = Arc::new(Hops::new(wiring.metrics.clone(), named));
        let metrics = wiring.metrics.clone();
        let shared = Shared { metrics, host_services, limits, keeper: wiring.keeper, hops };
        let mut doors = Doors::new(wiring.acceptor, wiring.metrics);
        let opened = open(&config, &doors, None, &shared)?;
        let discovery = Discovery::new(opened.dns.expect("there is no previous one that could be kept"));
        tokio::task::spawn_local(service::follow_names(discovery.by_name(), nodes));
        let things = (opened.observers, opened.providers, opened.clients);
        let snapshot = Arc::new(build::build(config, None, &shared, things));
        let prober = Prober::default();
        for service in &snapshot.services {
            service::follow(service, &discovery, false);
            service::check(service, &prober);
        }
        let mut key_sets = KeySets::default();
        key_sets.follow(&snapshot.providers, &discovery);
        doors.commit(opened.plan, snapshot.config.drain.timeout);
        faults::warn(&snapshot.config);
        idle_rules::warn(&snapshot.config);
        unverified::warn(&snapshot.config);
        let started = Ok(Reloaded::Applied { generation: snapshot.generation });
        let attempts = Attempts::default().and(&started, snapshot.generation);
        let seen = Seen {
            snapshot: Published::new(snapshot),
            doors: Published::new(Arc::new(doors.open().to_vec())),
            attempts: Published::new(Arc::new(attempts)),
            keeper: shared.keeper.clone(),
        };
        let mut certificates = Certificates::new(shared.keeper.clone(), shared.metrics.clone());
        certificates.reloaded();
        let (replaced, observers) = (Vec::new(), Vec::new());
        let reloader = Self {
            source,
            seen,
            doors,
            shared,
            discovery,
            prober,
            certificates,
            key_sets,
            draining: false,
            replaced,
            observers,
        };
        reloader.count("applied", true);
        Ok(reloader)
    }

    /// What others may know.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Reads the configuration again; `text` replaces that of a [`super::Source::Text`].
    ///
    /// # Errors
    /// Every problem, a line each; the old configuration stays in force.
    pub fn reload(&mut self, text: Option<String>) -> Result<Reloaded, String> {
        if self.draining {
            return Err("the node is draining: nothing is reloaded".to_owned());
        }
        if let Some(text) = text {
            self.source.replace(text);
        }
        self.key_sets.renew(&self.discovery);
        // Also where the file says what it said before: whoever asks has changed something.
        self.certificates.look();
        let outcome = self.source.read().and_then(|config| self.apply(config));
        if outcome.is_ok() {
            self.certificates.reloaded();
            unverified::warn(&self.seen.snapshot.get().config);
        }
        match &outcome {
            Ok(Reloaded::Applied { generation }) => {
                self.count("applied", true);
                tracing::info!(generation, "configuration reloaded");
            }
            Ok(Reloaded::Unchanged { generation }) => {
                self.count("unchanged", true);
                tracing::info!(generation, "configuration reloaded: it means what is in force already");
            }
            Err(problems) => {
                self.count("rejected", false);
                tracing::error!("configuration not reloaded, the old one stays in force:\n{problems}");
            }
        }
        let generation = self.seen.snapshot.get().generation;
        let attempts = self.seen.attempts.get().and(&outcome, generation);
        self.seen.attempts.publish(Arc::new(attempts));
        outcome
    }

    fn apply(&mut self, config: Config) -> Result<Reloaded, String> {
        let old = self.seen.snapshot.get();
        if *old.config == config {
            return Ok(Reloaded::Unchanged { generation: old.generation });
        }
        refuse_fixed(&old.config, &config)?;
        let opened = open(&config, &self.doors, Some(&old), &self.shared)?;
        let things = (opened.observers, opened.providers, opened.clients);
        let snapshot = Arc::new(build::build(config, Some(&old), &self.shared, things));
        self.observers.push(old.observers.replaced_by(&snapshot.observers));
        self.seen.snapshot.publish(snapshot.clone());
        snapshot.observers.in_force(&snapshot.config, &old.observers);
        if let Some(dns) = opened.dns {
            self.discovery.reconfigure(dns);
            // Configured services begin anew by themselves; these keep what they know until the new servers answer.
            self.shared.host_services.list().iter().for_each(|service| self.follow(service));
        }
        if !Arc::ptr_eq(&old.neighbourhood, &snapshot.neighbourhood) {
            for (old, new) in self.shared.host_services.relocate(&snapshot.neighbourhood) {
                old.hand_over(&new);
                self.follow(&new);
            }
        }
        self.key_sets.follow(&snapshot.providers, &self.discovery);
        self.retire(&old, &snapshot);
        self.doors.commit(opened.plan, snapshot.config.drain.timeout);
        self.seen.doors.publish(Arc::new(self.doors.open().to_vec()));
        self.replaced.push(old);
        faults::warn(&snapshot.config);
        idle_rules::warn(&snapshot.config);
        Ok(Reloaded::Applied { generation: snapshot.generation })
    }

    /// Lets discovery follow what is new, and what is gone hand over.
    fn retire(&mut self, old: &Snapshot, new: &Snapshot) {
        for service in &new.services {
            match old.services.binary_search_by(|candidate| candidate.name.cmp(&service.name)) {
                Ok(at) if Arc::ptr_eq(&old.services[at], service) => continue,
                Ok(at) => old.services[at].hand_over(service),
                Err(_) => {}
            }
            service::follow(service, &self.discovery, false);
            service::check(service, &self.prober);
        }
        let gone = |old: &&Arc<Service>| {
            new.services.binary_search_by(|service| service.name.cmp(&old.name)).is_err()
        };
        old.services.iter().filter(gone).for_each(|service| service.retire());
        self.sweep();
    }

    /// Lets discovery and health checks follow a service that a worker made, because a request is for it.
    pub fn follow(&self, service: &Arc<Service>) {
        service::follow(service, &self.discovery, true);
        service::check(service, &self.prober);
    }

    /// Closes every listener; connections finish what they serve. There is no way back.
    pub fn drain(&mut self) {
        self.draining = true;
        self.doors.close();
    }

    /// Housekeeping; to be called about once a second.
    pub fn sweep(&mut self) {
        self.certificates.look();
        self.replaced.retain(|snapshot| Arc::strong_count(snapshot) > 1);
        self.observers.retain(Observers::is_used);
        self.shared.limits.sweep();
        self.key_sets.look();
        self.shared.hops.sweep();
        let snapshot = self.seen.snapshot.get();
        let templates: Vec<&HostTemplate> = snapshot
            .routes
            .iter()
            .flat_map(|route| &route.backends)
            .filter_map(
                |backend| if let Backend::PerHost(template) = backend { Some(&**template) } else { None },
            )
            .collect();
        self.shared.host_services.sweep(&snapshot.config.host_services, &templates);
        for service in snapshot.services.iter().chain(&self.shared.host_services.list()) {
            service.sweep();
        }
    }

    /// Sends what waits for the collector: the last thing that a node does. Waits for that for a moment.
    pub async fn finish(&self) {
        self.seen.snapshot.get().observers.finish().await;
    }

    fn count(&self, result: &str, success: bool) {
        let metrics = &self.shared.metrics;
        metrics.reload(result);
        metrics.config_last_reload_success.set(success);
        metrics.config_generation.set(self.seen.snapshot.get().generation as f64);
    }
}

/// What a configuration takes from outside of the process: all of it can fail, and none of it has an effect yet.
struct Opened {
    /// None when the one in use serves on.
    dns: Option<Prepared>,
    plan: Plan,
    observers: Observers,
    providers: Vec<Arc<Provider>>,
    clients: Clients,
}

/// Opens everything, and tells of everything that could not be, a line each.
fn open(
    config: &Config,
    doors: &Doors,
    previous: Option<&Snapshot>,
    shared: &Shared,
) -> Result<Opened, String> {
    let same_dns = previous.is_some_and(|previous| previous.config.dns == config.dns);
    let dns = (!same_dns).then(|| Prepared::new(&config.dns, &shared.metrics.dns)).transpose();
    let before = previous.map(|previous| (&*previous.config, &previous.observers));
    let observers = Observers::open(config, before, &shared.metrics, &shared.keeper);
    let providers = key_sets::providers(config, previous.map_or(&[], |previous| &previous.providers), shared);
    let clients = Clients::open(config, &shared.keeper, &shared.hops);
    match (dns, doors.prepare(config, &shared.keeper), observers, providers, clients) {
        (Ok(dns), Ok(plan), Ok(observers), Ok(providers), Ok(clients)) => {
            Ok(Opened { dns, plan, observers, providers, clients })
        }
        (dns, plan, observers, providers, clients) => {
            let problems = [dns.err(), plan.err(), observers.err(), providers.err(), clients.err()];
            Err(problems.into_iter().flatten().collect::<Vec<_>>().join("\n"))
        }
    }
}

/// What a running process cannot change.
fn refuse_fixed(old: &Config, new: &Config) -> Result<(), String> {
    let mut changed = Vec::new();
    if old.node.workers != new.node.workers {
        changed.push(format!(
            "node.workers: {} -> {}: this takes a restart of towpath",
            old.node.workers, new.node.workers
        ));
    }
    if old.admin.listen != new.admin.listen {
        changed.push(format!(
            "admin.listen: {} -> {}: this takes a restart of towpath",
            old.admin.listen, new.admin.listen
        ));
    }
    if old.admin.access != new.admin.access {
        changed.push(
            "admin: tls, read_token and control_token name other files: this takes a restart of towpath"
                .to_owned(),
        );
    }
    if changed.is_empty() {
        return Ok(());
    }
    Err(changed.join(
        "
",
    ))
}
