//! Maglev's table beside our ring, for the figures of `docs/decisions/0013-consistent-hashing.md`.
#![allow(clippy::print_stdout)] // the figures are for whoever runs it

use std::time::Instant;

use towpath::balance::{Ring, Weights, hash_key};

use super::scenarios::address;

/// Envoy's default, a prime.
const SIZE: usize = 65_537;
const KEYS: u64 = 200_000;

/// The table of D. Eisenbud et al., "Maglev", NSDI 2016, section 3.4: each endpoint takes the next free place of its own
/// permutation in turn. The endpoints are numbers; so are what is in the table.
fn table(endpoints: &[usize]) -> Vec<usize> {
    let hash =
        |endpoint: usize, salt: u8| hash_key(format!("{}{salt}", address(endpoint)).as_bytes()) as usize;
    let mut next: Vec<(usize, usize)> = endpoints
        .iter()
        .map(|&endpoint| (hash(endpoint, 0) % SIZE, hash(endpoint, 1) % (SIZE - 1) + 1))
        .collect();
    let mut table = vec![usize::MAX; SIZE];
    let mut filled = 0;
    for turn in (0..endpoints.len()).cycle() {
        let (place, skip) = &mut next[turn];
        while table[*place] != usize::MAX {
            *place = (*place + *skip) % SIZE;
        }
        table[*place] = endpoints[turn];
        filled += 1;
        if filled == SIZE {
            break;
        }
    }
    table
}

/// Which endpoint every key has.
type Owners = Vec<usize>;

fn by_maglev(endpoints: &[usize]) -> Owners {
    let table = table(endpoints);
    (0..KEYS).map(|key| table[hash_key(&key.to_le_bytes()) as usize % SIZE]).collect()
}

fn by_ring(endpoints: &[usize]) -> Owners {
    let ring = Ring::new(endpoints.iter().map(|endpoint| (address(*endpoint), 1)));
    let weights = Weights::new(endpoints.iter().map(|_| 1));
    let pick = |key: u64| ring.pick(hash_key(&key.to_le_bytes()), 0, |_| 0, &weights, |_| true);
    (0..KEYS).map(|key| endpoints[pick(key).unwrap()]).collect()
}

/// The most loaded endpoint's keys over the mean, and the part of the others' keys that move when endpoint 17 goes.
fn figures(owners: impl Fn(&[usize]) -> Owners, count: usize) -> (f64, f64) {
    let all: Vec<usize> = (0..count).collect();
    let left: Vec<usize> = (0..count).filter(|endpoint| *endpoint != 17).collect();
    let (before, after) = (owners(&all), owners(&left));
    let mut counts = vec![0.0; count];
    before.iter().for_each(|owner| counts[*owner] += 1.0);
    let others = || before.iter().zip(&after).filter(|(before, _)| **before != 17);
    let moved = others().filter(|(before, after)| before != after).count() as f64 / others().count() as f64;
    (counts.iter().copied().fold(0.0, f64::max) / (KEYS as f64 / count as f64), moved)
}

#[test]
#[ignore = "prints figures; to be run with --nocapture"]
fn compare_with_maglev() {
    for count in [10, 100, 1000] {
        let ((ring_most, ring_moved), (maglev_most, maglev_moved)) =
            (figures(by_ring, count), figures(by_maglev, count));
        println!(
            "{count}: ring {ring_most:.3} {:.3} %, maglev {maglev_most:.3} {:.3} %",
            100.0 * ring_moved,
            100.0 * maglev_moved
        );
        let endpoints: Vec<usize> = (0..count).collect();
        let (start, made) =
            (Instant::now(), Ring::new(endpoints.iter().map(|endpoint| (address(*endpoint), 1))));
        let (ring, start) = (start.elapsed(), Instant::now());
        let table = table(&endpoints);
        println!("{count}: made in {ring:?} (ring), {:?} (maglev, {} places)", start.elapsed(), table.len());
        drop(made);
    }
}
