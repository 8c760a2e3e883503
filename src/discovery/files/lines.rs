//! An endpoint file's text -> endpoints: one `ADDRESS:PORT [weight=N] [zone=Z]` for each line.
//!
//! `#` begins a comment, and lines may be blank or end in CRLF. Every problem is told at once, with its position. A file
//! without any endpoint is in order: it says that there are none. Reading the file is `file.rs`'s.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    path::Path,
};

use super::Endpoint;
use crate::config::Name;

/// Bytes of a file at most: 65,536 lines of 256.
pub(in crate::discovery) const MAX_BYTES: usize = 16 << 20;
/// Endpoints of a file at most.
pub(in crate::discovery) const MAX_ENDPOINTS: usize = 65_536;
/// Problems of a file that are told; the others are counted.
const MAX_TOLD: usize = 10;

const ALLOWED_LINE: &str = "a line is ADDRESS:PORT [weight=N] [zone=Z]";
const ALLOWED_ADDRESS: &str = "must be IP:PORT such as 10.0.0.1:8080 or [fd00::1]:8080";
const ALLOWED_WEIGHT: &str = "must be a whole number from 1 to 1000000";
const ALLOWED_ZONE: &str = "must be 1 to 128 letters, digits, \"-\", \"_\" or \".\"";

/// What is wrong with a file's text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::discovery) struct Problems {
    /// In the file's order; [`MAX_TOLD`] at most.
    told: Vec<Problem>,
    /// How many more there are.
    more: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Problem {
    /// From 1.
    line: usize,
    /// From 1, in characters.
    column: usize,
    text: String,
}

impl Problems {
    /// `FILE:LINE:COLUMN: what is wrong; what is allowed`, a line each.
    pub(in crate::discovery) fn of(&self, file: &Path) -> String {
        let file = file.display();
        let told =
            self.told.iter().map(|Problem { line, column, text }| format!("{file}:{line}:{column}: {text}"));
        let mut lines: Vec<String> = told.collect();
        if self.more > 0 {
            lines.push(format!("{file}: {} more problems", self.more));
        }
        lines.join("\n")
    }

    fn add(&mut self, line: usize, column: usize, text: String) {
        if self.told.len() < MAX_TOLD {
            self.told.push(Problem { line, column, text });
        } else {
            self.more += 1;
        }
    }

    fn is_empty(&self) -> bool {
        self.told.is_empty()
    }
}

/// The endpoints that `text` lists, sorted and distinct.
///
/// # Errors
/// Every problem; then no line of it is to be believed.
pub(in crate::discovery) fn parse(text: &[u8]) -> Result<Vec<Endpoint>, Problems> {
    let mut list = List::default();
    if text.len() > MAX_BYTES {
        list.problems.add(1, 1, format!("the file has more than {} MiB", MAX_BYTES >> 20));
        return Err(list.problems);
    }
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        list.line(number, line.strip_suffix(b"\r").unwrap_or(line));
        if list.endpoints.len() > MAX_ENDPOINTS {
            list.problems.add(
                number,
                1,
                format!("more endpoints than a file may have, which are {MAX_ENDPOINTS}"),
            );
            break;
        }
    }
    if !list.problems.is_empty() {
        return Err(list.problems);
    }
    list.endpoints.sort_unstable();
    Ok(list.endpoints)
}

/// Whether the text may be a part of what somebody is about to write: nothing yet, or a line without its end.
pub(in crate::discovery) fn may_be_unfinished(text: &[u8]) -> bool {
    !text.ends_with(b"\n")
}

/// What has been read of a file.
#[derive(Default)]
struct List {
    endpoints: Vec<Endpoint>,
    /// Where each address was first seen.
    lines: HashMap<SocketAddr, usize>,
    /// Equal zones share their text.
    zones: HashSet<Name>,
    problems: Problems,
}

/// A word of a line, and the column that it begins in.
#[derive(Clone, Copy)]
struct Word<'a> {
    column: usize,
    text: &'a str,
}

impl List {
    fn line(&mut self, number: usize, line: &[u8]) {
        let text = match str::from_utf8(line) {
            Ok(text) => text,
            Err(error) => {
                let sound = str::from_utf8(&line[..error.valid_up_to()]).unwrap_or_default();
                let byte = line[error.valid_up_to()];
                let wrong = format!("byte {byte:#04x} is not UTF-8; {ALLOWED_LINE}");
                return self.problems.add(number, sound.chars().count() + 1, wrong);
            }
        };
        let content = text.split('#').next().unwrap_or_default();
        let words = words(content);
        let Some((first, rest)) = words.split_first() else { return };
        let address = address(first.text).map_err(|wrong| self.problems.add(number, first.column, wrong));
        let (weight, zone) = self.attributes(number, rest);
        let Ok(address) = address else { return };
        if let Some(before) = self.lines.get(&address) {
            let wrong = format!("{address} is in line {before} already; each endpoint has one line");
            return self.problems.add(number, first.column, wrong);
        }
        self.lines.insert(address, number);
        self.endpoints.push(Endpoint { priority: 0, address, weight, zone });
    }

    fn attributes(&mut self, number: usize, words: &[Word<'_>]) -> (u32, Option<Name>) {
        let (mut weight, mut zone) = (None, None);
        for word in words {
            let wrong = match word.text.split_once('=') {
                Some((key @ "weight", _)) if weight.is_some() => Err(twice(key)),
                Some((key @ "zone", _)) if zone.is_some() => Err(twice(key)),
                Some(("weight", value)) => self::weight(value).map(|value| weight = Some(value)),
                Some(("zone", value)) => sound_zone(value).map(|()| zone = Some(self.zone(value))),
                _ => Err(format!("{:?} is neither weight=N nor zone=Z; {ALLOWED_LINE}", word.text)),
            };
            if let Err(wrong) = wrong {
                self.problems.add(number, word.column, wrong);
            }
        }
        (weight.unwrap_or(1), zone)
    }

    fn zone(&mut self, zone: &str) -> Name {
        if let Some(known) = self.zones.get(zone) {
            return known.clone();
        }
        let zone = Name::from(zone);
        self.zones.insert(zone.clone());
        zone
    }
}

fn twice(key: &str) -> String {
    format!("{key} is given twice; {ALLOWED_LINE}")
}

/// Separated by blanks and tabs.
fn words(line: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut column = 1;
    for text in line.split([' ', '\t']) {
        if !text.is_empty() {
            words.push(Word { column, text });
        }
        column += text.chars().count() + 1;
    }
    words
}

fn address(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => {
            Err(format!("{text:?} has port 0, which cannot be connected to; {ALLOWED_ADDRESS}"))
        }
        Ok(address) => Ok(address),
        Err(_) => Err(format!("{}; {ALLOWED_ADDRESS}", what_is_wrong(text))),
    }
}

/// With a text that is no address and port.
fn what_is_wrong(text: &str) -> String {
    if text.parse::<IpAddr>().is_ok() || (text.starts_with('[') && text.ends_with(']')) {
        return format!("{text:?} has no port");
    }
    let Some((host, port)) = text.rsplit_once(':') else { return format!("{text:?} has no port") };
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if !is_port || port.parse::<u16>().is_err() {
        return format!("{port:?} is not a port, which are 1 to 65535");
    }
    if matches!(host.parse(), Ok(IpAddr::V6(_))) {
        return format!("{host:?} is an IPv6 address, which needs brackets: [{host}]:{port}");
    }
    let is_name = host.bytes().any(|byte| byte.is_ascii_alphabetic())
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if is_name {
        return format!(
            "{host:?} is a name, not an IP address: for a name, give the service dns = \"{text}\""
        );
    }
    format!("{host:?} is not an IP address")
}

fn weight(text: &str) -> Result<u32, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let weight = text.parse().ok().filter(|weight| digits && (1..=1_000_000).contains(weight));
    weight.ok_or_else(|| format!("weight {text:?} is out of range; {ALLOWED_WEIGHT}"))
}

fn sound_zone(text: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let sound = (1..=128).contains(&text.len()) && text.bytes().all(plain);
    if sound { Ok(()) } else { Err(format!("zone {text:?} is not a name; {ALLOWED_ZONE}")) }
}

/// For tests and fuzzers: parses, and panics if the outcome contradicts itself.
#[doc(hidden)]
pub fn fuzz_endpoint_file(text: &[u8]) {
    match parse(text) {
        Ok(endpoints) => {
            assert!(endpoints.is_sorted_by(|a, b| a.address < b.address), "not sorted by distinct addresses");
            assert!(endpoints.iter().all(|e| (1..=1_000_000).contains(&e.weight) && e.address.port() > 0));
            let again: String = endpoints.iter().map(written).collect();
            assert_eq!(parse(again.as_bytes()).as_ref(), Ok(&endpoints), "written and read it is another");
        }
        Err(problems) => {
            let lines = text.split(|byte| *byte == b'\n').count();
            assert!(!problems.is_empty() && problems.told.len() <= MAX_TOLD);
            assert!(problems.told.iter().all(|told| (1..=lines).contains(&told.line) && told.column > 0));
            assert!(problems.of(Path::new("endpoints")).lines().all(|line| line.starts_with("endpoints:")));
        }
    }
}

/// The line of an endpoint.
fn written(endpoint: &Endpoint) -> String {
    let zone = endpoint.zone.as_ref().map(|zone| format!(" zone={zone}")).unwrap_or_default();
    format!("{} weight={}{zone}\n", endpoint.address, endpoint.weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> Vec<String> {
        let show = |e: &Endpoint| format!("{} {} {}", e.address, e.weight, e.zone.as_deref().unwrap_or("-"));
        parse(text.as_bytes()).unwrap_or_else(|problems| panic!("{problems:?}")).iter().map(show).collect()
    }

    fn problems(text: impl AsRef<[u8]>) -> String {
        parse(text.as_ref()).unwrap_err().of(Path::new("eps"))
    }

    #[test]
    fn lines_have_addresses_weights_and_zones_in_any_order_and_come_sorted() {
        let text =
            "10.0.0.2:80 zone=eu-1b weight=5\n\t10.0.0.1:80\tweight=1000000\n[fd00::1]:8080 zone=a.b_c\n";
        assert_eq!(listed(text), ["10.0.0.1:80 1000000 -", "10.0.0.2:80 5 eu-1b", "[fd00::1]:8080 1 a.b_c"]);
    }

    #[test]
    fn comments_blank_lines_crlf_a_byte_order_mark_and_a_missing_last_newline_are_in_order() {
        let text = "\u{feff}# all of them\r\n\r\n   \n10.0.0.1:80 # one\r\n10.0.0.2:80 weight=2#two";
        assert_eq!(listed(text), ["10.0.0.1:80 1 -", "10.0.0.2:80 2 -"]);
    }

    #[test]
    fn a_text_without_endpoints_says_that_there_are_none() {
        for text in ["", "\n", "# none\n", "\u{feff}"] {
            assert!(listed(text).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn every_problem_is_told_with_its_position_and_what_is_allowed() {
        let cases = [
            ("10.0.0.1", "eps:1:1: \"10.0.0.1\" has no port; must be IP:PORT such as"),
            (" [fd00::1]", "eps:1:2: \"[fd00::1]\" has no port; must be"),
            ("10.0.0.1:0", "eps:1:1: \"10.0.0.1:0\" has port 0, which cannot be connected to"),
            ("10.0.0.1:65536", "eps:1:1: \"65536\" is not a port, which are 1 to 65535"),
            ("10.0.0.1:+80", "eps:1:1: \"+80\" is not a port"),
            ("10.0.0.1:", "eps:1:1: \"\" is not a port"),
            ("fd00::1:80:zz:80", "eps:1:1: \"fd00::1:80:zz\" is not an IP address"),
            (
                "fe80:0:0:0:0:0:0:1:80",
                "eps:1:1: \"fe80:0:0:0:0:0:0:1\" is an IPv6 address, which needs brackets: [",
            ),
            (
                "api.test:80",
                "eps:1:1: \"api.test\" is a name, not an IP address: for a name, give the service dns = ",
            ),
            ("10.0.0.256:80", "eps:1:1: \"10.0.0.256\" is not an IP address"),
            (
                "10.0.0.1:80 weight=0",
                "eps:1:13: weight \"0\" is out of range; must be a whole number from 1 to 1000000",
            ),
            ("10.0.0.1:80 weight=1000001", "eps:1:13: weight \"1000001\" is out of range"),
            ("10.0.0.1:80 weight=+1", "eps:1:13: weight \"+1\" is out of range"),
            ("10.0.0.1:80 weight=", "eps:1:13: weight \"\" is out of range"),
            ("10.0.0.1:80 weight=1 weight=2", "eps:1:22: weight is given twice; a line is ADDRESS:PORT"),
            ("10.0.0.1:80 zone=a zone=a", "eps:1:20: zone is given twice"),
            ("10.0.0.1:80 zone=", "eps:1:13: zone \"\" is not a name; must be 1 to 128 letters"),
            ("10.0.0.1:80 zone=é", "eps:1:13: zone \"é\" is not a name"),
            ("10.0.0.1:80 Weight=1", "eps:1:13: \"Weight=1\" is neither weight=N nor zone=Z; a line is"),
            ("10.0.0.1:80 10.0.0.2:80", "eps:1:13: \"10.0.0.2:80\" is neither"),
            ("weight=1", "eps:1:1: \"weight=1\" has no port"),
            ("é 1", "eps:1:3: \"1\" is neither"),
        ];
        for (text, told) in cases {
            let problems = problems(text);
            assert!(problems.lines().any(|line| line.starts_with(told)), "{text:?}: {problems}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once_and_one_makes_the_whole_text_wrong() {
        let told = problems("10.0.0.1:80\nnonsense weight=x\n10.0.0.2\n");
        let places: Vec<_> = told.lines().map(|line| line.split(": ").next().unwrap()).collect();
        assert_eq!(places, ["eps:2:1", "eps:2:10", "eps:3:1"]);
    }

    #[test]
    fn an_address_has_one_line() {
        let told = problems("10.0.0.1:80\n10.0.0.2:80\n 10.0.0.1:80 weight=2\n");
        assert_eq!(told, "eps:3:2: 10.0.0.1:80 is in line 1 already; each endpoint has one line");
    }

    #[test]
    fn what_is_not_utf8_is_told_with_its_position() {
        let told = problems(b"10.0.0.1:80\n\xc3\xa9 \xff\n");
        assert!(told.starts_with("eps:2:3: byte 0xff is not UTF-8; "), "{told}");
        assert!(problems(b"\xff\xfe1\x000\x00").contains("eps:1:1: byte 0xff is not UTF-8"));
    }

    #[test]
    fn many_problems_are_told_in_part_and_counted() {
        let told = problems("x\n".repeat(100));
        assert_eq!(told.lines().count(), MAX_TOLD + 1);
        assert!(told.ends_with("eps: 90 more problems"), "{told}");
    }

    #[test]
    fn a_file_has_bounded_bytes_and_endpoints() {
        assert!(problems(vec![b'\n'; MAX_BYTES + 1]).contains("more than 16 MiB"));
        let line = |n: usize| format!("10.{}.{}.{}:80\n", n >> 16, (n >> 8) & 255, n & 255);
        let most: String = (0..MAX_ENDPOINTS).map(line).collect();
        assert_eq!(parse(most.as_bytes()).unwrap().len(), MAX_ENDPOINTS);
        let told = problems(most + &line(MAX_ENDPOINTS));
        assert_eq!(told, "eps:65537:1: more endpoints than a file may have, which are 65536");
    }

    #[test]
    fn equal_zones_share_their_text() {
        let endpoints = parse(b"10.0.0.1:80 zone=a\n10.0.0.2:80 zone=a\n").unwrap();
        let [one, two] = [0, 1].map(|at| endpoints[at].zone.clone().unwrap());
        assert!(std::sync::Arc::ptr_eq(&one, &two));
    }

    proptest::proptest! {
        /// Whatever was listed comes back, and nothing else.
        #[test]
        fn endpoints_survive_being_written_and_read(
            endpoints in proptest::collection::btree_map(
                (proptest::prelude::any::<std::net::IpAddr>(), 1u16..),
                (1u32..=1_000_000, proptest::option::of("[a-zA-Z0-9._-]{1,128}")),
                0..20,
            )
        ) {
            let mut text = String::new();
            let mut expected = Vec::new();
            for ((ip, port), (weight, zone)) in endpoints {
                let address = SocketAddr::new(ip, port);
                let endpoint = Endpoint { priority: 0, address, weight, zone: zone.map(Name::from) };
                text.push_str(&written(&endpoint));
                expected.push(endpoint);
            }
            expected.sort_unstable();
            proptest::prop_assert_eq!(parse(text.as_bytes()), Ok(expected));
        }
    }
}
