//! `/api/tap`: requests as they happen, as server-sent events, each the JSON of the access log.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Extension, RawQuery, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::{BufMut, Bytes, BytesMut};
use http_body::Frame;
use percent_encoding::percent_decode_str;
use tokio::{sync::mpsc, time::interval};

use super::{
    access::Access,
    gate::Caller,
    server::{Shared, refused},
};
use crate::{
    config::{Name, RecordFilter, StatusRange},
    drain::{Phase, Watcher},
    telemetry::Watch,
};

/// Records each second, where nobody says otherwise, and at most.
const RATE: (u32, u32) = (100, 1000);
/// How often what was dropped is told; where there is nothing to tell, something is said all the same.
const PULSE: Duration = Duration::from_secs(1);
/// Pulses between two words of which the only purpose is to show that the connection lives.
const QUIET: u32 = 15;
/// Records of one write.
const BATCH: usize = 64;
/// Values of one parameter: workers compare each request with all of them.
const MOST_VALUES: usize = 16;
/// Bytes of a name.
const MOST_NAME: usize = 128;
const ALLOWED: &str = "allowed are route, service and caller (names, in which * stands for any characters), status (503 or 5xx, several with commas) and rate (1 to 1000 events a second); of each at most 16, of a name at most 128 bytes";

/// What is asked for.
#[derive(Debug, PartialEq)]
struct Asked {
    filter: RecordFilter,
    rate: u32,
}

/// What allows a caller to look on, for as long as it does.
struct Claim {
    access: Arc<Access>,
    certified: bool,
    /// With the token, if that is it.
    headers: HeaderMap,
}

impl Claim {
    fn holds(&self) -> bool {
        self.access.right(self.certified, &self.headers).covers(&Method::GET)
    }
}

pub(super) async fn tap(
    State(shared): State<Arc<Shared>>,
    caller: Option<Extension<Arc<Caller>>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let asked = match read(query.as_deref().unwrap_or_default()) {
        Ok(asked) => asked,
        Err(wrong) => return refused(StatusCode::BAD_REQUEST, format!("{wrong}; {ALLOWED}")),
    };
    let Some(watch) = shared.snapshot().observers.tap.watch(asked.filter, asked.rate) else {
        let text = "as many look on as may at a time; try again when one of them has left";
        return refused(StatusCode::SERVICE_UNAVAILABLE, text);
    };
    let (frames, events) = mpsc::channel(1);
    let certified = caller.is_some_and(|caller| caller.certified);
    let claim = Claim { access: shared.admin.access.clone(), certified, headers };
    tokio::spawn(feed(watch, frames, shared.admin.drain.watcher(), claim));
    let head = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (head, Body::new(Events(events))).into_response()
}

fn read(query: &str) -> Result<Asked, String> {
    let mut asked = Asked { filter: RecordFilter::default(), rate: RATE.0 };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = value.replace('+', " ");
        let value = percent_decode_str(&value).decode_utf8().map_err(|_| format!("{name} is no text"))?;
        if value.is_empty() {
            // As a form sends what was left empty.
            continue;
        }
        match name {
            "route" => add(&mut asked.filter.routes, named(name, &value)?, name)?,
            "service" => add(&mut asked.filter.services, named(name, &value)?, name)?,
            "caller" => add(&mut asked.filter.callers, named(name, &value)?, name)?,
            "status" => {
                for status in value.split(',') {
                    add(&mut asked.filter.status, StatusRange::read(status.trim())?, name)?;
                }
            }
            "rate" => {
                let rate = value.parse::<u32>().ok().filter(|rate| (1..=RATE.1).contains(rate));
                asked.rate = rate.ok_or_else(|| format!("\"{value}\" is no rate"))?;
            }
            _ => return Err(format!("there is no parameter \"{name}\"")),
        }
    }
    Ok(asked)
}

fn named(parameter: &str, value: &str) -> Result<Name, String> {
    if value.len() > MOST_NAME {
        return Err(format!("a {parameter} is too long"));
    }
    Ok(Name::from(value))
}

fn add<T>(all: &mut Vec<T>, one: T, parameter: &str) -> Result<(), String> {
    if all.len() == MOST_VALUES {
        return Err(format!("too many values of {parameter}"));
    }
    all.push(one);
    Ok(())
}

/// Hands events to the connection until it is closed, its caller may read no longer, or the node drains.
async fn feed(mut watch: Watch, frames: mpsc::Sender<Bytes>, mut node: Watcher, claim: Claim) {
    let (mut pulse, mut quiet) = (interval(PULSE), 0);
    let mut records = Vec::with_capacity(BATCH);
    // The first words tell that what follows is all from now on.
    let mut said = Bytes::from_static(b": requests from now on\n\n");
    loop {
        tokio::select! {
            place = frames.reserve(), if !said.is_empty() => match place {
                Ok(place) => place.send(std::mem::take(&mut said)),
                Err(_) => return,
            },
            () = watch.next(&mut records, BATCH), if said.is_empty() => {
                said = events(&mut records);
                quiet = 0;
            }
            _ = pulse.tick() => {
                quiet += 1;
                if !claim.holds() {
                    let _ = frames.try_send(Bytes::from_static(b": you may look on no longer\n\n"));
                    return;
                }
                // One who does not read is told later, in one line.
                if said.is_empty() {
                    match watch.dropped() {
                        0 if quiet < QUIET => {}
                        0 => (said, quiet) = (Bytes::from_static(b": nothing\n\n"), 0),
                        dropped => said = format!(": dropped {dropped}\n\n").into(),
                    }
                }
            }
            () = frames.closed() => return,
            () = node.reached(Phase::Draining) => {
                let _ = frames.try_send(Bytes::from_static(b": the node drains\n\n"));
                return;
            }
        }
    }
}

/// Takes the records; each is one line.
fn events(records: &mut Vec<Bytes>) -> Bytes {
    let mut text = BytesMut::with_capacity(records.iter().map(|record| record.len() + 8).sum());
    for record in records.drain(..) {
        text.put_slice(b"data: ");
        text.put_slice(&record);
        text.put_slice(b"\n\n");
    }
    text.freeze()
}

/// The body: what is fed, until there is no more.
struct Events(mpsc::Receiver<Bytes>);

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_and_what_is_wrong_with_it_is_told() {
        let nothing = Asked { filter: RecordFilter::default(), rate: 100 };
        assert_eq!(read(""), Ok(nothing));
        let asked = read("route=a%2A&service=s&caller=spiffe%3A%2F%2Fp%2Fx&status=503,4xx&rate=1000&status=")
            .unwrap();
        let filter = asked.filter;
        assert_eq!((&*filter.routes[0], &*filter.services[0], asked.rate), ("a*", "s", 1000));
        assert_eq!(&*filter.callers[0], "spiffe://p/x");
        assert!(filter.status[0].has(503) && filter.status[1].has(499));
        for (query, said) in [
            ("rate=0", "\"0\" is no rate"),
            ("rate=1001", "\"1001\" is no rate"),
            ("status=5x", "\"5x\" is no status"),
            ("routes=a", "there is no parameter \"routes\""),
            ("route=%ff", "route is no text"),
            (&format!("caller={}", "x".repeat(129)), "a caller is too long"),
            (&"service=a&".repeat(17), "too many values of service"),
            (&format!("status=503{}", ",4xx".repeat(16)), "too many values of status"),
        ] {
            assert_eq!(read(query).unwrap_err(), said);
        }
        assert!(read(&format!("route={}&{}", "x".repeat(128), "route=a&".repeat(15))).is_ok());
    }
}
