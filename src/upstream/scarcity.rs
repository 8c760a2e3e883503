//! When there are as many connections as may be: to an endpoint from this worker, or to its service from all of them.
//!
//! # Who gets the next
//! A request waits for a connection of its own endpoint to become idle, or for a place to make one; not for longer than the service's
//! requests wait for a place. Idle connections give way: at once those of this worker to other endpoints of the service, within a
//! second those of other workers. A worker whose own requests wait keeps what becomes free for them, but for every eighth connection,
//! so that the others are not forgotten.

use std::{rc::Rc, sync::Arc};

use tokio::time::{Instant, sleep_until};

use super::{error::ConnectError, pool::EndpointPool, target::Version};
use crate::{config::ServicePolicy, limit::HeldConnection};

/// Of the connections that become free on a worker, one in so many goes to the others that wait.
const SHARED: u32 = 8;

/// Counts who waits at a pool.
struct Waiting<'p>(&'p EndpointPool);

impl<'p> Waiting<'p> {
    fn new(pool: &'p EndpointPool) -> Self {
        pool.waiting.set(pool.waiting.get() + 1);
        Self(pool)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

impl EndpointPool {
    /// A place for one more connection to the service, if need be that of an idle one.
    pub(super) fn place(&self, policy: &ServicePolicy) -> Option<HeldConnection> {
        let (places, max) = (&self.target.places, policy.breaker.max_connections);
        places.open(max).or_else(|| {
            self.evict_elsewhere();
            places.open(max)
        })
    }

    /// Closes an idle connection of this worker to another endpoint of the service.
    fn evict_elsewhere(&self) {
        let Some(all) = self.all.upgrade() else { return };
        let other = |pool: &&Rc<Self>| {
            let of_service = Arc::ptr_eq(&pool.target.places, &self.target.places);
            of_service && pool.target.id != self.target.id && !pool.idle.borrow().is_empty()
        };
        let pool = all.borrow().values().find(other).cloned();
        // The one that was used last stands last.
        let evicted = pool.map(|pool| pool.idle.borrow_mut().remove(0));
        drop(evicted);
    }

    /// Whether a connection that becomes free is to be closed, for its place.
    pub(super) fn is_needed_elsewhere(&self) -> bool {
        if !self.target.places.is_wanted() {
            return false;
        }
        let kept = (self.kept.get() + 1) % SHARED;
        self.kept.set(kept);
        self.waiting.get() == 0 || kept == 0
    }

    /// Returns once there may be a connection, or a place for one. `until` is set when the request waits first.
    pub(super) async fn wait(
        &self,
        version: Version,
        policy: &ServicePolicy,
        until: &mut Option<Instant>,
    ) -> Result<(), ConnectError> {
        Box::pin(self.wait_here(version, policy, until)).await
    }

    async fn wait_here(
        &self,
        version: Version,
        policy: &ServicePolicy,
        until: &mut Option<Instant>,
    ) -> Result<(), ConnectError> {
        let patience = policy.breaker.requests.pending_timeout;
        let until = *until.get_or_insert_with(|| Instant::now() + patience);
        let _waiting = Waiting::new(self);
        let own = match version {
            Version::Http1 => &self.waiting_http1,
            Version::Http2 => &self.waiting_http2,
        };
        let is_full = self.open.get() >= policy.pool.max_connections;
        let max = policy.breaker.max_connections;
        tokio::select! {
            biased;
            () = own.notified() => Ok(()),
            () = self.target.places.freed(max), if !is_full => Ok(()),
            () = sleep_until(until) => {
                let limit = if is_full { "pool.max_connections" } else { "breaker.max_connections" };
                Err(ConnectError::Full { limit, waited: patience })
            }
        }
    }
}
