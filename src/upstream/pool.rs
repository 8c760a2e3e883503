//! One worker's connections, by endpoint.
//!
//! # Which connection a request gets
//! HTTP/1.1: the idle one that was used last, so that surplus ones grow old and are closed; else a new one; at the
//! maximum, the next that becomes free. HTTP/2: the oldest connection that has a stream left; a further one only when
//! none has. While a connection is being made for HTTP/2, requests wait for it instead of making their own.
//!
//! # When a connection is not trusted
//! An endpoint may close an idle connection at any time, and a request that is sent into that may be lost. A request
//! that must not be sent twice therefore asks the kernel about the socket first ([`Want::certain`]).

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::{
    connect,
    error::ConnectError,
    http1::Http1Connection,
    http2::Http2Connection,
    lease::Lease,
    target::{Target, Version},
};
use crate::{config::ServicePolicy, limit::HeldConnection};

/// How long an upload may go on after its response before the connection is given up. A little longer than the owner of the
/// request's body lets it, so that this ends first.
pub(super) const UPLOAD_LINGER: Duration = Duration::from_secs(3);

/// What a request needs of its connection.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// The protocol.
    pub version: Version,
    /// The request must not be lost to a connection that the endpoint has just closed.
    pub certain: bool,
    /// Only a new connection will do: a reused one has failed this request.
    pub fresh: bool,
    /// The endpoint will do although it is retired: the service as a whole is, and the request began before.
    pub even_retired: bool,
}

/// All pools of one worker.
pub struct Pools {
    /// The time of the last sweep. Idle connections are timed by it: a second more or less does not matter to them, and
    /// two looks at the clock for each request would.
    clock: Rc<Cell<Instant>>,
    by_target: Rc<ByTarget>,
}

/// The pools by the numbers of their targets.
pub(super) type ByTarget = RefCell<HashMap<u64, Rc<EndpointPool>, foldhash::fast::RandomState>>;

impl Default for Pools {
    fn default() -> Self {
        Self { clock: Rc::new(Cell::new(Instant::now())), by_target: Rc::default() }
    }
}

impl Pools {
    /// A connection to `target`.
    ///
    /// # Errors
    /// [`ConnectError`] when a new one was needed and could not be had.
    pub async fn checkout(
        &self,
        target: &Arc<Target>,
        policy: &ServicePolicy,
        want: Want,
    ) -> Result<Lease, ConnectError> {
        let pool = self.pool(target);
        match want.version {
            Version::Http1 => pool.checkout_http1(policy, want).await,
            Version::Http2 => pool.checkout_http2(policy, want).await,
        }
    }

    fn pool(&self, target: &Arc<Target>) -> Rc<EndpointPool> {
        if let Some(pool) = self.by_target.borrow().get(&target.id) {
            return pool.clone();
        }
        let pool = EndpointPool::new(target.clone(), self.clock.clone(), Rc::downgrade(&self.by_target));
        let pool = Rc::new(pool);
        self.by_target.borrow_mut().insert(target.id, pool.clone());
        pool
    }

    /// Closes what has been idle or alive for too long, and forgets retired targets. To be called about once a second.
    pub fn sweep(&self, now: Instant) {
        self.clock.set(now);
        self.by_target.borrow_mut().retain(|_, pool| {
            pool.sweep(now);
            !(pool.target.is_retired() && pool.open.get() == 0)
        });
    }
}

/// One endpoint's connections on this worker.
pub(super) struct EndpointPool {
    pub(super) target: Arc<Target>,
    clock: Rc<Cell<Instant>>,
    /// The pools of this worker.
    pub(super) all: Weak<ByTarget>,
    /// The one that was used last stands last.
    pub(super) idle: RefCell<Vec<Idle>>,
    http2: RefCell<Vec<Rc<Http2Connection>>>,
    /// A connection for HTTP/2 is being made.
    connecting: Cell<bool>,
    /// How the last attempt at one failed: who waited for it fails alike, instead of trying one after another.
    failed: RefCell<Option<ConnectError>>,
    /// Connections, idle, busy and being made.
    pub(super) open: Cell<usize>,
    /// Those that were idle at the last sweep, which is when they are counted.
    counted_idle: Cell<i64>,
    /// How many wait for a connection or a place for one, and how many connections were kept for them while others wait elsewhere.
    pub(super) waiting: Cell<u32>,
    pub(super) kept: Cell<u32>,
    /// Who waits for an idle connection, or for a place for a new one.
    pub(super) waiting_http1: Notify,
    /// Who waits for a stream, or for a place for a new connection.
    pub(super) waiting_http2: Notify,
    /// As the last request had it; sweeps go by it.
    limits: RefCell<crate::config::Pool>,
}

pub(super) struct Idle {
    connection: Http1Connection,
    since: Instant,
}

/// Counts a connection as open until it has ended, and wakes who waits for its place.
pub(super) struct Open(
    Rc<EndpointPool>,
    #[expect(dead_code, reason = "its place is given back in `Drop`")] HeldConnection,
);

impl Open {
    pub(super) fn pool(&self) -> Rc<EndpointPool> {
        self.0.clone()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.target.connections.open.dec();
        self.0.waiting_http1.notify_one();
        self.0.waiting_http2.notify_one();
    }
}

/// Marks that a connection for HTTP/2 is being made; the mark goes however that ends.
struct Connecting<'p>(&'p EndpointPool);

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.connecting.set(false);
        self.0.waiting_http2.notify_waiters();
    }
}

impl EndpointPool {
    fn new(target: Arc<Target>, clock: Rc<Cell<Instant>>, all: Weak<ByTarget>) -> Self {
        Self {
            target,
            clock,
            all,
            idle: RefCell::default(),
            http2: RefCell::default(),
            connecting: Cell::new(false),
            failed: RefCell::default(),
            open: Cell::new(0),
            counted_idle: Cell::new(0),
            waiting: Cell::new(0),
            kept: Cell::new(0),
            waiting_http1: Notify::new(),
            waiting_http2: Notify::new(),
            limits: RefCell::new(crate::config::Pool::default()),
        }
    }

    /// Room for one more connection, if the maximum allows.
    fn open(self: &Rc<Self>, policy: &ServicePolicy) -> Option<Open> {
        if self.open.get() >= policy.pool.max_connections {
            return None;
        }
        let place = self.place(policy)?;
        let mut limits = self.limits.borrow_mut();
        if *limits != policy.pool {
            limits.clone_from(&policy.pool);
        }
        self.open.set(self.open.get() + 1);
        self.target.connections.open.inc();
        Some(Open(self.clone(), place))
    }

    /// The time of the last sweep.
    pub(super) fn now(&self) -> Instant {
        self.clock.get()
    }

    /// A stream has ended, or the endpoint allows more of them.
    pub(super) fn streams_freed(&self, all: bool) {
        if all {
            self.waiting_http2.notify_waiters();
        } else {
            self.waiting_http2.notify_one();
        }
    }

    /// Closes an idle connection of the other protocol, whose place somebody needs.
    fn evict_idle(&self, needed: Version) {
        match needed {
            Version::Http1 => {
                let mut connections = self.http2.borrow_mut();
                if let Some(idle) = connections.iter().position(|connection| connection.is_idle()) {
                    connections.remove(idle);
                }
            }
            Version::Http2 => drop(self.idle.borrow_mut().pop()),
        }
    }

    async fn checkout_http1(
        self: &Rc<Self>,
        policy: &ServicePolicy,
        want: Want,
    ) -> Result<Lease, ConnectError> {
        let mut until = None;
        loop {
            if !want.fresh
                && let Some(connection) = self.take_idle(policy, want.certain)
            {
                return Ok(Lease::http1(connection, self.clone(), true));
            }
            if let Some(open) = self.open(policy) {
                // Boxed: most requests find a connection, and should not carry the room for making one.
                let connecting = Box::pin(connect::http1(&self.target, policy.connect_timeout, open));
                let connection = connecting.await?;
                self.target.connections.made();
                self.still_there(want)?;
                return Ok(Lease::http1(connection, self.clone(), false));
            }
            if want.fresh && self.idle.borrow_mut().pop().is_some() {
                continue;
            }
            self.evict_idle(Version::Http1);
            self.wait(Version::Http1, policy, &mut until).await?;
            self.still_there(want)?;
        }
    }

    /// A request that had to wait must not go to an endpoint that has been removed meanwhile.
    fn still_there(&self, want: Want) -> Result<(), ConnectError> {
        if self.target.is_retired() && !want.even_retired { Err(ConnectError::Removed) } else { Ok(()) }
    }

    fn take_idle(&self, policy: &ServicePolicy, certain: bool) -> Option<Http1Connection> {
        let now = self.now();
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { connection, since }) = idle.pop() {
            let young = now - connection.opened < policy.pool.max_lifetime;
            let recent = now - since < policy.pool.idle_timeout;
            if young && recent && connection.is_quiet(certain) {
                return Some(connection);
            }
        }
        None
    }

    /// Takes a connection back whose response has been read to the end.
    pub(super) fn give_back(self: Rc<Self>, mut connection: Http1Connection) {
        if connection.is_over() {
            self.put_idle(connection);
        } else if connection.is_uploading() {
            // Whoever owns the request's body lets it end, or ends it.
            tokio::task::spawn_local(async move {
                // Nothing wakes an upload that the endpoint does not read.
                let ended = timeout(UPLOAD_LINGER, connection.uploaded()).await.is_ok();
                if ended && connection.is_over() {
                    self.put_idle(connection);
                }
            });
        }
    }

    fn put_idle(&self, connection: Http1Connection) {
        let surplus = self.idle.borrow().len() >= self.limits.borrow().max_idle;
        if self.target.is_retired() || surplus || self.is_needed_elsewhere() {
            return;
        }
        self.idle.borrow_mut().push(Idle { connection, since: self.now() });
        self.waiting_http1.notify_one();
    }

    async fn checkout_http2(
        self: &Rc<Self>,
        policy: &ServicePolicy,
        want: Want,
    ) -> Result<Lease, ConnectError> {
        let mut fresh = want.fresh;
        let mut until = None;
        loop {
            if !fresh && let Some(connection) = self.with_room(policy) {
                return Ok(Lease::http2(connection.reserve(), true));
            }
            if self.connecting.get() {
                // Whoever is connecting wakes everybody who has come by then, and its connection will be a new one.
                self.waiting_http2.notified().await;
                self.still_there(want)?;
                if let Some(error) = &*self.failed.borrow() {
                    return Err(error.clone());
                }
                fresh = false;
                continue;
            }
            if let Some(open) = self.open(policy) {
                let lease = Box::pin(self.connect_http2(policy, open)).await?;
                self.still_there(want)?;
                return Ok(lease);
            }
            fresh = false;
            self.evict_idle(Version::Http2);
            self.wait(Version::Http2, policy, &mut until).await?;
            self.still_there(want)?;
        }
    }

    async fn connect_http2(
        self: &Rc<Self>,
        policy: &ServicePolicy,
        open: Open,
    ) -> Result<Lease, ConnectError> {
        self.connecting.set(true);
        let connecting = Connecting(self);
        self.failed.replace(None);
        let result = connect::http2(&self.target, policy.connect_timeout, open).await;
        let lease = match result {
            Ok(connection) => {
                self.target.connections.made();
                let stream = connection.reserve();
                self.http2.borrow_mut().push(connection);
                Ok(Lease::http2(stream, false))
            }
            Err(error) => {
                self.failed.replace(Some(error.clone()));
                Err(error)
            }
        };
        drop(connecting);
        lease
    }

    fn with_room(&self, policy: &ServicePolicy) -> Option<Rc<Http2Connection>> {
        let mut connections = self.http2.borrow_mut();
        let now = self.now();
        connections.retain(|connection| {
            !connection.is_closed() && now - connection.opened < policy.pool.max_lifetime
        });
        connections.iter().find(|connection| connection.has_room()).cloned()
    }

    fn sweep(&self, now: Instant) {
        let retired = self.target.is_retired();
        if retired {
            // Who waits here is to choose another endpoint.
            self.waiting_http1.notify_waiters();
            self.waiting_http2.notify_waiters();
        }
        let wanted = self.target.places.is_wanted();
        let limits = self.limits.borrow();
        self.idle.borrow_mut().retain(|idle| {
            !retired
                && !wanted
                && idle.connection.is_quiet(false)
                && now - idle.since < limits.idle_timeout
                && now - idle.connection.opened < limits.max_lifetime
        });
        self.http2.borrow_mut().retain(|connection| {
            let surplus = connection.is_idle() && now - connection.idle_since.get() >= limits.idle_timeout;
            let unused = (retired || wanted) && connection.is_idle();
            let useless = connection.is_closed() || surplus || unused;
            !useless
        });
        let idle_http2 = self.http2.borrow().iter().filter(|connection| connection.is_idle()).count();
        self.count_idle(self.idle.borrow().len() + idle_http2);
    }

    fn count_idle(&self, idle: usize) {
        let idle = i64::try_from(idle).unwrap_or(i64::MAX);
        self.target.connections.idle(idle - self.counted_idle.replace(idle));
    }
}

impl Drop for EndpointPool {
    fn drop(&mut self) {
        self.count_idle(0);
    }
}
