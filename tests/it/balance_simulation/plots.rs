//! Draws `docs/balancing/*.svg` and prints the figures of `docs/balancing.md`:
//! `cargo test --release --test it balance_simulation::plots -- --ignored --nocapture`.

#![allow(clippy::print_stdout)] // the figures are for whoever runs it

use std::{fs, path::PathBuf};

use super::{
    drawing::{Axis, Line, chart},
    engine::{Answer, Balancer, SECOND, quantile},
    most_loaded, part_of_first,
    scenarios::{self, PER_ZONE, WELL_AGAIN, ZONES, Zones},
};

const ORDER: [Balancer; 3] = [Balancer::PeakEwma, Balancer::LeastRequest, Balancer::RoundRobin];
/// One part in how many is slower, and what that is called.
const PARTS: [(f64, &str); 5] =
    [(1.0, "fastest"), (2.0, "p50"), (10.0, "p90"), (100.0, "p99"), (1000.0, "p99.9")];

fn write(name: &str, svg: &str) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/balancing");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join(name), svg).unwrap();
}

fn marks(values: &[f64], unit: &str) -> Vec<(f64, String)> {
    values.iter().map(|value| (*value, format!("{value}{unit}"))).collect()
}

/// Latency over the part of the requests that is slower.
fn distribution(name: &str, answers: &[Answer]) -> Line {
    let shown = [0.5, 0.9, 0.99, 0.999].map(|part| format!("{:.1}", quantile(answers, part)));
    println!("{name:24} p50 p90 p99 p99.9 ms: {}", shown.join(" "));
    let steps = (0..=60).map(|step| 10f64.powf(f64::from(step) / 20.0));
    Line {
        name: name.to_owned(),
        points: steps.map(|one_in| (one_in, quantile(answers, 1.0 - 1.0 / one_in))).collect(),
    }
}

fn latencies(file: &str, title: &str, note: &str, lines: &[Line]) {
    let across = Axis {
        title: "",
        marks: PARTS.iter().map(|(one_in, name)| (*one_in, (*name).to_owned())).collect(),
        logarithmic: true,
    };
    let up = Axis {
        title: "latency",
        marks: marks(&[1.0, 10.0, 100.0, 1000.0, 10_000.0], " ms"),
        logarithmic: true,
    };
    write(file, &chart(title, note, &across, &up, lines));
}

/// One line for each fair balancer, and one for when nothing is wrong.
fn compared(of: impl Fn(Balancer) -> Vec<Answer>, healthy: Option<Vec<Answer>>) -> Vec<Line> {
    let mut lines: Vec<Line> =
        ORDER.into_iter().map(|balancer| distribution(balancer.name(), &of(balancer))).collect();
    lines.extend(healthy.map(|answers| distribution("nothing wrong", &answers)));
    lines
}

#[test]
#[ignore = "writes into docs/; to be run when a balancer or a scenario changes"]
fn draw_one_slow_of_ten() {
    let lines =
        compared(|balancer| scenarios::slow(balancer, 1), Some(scenarios::slow(Balancer::PeakEwma, 0)));
    let note = "1,000 requests/s for 60 s; a healthy endpoint takes 10 ms on average, the slow one 200 ms";
    latencies("slow.svg", "One endpoint of ten is twenty times slower", note, &lines);
}

#[test]
#[ignore = "writes into docs/; to be run when a balancer or a scenario changes"]
fn draw_unequal_capacity() {
    let lines = compared(|balancer| scenarios::unequal(balancer, false), None);
    let note = "five endpoints work on eight requests at once, five on two, and all have weight 1; seven tenths of their capacity";
    latencies("unequal.svg", "Endpoints of unequal capacity, which the weights do not tell", note, &lines);
    compared(|balancer| scenarios::unequal(balancer, true), None);
}

#[test]
#[ignore = "writes into docs/; to be run when a balancer or a scenario changes"]
fn draw_a_thousand_endpoints() {
    let lines = compared(
        |balancer| scenarios::thousand(balancer, 20),
        Some(scenarios::thousand(Balancer::PeakEwma, 0)),
    );
    let note =
        "30,000 requests/s; a healthy endpoint takes 10 ms on average and works on four requests at once";
    latencies("thousand.svg", "Of 1,000 endpoints, 20 are ten times slower", note, &lines);
    for balancer in ORDER {
        println!(
            "{}: most loaded {:.3}",
            balancer.name(),
            most_loaded(&scenarios::thousand(balancer, 0), 1000)
        );
    }
}

#[test]
#[ignore = "writes into docs/; to be run when a balancer or a scenario changes"]
fn draw_a_failing_endpoint() {
    let line = |balancer: Balancer| {
        let answers = scenarios::failing(balancer, 1000.0);
        let part = |second: u64| 100.0 * part_of_first(&answers, second * SECOND, (second + 1) * SECOND);
        let failed = answers.iter().filter(|answer| answer.failed).count() as f64 / answers.len() as f64;
        let while_failing = 100.0 * part_of_first(&answers, 12 * SECOND, WELL_AGAIN);
        println!(
            "{}: {while_failing:.3} % while it fails; {:.3} % of the run failed",
            balancer.name(),
            100.0 * failed
        );
        Line {
            name: balancer.name().to_owned(),
            points: (0..70).map(|second| (second as f64 + 0.5, part(second))).collect(),
        }
    };
    let across = Axis {
        title: "time",
        marks: marks(&[0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0], " s"),
        logarithmic: false,
    };
    let up = Axis {
        title: "its part of the requests",
        marks: marks(&[0.0, 5.0, 10.0, 15.0, 20.0], " %"),
        logarithmic: false,
    };
    let note = "1,000 requests/s; one endpoint of ten answers with errors within 0.1 ms from 10 s to 40 s; nothing but the balancer keeps requests off it";
    write("failing.svg", &chart("One endpoint of ten fails fast", note, &across, &up, &ORDER.map(line)));
}

#[test]
#[ignore = "writes into docs/; to be run when a balancer or a scenario changes"]
fn draw_a_zone_that_shrinks() {
    let runs: Vec<Vec<Answer>> =
        (0..=10).map(|lost| Zones::losing(lost, false).run(Balancer::LeastRequest, 10)).collect();
    let kept = |answers: &Vec<Answer>| {
        let own = || answers.iter().filter(|answer| Zones::zone_of_client(answer.client) == 0);
        own().filter(|answer| answer.server / PER_ZONE == 0).count() as f64 / own().count() as f64
    };
    let most = |answers: &Vec<Answer>| most_loaded(answers, ZONES * PER_ZONE);
    let line = |name: &str, of: &dyn Fn(&Vec<Answer>) -> f64| {
        let points: Vec<(f64, f64)> = (0u8..).map(f64::from).zip(runs.iter().map(of)).collect();
        println!(
            "{name}: {:?}",
            points.iter().map(|(_, value)| (value * 1e3).round() / 1e3).collect::<Vec<_>>()
        );
        Line { name: name.to_owned(), points }
    };
    let lines = [line("kept in the zone", &kept), line("most loaded over mean", &most)];
    let across = Axis {
        title: "endpoints lost, of ten",
        marks: (0..=10).map(|lost| (f64::from(lost), lost.to_string())).collect(),
        logarithmic: false,
    };
    let up = Axis { title: "", marks: marks(&[0.0, 0.25, 0.5, 0.75, 1.0, 1.25], ""), logarithmic: false };
    let note = "three zones of ten endpoints and three nodes, equal demand, half of the capacity in use";
    write("zones.svg", &chart("A zone loses its endpoints one by one", note, &across, &up, &lines));
    for removed in [false, true] {
        for balancer in ORDER {
            let answers = Zones::losing(5, removed).run(balancer, 10);
            println!(
                "{} removed {removed}: most loaded {:.3}, p99 {:.1} ms",
                balancer.name(),
                most(&answers),
                quantile(&answers, 0.99)
            );
        }
    }
}
