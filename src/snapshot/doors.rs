//! The listening sockets, and how a reload changes them.
//!
//! A socket is known by its address: while that stays, the socket is never touched, even if the listener's name or
//! kind changes. New sockets are bound before anything takes force, so an address that is taken stops the reload.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use crate::{
    config::{Config, ListenerKind, Name},
    drain::{Phase, Trigger},
    limit::Connections,
    net::{Address, Listener},
    telemetry::{ListenerSeries, Metrics},
    tls::{self, Keeper},
};

/// One listener that is open. Connections hold it.
pub struct Door {
    /// The listener's name.
    pub name: Name,
    /// Which way its requests go.
    pub kind: ListenerKind,
    /// As configured: port 0 stays 0 here.
    pub configured: Address,
    /// Where it really listens.
    pub address: Address,
    /// None: plain.
    pub tls: Option<Arc<tls::Server>>,
    /// Ends it: by a reload, or with the node.
    pub drain: Trigger,
    /// How many connections it has.
    pub open: Arc<Connections>,
    /// Its metrics.
    pub series: ListenerSeries,
}

/// What the acceptor is to do.
pub enum DoorCommand {
    /// Accept from this socket.
    Open(Listener, Arc<Door>),
    /// Connections of the first door's socket now belong to the second.
    Replace(Arc<Door>, Arc<Door>),
    /// Stop accepting, and close the socket.
    Close(Arc<Door>),
}

/// The doors that are open now.
pub(super) struct Doors {
    open: Vec<Arc<Door>>,
    /// None once the node drains.
    acceptor: Option<mpsc::UnboundedSender<DoorCommand>>,
    metrics: Arc<Metrics>,
}

/// A change that is ready to be made: everything that can fail has been done.
pub(super) struct Plan {
    doors: Vec<Arc<Door>>,
    commands: Vec<DoorCommand>,
}

impl Doors {
    pub(super) fn new(acceptor: mpsc::UnboundedSender<DoorCommand>, metrics: Arc<Metrics>) -> Self {
        Self { open: Vec::new(), acceptor: Some(acceptor), metrics }
    }

    pub(super) fn open(&self) -> &[Arc<Door>] {
        &self.open
    }

    /// Binds what is new, and reads the files that TLS takes.
    ///
    /// # Errors
    /// Each address that cannot be listened on and each file that cannot be used, a line each.
    pub(super) fn prepare(&self, config: &Config, keeper: &Keeper) -> Result<Plan, String> {
        let mut plan = Plan { doors: Vec::new(), commands: Vec::new() };
        let mut failures = Vec::new();
        for (index, listener) in config.listeners.iter().enumerate() {
            let tls =
                listener.tls.as_ref().map(|tls| keeper.server(tls)).transpose().unwrap_or_else(|problem| {
                    failures.push(format!("listeners[{index}].tls: {problem}"));
                    None
                });
            if let Err(failure) = self.prepare_one(listener, tls, &mut plan) {
                failures.push(format!("listeners[{index}].listen: {failure}"));
            }
        }
        if !failures.is_empty() {
            return Err(failures.join("\n"));
        }
        let kept = |door: &Arc<Door>| {
            let replaced = |command: &DoorCommand| matches!(command, DoorCommand::Replace(old, _) if Arc::ptr_eq(old, door));
            plan.doors.iter().any(|other| Arc::ptr_eq(other, door)) || plan.commands.iter().any(replaced)
        };
        let closed: Vec<_> = self.open.iter().filter(|door| !kept(door)).cloned().collect();
        plan.commands.extend(closed.into_iter().map(DoorCommand::Close));
        Ok(plan)
    }

    fn prepare_one(
        &self,
        wanted: &crate::config::Listener,
        tls: Option<Arc<tls::Server>>,
        plan: &mut Plan,
    ) -> Result<(), crate::net::ListenerError> {
        let any_port = matches!(&wanted.address, Address::Tcp(address) if address.port() == 0);
        let same = self
            .open
            .iter()
            .find(|door| door.configured == wanted.address && (!any_port || door.name == wanted.name));
        let door = match same {
            Some(door) if is_same(door, wanted, tls.as_ref()) => door.clone(),
            Some(old) => {
                let new = Arc::new(self.door(wanted, old.address.clone(), tls));
                plan.commands.push(DoorCommand::Replace(old.clone(), new.clone()));
                new
            }
            None => {
                let socket = Listener::bind(&wanted.address)?;
                let new = Arc::new(self.door(wanted, socket.address().clone(), tls));
                plan.commands.push(DoorCommand::Open(socket, new.clone()));
                new
            }
        };
        plan.doors.push(door);
        Ok(())
    }

    fn door(
        &self,
        wanted: &crate::config::Listener,
        address: Address,
        tls: Option<Arc<tls::Server>>,
    ) -> Door {
        Door {
            name: wanted.name.clone(),
            kind: wanted.kind,
            configured: wanted.address.clone(),
            address,
            tls,
            drain: Trigger::new(),
            open: Arc::default(),
            series: self.metrics.listener_series(&wanted.name),
        }
    }

    /// Makes the change. Connections of doors that close finish what they serve, within `limit`.
    pub(super) fn commit(&mut self, plan: Plan, limit: Duration) {
        self.open = plan.doors;
        for command in plan.commands {
            if let DoorCommand::Replace(old, _) | DoorCommand::Close(old) = &command {
                old.drain.advance(Phase::Draining);
                let old = old.clone();
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(limit).await;
                    old.drain.advance(Phase::Closed);
                });
            }
            if let Some(acceptor) = &self.acceptor {
                // The acceptor is gone only when the node stops.
                let _ = acceptor.send(command);
            }
        }
    }

    /// Closes every door for good; connections finish what they serve. Ends the acceptor, and with it the workers.
    pub(super) fn close(&mut self) {
        self.acceptor = None;
        for door in &self.open {
            door.drain.advance(Phase::Draining);
        }
    }
}

/// Whether the door is as wanted; that its certificates were renewed makes it no other (see [`Keeper`]).
fn is_same(door: &Door, wanted: &crate::config::Listener, tls: Option<&Arc<tls::Server>>) -> bool {
    let same_tls = match (&door.tls, tls) {
        (Some(old), Some(new)) => Arc::ptr_eq(old, new),
        (None, None) => true,
        _ => false,
    };
    same_tls && door.name == wanted.name && door.kind == wanted.kind
}
