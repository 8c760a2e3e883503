//! Connections to the admin API: accepted, secured, served, and bounded.
//!
//! # When many hold connections
//! There are [`PLACES`]. A further connection takes the place of the oldest one that serves no request, or of the oldest: whoever
//! opens many connections and says nothing keeps nobody out, and the kubelet still hears that the node lives.
//!
//! # When certificates or authorities change
//! Connections that began under the old ones end within a second, after the request that they serve, for which there are two more:
//! whoever is no longer vouched for is out.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    convert::Infallible,
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, http::Request};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1, service::Service, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::ServerConfig;
use tokio::{
    net::{TcpStream, UnixStream},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::{access::Access, gate::Caller};
use crate::{
    drain::{Phase, Watcher},
    net::{Accepted, AsyncListener, Socket, Stream},
    telemetry::Metrics,
    tls::ServerMaterial,
};

/// Connections at a time.
const PLACES: usize = 64;
/// From one answer to the end of the next request's head.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Between two TLS handshakes: they are the most that a stranger can make the control thread do, and may not be all that it does.
const PACE: Duration = Duration::from_millis(5);
/// For a TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Of a request's head, as `limits.header_bytes` is by default.
const MOST_HEAD: usize = 64 << 10;
/// Between two looks whether certificates have changed.
const LOOK: Duration = Duration::from_secs(1);
/// An answer that is still being written when the node has closed gets this long.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// For the request in progress of a connection that has to end.
const LAST_REQUEST: Duration = Duration::from_secs(2);
/// After an error that is not one connection's, such as too many files.
const PAUSE: Duration = Duration::from_millis(100);

/// What connections share.
pub(super) struct Connections {
    pub(super) app: Router,
    pub(super) access: Arc<Access>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: Watcher,
}

/// One that is open.
struct Place {
    /// Requests whose answers have not ended.
    serves: Rc<Cell<usize>>,
    task: JoinHandle<()>,
}

/// A request that is served until this is dropped.
struct Serving(Rc<Cell<usize>>);

impl Serving {
    fn begin(serves: &Rc<Cell<usize>>) -> Self {
        serves.set(serves.get() + 1);
        Self(serves.clone())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The body of an answer: a tap or a scrape serves for as long as there is more of it.
struct Answer {
    body: Body,
    _serving: Serving,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Connections {
    /// Serves whoever comes until the node has closed.
    pub(super) async fn serve(self, listener: AsyncListener) {
        let (connections, places) = (Rc::new(self), RefCell::new(VecDeque::new()));
        let mut stop = connections.stop.clone();
        tokio::select! {
            never = connections.accept(&listener, &places) => match never {},
            () = stop.reached(Phase::Closed) => {}
        }
        drop(listener);
        let last = async {
            for place in places.take() {
                // One that panicked has ended as well.
                let _ = place.task.await;
            }
        };
        let _ = timeout(LAST_ANSWERS, last).await;
    }

    async fn accept(
        self: &Rc<Self>,
        listener: &AsyncListener,
        places: &RefCell<VecDeque<Place>>,
    ) -> Infallible {
        loop {
            let stream = match listener.accept().await.and_then(adopt) {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::debug!(%error, "admin API: cannot accept");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            self.place(stream, &mut places.borrow_mut());
            if self.access.tls.is_some() {
                sleep(PACE).await;
            }
        }
    }

    fn place(self: &Rc<Self>, stream: Socket, places: &mut VecDeque<Place>) {
        self.make_room(places);
        let serves = Rc::new(Cell::new(0));
        let task = tokio::task::spawn_local(self.clone().one(stream, serves.clone()));
        places.push_back(Place { serves, task });
    }

    fn make_room(&self, places: &mut VecDeque<Place>) {
        places.retain(|place| !place.task.is_finished());
        if places.len() < PLACES {
            return;
        }
        let idle = places.iter().position(|place| place.serves.get() == 0);
        if let Some(place) = places.remove(idle.unwrap_or(0)) {
            place.task.abort();
            self.metrics.admin_refused("crowded");
        }
    }

    async fn one(self: Rc<Self>, stream: Socket, serves: Rc<Cell<usize>>) {
        let from = stream.tcp_ends().map_or_else(|| "unix".to_owned(), |(_, peer)| peer.to_string());
        let Some((stream, certified, material)) = self.secure(stream, &from).await else { return };
        let caller = Arc::new(Caller { from, certified });
        let app = TowerToHyperService::new(self.app.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(caller.clone());
            let (answer, serving) = (app.call(request), Serving::begin(&serves));
            async move {
                let answer = answer.await?;
                Ok::<_, Infallible>(answer.map(|body| Answer { body, _serving: serving }))
            }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(MOST_HEAD);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut stop = self.stop.clone();
        tokio::select! {
            // How one ended is its caller's business.
            _ = connection.as_mut() => return,
            () = stop.reached(Phase::Closed) => {}
            () = self.outdated(material) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = timeout(LAST_REQUEST, connection).await;
    }

    /// Returns when the handshake would go by other files now.
    async fn outdated(&self, material: Option<Arc<ServerMaterial>>) {
        let (Some(server), Some(material)) = (&self.access.tls, material) else {
            return std::future::pending().await;
        };
        while Arc::ptr_eq(&server.now(), &material) {
            sleep(LOOK).await;
        }
    }

    /// The stream, whether its caller has shown a certificate that was verified, and what the handshake went by.
    async fn secure(
        &self,
        socket: Socket,
        from: &str,
    ) -> Option<(Stream, bool, Option<Arc<ServerMaterial>>)> {
        let Some(server) = &self.access.tls else { return Some((Stream::Plain(socket), false, None)) };
        let material = server.now();
        let acceptor = TlsAcceptor::from(only_http1(&material));
        match timeout(HANDSHAKE_TIME, acceptor.accept(socket)).await {
            Ok(Ok(stream)) => {
                // The verifier has refused what it did not believe; of a session that is resumed, only this looks at the end.
                let certified = match material.caller(stream.get_ref().1) {
                    Ok((names, _)) => names.is_some(),
                    Err(why) => {
                        self.metrics.admin_refused("handshake");
                        tracing::debug!(from, "admin API: {why}");
                        return None;
                    }
                };
                Some((Stream::Tls(Box::new(TlsStream::Server(stream))), certified, Some(material)))
            }
            Ok(Err(error)) => {
                self.metrics.admin_refused("handshake");
                tracing::debug!(from, %error, "admin API: TLS handshake failed");
                None
            }
            Err(_) => {
                self.metrics.admin_refused("handshake");
                None
            }
        }
    }
}

/// The admin API speaks HTTP/1.1, where listeners speak HTTP/2 as well.
fn only_http1(material: &ServerMaterial) -> Arc<ServerConfig> {
    let mut config = (*material.config).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

fn adopt(accepted: Accepted) -> io::Result<Socket> {
    Ok(match accepted {
        Accepted::Tcp(stream, _) => Socket::Tcp(TcpStream::from_std(stream)?),
        Accepted::Unix(stream) => Socket::Unix(UnixStream::from_std(stream)?),
    })
}
