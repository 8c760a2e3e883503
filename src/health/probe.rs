//! One probe of one endpoint, over a connection of its own.
//!
//! Nothing of the request path takes part: neither routes nor pools nor the metrics of requests. Runs on the control thread,
//! at most [`PLACES`] at a time, so that ten thousand endpoints neither flood the network nor hold up the admin API.

use std::{
    cell::Cell,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body::Body as _;
use hyper_util::rt::TokioIo;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::grpc_health;
use crate::{
    config::{HealthCheck, HealthProbe, Protocol},
    net::{Socket, Stream},
    upstream::{Secure, Version},
};

/// Probes that run at a time on a node.
const PLACES: usize = 64;
/// Bytes of an answer's body that are read, so that a server does not see its answer refused.
const MAX_BODY: usize = 64 << 10;
/// How servers tell probes from requests.
pub(super) const USER_AGENT: &str = concat!("towpath-health/", env!("CARGO_PKG_VERSION"));

/// Lets probes run, a bounded number at a time. Cheap to clone.
#[derive(Clone)]
pub struct Prober(Rc<Semaphore>);

impl Default for Prober {
    fn default() -> Self {
        Self(Rc::new(Semaphore::new(PLACES)))
    }
}

/// What came of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// In one word.
    pub result: ProbeResult,
    /// For people.
    pub text: String,
}

/// What came of a probe, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeResult {
    /// The endpoint says that it is well.
    Pass,
    /// It says something else.
    Fail,
    /// It says nothing in time.
    Timeout,
    /// No connection.
    Unreachable,
}

impl ProbeResult {
    /// Its label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
        }
    }
}

impl Seen {
    pub(super) fn pass(text: impl Into<String>) -> Self {
        Self { result: ProbeResult::Pass, text: text.into() }
    }

    pub(super) fn fail(text: impl Into<String>) -> Self {
        Self { result: ProbeResult::Fail, text: text.into() }
    }
}

impl Prober {
    /// Waits for a place, first come first served. Probe while it is held.
    pub async fn place(&self) -> SemaphorePermit<'_> {
        self.0.acquire().await.expect("nobody closes it")
    }
}

/// Probes the endpoint at `address`, of a service that speaks `protocol`; with `secure` by TLS, whichever port it is.
pub async fn probe(
    address: SocketAddr,
    secure: Option<&Secure>,
    policy: &HealthCheck,
    protocol: Protocol,
) -> Seen {
    let address = SocketAddr::new(address.ip(), policy.port.unwrap_or(address.port()));
    let connected = Cell::new(false);
    match timeout(policy.timeout, ask((address, secure), policy, protocol, &connected)).await {
        Ok(Ok(seen)) => seen,
        Ok(Err(error)) if connected.get() => Seen::fail(error),
        Ok(Err(error)) => Seen { result: ProbeResult::Unreachable, text: error },
        Err(_) => {
            let what = if connected.get() { "answer" } else { "connection" };
            Seen { result: ProbeResult::Timeout, text: format!("no {what} within {:?}", policy.timeout) }
        }
    }
}

async fn ask(
    (address, secure): (SocketAddr, Option<&Secure>),
    policy: &HealthCheck,
    protocol: Protocol,
    connected: &Cell<bool>,
) -> Result<Seen, String> {
    let socket = Socket::connect(address).await.map_err(|error| refused(&error))?;
    let stream = match secure {
        None => Stream::Plain(socket),
        Some(secure) => {
            let made = secure.handshake(socket, version(&policy.probe, protocol)).await;
            made.map_err(|error| error.to_string())?
        }
    };
    connected.set(true);
    let scheme = if secure.is_some() { "https" } else { "http" };
    match &policy.probe {
        HealthProbe::Tcp => Ok(Seen::pass("connected")),
        HealthProbe::Grpc(service) => {
            let server = format!("{scheme}://{address}");
            grpc_health::check(stream, &server, service, policy.timeout).await
        }
        HealthProbe::Http { path, host, expect } => {
            let host = host.clone().unwrap_or_else(|| address.to_string());
            let status = match protocol {
                Protocol::Http2 => http2(stream, &format!("{scheme}://{host}{path}")).await?,
                Protocol::Auto | Protocol::Http1 => http1(stream, &host, path).await?,
            };
            let text = format!("HTTP {}", status.as_u16());
            let expected = expect.binary_search(&status.as_u16()).is_ok();
            Ok(if expected { Seen::pass(text) } else { Seen::fail(text) })
        }
    }
}

/// What a probe speaks.
fn version(probe: &HealthProbe, protocol: Protocol) -> Version {
    match (probe, protocol) {
        (HealthProbe::Grpc(_), _) | (_, Protocol::Http2) => Version::Http2,
        (_, Protocol::Auto | Protocol::Http1) => Version::Http1,
    }
}

fn refused(error: &io::Error) -> String {
    format!("cannot connect: {error}")
}

async fn http1(stream: Stream, host: &str, path: &str) -> Result<StatusCode, String> {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(broken)?;
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONNECTION, "close")
        .body(String::new());
    let request = request.map_err(|error| error.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        read_up(response.into_body()).await;
        Ok(status)
    };
    beside(exchange, connection).await
}

/// Whatever comes of it: the status has been said.
async fn read_up(mut body: hyper::body::Incoming) {
    let mut left = MAX_BODY;
    let read = async {
        while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
            left = rest;
        }
    };
    // A body that does not end is not what was asked about.
    let _ = timeout(Duration::from_millis(100), read).await;
}

async fn http2(stream: Stream, uri: &str) -> Result<StatusCode, String> {
    let request = Request::get(uri)
        .version(http::Version::HTTP_2)
        .header(header::USER_AGENT, HeaderValue::from_static(USER_AGENT))
        .body(());
    let request = request.map_err(|error| error.to_string())?;
    let (sender, connection) = h2::client::handshake(stream).await.map_err(broken)?;
    let exchange = async {
        let mut sender = sender.ready().await.map_err(broken)?;
        let (response, _) = sender.send_request(request, true).map_err(broken)?;
        Ok(response.await.map_err(broken)?.status())
    };
    beside(exchange, connection).await
}

/// Runs an exchange with what drives its connection. A connection may end before its last answer has been taken.
pub(super) async fn beside<T>(exchange: impl Future<Output = T>, driver: impl Future) -> T {
    let mut exchange = pin!(exchange);
    tokio::select! {
        biased;
        done = &mut exchange => return done,
        _ = driver => {}
    }
    exchange.await
}

/// The endpoint did not keep to the protocol, or broke off. Libraries wrap what happened in what they were doing.
pub(super) fn broken(error: impl std::error::Error + 'static) -> String {
    let mut text = format!("no answer: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
