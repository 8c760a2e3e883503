//! All of discovery: what the control thread holds, and through which services follow their sources.

use std::{cell::RefCell, net::IpAddr, path::PathBuf, rc::Rc, sync::Arc};

use tokio::{task::AbortHandle, time::Instant};

use super::{
    Schedule,
    dns::{
        members::{Kind, Member},
        names::{Again, Heard, Listening, Names, Unreachable},
        reach::has_no_route,
        resolver::Resolver,
        srv::SrvService,
        standing::News,
        system::SystemFiles,
    },
    endpoint::resolved,
    files::{file, inotify::Inotify, watch::Watch},
    update::Update,
};
use crate::{
    config::{Dns, Source},
    telemetry::DnsSeries,
};

/// Follows sources. Lives on a thread with local tasks, and so does all it starts.
pub struct Discovery {
    names: Rc<Names>,
    dns: Rc<RefCell<Dns>>,
    /// Tells of changes of files.
    inotify: Inotify,
    /// Reads this host's files again when they change.
    _files: Task,
}

/// A `[dns]` that can be used; nothing has changed yet.
#[derive(Debug)]
pub struct Prepared {
    dns: Dns,
    files: SystemFiles,
    resolver: Resolver,
}

/// A source is followed until this is dropped.
pub struct Following(Followed);

enum Followed {
    /// An address needs no following.
    Address,
    Name(Listening),
    Srv(SrvService),
    File {
        _task: Task,
    },
}

/// Ends when dropped.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Prepared {
    /// Servers from `dns`, or else from `/etc/resolv.conf`. Opens no socket. What they are asked counts in `series`.
    ///
    /// # Errors
    /// `/etc/resolv.conf` is needed and cannot be understood; the text names the file and the reason.
    pub fn new(dns: &Dns, series: &Arc<DnsSeries>) -> Result<Self, String> {
        Self::with_files(dns, SystemFiles::default(), series)
    }

    pub(super) fn with_files(dns: &Dns, files: SystemFiles, series: &Arc<DnsSeries>) -> Result<Self, String> {
        let resolver = Resolver::new(dns, &files, series)?;
        Ok(Self { dns: dns.clone(), files, resolver })
    }
}

impl Discovery {
    /// Follows nothing yet.
    pub fn new(prepared: Prepared) -> Self {
        Self::scheduled(prepared, Schedule::default(), has_no_route)
    }

    pub(super) fn scheduled(prepared: Prepared, schedule: Schedule, unreachable: Unreachable) -> Self {
        let Prepared { dns, resolver, files } = prepared;
        let series = resolver.series().clone();
        let names = Names::new(resolver, schedule, &dns, unreachable);
        let dns = Rc::new(RefCell::new(dns));
        let inotify = Inotify::default();
        let watching = tokio::task::spawn_local(obey_files(
            names.clone(),
            dns.clone(),
            (files, series),
            inotify.clone(),
        ));
        Self { names, dns, inotify, _files: Task(watching.abort_handle()) }
    }

    /// Uses another `[dns]` from now on: every name is asked for again, and keeps what it has until there is an answer.
    pub fn reconfigure(&mut self, prepared: Prepared) {
        let Prepared { dns, resolver, .. } = prepared;
        self.names.replace(resolver, &dns, Again::All);
        self.dns.replace(dns);
    }

    /// Tells `on_update` what becomes of `source`; what is known already, before this returns. None: a fixed source,
    /// of which there is nothing to tell.
    pub fn follow(&self, source: &Source, on_update: impl FnMut(Update) + 'static) -> Option<Following> {
        let followed = match source {
            Source::Fixed(_) => return None,
            Source::Dns { host, port } => self.name(host, *port, on_update),
            Source::Srv(host) => Followed::Srv(SrvService::start(&self.names, host, on_update)),
            Source::File(path) => {
                let task =
                    tokio::task::spawn_local(file::follow(self.inotify.clone(), path.clone(), on_update));
                Followed::File { _task: Task(task.abort_handle()) }
            }
        };
        Some(Following(followed))
    }

    /// The same for names alone, to be kept elsewhere.
    pub fn by_name(&self) -> ByName {
        ByName(self.names.clone())
    }

    fn name(&self, host: &str, port: u16, on_update: impl FnMut(Update) + 'static) -> Followed {
        self.by_name().followed(host, port, on_update)
    }

    /// How many names are asked for.
    #[cfg(test)]
    pub(super) fn names(&self) -> usize {
        self.names.count()
    }
}

/// Follows the addresses of names. Cheap to clone.
#[derive(Clone)]
pub struct ByName(Rc<Names>);

impl ByName {
    /// As [`Discovery::follow`] of a name, with this port.
    pub fn follow(&self, host: &str, port: u16, on_update: impl FnMut(Update) + 'static) -> Following {
        Following(self.followed(host, port, on_update))
    }

    fn followed(&self, host: &str, port: u16, mut on_update: impl FnMut(Update) + 'static) -> Followed {
        if let Some(address) = literal(host) {
            on_update(Update::Endpoints(resolved(&[address], port)));
            return Followed::Address;
        }
        let on_update = RefCell::new(on_update);
        Followed::Name(self.0.listen(host, Kind::Addresses, move |heard, news| {
            updates(heard, news, port).into_iter().for_each(|update| (on_update.borrow_mut())(update));
        }))
    }
}

/// Reads this host's files whenever they change. What cannot be understood changes nothing.
async fn obey_files(
    names: Rc<Names>,
    dns: Rc<RefCell<Dns>>,
    (files, series): (SystemFiles, Arc<DnsSeries>),
    inotify: Inotify,
) {
    let start = |path: &PathBuf| Watch::start(&inotify, path.clone());
    let watches = (start(&files.resolv_conf), start(&files.hosts));
    let (Ok(mut resolv_conf), Ok(mut hosts)) = watches else {
        return tracing::warn!(?files, "changes of these files go unnoticed");
    };
    loop {
        // First of all for what has changed since they were read.
        let dns = dns.borrow().clone();
        match Resolver::new(&dns, &files, &series) {
            Ok(resolver) => names.replace(resolver, &dns, Again::Failing),
            Err(problem) => tracing::warn!("what it said before stays in force: {problem}"),
        }
        tokio::select! {
            () = resolv_conf.changed() => tracing::info!(file = ?files.resolv_conf, "changed: read again"),
            () = hosts.changed() => tracing::info!(file = ?files.hosts, "changed: read again"),
        }
    }
}

impl Following {
    /// A request waits for the first answer from now on: it comes before those that nobody waits for, and before the
    /// request has to give up it is told what was asked of whom.
    pub fn urgent(&self) {
        match &self.0 {
            Followed::Name(listening) => listening.urgent(Instant::now()),
            Followed::Srv(service) => service.urgent(),
            Followed::Address | Followed::File { .. } => {}
        }
    }
}

/// What a service on `port` is told.
fn updates(heard: &Heard, news: News, port: u16) -> Vec<Update> {
    let addresses: Vec<IpAddr> = heard
        .members
        .iter()
        .filter_map(|(member, _)| match member {
            Member::Address(ip) => Some(*ip),
            Member::Target(_) => None,
        })
        .collect();
    let failed = |update: fn(_) -> Update| heard.failure.clone().map(update);
    match news {
        News::Answered => vec![Update::Endpoints(resolved(&addresses, port))],
        News::Failed => failed(Update::Failed).into_iter().collect(),
        News::Expired => failed(Update::Expired).into_iter().collect(),
        // The name may fail all the same, and that stays so.
        News::Changed => {
            let endpoints = Update::Endpoints(resolved(&addresses, port));
            [endpoints].into_iter().chain(failed(Update::Failed)).collect()
        }
    }
}

/// `host` as an IP address, in brackets or without.
fn literal(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    inner.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ip_address_is_recognised_with_and_without_brackets() {
        assert_eq!(literal("[::1]"), literal("::1"));
        assert!(literal("10.0.0.1").is_some());
        assert!(literal("10.0.0.1.test").is_none());
    }
}
