//! What is never forwarded: a corpus of malformed, ambiguous and smuggling messages (`corpus/data`), each with its verdict.
//!
//! Beside the verdict of each, this holds for all of them together: what reached the server is, for a strict reader that
//! shares no code with towpath, exactly the requests that were to reach it, as many as towpath counted, and nothing else.

mod format;
mod recorder;
mod requests;
mod responses;

use crate::fuzz::checks::strict;

#[test]
fn the_corpus_is_as_large_as_it_should_be() {
    let requests = format::load(requests::FILES, 0).len() + format::load(requests::HTTP2_FILES, 0).len();
    let responses = format::load(responses::FILES, 0).len() + format::load(responses::HTTP2_FILES, 0).len();
    assert!(requests >= 400 && responses >= 100, "{requests} requests, {responses} responses");
}

#[test]
fn no_two_cases_of_the_corpus_are_the_same() {
    let mut seen = std::collections::HashMap::new();
    for files in [requests::FILES, requests::HTTP2_FILES, responses::FILES, responses::HTTP2_FILES] {
        for case in format::load(files, 0) {
            let sent = format!("{:?}", case.lines()).replace(&case.tag, "CASE");
            let name = format!("{}: {}", case.file, case.name);
            if let Some(other) = seen.insert((sent, case.method, case.closes), name.clone()) {
                panic!("{name} is {other}");
            }
        }
    }
}
