//! A worker thread: a current-thread runtime on which connections live and die.

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::{Builder, LocalOptions},
    sync::mpsc,
};

use super::{connection, members::Members, places::Held};
use crate::{
    drain::{Phase, Watcher},
    net::Accepted,
    proxy::Worker,
    published::Published,
    snapshot::{Door, Snapshot},
    telemetry::{self, Metrics},
};

/// The acceptor's end of a worker.
pub struct WorkerHandle {
    new: mpsc::UnboundedSender<NewConnection>,
    connections: Arc<AtomicUsize>,
}

/// What a worker thread starts from.
pub struct WorkerSeed {
    index: usize,
    new: mpsc::UnboundedReceiver<NewConnection>,
    metrics: Arc<Metrics>,
}

/// A connection on its way to its worker.
pub(super) struct NewConnection {
    pub(super) accepted: Accepted,
    pub(super) door: Arc<Door>,
    pub(super) counted: Counted,
    /// None: nothing is limited.
    pub(super) held: Option<Held>,
}

/// Counts a connection as its worker's until it is dropped.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl WorkerHandle {
    /// Both ends of worker `index`.
    pub fn new(index: usize, metrics: Arc<Metrics>) -> (Self, WorkerSeed) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let handle = Self { new: sender, connections: Arc::default() };
        (handle, WorkerSeed { index, new: receiver, metrics })
    }

    /// Connections that it has.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn take(&self, accepted: Accepted, door: Arc<Door>, held: Option<Held>) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(self.connections.clone());
        // A worker that is gone is one that the node has stopped: so is the connection.
        let _ = self.new.send(NewConnection { accepted, door, counted, held });
    }
}

impl WorkerSeed {
    /// Serves connections until the acceptor is gone and the last one has ended, or `stop` says that it is over.
    ///
    /// # Errors
    /// When the runtime cannot be made.
    pub fn run(self, snapshot: &Published<Snapshot>, mut stop: Watcher) -> io::Result<()> {
        telemetry::enter_worker(self.index);
        self.metrics.worker_runs(self.index);
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        let worker = Rc::new(Worker::new(self.index, snapshot, self.metrics.clone()));
        runtime.block_on(async {
            tokio::task::spawn_local(sweep(worker.clone()));
            tokio::select! {
                () = serve_all(worker, self.new) => {}
                () = stop.reached(Phase::Closed) => {}
            }
        });
        // What still runs is cut off here: its tasks are dropped with the runtime.
        Ok(())
    }
}

async fn sweep(worker: Rc<Worker>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        worker.sweep();
    }
}

/// How soon a worker without requests notices what callers may do no longer.
const NOTICE: Duration = Duration::from_millis(250);

/// Looks now and then whether what callers may do has changed: requests that run find out when they are woken, connections of
/// callers that may do nothing any more are ended here.
async fn notice(worker: Rc<Worker>, by_door: Rc<ByDoor>) {
    let mut tick = tokio::time::interval(NOTICE);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut rules = worker.view().snapshot.rules.clone();
    let mut changed = false;
    loop {
        tick.tick().await;
        let now = worker.view().snapshot.rules.clone();
        // A moment later, so that requests that run can end as what they are: denied.
        if std::mem::replace(&mut changed, !Arc::ptr_eq(&now, &rules)) {
            let all: Vec<_> = by_door.borrow().values().cloned().collect();
            all.iter().for_each(|members| members.cut_forbidden(&worker));
        }
        rules = now;
    }
}

/// The connections of each door on this worker.
type ByDoor = RefCell<HashMap<*const Door, Rc<Members>>>;

async fn serve_all(worker: Rc<Worker>, mut new: mpsc::UnboundedReceiver<NewConnection>) {
    let by_door = Rc::new(ByDoor::default());
    tokio::task::spawn_local(notice(worker.clone(), by_door.clone()));
    while let Some(connection) = new.recv().await {
        let members = members_of(&by_door, &connection.door);
        connection::spawn(worker.clone(), connection, &members);
    }
    let all: Vec<_> = by_door.borrow().values().cloned().collect();
    for members in all {
        members.gone().await;
    }
}

fn members_of(by_door: &Rc<ByDoor>, door: &Arc<Door>) -> Rc<Members> {
    if let Some(members) = by_door.borrow().get(&Arc::as_ptr(door)) {
        return members.clone();
    }
    let members = Rc::new(Members::default());
    by_door.borrow_mut().insert(Arc::as_ptr(door), members.clone());
    tokio::task::spawn_local(watch(by_door.clone(), door.clone(), members.clone()));
    members
}

/// Tells a door's connections how far its shutdown has come.
async fn watch(by_door: Rc<ByDoor>, door: Arc<Door>, members: Rc<Members>) {
    let mut watcher = door.drain.watcher();
    watcher.reached(Phase::Draining).await;
    members.drain();
    tokio::select! {
        () = watcher.reached(Phase::Closed) => members.cut_off(),
        () = members.gone() => {}
    }
    by_door.borrow_mut().remove(&Arc::as_ptr(&door));
}
