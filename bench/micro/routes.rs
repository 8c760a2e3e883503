//! The router, by number of routes and by what the matching route asks for.
//!
//! Requests go round over [`REQUESTS`] routes spread evenly over the router, because the hash of the router is seeded
//! per process: the look-ups of one name alone would cost a little more or less in each run.

use std::{hint::black_box, rc::Rc};

use http::{HeaderMap, HeaderValue, Method};
use towpath::{
    config::{Backend, BackendTarget, HostPattern, Match, PathMatch, Route, ValueMatch},
    router::{RequestView, Router},
};

use super::Case;

const SIZES: [usize; 4] = [1, 100, 10_000, 100_000];
const REQUESTS: usize = 128;

/// What a route asks for.
#[derive(Clone, Copy)]
enum Kind {
    /// A host of its own.
    Host,
    /// A `*.suffix` host of its own.
    Suffix,
    /// A path prefix of its own, all under one host.
    Prefix,
    /// A header, under a host that it shares with one route without: the second of the two matches every other request.
    Header,
}

struct Sample {
    host: String,
    path: String,
    headers: HeaderMap,
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let kinds = [Kind::Host, Kind::Suffix, Kind::Prefix, Kind::Header];
    kinds.into_iter().flat_map(|kind| SIZES.map(|size| case(kind, size))).collect()
}

fn case(kind: Kind, size: usize) -> Case {
    Case::new(format!("router/{}/{size}", kind.name()), move || {
        let routes: Vec<Route> = (0..size).map(|number| kind.route(number)).collect();
        let router = Rc::new(Router::new(routes.iter().enumerate()));
        let asked = (0..REQUESTS).map(|request| request * size / REQUESTS);
        let samples: Vec<(usize, Sample)> = asked.map(|number| (number, kind.sample(number))).collect();
        for (number, sample) in &samples {
            assert_eq!(router.route(&sample.view()), Some(*number), "the route that was asked for matches");
        }
        let mut next = 0;
        move || {
            black_box(router.route(&black_box(&samples[next].1).view()));
            next = (next + 1) % samples.len();
        }
    })
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Suffix => "suffix",
            Self::Prefix => "prefix",
            Self::Header => "header",
        }
    }

    fn route(self, number: usize) -> Route {
        let (host, entry) = match self {
            Self::Host => (HostPattern::Exact(service(number)), Match::default()),
            Self::Suffix => (HostPattern::Suffix(service(number)), Match::default()),
            Self::Prefix => {
                let path = Some(PathMatch::Prefix(prefix(number)));
                (HostPattern::Exact("gateway".to_owned()), Match { path, ..Match::default() })
            }
            Self::Header => {
                let android = ("client".to_owned(), ValueMatch::Exact("Android".to_owned()));
                let headers = if number.is_multiple_of(2) { vec![android] } else { Vec::new() };
                (HostPattern::Exact(service(number / 2)), Match { headers, ..Match::default() })
            }
        };
        Route {
            name: service(number).into(),
            listeners: vec![0],
            hosts: vec![host],
            matches: vec![entry],
            backends: vec![Backend { target: BackendTarget::Service("any".into()), weight: 1 }],
            timeout: None,
            attempt_timeout: None,
            priority: Default::default(),
            failover: Default::default(),
            retry: None,
            hedge: None,
            hedged: Vec::new(),
            fault: None,
            jwt: None,
            authorize: None,
        }
    }

    fn sample(self, number: usize) -> Sample {
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_static("*/*"));
        let (host, path) = match self {
            Self::Host => (service(number), "/items/17".to_owned()),
            Self::Suffix => (format!("a.{}", service(number)), "/items/17".to_owned()),
            Self::Prefix => ("gateway".to_owned(), format!("{}/items/17", prefix(number))),
            Self::Header => {
                let client = if number.is_multiple_of(2) { "Android" } else { "Web" };
                headers.insert("client", HeaderValue::from_static(client));
                (service(number / 2), "/items/17".to_owned())
            }
        };
        Sample { host, path, headers }
    }
}

impl Sample {
    fn view(&self) -> RequestView<'_> {
        RequestView {
            host: &self.host,
            method: &Method::GET,
            path: &self.path,
            query: None,
            headers: &self.headers,
        }
    }
}

/// Of one length whatever the number, so that sizes are compared and not texts.
fn service(number: usize) -> String {
    format!("service-{number:06}.prod.internal")
}

/// Of two lengths, as prefixes usually are of a few.
fn prefix(number: usize) -> String {
    if number.is_multiple_of(2) { format!("/team-{number:06}") } else { format!("/team-{number:06}/v2") }
}
