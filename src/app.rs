//! Composition root: a checked configuration becomes a running node.
//!
//! The threads are made here, and the channels between them: workers, the acceptor, and the control thread, which owns
//! everything that can change.

use std::{
    io,
    sync::{Arc, mpsc as std_mpsc},
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use tokio::{
    runtime::{Builder, LocalOptions, LocalRuntime},
    sync::{mpsc, oneshot},
};

pub use crate::snapshot::{Reloaded, Source};
use crate::{
    admin::{self, Access, Admin},
    config::{self, Config},
    drain::{Phase, Trigger},
    lifecycle::{self, Requests, Signals},
    net::{Address, Listener},
    server::{Acceptor, WorkerHandle, WorkerSeed},
    service::Service,
    snapshot::{DoorCommand, Reader, ReloadRequest, Reloader, Seen, Wiring, watch_memory},
    telemetry::{
        Metrics,
        log::{self, LogControl},
    },
    tls::Keeper,
};

/// A running node: its threads, and the handles to them. Dropped without [`Node::join`], it is left running.
pub struct Node {
    seen: Seen,
    admin: Address,
    reload: mpsc::UnboundedSender<ReloadRequest>,
    requests: mpsc::UnboundedSender<Request>,
    drain: Trigger,
    control: JoinHandle<()>,
}

/// What a node's owner may ask of the control thread.
enum Request {
    /// Obey signals from now on.
    Signals(oneshot::Sender<io::Result<()>>),
}

impl Node {
    /// Reads, checks and builds the configuration, binds every listener, starts the threads.
    ///
    /// # Errors
    /// Every problem of the configuration, or what could not be bound, a line each.
    pub fn start(source: Source) -> Result<Self, String> {
        Self::start_with_log(source, None)
    }

    /// As [`Node::start`]; the admin API can change the level of `log`.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn start_with_log(source: Source, log: Option<LogControl>) -> Result<Self, String> {
        let mut source = Reader::new(source);
        let config = source.read()?;
        let keeper = Arc::new(Keeper::default());
        let admin = open_admin(&config.admin, &keeper);
        let admin_address = admin.as_ref().map_or(&config.admin.listen, |(socket, _)| socket.address());
        let admin_address = admin_address.clone();
        let metrics = Metrics::new(config.node.workers.get());
        let (reload, reloads) = mpsc::unbounded_channel();
        let (requests, requested) = mpsc::unbounded_channel();
        let (started, start) = std_mpsc::sync_channel(1);
        let drain = Trigger::new();
        let (reloads_from, stop) = (reload.clone(), drain.clone());
        let control = Control { metrics, reload: reloads_from, reloads, requested, drain: stop, keeper, log };
        let thread = spawn("control", move || control.run(source, config, admin, &started));
        let seen = start.recv().map_err(|_| "the control thread ended at once".to_owned())??;
        Ok(Self { seen, admin: admin_address, reload, requests, drain, control: thread? })
    }

    /// Where the listener `name` is bound, with the port that the kernel chose for port 0.
    pub fn listener(&self, name: &str) -> Option<Address> {
        self.seen.doors.get().iter().find(|door| &*door.name == name).map(|door| door.address.clone())
    }

    /// Where the admin API is bound.
    pub fn admin(&self) -> &Address {
        &self.admin
    }

    /// Reads the source again and waits for the outcome. For a [`Source::Text`], `text` replaces it.
    ///
    /// # Errors
    /// Every problem, a line each; the old generation stays in force.
    pub fn reload(&self, text: Option<&str>) -> Result<Reloaded, String> {
        let (reply, outcome) = std_mpsc::sync_channel(1);
        let (answer, answered) = oneshot::channel();
        let request = ReloadRequest { text: text.map(ToOwned::to_owned), reply: answer };
        self.reload.send(request).map_err(|_| "the node has stopped".to_owned())?;
        // Not `blocking_recv`: the caller may be on a runtime of its own.
        thread::spawn(move || reply.send(answered.blocking_recv()));
        let outcome = outcome.recv().map_err(|_| "the node has stopped".to_owned())?;
        outcome.map_err(|_| "the node has stopped".to_owned())?
    }

    /// Obeys SIGHUP, SIGUSR1, SIGTERM and SIGINT from now on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn handle_signals(&self) -> io::Result<()> {
        let (reply, done) = oneshot::channel();
        self.requests.send(Request::Signals(reply)).map_err(|_| io::ErrorKind::NotConnected)?;
        done.blocking_recv().unwrap_or_else(|_| Err(io::ErrorKind::NotConnected.into()))
    }

    /// Starts to drain; returns at once.
    pub fn drain(&self) {
        self.drain.advance(Phase::Draining);
    }

    /// Waits until the node has drained (see [`Node::drain`]) and its threads have ended.
    pub fn join(self) {
        if self.control.join().is_err() {
            tracing::error!("the control thread panicked");
        }
    }
}

/// What the control thread starts from.
struct Control {
    metrics: Arc<Metrics>,
    reload: mpsc::UnboundedSender<ReloadRequest>,
    reloads: mpsc::UnboundedReceiver<ReloadRequest>,
    requested: mpsc::UnboundedReceiver<Request>,
    drain: Trigger,
    keeper: Arc<Keeper>,
    log: Option<LogControl>,
}

impl Control {
    fn run(
        self,
        source: Reader,
        config: Config,
        admin: Opened,
        started: &std_mpsc::SyncSender<Result<Seen, String>>,
    ) {
        let runtime = match local_runtime() {
            Ok(runtime) => runtime,
            Err(error) => return tell(started, Err(format!("cannot make a runtime: {error}"))),
        };
        runtime.block_on(async {
            match self.start(source, config, admin) {
                Ok((running, seen)) => {
                    tell(started, Ok(seen));
                    running.run().await;
                }
                Err(problem) => tell(started, Err(problem)),
            }
        });
    }

    fn start(self, source: Reader, config: Config, admin: Opened) -> Result<(Running, Seen), String> {
        let workers = config.node.workers.get();
        let (acceptor, commands) = mpsc::unbounded_channel();
        let (made, to_follow) = mpsc::unbounded_channel();
        let keeper = self.keeper.clone();
        let wiring = Wiring { metrics: self.metrics.clone(), acceptor, made, keeper };
        let (reloader, (socket, access)) = match (Reloader::start(source, config, wiring), admin) {
            (Ok(reloader), Ok(admin)) => (reloader, admin),
            (reloader, admin) => return Err(problems(admin.err(), reloader.err())),
        };
        let seen = reloader.seen().clone();
        let done = start_threads(workers, &self.metrics, &seen, &self.drain, commands)
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        let admin = self.admin(&seen, socket, access)?;
        tokio::task::spawn_local(admin);
        tokio::task::spawn_local(watch_memory(seen.snapshot.clone()));
        let running = Running {
            reloader,
            metrics: self.metrics,
            reload: self.reload,
            reloads: self.reloads,
            requested: self.requested,
            to_follow,
            drain: self.drain,
            workers: done,
        };
        Ok((running, seen))
    }

    fn admin(
        &self,
        seen: &Seen,
        socket: Listener,
        access: Access,
    ) -> Result<impl Future<Output = ()> + use<>, String> {
        let admin = Admin {
            seen: seen.clone(),
            metrics: self.metrics.clone(),
            reload: self.reload.clone(),
            drain: self.drain.clone(),
            log: self.log,
            started: SystemTime::now(),
            address: socket.address().clone(),
            access: Arc::new(access),
        };
        let socket = socket.into_async().map_err(|error| format!("admin.listen: {error}"))?;
        Ok(admin::serve(admin, socket, self.drain.watcher()))
    }
}

/// The control thread's loop.
struct Running {
    reloader: Reloader,
    metrics: Arc<Metrics>,
    reload: mpsc::UnboundedSender<ReloadRequest>,
    reloads: mpsc::UnboundedReceiver<ReloadRequest>,
    requested: mpsc::UnboundedReceiver<Request>,
    /// Services that workers made.
    to_follow: mpsc::UnboundedReceiver<Arc<Service>>,
    drain: Trigger,
    /// Ends when the last worker has.
    workers: mpsc::Receiver<()>,
}

impl Running {
    async fn run(mut self) {
        let mut drain = self.drain.watcher();
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        let mut minutes = tokio::time::interval(Duration::from_secs(60));
        loop {
            tokio::select! {
                () = drain.reached(Phase::Draining) => break self.metrics.draining.set(true),
                Some(request) = self.reloads.recv() => {
                    // Whoever asked may have gone.
                    let _ = request.reply.send(self.reloader.reload(request.text));
                }
                Some(service) = self.to_follow.recv() => self.reloader.follow(&service),
                Some(Request::Signals(reply)) = self.requested.recv() => {
                    let _ = reply.send(self.obey_signals());
                }
                _ = seconds.tick() => {
                    self.reloader.sweep();
                    give_back_memory();
                    log::tell_repeats();
                }
                _ = minutes.tick() => self.metrics.sweep(std::time::Instant::now()),
            }
        }
        let requests = Requests { reloads: self.reloads, to_follow: self.to_follow };
        lifecycle::shut_down(&mut self.reloader, &self.drain, self.workers, requests).await;
        // Signals are obeyed meanwhile: a second one ends this.
        self.reloader.finish().await;
        log::tell_repeats();
    }

    fn obey_signals(&self) -> io::Result<()> {
        let signals = Signals::take_over()?;
        let snapshot = self.reloader.seen().snapshot.clone();
        tokio::task::spawn_local(signals.obey(self.reload.clone(), self.drain.clone(), snapshot));
        Ok(())
    }
}

/// Lets the allocator give back what has been free for a while. mimalloc does so when it takes or frees a large block,
/// for all threads; after a burst, when nobody does, everything would stay (docs/decisions/0009-memory.md). The block is never
/// written, so it costs no page.
fn give_back_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(4 << 20)));
}

fn tell(started: &std_mpsc::SyncSender<Result<Seen, String>>, outcome: Result<Seen, String>) {
    // Whoever started the node waits for this.
    let _ = started.send(outcome);
}

fn problems(admin: Option<String>, others: Option<String>) -> String {
    admin.into_iter().chain(others).collect::<Vec<_>>().join("\n")
}

/// The admin API's socket, and who may use it. Opened before the configuration is built, and judged with it: all that cannot be had
/// is told at once.
type Opened = Result<(Listener, Access), String>;

fn open_admin(config: &config::Admin, keeper: &Keeper) -> Opened {
    let socket = Listener::bind_private(&config.listen).map_err(|error| format!("admin.listen: {error}"));
    match (socket, Access::open(&config.access, keeper)) {
        (Ok(socket), Ok(access)) => {
            admin::warnings(config).iter().for_each(|warning| tracing::warn!("{warning}"));
            Ok((socket, access))
        }
        (socket, access) => Err(problems(socket.err(), access.err())),
    }
}

/// Starts the workers and the acceptor. The channel ends when the last worker has.
fn start_threads(
    workers: usize,
    metrics: &Arc<Metrics>,
    seen: &Seen,
    stop: &Trigger,
    commands: mpsc::UnboundedReceiver<DoorCommand>,
) -> io::Result<mpsc::Receiver<()>> {
    let (alive, done) = mpsc::channel(1);
    let mut handles = Vec::new();
    for index in 0..workers {
        let (handle, seed) = WorkerHandle::new(index, metrics.clone());
        start_worker(index, seed, seen.clone(), stop, alive.clone())?;
        handles.push(handle);
    }
    let acceptor = Acceptor::new(handles.into(), metrics.clone(), seen.snapshot.get().limits.clone());
    let runtime = local_runtime_on_its_thread;
    spawn_thread("acceptor", move || runtime(acceptor.run(commands)))?;
    Ok(done)
}

fn start_worker(
    index: usize,
    seed: WorkerSeed,
    seen: Seen,
    stop: &Trigger,
    alive: mpsc::Sender<()>,
) -> io::Result<()> {
    let stop = stop.watcher();
    spawn_thread(&format!("worker-{index}"), move || {
        if let Err(error) = seed.run(&seen.snapshot, stop) {
            tracing::error!(index, %error, "a worker cannot run");
        }
        drop(alive);
    })?;
    Ok(())
}

fn local_runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
}

fn local_runtime_on_its_thread(task: impl Future<Output = ()>) {
    match local_runtime() {
        Ok(runtime) => runtime.block_on(task),
        Err(error) => tracing::error!(%error, "the acceptor cannot run"),
    }
}

fn spawn_thread(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(body)
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, String> {
    spawn_thread(name, body).map_err(|error| format!("cannot start a thread: {error}"))
}
