//! What the fuzz targets (`tests/fuzz`) run, with random inputs and with damaged seeds.

#[path = "../fuzz/checks/mod.rs"]
pub mod checks;

use std::{fs, path::Path};

use proptest::prelude::*;
use towpath::discovery::{fuzz_answer, fuzz_endpoint_file};

/// The seeds of a fuzz target.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let seeds: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(seeds.len() > 3);
    seeds
}

/// A change to an input: where (of 65536), and what.
#[derive(Clone, Debug)]
enum Damage {
    Set(u16, u8),
    Insert(u16, u8),
    Remove(u16),
    Cut(u16),
    Repeat(u16),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<(u16, u8)>().prop_map(|(at, byte)| Damage::Set(at, byte)),
        any::<(u16, u8)>().prop_map(|(at, byte)| Damage::Insert(at, byte)),
        any::<u16>().prop_map(Damage::Remove),
        any::<u16>().prop_map(Damage::Cut),
        any::<u16>().prop_map(Damage::Repeat),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    let (Damage::Set(at, _)
    | Damage::Insert(at, _)
    | Damage::Remove(at)
    | Damage::Cut(at)
    | Damage::Repeat(at)) = damage;
    let at = usize::from(*at) * bytes.len() / 65536;
    match damage {
        Damage::Insert(_, byte) => bytes.insert(at, *byte),
        Damage::Cut(_) => bytes.truncate(at),
        Damage::Repeat(_) => bytes.extend_from_within(at..),
        Damage::Set(..) | Damage::Remove(_) if bytes.is_empty() => {}
        Damage::Set(_, byte) => bytes[at] = *byte,
        Damage::Remove(_) => {
            bytes.remove(at);
        }
    }
}

/// Seeds with a little damage.
fn damaged(target: &str) -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(seeds(target)), prop::collection::vec(damage(), 0..6)).prop_map(
        |(mut seed, damages)| {
            damages.iter().for_each(|damage| apply(&mut seed, damage));
            seed
        },
    )
}

/// Lines of several seeds, in any order.
fn woven(target: &str) -> impl Strategy<Value = Vec<u8>> {
    let lines: Vec<_> =
        seeds(target).iter().flat_map(|seed| seed.split(|byte| *byte == b'\n').map(<[u8]>::to_vec)).collect();
    prop::collection::vec(prop::sample::select(lines), 0..8).prop_map(|lines| lines.join(&b'\n'))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_dns_message_breaks_the_handling_of_answers(
        bytes in prop_oneof![damaged("dns_answer"), prop::collection::vec(any::<u8>(), 0..600)]
    ) {
        fuzz_answer(&bytes);
    }

    #[test]
    fn requests_are_understood_as_a_strict_reader_does(bytes in damaged("request_head")) {
        checks::request_head(&bytes);
    }

    #[test]
    fn responses_are_understood_the_same_however_they_arrive(bytes in damaged("response_head")) {
        checks::response_head(&bytes);
    }

    #[test]
    fn chunked_bodies_are_understood_as_a_strict_reader_does(bytes in damaged("chunked")) {
        checks::chunked(&bytes);
    }

    #[test]
    fn an_authority_names_one_host(bytes in damaged("authority")) {
        checks::authority(&bytes);
    }

    #[test]
    fn deadlines_of_grpc_are_read_and_written(bytes in damaged("grpc_timeout")) {
        checks::grpc_timeout(&bytes);
    }

    #[test]
    fn patterns_match_as_the_plainest_comparison_says(bytes in damaged("pattern")) {
        checks::pattern(&bytes);
    }

    #[test]
    fn no_invalid_trace_context_passes(bytes in prop_oneof![damaged("trace_context"), woven("trace_context")]) {
        checks::trace::context(&bytes);
    }

    #[test]
    fn no_endpoint_file_breaks_its_parser(
        bytes in prop_oneof![damaged("endpoint_file"), prop::collection::vec(any::<u8>(), 0..600)]
    ) {
        fuzz_endpoint_file(&bytes);
    }
}

proptest! {
    // Each reads a whole configuration, three times.
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_configuration_means_the_same_whatever_was_read_before(bytes in damaged("config")) {
        checks::config(&bytes);
    }
}
