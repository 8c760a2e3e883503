//! What is done to a service, and what its callers may see of that.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    Place,
    load::{self, End, Load, Pace, Sample, metric},
    server::{Does, Endpoint, HANDS, WORK},
};

const SECOND: Duration = Duration::from_secs(1);

fn check(name: &str, holds: bool, figure: &str) {
    if holds { println!("ok {name}: {figure}") } else { println!("FAIL {name}: {figure}") }
}

fn load<'a>(place: &Place, host: &'a str, callers: usize, pace: Pace, end: End) -> Load<'a> {
    Load { proxy: place.proxy, method: "GET", host, callers, pace, end }
}

fn errors(samples: &[Sample]) -> usize {
    samples.iter().filter(|sample| !sample.is_good()).count()
}

/// Of the requests that began at or after `from` and before `to`.
fn between(samples: &[Sample], from: Duration, to: Duration) -> Vec<Sample> {
    samples.iter().filter(|sample| (from..to).contains(&sample.begun)).copied().collect()
}

fn percentile(samples: &[Sample], percent: usize) -> Duration {
    let mut took: Vec<Duration> = samples.iter().map(|sample| sample.took).collect();
    took.sort_unstable();
    took.get(took.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
}

fn sleep_until(start: Instant, after: Duration) {
    thread::sleep(after.saturating_sub(start.elapsed()));
}

/// Ten endpoints close idle connections up to 2 ms after their last answer; callers ask again after up to 2 ms.
pub fn race(place: &Place) {
    let _endpoints = Endpoint::several(10, place.port, Does::CloseIdle);
    let race = load(place, "race", 64, Pace::Pause(2000), End::Requests(place.requests));
    let start = Instant::now();
    let samples = load::run(&race, |_| {});
    let met = metric(place.admin, "retries_total", "service=\"race\"");
    let (requests, failed, took) = (samples.len(), errors(&samples), start.elapsed().as_secs());
    let figure = format!("{requests} requests, {met} met a close, {failed} failed, {took} s");
    check("race-no-caller-sees-it", failed == 0 && met > requests as f64 / 1000.0, &figure);
    let ejections = metric(place.admin, "ejections_total", "service=\"race\"");
    check("race-ejects-nobody", ejections == 0.0, &format!("{ejections} ejections"));
    let posts = Load { method: "POST", end: End::Requests(place.requests / 20), ..race };
    let samples = load::run(&posts, |_| {});
    // It went out, and nobody knows whether it was read: the caller has to decide.
    println!("   orders (POST) that may have been processed: {} of {} failed", errors(&samples), samples.len());
}

/// One of ten endpoints answers 503 from a moment on.
pub fn failing(place: &Place) {
    let endpoints = Endpoint::several(10, place.port, Does::Serve);
    for (host, retries) in [("failing", false), ("failing-retried", true)] {
        let bad = &endpoints[3];
        let (mut before, mut after) = (0, 0);
        let samples = load::run(&load(place, host, 16, Pace::Pause(2000), End::After(5 * SECOND)), |start| {
            sleep_until(start, SECOND / 2);
            bad.does(Does::Fail);
            sleep_until(start, SECOND / 2 + SECOND);
            before = bad.requests();
            sleep_until(start, 5 * SECOND);
            after = bad.requests();
        });
        bad.does(Does::Serve);
        let late = between(&samples, SECOND / 2 + SECOND, 5 * SECOND).len();
        let share = (after - before) as f64 / late as f64 * 100.0;
        let figure = format!("{share:.3} % of {late} requests after 1 s");
        check(&format!("{host}-endpoint-is-left-alone"), share < 1.0, &figure);
        let failed = errors(&samples);
        let figure = format!("{failed} of {} requests failed", samples.len());
        match retries {
            true => check(&format!("{host}-no-caller-sees-it"), failed == 0, &figure),
            false => println!("   {host}, without retries: {figure}"),
        }
    }
}

/// One of ten endpoints is behind a link that loses everything.
pub fn hole(place: &Place) {
    let connect_timeout = SECOND;
    let _endpoints = Endpoint::several(9, place.port, Does::Serve);
    let samples = load::run(&load(place, "hole", 16, Pace::Pause(2000), End::After(5 * SECOND)), |_| {});
    let failed = errors(&samples);
    check("hole-no-caller-sees-it", failed == 0, &format!("{failed} of {} requests failed", samples.len()));
    let tried = metric(place.admin, "endpoint_requests_total", "endpoint=\"10.");
    check("hole-was-tried", tried > 0.0, &format!("{tried} attempts"));
    for (name, from, to, most) in [
        ("hole-first-second", Duration::ZERO, SECOND, 2 * connect_timeout),
        ("hole-afterwards", SECOND, 5 * SECOND, Duration::from_millis(50)),
    ] {
        let samples = between(&samples, from, to);
        let (p99, worst) = (percentile(&samples, 99), percentile(&samples, 100));
        check(name, p99 < most, &format!("p99 {p99:.1?}, the slowest {worst:.1?}, of {}", samples.len()));
    }
}

/// All endpoints are down for half a minute, and callers ask again at once.
pub fn outage(place: &Place) {
    let endpoints = Endpoint::several(8, place.port, Does::Serve);
    let (refusing, failing) = endpoints.split_at(4);
    thread::scope(|scope| {
        scope.spawn(|| outage_of(place, "refusing", refusing, Does::Refuse));
        scope.spawn(|| outage_of(place, "erring", failing, Does::Fail));
    });
}

fn outage_of(place: &Place, host: &str, endpoints: &[Endpoint], does: Does) {
    const DOWN: Duration = Duration::from_secs(30);
    let service = format!("service=\"{host}\"");
    let attempts = || metric(place.admin, "attempts_total", &service);
    let (mut first, mut last, mut down, mut up) = (0.0, 0.0, Duration::ZERO, Duration::ZERO);
    let tell = |does: Does| endpoints.iter().for_each(|endpoint| endpoint.does(does));
    let storm = load(place, host, 8, Pace::Pause(1000), End::After(DOWN + 8 * SECOND));
    let samples = load::run(&storm, |start| {
        sleep_until(start, SECOND);
        (first, down) = (attempts(), start.elapsed());
        tell(does);
        sleep_until(start, down + DOWN);
        (last, up) = (attempts(), start.elapsed());
        tell(Does::Serve);
    });
    let requests = between(&samples, down, up).len() as f64;
    let (tried, reserve) = (last - first, 10.0 * (up - down).as_secs_f64() + 10.0);
    let figure = format!("{tried} attempts for {requests} requests in {:.1?}, {:.3}", up - down, tried / requests);
    check(&format!("outage-{host}-attempts"), tried <= 1.2 * requests + reserve, &figure);
    let success = samples.iter().filter(|sample| sample.is_good() && sample.ended() > up).map(Sample::ended).min();
    let healed = samples.iter().filter(|sample| !sample.is_good()).map(Sample::ended).max().unwrap_or_default();
    let Some(success) = success else { return check(&format!("outage-{host}-recovery"), false, "no success") };
    let (to_success, to_healed) = (success.saturating_sub(up), healed.saturating_sub(success));
    let figure = format!("first success {to_success:.1?} after the end, the last error {to_healed:.1?} after that");
    check(&format!("outage-{host}-recovery"), to_healed < SECOND && to_success < SECOND, &figure);
}

/// Callers send three times what the endpoints can do.
pub fn overload(place: &Place) {
    let endpoints = Endpoint::several(4, place.port, Does::Work);
    let most = (endpoints.len() * HANDS) as f64 / WORK.as_secs_f64();
    let time = 6 * SECOND;
    let measure = |callers, rate| {
        let samples = load::run(&load(place, "overload", callers, Pace::Rate(rate), End::After(time)), |_| {});
        let settled = between(&samples, SECOND, time);
        let good: Vec<Sample> = settled.iter().filter(|sample| sample.is_good()).copied().collect();
        let per_second = good.len() as f64 / (time - SECOND).as_secs_f64();
        let p99 = percentile(&good, 99);
        println!("   overload: {} asked, {per_second:.0} a second answered, p99 {p99:.1?}", settled.len());
        (per_second, p99)
    };
    let (calm, calm_p99) = measure(256, most * 0.9);
    let (goodput, p99) = measure(256, most * 3.0);
    let share = goodput / calm * 90.0; // of what 90 % of the capacity gave
    check("overload-goodput", share > 90.0, &format!("{share:.1} % of the maximum at 3 times the capacity"));
    check("overload-latency", p99 < 3 * calm_p99, &format!("p99 {p99:.1?} against {calm_p99:.1?} below capacity"));
}
