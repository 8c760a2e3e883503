//! Why no endpoint of a service can be used, in words.

use std::{collections::BTreeSet, time::Duration};

use super::{
    Service,
    endpoints::{Endpoint, EndpointSet, Health},
    view::Ailment,
};
use crate::config::Ejection;

/// What is to blame, and since when or until when.
pub(super) fn why(service: &Service, set: &EndpointSet) -> (Ailment, String) {
    let of = |wanted: fn(&Health) -> bool| {
        let endpoints = set.endpoints.iter().map(|endpoint| &**endpoint);
        endpoints.filter(move |endpoint| wanted(&endpoint.health())).collect::<Vec<_>>()
    };
    let unwell = of(|health| *health == Health::Unwell);
    let ejected = of(|health| matches!(health, Health::Ejected(_) | Health::Probed));
    let (name, all) = (&service.name, set.endpoints.len());
    let which = match (unwell.len(), ejected.len()) {
        (0, ejected) if ejected == all => format!("all {all} endpoints of {name} are ejected"),
        (0, ejected) => {
            format!("no endpoint of {name} can take a request, {ejected} of {all} are ejected")
        }
        (unwell, 0) if unwell == all => format!("all {all} endpoints of {name} are unhealthy"),
        (unwell, 0) => {
            format!("no endpoint of {name} can take a request, {unwell} of {all} are unhealthy")
        }
        (unwell, ejected) => format!(
            "no endpoint of {name} can take a request, of {all} {ejected} are ejected and {unwell} unhealthy"
        ),
    };
    let policy = &service.policy.ejection;
    let causes = [ejections(&ejected, policy), checks(&unwell)].into_iter().flatten().collect::<Vec<_>>();
    // Where both are to blame, what keeps more of them away.
    let ailment = if ejected.len() > unwell.len() { Ailment::Ejected } else { Ailment::Unwell };
    (ailment, format!("{which}: {}", causes.join("; ")))
}

fn ejections(ejected: &[&Endpoint], policy: &Ejection) -> Option<String> {
    let whys: BTreeSet<&str> =
        ejected.iter().filter_map(|endpoint| endpoint.ejection()).map(|ejection| ejection.why).collect();
    if whys.is_empty() {
        return None;
    }
    let said = |why: &&str| match *why {
        "success_rate" => format!("less than {} % successes", policy.success_percent),
        "latency" => format!("answers after more than {:?}", policy.max_latency.unwrap_or_default()),
        _ => format!("{} failures in a row", policy.consecutive_failures),
    };
    let whys: Vec<String> = whys.iter().map(said).collect();
    Some(format!("{}; {}", whys.join(", "), next(ejected)))
}

/// When one of them will be tried.
fn next(ejected: &[&Endpoint]) -> String {
    let waits: Vec<Option<Duration>> = ejected
        .iter()
        .map(|endpoint| if let Health::Ejected(wait) = endpoint.health() { Some(wait) } else { None })
        .collect();
    match waits.iter().copied().collect::<Option<Vec<_>>>().and_then(|waits| waits.into_iter().min()) {
        None => "one is being tried now".to_owned(),
        Some(wait) => format!("the next is tried in {:.1}s", wait.as_secs_f64()),
    }
}

/// What the last probe of one of them saw.
fn checks(unwell: &[&Endpoint]) -> Option<String> {
    unwell.first()?;
    let seen = unwell.iter().find_map(|endpoint| {
        let (text, ago) = endpoint.check_state()?.last?;
        let (address, ago) = (&endpoint.address, ago.as_secs_f64());
        Some(format!("the health check of {address} said {ago:.1}s ago: {text}"))
    });
    Some(seen.unwrap_or_else(|| "no health check has passed yet".to_owned()))
}
