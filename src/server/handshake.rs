//! TLS with a caller, where its listener has it.
//!
//! # In which order
//! The caller's first byte is looked at where it is, in the kernel: a caller that says nothing takes no place among the handshakes
//! under way, and one that speaks plain HTTP to a port of TLS can be told so. Then a place is waited for, and the handshake made. All
//! of it ends with `limits.handshake_timeout`, counted from the beginning.
//!
//! # Callers that are slow on purpose
//! A handshake takes one or two round trips. One that takes longer than [`PATIENCE`] goes on while nobody waits for its place; when many
//! do, no longer than [`GLANCE`].

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use rustls::{CertificateError, Error};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::{http1::DRAIN_LINGER, members::Membership, timer::Timer};
use crate::{
    config::ListenerKind,
    limit::Handshakes,
    net::{Address, SharedStream, Socket, Stream, poll_read_some},
    proxy::Worker,
    snapshot::Door,
    telemetry::Handshake,
    tls::{self, Names},
};

/// While others wait.
const PATIENCE: Duration = Duration::from_secs(1);
/// While many do: 512 places let 5,000 callers by in a second, so that one with `limits.connections_per_caller` that say nothing does not
/// keep others waiting to the end of their time.
const GLANCE: Duration = Duration::from_millis(100);
/// A caller whose handshake failed has this long to read why.
const LINGER: Duration = Duration::from_secs(1);

/// A connection that can be served, and whom the certificate is for that its caller has shown.
pub(super) struct Secured {
    pub(super) stream: Stream,
    pub(super) certificate: Option<Names>,
    pub(super) is_node: bool,
    /// By ALPN.
    pub(super) agreed: Option<Agreed>,
}

/// What both sides have agreed to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Agreed {
    Http1,
    Http2,
}

/// A connection that cannot be.
pub(super) enum Insecure {
    /// It is over.
    Closed,
    /// The caller speaks plain HTTP.
    Http(Stream),
}

/// Makes the handshake of the listener.
pub(super) async fn secure(
    socket: Socket,
    worker: &Worker,
    (door, peer): (&Door, &Address),
    membership: &Membership,
) -> Result<Secured, Insecure> {
    let Some(tls) = &door.tls else {
        let stream = Stream::Plain(socket);
        return Ok(Secured { stream, certificate: None, is_node: false, agreed: None });
    };
    let wait = worker.view().snapshot.config.limits.handshake_timeout;
    // Boxed: connections without TLS have no room for it.
    let mut making = Box::pin(make(socket, tls, &worker.limits.handshakes));
    let made = in_time(making.as_mut(), wait, membership).await.unwrap_or(Err(Failed::InTime));
    drop(making);
    let listener = &*door.name;
    let (result, insecure) = match made {
        Ok(secured) => {
            door.series.handshakes.inc(Handshake::Made);
            // Nodes come through incoming listeners. Those who come through another speak for themselves, unless it names its nodes.
            let has_nodes = door.kind == ListenerKind::Incoming || tls.wanted.nodes.is_some();
            return Ok(Secured { is_node: secured.is_node && has_nodes, ..secured });
        }
        Err(Failed::InTime) => {
            tracing::debug!(listener, %peer, "a TLS handshake was not completed in time");
            (Handshake::Timeout, Insecure::Closed)
        }
        Err(Failed::Plain(socket)) => {
            tracing::debug!(listener, %peer, "a caller speaks plain HTTP to a listener with tls");
            (Handshake::Failed, Insecure::Http(Stream::Plain(socket)))
        }
        Err(Failed::Because(why, stream)) => {
            tracing::debug!(listener, %peer, "a TLS handshake failed: {why}");
            door.series.handshakes.inc(Handshake::Failed);
            linger(stream).await;
            return Err(Insecure::Closed);
        }
    };
    door.series.handshakes.inc(result);
    Err(insecure)
}

/// Why there is no handshake.
enum Failed {
    /// It was not to be had in time.
    InTime,
    /// What came is plain HTTP.
    Plain(Socket),
    /// One side refused. The other has yet to read it.
    Because(String, Stream),
}

/// None when it takes longer than `wait`, or than a draining listener has time for.
async fn in_time<F: Future + Unpin>(
    mut making: F,
    wait: Duration,
    membership: &Membership,
) -> Option<F::Output> {
    let end = Instant::now() + wait;
    let mut timer = Timer::new(end);
    let mut hurried = false;
    poll_fn(|cx| {
        if let Poll::Ready(made) = Pin::new(&mut making).poll(cx) {
            return Poll::Ready(Some(made));
        }
        if membership.is_draining() && !hurried {
            hurried = true;
            timer.set(end.min(Instant::now() + DRAIN_LINGER));
        }
        timer.poll(cx).map(|()| None)
    })
    .await
}

async fn make(socket: Socket, tls: &tls::Server, handshakes: &Handshakes) -> Result<Secured, Failed> {
    let failed = |why: String, socket| Err(Failed::Because(why, Stream::Plain(socket)));
    match socket.peek().await {
        Ok(Some(HANDSHAKE)) => {}
        Ok(Some(b'A'..=b'Z')) => return Err(Failed::Plain(socket)),
        Ok(Some(_)) => return failed("what the caller says is no TLS".to_owned(), socket),
        Ok(None) => return failed("the caller went away without a word".to_owned(), socket),
        Err(error) => return failed(error.to_string(), socket),
    }
    let place = handshakes.enter().await;
    let material = tls.now();
    let mut accepting = pin!(TlsAcceptor::from(material.config.clone()).accept(socket).into_fallible());
    let begun = Instant::now();
    let accepted = loop {
        tokio::select! {
            biased;
            accepted = &mut accepting => break accepted,
            () = sleep(GLANCE) => {
                let lasts = begun.elapsed() >= PATIENCE;
                if handshakes.are_crowded() || (lasts && handshakes.are_awaited()) {
                    return Err(Failed::InTime);
                }
            }
        }
    };
    drop(place);
    let stream = match accepted {
        Ok(stream) => stream,
        Err((error, socket)) => return failed(words(&error), socket),
    };
    let connection = stream.get_ref().1;
    let agreed = match connection.alpn_protocol() {
        Some(b"h2") => Some(Agreed::Http2),
        Some(_) => Some(Agreed::Http1),
        None => None,
    };
    let caller = material.caller(connection);
    let stream = Stream::Tls(Box::new(TlsStream::Server(stream)));
    match caller {
        Ok((certificate, is_node)) => Ok(Secured { stream, certificate, is_node, agreed }),
        Err(why) => Err(Failed::Because(why, stream)),
    }
}

/// How a record of a TLS handshake begins (RFC 8446 5.1).
const HANDSHAKE: u8 = 22;

/// What made a handshake fail, for people.
fn words(error: &io::Error) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    match cause {
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the caller went away in the middle of it".to_owned()
        }
        None => error.to_string(),
        Some(Error::NoCertificatesPresented) => "the caller showed no certificate (client_ca)".to_owned(),
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "nobody in client_ca vouches for the caller's certificate".to_owned()
        }
        Some(Error::InvalidCertificate(why)) => format!("the caller's certificate is not valid: {why}"),
        Some(Error::AlertReceived(alert)) => format!("the caller refused: {alert:?}"),
        Some(Error::PeerIncompatible(why)) => format!("no way in common with the caller: {why:?}"),
        Some(Error::NoApplicationProtocol) => "the caller offers neither h2 nor http/1.1 (ALPN)".to_owned(),
        Some(error) => error.to_string(),
    }
}

/// Closes so that the caller can read why: it may have sent a request behind its certificate, and a socket that is closed with unread
/// bytes is reset.
async fn linger(mut stream: Stream) {
    let closing = async {
        // The caller may be gone already, which is as good.
        let _ = stream.shutdown().await;
        let stream = SharedStream::new(stream);
        let mut skipped = BytesMut::new();
        poll_fn(|cx| {
            while let Ok(1..) = ready!(poll_read_some(&stream, cx, &mut skipped)) {
                skipped.clear();
            }
            Poll::Ready(())
        })
        .await;
    };
    let _ = timeout(LINGER, closing).await;
}

/// Says over TLS that nothing more will come: without it, an end that was meant looks like one that was not.
pub(super) async fn say_goodbye(mut stream: SharedStream) {
    if stream.is_tls() {
        let _ = timeout(LINGER, poll_fn(|cx| Pin::new(&mut stream).poll_shutdown(cx))).await;
    }
}
