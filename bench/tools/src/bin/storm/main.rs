//! Callees that fail, and callers that go on calling: the figures of resilience, for `tests/interop/run resilience`.
//!
//! `storm SCENARIO PROXY ADMIN PORT [REQUESTS]`
//!
//! The endpoints of a scenario are in this process, at 127.0.1.1, 127.0.1.2 and so on and this port; its callers are too, and speak
//! HTTP/1.1 to the proxy. `tests/interop/topic_resilience.sh` has the services. Prints `ok NAME` or `FAIL NAME: ...` for each
//! check, and the figures in lines that begin with blanks. Threads, not a runtime: what is to happen within microseconds must not
//! wait for a timer of milliseconds.

mod load;
mod scenarios;
mod server;

use std::{env, net::SocketAddr, process::ExitCode};

/// Where everything is.
pub struct Place {
    pub proxy: SocketAddr,
    pub admin: SocketAddr,
    /// Of all endpoints.
    pub port: u16,
    /// How many requests the race has.
    pub requests: usize,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some((scenario, place)) = read(&arguments) else {
        eprintln!("usage: storm race|failing|hole|outage|overload PROXY ADMIN PORT [REQUESTS]");
        return ExitCode::from(2);
    };
    // 50 us is the default, which would blur what happens within 2 ms. Threads have it from the one that starts them.
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    scenario(&place);
    ExitCode::SUCCESS
}

fn read(arguments: &[String]) -> Option<(fn(&Place), Place)> {
    let [name, proxy, admin, port, more @ ..] = arguments else { return None };
    let scenario = match name.as_str() {
        "race" => scenarios::race,
        "failing" => scenarios::failing,
        "hole" => scenarios::hole,
        "outage" => scenarios::outage,
        "overload" => scenarios::overload,
        _ => return None,
    };
    let requests = more.first().map_or(Some(1_000_000), |text| text.parse().ok())?;
    let place = Place { proxy: proxy.parse().ok()?, admin: admin.parse().ok()?, port: port.parse().ok()?, requests };
    Some((scenario, place))
}
