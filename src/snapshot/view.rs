//! One worker's view of a snapshot: the services as that worker reads them, and the series that its requests count in.
//!
//! Everything here is made on first use and found again without a lock.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;

use super::{Backend, Refused, Rules, Snapshot};
use crate::{
    auth::PolicySet,
    config::HostTemplate,
    service::{Service, ServiceView},
    telemetry::{Metrics, RequestSeries},
};

/// A snapshot as one worker reads it.
pub struct View {
    /// What all workers share.
    pub snapshot: Arc<Snapshot>,
    services: Vec<OnceCell<Rc<BackendView>>>,
    routes: Routes,
    /// Those of the view before this one, for a while.
    previous: RefCell<Option<Routes>>,
    /// Sweeps since this view was made.
    age: Cell<u32>,
    /// By position of the backend, host and port.
    host_services: RefCell<hashbrown::HashMap<HostKey, Rc<BackendView>, RandomState>>,
    /// Of requests that matched no route, by listener.
    unrouted: RefCell<HashMap<usize, Rc<RequestSeries>, RandomState>>,
}

#[derive(PartialEq, Eq, Hash)]
struct HostKey {
    backend: (usize, usize),
    host: Box<str>,
    port: u16,
}

#[derive(Hash)]
struct HostQuery<'h> {
    backend: (usize, usize),
    host: &'h str,
    port: u16,
}

impl hashbrown::Equivalent<HostKey> for HostQuery<'_> {
    fn equivalent(&self, key: &HostKey) -> bool {
        self.backend == key.backend && self.port == key.port && self.host == &*key.host
    }
}

/// A service as one worker's requests use it.
pub struct BackendView {
    /// Where an endpoint is chosen.
    pub view: ServiceView,
    /// Who may call it.
    pub policies: Option<Arc<PolicySet>>,
    /// It was made on first use.
    pub is_made: bool,
    /// By listener and route.
    series: RefCell<HashMap<(usize, usize), Rc<RequestSeries>, RandomState>>,
}

impl BackendView {
    fn new(service: Arc<Service>, rules: &Rules, is_made: bool) -> Self {
        let policies = if is_made { rules.of_host_services() } else { rules.of_service(&service.name) };
        let policies = policies.cloned();
        Self { view: ServiceView::new(service), policies, is_made, series: RefCell::default() }
    }

    /// Where a request that came through this listener and route counts.
    fn series(&self, snapshot: &Snapshot, listener: usize, route: usize) -> Rc<RequestSeries> {
        let mut series = self.series.borrow_mut();
        let made = series
            .entry((listener, route))
            .or_insert_with(|| Rc::new(new_series(snapshot, listener, route, &self.view)));
        made.clone()
    }
}

fn new_series(snapshot: &Snapshot, listener: usize, route: usize, view: &ServiceView) -> RequestSeries {
    let (listener, route) = (&snapshot.listeners[listener].name, &snapshot.routes[route].name);
    snapshot.metrics.request_series(listener, route, &view.service.name)
}

/// What most requests of a route need, in one cache line: a route has one listener and one service, as a rule.
struct RouteView {
    listener: u32,
    share: u32,
    backend: Rc<BackendView>,
    series: RequestSeries,
}

impl RouteView {
    fn is(&self, (listener, share): (usize, usize)) -> bool {
        self.listener as usize == listener && self.share as usize == share
    }
}

/// Routes whose views are made together, so that a snapshot of very many costs a worker little at first.
const CHUNK: usize = 64;

/// The views of routes, by number.
type Routes = Rc<[OnceCell<Box<[OnceCell<RouteView>]>>]>;

/// For so many sweeps a view hands on what its routes count in. A reload of very many routes would else make the first
/// request of each look its series up again, all within a moment.
const HANDED_ON: u32 = 5;

impl View {
    /// A view for the calling worker. `previous` is the one that it replaces.
    pub fn new(snapshot: Arc<Snapshot>, previous: Option<&Self>) -> Self {
        let services = std::iter::repeat_with(OnceCell::new).take(snapshot.services.len()).collect();
        let chunks = snapshot.routes.len().div_ceil(CHUNK);
        Self {
            routes: std::iter::repeat_with(OnceCell::new).take(chunks).collect(),
            previous: RefCell::new(previous.map(|previous| previous.routes.clone())),
            age: Cell::new(0),
            snapshot,
            services,
            host_services: RefCell::default(),
            unrouted: RefCell::default(),
        }
    }

    /// The service behind backend `share` of route `route`, for a request through `listener` to `host` and `port`.
    ///
    /// # Errors
    /// [`Refused`] when it would have to be made and may not.
    pub fn backend(
        &self,
        (listener, route, share): (usize, usize, usize),
        host: &str,
        port: Option<u16>,
    ) -> Result<Rc<BackendView>, Refused> {
        let known = self.route(route).get();
        if let Some(known) = known.filter(|known| known.is((listener, share))) {
            return Ok(known.backend.clone());
        }
        match &self.snapshot.routes[route].backends[share] {
            Backend::Service(index) => {
                let backend = self.service(*index);
                self.route(route).get_or_init(|| self.route_view(listener, route, share, &backend));
                Ok(backend)
            }
            Backend::PerHost(template) => {
                let port = template.port.or(port).unwrap_or(80);
                self.host_service((route, share), template, host, port)
            }
        }
    }

    /// Counts a request that went to `backend`, as [`View::backend`] gave it.
    pub fn record(
        &self,
        (listener, route, share): (usize, usize, usize),
        backend: &BackendView,
        status: u16,
        duration: Duration,
    ) {
        match self.route(route).get().filter(|known| known.is((listener, share))) {
            Some(known) => known.series.record(status, duration),
            None => backend.series(&self.snapshot, listener, route).record(status, duration),
        }
    }

    fn route_view(
        &self,
        listener: usize,
        route: usize,
        share: usize,
        backend: &Rc<BackendView>,
    ) -> RouteView {
        let snapshot = &self.snapshot;
        let names =
            [&*snapshot.listeners[listener].name, &*snapshot.routes[route].name, &*backend.view.service.name];
        let previous = self.previous.borrow();
        let known =
            previous.as_ref().and_then(|routes| routes.get(route / CHUNK)?.get()?[route % CHUNK].get());
        let series = match known.filter(|known| known.series.is_of(names)) {
            Some(known) => known.series.clone(),
            None => new_series(snapshot, listener, route, &backend.view),
        };
        RouteView { listener: listener as u32, share: share as u32, backend: backend.clone(), series }
    }

    fn route(&self, route: usize) -> &OnceCell<RouteView> {
        let chunk = &self.routes[route / CHUNK];
        &chunk.get_or_init(|| std::iter::repeat_with(OnceCell::new).take(CHUNK).collect())[route % CHUNK]
    }

    /// The configured service of this number.
    pub fn service(&self, index: usize) -> Rc<BackendView> {
        let Snapshot { services, rules, .. } = &*self.snapshot;
        let made = || Rc::new(BackendView::new(services[index].clone(), rules, false));
        self.services[index].get_or_init(made).clone()
    }

    fn host_service(
        &self,
        backend: (usize, usize),
        template: &HostTemplate,
        host: &str,
        port: u16,
    ) -> Result<Rc<BackendView>, Refused> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let lower;
        let host = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = host.to_ascii_lowercase();
            &lower
        } else {
            host
        };
        let found = self.host_services.borrow().get(&HostQuery { backend, host, port }).cloned();
        if let Some(found) = found.filter(|found| !found.view.service.is_retired()) {
            found.view.service.touch();
            return Ok(found);
        }
        let snapshot = &self.snapshot;
        let limits = (&snapshot.config.host_services, &snapshot.clients);
        let service = snapshot.host_services.get(template, host, port, limits)?;
        let made = Rc::new(BackendView::new(service, &snapshot.rules, true));
        self.host_services.borrow_mut().insert(HostKey { backend, host: host.into(), port }, made.clone());
        Ok(made)
    }

    /// Where a request that has no service counts.
    pub fn unrouted(&self, listener: usize) -> Rc<RequestSeries> {
        let mut unrouted = self.unrouted.borrow_mut();
        let metrics: &Metrics = &self.snapshot.metrics;
        let name = self.snapshot.listeners.get(listener).map_or("", |listener| &*listener.name);
        unrouted.entry(listener).or_insert_with(|| Rc::new(metrics.request_series(name, "", ""))).clone()
    }

    /// Lets go of the services that are no longer to be found under their name. To be called about once a second.
    pub fn sweep(&self) {
        self.host_services.borrow_mut().retain(|_, backend| !backend.view.service.is_retired());
        self.age.set(self.age.get().saturating_add(1));
        if self.age.get() == HANDED_ON {
            self.previous.replace(None);
        }
    }
}
