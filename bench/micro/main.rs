//! Micro-benchmarks of the parts that every request passes, and of the whole path of a request that nothing goes wrong with.
//!
//! `cargo bench` measures time, by criterion. `bench/instructions` counts instructions and allocations instead, which a
//! busy machine does not change; it calls the modes below. What each case does is left to the modules.

#![allow(clippy::print_stdout)] // the modes talk to their caller through standard output

mod balance;
mod case;
mod message;
mod peer;
mod peer_http2;
mod proxy;
mod routes;

use std::{process::ExitCode, time::Duration};

use case::Case;
use peer::Load;

/// The shipped binary's, so that what it costs counts here too; its version is fixed by Cargo.lock.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: micro [criterion's options] | --loads | --count CALLS | --serve LOAD REQUESTS";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *words.as_slice() {
        ["--loads"] => Load::ALL.iter().for_each(|load| println!("{}", load.name())),
        ["--count", calls] => return with_number(calls, count),
        ["--serve", load, requests] => {
            return with_load(load, requests, |load, requests| {
                proxy::serve(load, requests);
            });
        }
        ["--peer", load, requests] => return with_load(load, requests, peer::run),
        _ => measure(),
    }
    ExitCode::SUCCESS
}

/// The cases without a socket.
fn pure() -> Vec<Case> {
    [routes::cases(), balance::cases(), message::cases()].into_iter().flatten().collect()
}

/// Prints the name of each case and runs it `calls` times inside [`case::counted`], in that order.
fn count(calls: u64) {
    for case in pure() {
        println!("{}", case.name);
        case.count(calls);
    }
}

fn measure() {
    let mut criterion = criterion::Criterion::default().configure_from_args();
    for case in pure() {
        criterion.bench_function(&case.name, |bencher| bencher.iter_custom(|calls| case.time(calls)));
    }
    let mut requests = criterion.benchmark_group("request");
    requests.measurement_time(Duration::from_secs(8));
    for load in Load::ALL {
        requests
            .bench_function(load.name(), |bencher| bencher.iter_custom(|calls| proxy::serve(load, calls)));
    }
    requests.finish();
    criterion.final_summary();
}

fn with_number(text: &str, action: impl FnOnce(u64)) -> ExitCode {
    match text.parse() {
        Ok(number) => {
            action(number);
            ExitCode::SUCCESS
        }
        Err(_) => misused(),
    }
}

fn with_load(name: &str, requests: &str, action: impl FnOnce(Load, u64)) -> ExitCode {
    match Load::ALL.into_iter().find(|load| load.name() == name) {
        Some(load) => with_number(requests, |requests| action(load, requests)),
        None => misused(),
    }
}

fn misused() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}
