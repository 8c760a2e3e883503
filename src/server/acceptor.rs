//! The acceptor: one thread that accepts on every listening socket and hands each connection to the least busy worker.
//!
//! It never ends by itself. When the process runs out of descriptors it waits for some to be given back, and counts.

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};

use super::{places, worker::WorkerHandle};
use crate::{
    net::{AsyncListener, Listener},
    snapshot::{Door, DoorCommand, NodeLimits},
    telemetry::Metrics,
};

/// After an error that only time mends; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How long the queue of a socket that is to be closed is emptied. Callers that are sent away come back at once, so that it may
/// never be found empty.
const LAST_LOOK: Duration = Duration::from_millis(100);

/// Accepts connections.
pub struct Acceptor {
    workers: Arc<[WorkerHandle]>,
    metrics: Arc<Metrics>,
    limits: Arc<NodeLimits>,
    /// By the address of the door.
    open: HashMap<usize, Accepting>,
}

/// A socket that is being accepted from; it closes when this is dropped, after a last look at its queue.
struct Accepting {
    door: watch::Sender<Arc<Door>>,
}

impl Acceptor {
    /// An acceptor that hands connections to `workers`.
    pub fn new(workers: Arc<[WorkerHandle]>, metrics: Arc<Metrics>, limits: Arc<NodeLimits>) -> Self {
        Self { workers, metrics, limits, open: HashMap::new() }
    }

    /// Runs until `commands` ends, within a local runtime.
    pub async fn run(mut self, mut commands: mpsc::UnboundedReceiver<DoorCommand>) {
        let mut running = tokio::task::JoinSet::new();
        loop {
            let command = tokio::select! {
                command = commands.recv() => command,
                Some(_) = running.join_next() => continue,
            };
            match command {
                Some(DoorCommand::Open(socket, door)) => self.open(socket, door, &mut running),
                Some(DoorCommand::Replace(old, new)) => self.replace(&old, new),
                Some(DoorCommand::Close(door)) => {
                    self.open.remove(&Arc::as_ptr(&door).addr());
                }
                None => break,
            }
        }
        self.open.clear();
        while running.join_next().await.is_some() {}
    }

    fn open(&mut self, socket: Listener, door: Arc<Door>, running: &mut tokio::task::JoinSet<()>) {
        let listener = match socket.into_async() {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(listener = &*door.name, %error, "cannot accept from the socket");
                return;
            }
        };
        tracing::info!(listener = &*door.name, address = %door.address, "listening");
        let key = Arc::as_ptr(&door).addr();
        let (sender, receiver) = watch::channel(door);
        self.open.insert(key, Accepting { door: sender });
        let (metrics, limits) = (self.metrics.clone(), Some(self.limits.clone()));
        let hands = Hands { workers: self.workers.clone(), metrics, limits, next: 0 };
        running.spawn_local(accept(listener, receiver, hands));
    }

    fn replace(&mut self, old: &Arc<Door>, new: Arc<Door>) {
        if let Some(accepting) = self.open.remove(&Arc::as_ptr(old).addr()) {
            let key = Arc::as_ptr(&new).addr();
            accepting.door.send_replace(new);
            self.open.insert(key, accepting);
        }
    }
}

/// Accepts until the door's sender is gone, then takes what the kernel's queue still holds.
async fn accept(listener: AsyncListener, mut door: watch::Receiver<Arc<Door>>, mut hands: Hands) {
    let mut pause = FIRST_PAUSE;
    loop {
        let accepted = tokio::select! {
            biased;
            closed = door.changed() => match closed {
                Ok(()) => continue,
                Err(_) => break,
            },
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                pause = FIRST_PAUSE;
                hands.over(accepted, &door.borrow());
            }
            Err(error) => {
                hands.metrics.accept_errors.inc();
                if concerns_one_connection(&error) {
                    continue;
                }
                if pause == FIRST_PAUSE {
                    tracing::warn!(listener = &*door.borrow().name, %error, "cannot accept; trying again");
                }
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    let last_door = door.borrow().clone();
    empty_queue(&listener, &last_door, &mut hands).await;
}

/// Takes what the kernel's queue holds, for a moment.
async fn empty_queue(listener: &AsyncListener, door: &Arc<Door>, hands: &mut Hands) {
    let until = Instant::now() + LAST_LOOK;
    while Instant::now() < until {
        match timeout(Duration::ZERO, listener.accept()).await {
            Ok(Ok(accepted)) => hands.over(accepted, door),
            Ok(Err(error)) if concerns_one_connection(&error) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// The next connection has nothing to do with what happened to this one.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, InvalidInput, NotConnected};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | InvalidInput | NotConnected)
}

/// Hands connections to workers.
struct Hands {
    workers: Arc<[WorkerHandle]>,
    metrics: Arc<Metrics>,
    /// None: every connection is taken.
    limits: Option<Arc<NodeLimits>>,
    /// Where to look first, so that equally busy workers take turns.
    next: usize,
}

impl Hands {
    fn over(&mut self, accepted: crate::net::Accepted, door: &Arc<Door>) {
        if self.limits.as_ref().is_some_and(|limits| limits.memory.is_short()) {
            // Closed at once: the caller learns sooner than from a connection that nobody reads.
            self.metrics.refused_for_memory.inc();
            return;
        }
        let held = match &self.limits {
            Some(limits) => match places::admit(&accepted, door, limits, &self.metrics) {
                Some(held) => Some(held),
                None => return,
            },
            None => None,
        };
        let count = self.workers.len();
        self.next = (self.next + 1) % count;
        let order = (0..count).map(|offset| (self.next + offset) % count);
        if let Some(least) = order.min_by_key(|index| self.workers[*index].connections()) {
            self.workers[least].take(accepted, door.clone(), held);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::{config::ListenerKind, drain::Trigger, net::Address};

    /// One worker, which is gone: what it gets is closed.
    fn hands(metrics: &Arc<Metrics>) -> Hands {
        let (worker, _) = WorkerHandle::new(0, metrics.clone());
        Hands { workers: Arc::new([worker]), metrics: metrics.clone(), limits: None, next: 0 }
    }

    #[tokio::test]
    async fn the_last_look_ends_though_callers_come_without_a_pause() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let address = Address::Unix(path.clone());
        let listener = Listener::bind(&address).unwrap().into_async().unwrap();
        let metrics = Metrics::new(1);
        let door = Arc::new(Door {
            name: "one".into(),
            kind: ListenerKind::Outgoing,
            configured: address.clone(),
            address,
            tls: None,
            drain: Trigger::new(),
            open: Arc::default(),
            series: metrics.listener_series("one"),
        });
        let coming = async {
            loop {
                UnixStream::connect(&path).unwrap();
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            // So that somebody has come whenever it looks.
            biased;
            () = async { empty_queue(&listener, &door, &mut hands(&metrics)).await } => {}
            () = sleep(Duration::from_secs(10)) => panic!("it goes on and on"),
            () = coming => {}
        }
    }
}
