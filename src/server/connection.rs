//! One connection, from its worker's hands to its end: which protocol does it speak?

use std::{future::poll_fn, io, rc::Rc, sync::Arc, task::Poll};

use bytes::BytesMut;
use tokio::{
    net::{TcpStream, UnixStream},
    time::Instant,
};

use super::{
    handshake::{self, Agreed, Insecure, Secured},
    http1, http2, identity,
    members::{Members, Membership},
    timer::Timer,
    worker::NewConnection,
};
use crate::{
    auth::Identity,
    net::{Accepted, Address, SharedStream, Socket, poll_read_some},
    proxy::{Caller, Failure, Reason, Worker},
    telemetry::Metrics,
};

/// How a client with prior knowledge opens HTTP/2 (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves the connection as a task of this worker.
pub(super) fn spawn(worker: Rc<Worker>, connection: NewConnection, members: &Rc<Members>) {
    let membership = Rc::new(members.join());
    let metrics = worker.metrics.clone();
    let task = tokio::task::spawn_local(guarded(metrics, serve(worker, connection, membership.clone())));
    membership.runs_as(task.abort_handle());
}

/// Serves, and counts the panic that ends this connection: the runtime keeps it from the others.
async fn guarded(metrics: Arc<Metrics>, serving: impl Future<Output = ()>) {
    let _panics = CountsPanics(metrics);
    serving.await;
}

async fn serve(worker: Rc<Worker>, connection: NewConnection, membership: Rc<Membership>) {
    let NewConnection { accepted, door, counted: _counted, held } = connection;
    let _open = door.series.connections.hold();
    let _held = worker.metrics.worker_connections(worker.index).hold();
    let (socket, peer) = match adopt(accepted) {
        Ok(adopted) => adopted,
        Err(error) => return tracing::warn!(%error, "cannot serve an accepted connection"),
    };
    poll_fn(|cx| {
        membership.wake_with(cx.waker());
        Poll::Ready(())
    })
    .await;
    let secured = match handshake::secure(socket, &worker, (&door, &peer), &membership).await {
        Ok(secured) => secured,
        Err(Insecure::Closed) => return,
        Err(Insecure::Http(stream)) => {
            let caller = Rc::new(Caller::new(door, peer, Rc::new(Identity::unknown()), None));
            let stream = SharedStream::new(stream);
            let failure = Failure::new(Reason::BadRequest, "plain HTTP to a port of HTTPS");
            return Box::pin(http1::refuse(worker, caller, stream, membership, failure)).await;
        }
    };
    let identity = identity::identify(&worker, &door, &secured).await;
    let places = match held {
        Some(held) => match held.of(&identity, &door, &worker.limits, &worker.metrics) {
            Some(places) => Some(places),
            None => return,
        },
        None => None,
    };
    let (place, _place_at_door) = places.unzip();
    let caller = Rc::new(Caller::new(door, peer, identity, place));
    let Secured { stream, agreed, .. } = secured;
    let stream = SharedStream::new(stream);
    caller.attach(&stream);
    membership.is_of(&caller);
    let mut buffer = BytesMut::new();
    let detected = detect(&worker, &stream, &mut buffer, &membership).await;
    match as_agreed(agreed, detected) {
        // Boxed, so that a connection takes the memory of the protocol that it speaks and not of the larger one, twice
        // (a future holds its arguments beside what it makes of them).
        Some(Protocol::Http1) => Box::pin(http1::serve(worker, caller, stream, buffer, membership)).await,
        Some(Protocol::Http2) => {
            Box::pin(http2::serve(worker, caller, stream, buffer.freeze(), membership)).await
        }
        None => handshake::say_goodbye(stream).await,
    }
}

fn adopt(accepted: Accepted) -> io::Result<(Socket, Address)> {
    Ok(match accepted {
        Accepted::Tcp(stream, peer) => (Socket::Tcp(TcpStream::from_std(stream)?), Address::Tcp(peer)),
        Accepted::Unix(stream) => {
            let local =
                stream.local_addr().ok().and_then(|address| address.as_pathname().map(ToOwned::to_owned));
            (Socket::Unix(UnixStream::from_std(stream)?), Address::Unix(local.unwrap_or_default()))
        }
    })
}

enum Protocol {
    Http1,
    Http2,
}

/// Reads until the first bytes tell; None when they do not come in time.
async fn detect(
    worker: &Worker,
    stream: &SharedStream,
    buffer: &mut BytesMut,
    membership: &Membership,
) -> Option<Protocol> {
    let limits = worker.view().snapshot.config.limits.clone();
    let mut timer = Timer::new(Instant::now() + limits.first_byte_timeout);
    let mut hurried = false;
    poll_fn(|cx| {
        loop {
            if let Some(protocol) = told_by(buffer) {
                return Poll::Ready(Some(protocol));
            }
            match poll_read_some(stream, cx, buffer) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                Poll::Ready(Ok(_)) => timer.set(Instant::now() + limits.head_timeout),
                Poll::Pending => {
                    if membership.is_draining() && !hurried {
                        // It came with the last ones: a moment to say something, instead of the whole timeout.
                        hurried = true;
                        timer.set(Instant::now() + http1::DRAIN_LINGER);
                    }
                    return timer.poll(cx).map(|()| None);
                }
            }
        }
    })
    .await
}

/// What both sides have agreed on is spoken. HTTP/2 begins with its preface or not at all (RFC 9113 3.4); to HTTP/1.1, the preface is a
/// request like others, and no good one.
fn as_agreed(agreed: Option<Agreed>, detected: Option<Protocol>) -> Option<Protocol> {
    match (agreed, detected?) {
        (None, detected) => Some(detected),
        (Some(Agreed::Http1), _) => Some(Protocol::Http1),
        (Some(Agreed::Http2), Protocol::Http2) => Some(Protocol::Http2),
        (Some(Agreed::Http2), Protocol::Http1) => None,
    }
}

fn told_by(buffer: &[u8]) -> Option<Protocol> {
    let compared = buffer.len().min(PREFACE.len());
    match buffer[..compared] == PREFACE[..compared] {
        false => Some(Protocol::Http1),
        true if compared == PREFACE.len() => Some(Protocol::Http2),
        true => None,
    }
}

/// Counts the panic that ends a connection's task.
struct CountsPanics(Arc<Metrics>);

impl Drop for CountsPanics {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.connection_panics.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    /// A connection's task that joins, and holds its place to the end.
    fn connection(
        metrics: &Arc<Metrics>,
        members: &Rc<Members>,
        serving: impl Future<Output = ()> + 'static,
    ) -> tokio::task::JoinHandle<()> {
        let membership = members.join();
        let place = async move {
            let _membership = membership;
            serving.await;
        };
        spawn_local(guarded(metrics.clone(), place))
    }

    #[tokio::test]
    async fn a_panic_ends_its_own_connection_only_and_is_counted() {
        let (metrics, members) = (Metrics::new(1), Rc::new(Members::default()));
        let counted = |metrics: &Metrics| {
            let text = metrics.render();
            let line = text.lines().find_map(|line| line.strip_prefix("towpath_connection_panics_total "));
            line.map(ToOwned::to_owned)
        };
        LocalSet::new()
            .run_until(async {
                let (go, gone) = tokio::sync::oneshot::channel::<()>();
                let other = connection(&metrics, &members, async move { gone.await.unwrap() });
                let fine = connection(&metrics, &members, async {});
                let panics = connection(&metrics, &members, async {
                    tokio::task::yield_now().await;
                    panic!("on purpose");
                });
                assert!(panics.await.unwrap_err().is_panic());
                fine.await.unwrap();
                assert_eq!(counted(&metrics).as_deref(), Some("1"));
                go.send(()).unwrap();
                other.await.unwrap();
                members.gone().await;
            })
            .await;
        assert_eq!(counted(&metrics).as_deref(), Some("1"), "an end without a panic does not count");
    }
}
