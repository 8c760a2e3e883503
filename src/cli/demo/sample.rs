//! A sample service's endpoint: answers every request with its name. It can be stopped and started again.

use std::{
    future::IntoFuture,
    io,
    net::{SocketAddr, TcpListener},
    thread::{self, JoinHandle},
};

use axum::Router;
use tokio::sync::oneshot;

/// An endpoint that has a port of its own on loopback.
pub(super) struct Sample {
    name: &'static str,
    pub(super) address: SocketAddr,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Sample {
    /// Starts on a free port.
    pub(super) fn start(name: &'static str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut sample = Self { name, address: listener.local_addr()?, running: None };
        sample.run(listener)?;
        Ok(sample)
    }

    /// Starts again on the port that it had.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.run(TcpListener::bind(self.address)?)
    }

    /// Answers what runs, then closes its port and every connection: connects to it are refused from now on.
    pub(super) fn stop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }

    fn run(&mut self, listener: TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let name = self.name;
        let app = Router::new().fallback(async move || format!("{name}\n"));
        let serve = async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let stopped = async { drop(stopped.await) };
            axum::serve(listener, app).with_graceful_shutdown(stopped).into_future().await
        };
        let body = move || drop(runtime.block_on(serve));
        let thread = thread::Builder::new().name(self.name.to_owned()).spawn(body)?;
        self.running = Some((stop, thread));
        Ok(())
    }
}
