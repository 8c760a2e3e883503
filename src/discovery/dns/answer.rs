//! From the records of one DNS message to addresses or SRV targets.
//!
//! Pure: who was asked, and what becomes of an answer, is others' business. A message may hold anything, so only what
//! the question leads to counts: records of the asked type whose owner is the asked name or the end of its CNAMEs.
//!
//! # Edge cases
//! - The TTL is the least of the records and of the aliases on the way.
//! - An alias whose target has no record in the message says what to ask next. A chain that leads back, or is longer
//!   than [`MAX_ALIASES`], ends.
//! - Unspecified and multicast addresses, which nobody can connect to, are left out; so is what exceeds
//!   [`MAX_RECORDS`], lest one answer fill the memory.
//! - An SRV record whose target is the root says that the service is decidedly not available here (RFC 2782). It counts
//!   only alone, as the RFC wants it; among others it is left out.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use hickory_resolver::proto::{
    op::Message,
    rr::{DNSClass, Name, RData, Record, RecordType},
};

/// Aliases that are followed for one name.
pub(in crate::discovery) const MAX_ALIASES: usize = 8;

/// Addresses or targets that are taken from one answer.
const MAX_RECORDS: usize = 4096;

/// Where an SRV record leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::discovery) struct Target {
    /// Lower case, with a dot at the end.
    pub(in crate::discovery) host: String,
    pub(in crate::discovery) port: u16,
}

/// How much of a service an SRV target takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::discovery) struct Share {
    /// The lowest is used first.
    pub(in crate::discovery) priority: u16,
    /// Relative to the others of its priority; 0: hardly anything.
    pub(in crate::discovery) weight: u16,
}

/// What the records say.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::discovery) enum Reading<T> {
    /// At least one, and how long they hold.
    Found(T, Duration),
    /// The name is an alias, and this name is to be asked for instead. The alias holds that long.
    Alias(Name, Duration),
    /// There is no such record.
    Nothing,
    /// The service is decidedly not available: only for SRV. Holds that long.
    Unavailable(Duration),
    /// The aliases lead nowhere.
    Loop,
}

impl<T> Reading<T> {
    /// The same, with what was found turned into something else.
    pub(in crate::discovery) fn map<U>(self, into: impl FnOnce(T) -> U) -> Reading<U> {
        match self {
            Self::Found(found, ttl) => Reading::Found(into(found), ttl),
            Self::Alias(name, ttl) => Reading::Alias(name, ttl),
            Self::Nothing => Reading::Nothing,
            Self::Unavailable(ttl) => Reading::Unavailable(ttl),
            Self::Loop => Reading::Loop,
        }
    }
}

/// The addresses of `name` among `records`; `record_type` is A or AAAA.
pub(in crate::discovery) fn addresses(
    name: &Name,
    record_type: RecordType,
    records: &[Record],
) -> Reading<Vec<IpAddr>> {
    let chain = match chain(name, record_type, records) {
        Ok(chain) => chain,
        Err(reading) => return reading,
    };
    let usable = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast();
    let mut found: Vec<IpAddr> = chain.records.iter().filter_map(|record| record.data.ip_addr()).collect();
    let all = found.len();
    found.retain(usable);
    if found.len() < all {
        tracing::warn!(%name, left_out = all - found.len(), "addresses in a DNS answer that nobody can connect to");
    }
    cut(name, &mut found);
    if found.is_empty() { Reading::Nothing } else { Reading::Found(found, chain.ttl) }
}

/// The SRV targets of `name` among `records`.
pub(in crate::discovery) fn targets(name: &Name, records: &[Record]) -> Reading<BTreeMap<Target, Share>> {
    let chain = match chain(name, RecordType::SRV, records) {
        Ok(chain) => chain,
        Err(reading) => return reading,
    };
    let mut found: Vec<(Target, Share)> = chain.records.iter().filter_map(|record| target(record)).collect();
    found.sort_unstable_by(|a, b| (a.1.priority, &a.0).cmp(&(b.1.priority, &b.0)));
    cut(name, &mut found);
    if found.is_empty() {
        return Reading::Unavailable(chain.ttl);
    }
    let mut targets = BTreeMap::new();
    for (target, share) in found {
        targets.entry(target).or_insert(share);
    }
    Reading::Found(targets, chain.ttl)
}

/// For fuzzing: reads `bytes` as a DNS message and looks in it for whatever it was asked.
pub fn fuzz_answer(bytes: &[u8]) {
    let Ok(message) = Message::from_vec(bytes) else { return };
    let name = message.queries.first().map_or_else(Name::root, |query| query.name().clone());
    for record_type in [RecordType::A, RecordType::AAAA] {
        if let Reading::Found(found, _) = addresses(&name, record_type, &message.answers) {
            assert!(!found.is_empty() && found.len() <= MAX_RECORDS);
            assert!(found.iter().all(|ip| ip.is_ipv4() == (record_type == RecordType::A)));
        }
    }
    if let Reading::Found(found, _) = targets(&name, &message.answers) {
        assert!(!found.is_empty() && found.len() <= MAX_RECORDS);
    }
}

fn target(record: &Record) -> Option<(Target, Share)> {
    let RData::SRV(srv) = &record.data else { return None };
    if srv.target.is_root() {
        return None;
    }
    let mut host = srv.target.to_ascii().to_ascii_lowercase();
    if !host.ends_with('.') {
        host.push('.');
    }
    let share = Share { priority: srv.priority, weight: srv.weight };
    Some((Target { host, port: srv.port }, share))
}

fn cut<T>(name: &Name, found: &mut Vec<T>) {
    if found.len() > MAX_RECORDS {
        tracing::warn!(%name, records = found.len(), used = MAX_RECORDS, "a DNS answer is too long");
        found.truncate(MAX_RECORDS);
    }
}

/// The records that a question leads to; at least one.
struct Chain<'a> {
    records: Vec<&'a Record>,
    /// The least on the way.
    ttl: Duration,
}

/// Follows the aliases of `name`. `Err` is the reading when there is no record at their end.
fn chain<'a, T>(
    name: &Name,
    record_type: RecordType,
    records: &'a [Record],
) -> Result<Chain<'a>, Reading<T>> {
    let mut owner = name;
    let mut ttl = u32::MAX;
    let of = |owner: &Name, record_type: RecordType| {
        let owner = owner.clone();
        records.iter().filter(move |record| {
            record.record_type() == record_type && record.dns_class == DNSClass::IN && record.name == owner
        })
    };
    for _ in 0..=MAX_ALIASES {
        let found: Vec<&Record> = of(owner, record_type).collect();
        if let Some(least) = found.iter().map(|record| record.ttl).min() {
            return Ok(Chain { records: found, ttl: seconds(least.min(ttl)) });
        }
        let alias = of(owner, RecordType::CNAME).find_map(|record| match &record.data {
            RData::CNAME(target) => Some((&target.0, record.ttl)),
            _ => None,
        });
        match alias {
            Some((target, holds)) => {
                owner = target;
                ttl = ttl.min(holds);
            }
            None if owner == name => return Err(Reading::Nothing),
            None => return Err(Reading::Alias(owner.clone(), seconds(ttl))),
        }
    }
    Err(Reading::Loop)
}

fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(ttl.into())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, SRV};
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn a(owner: &str, ttl: u32, last: u8) -> Record {
        Record::from_rdata(name(owner), ttl, RData::A(A(Ipv4Addr::new(10, 0, 0, last))))
    }

    fn alias(owner: &str, ttl: u32, to: &str) -> Record {
        Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(to))))
    }

    fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Record {
        Record::from_rdata(name("s.test."), 30, RData::SRV(SRV::new(priority, weight, port, name(target))))
    }

    fn read(records: &[Record]) -> Reading<Vec<IpAddr>> {
        addresses(&name("x.test."), RecordType::A, records)
    }

    fn found(last: &[u8], ttl: u64) -> Reading<Vec<IpAddr>> {
        let ips = last.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect();
        Reading::Found(ips, Duration::from_secs(ttl))
    }

    #[test]
    fn only_records_that_the_question_leads_to_count() {
        let six = Record::from_rdata(name("x.test."), 1, RData::AAAA(AAAA(Ipv6Addr::LOCALHOST)));
        let records = [a("other.test.", 1, 9), six, a("X.TEST.", 20, 1), a("x.test.", 10, 2)];
        assert_eq!(read(&records), found(&[1, 2], 10));
        assert_eq!(read(&records[..2]), Reading::Nothing);
    }

    #[test]
    fn aliases_are_followed_in_any_order_and_the_least_ttl_counts() {
        let records = [a("z.test.", 60, 1), alias("y.test.", 7, "z.test."), alias("x.test.", 30, "y.test.")];
        assert_eq!(read(&records), found(&[1], 7));
    }

    #[test]
    fn an_alias_without_records_says_what_to_ask_next() {
        let records = [alias("x.test.", 30, "y.test."), alias("y.test.", 40, "z.test.")];
        assert_eq!(read(&records), Reading::Alias(name("z.test."), Duration::from_secs(30)));
    }

    #[test]
    fn aliases_that_lead_back_end() {
        let records = [alias("x.test.", 30, "y.test."), alias("y.test.", 40, "x.test.")];
        assert_eq!(read(&records), Reading::Loop);
        assert_eq!(read(&[alias("x.test.", 30, "x.test.")]), Reading::Loop);
    }

    #[test]
    fn addresses_that_nobody_can_connect_to_are_left_out() {
        let bad = [Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(224, 0, 0, 1)]
            .map(|ip| Record::from_rdata(name("x.test."), 9, RData::A(A(ip))));
        assert_eq!(read(&bad), Reading::Nothing);
        assert_eq!(read(&[bad[0].clone(), bad[1].clone(), a("x.test.", 9, 1)]), found(&[1], 9));
    }

    #[test]
    fn too_long_an_answer_is_cut() {
        let many: Vec<_> = (0..5000_u32)
            .map(|n| {
                Record::from_rdata(name("x.test."), 9, RData::A(A(Ipv4Addr::from_bits(0x0a00_0000 + n))))
            })
            .collect();
        let Reading::Found(found, _) = read(&many) else { panic!("nothing found") };
        assert_eq!(found.len(), 4096);
    }

    #[test]
    fn srv_records_give_target_port_priority_and_weight() {
        let records = [srv(1, 5, 80, "A.test."), srv(2, 0, 81, "b.test.")];
        let Reading::Found(targets, ttl) = targets(&name("s.test."), &records) else {
            panic!("nothing found")
        };
        let listed: Vec<_> = targets
            .iter()
            .map(|(t, s)| format!("{}:{} {} {}", t.host, t.port, s.priority, s.weight))
            .collect();
        assert_eq!(listed, ["a.test.:80 1 5", "b.test.:81 2 0"]);
        assert_eq!(ttl, Duration::from_secs(30));
    }

    #[test]
    fn a_target_listed_twice_has_its_lower_priority() {
        let records = [srv(2, 5, 80, "a.test."), srv(1, 7, 80, "a.test.")];
        let Reading::Found(targets, _) = targets(&name("s.test."), &records) else { panic!("nothing found") };
        assert_eq!(targets.into_values().collect::<Vec<_>>(), [Share { priority: 1, weight: 7 }]);
    }

    #[test]
    fn the_root_as_target_means_decidedly_not_available() {
        let none = targets(&name("s.test."), &[srv(0, 0, 0, ".")]);
        assert_eq!(none, Reading::Unavailable(Duration::from_secs(30)));
        let some = targets(&name("s.test."), &[srv(0, 0, 0, "."), srv(0, 0, 80, "a.test.")]);
        assert!(matches!(some, Reading::Found(found, _) if found.len() == 1));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            fuzz_answer(&bytes);
        }

        #[test]
        fn no_set_of_records_makes_it_panic_or_run_on(
            links in proptest::collection::vec((0_u8..6, 0_u8..6, any::<bool>(), any::<u32>()), 0..12)
        ) {
            let owner = |n: u8| if n == 0 { "x.test.".to_owned() } else { format!("n{n}.test.") };
            let records: Vec<_> = links.iter().map(|(from, to, is_alias, ttl)| {
                if *is_alias { alias(&owner(*from), *ttl, &owner(*to)) } else { a(&owner(*from), *ttl, *to) }
            }).collect();
            if let Reading::Found(found, ttl) = read(&records) {
                prop_assert!(!found.is_empty());
                prop_assert!(records.iter().any(|record| seconds(record.ttl) == ttl));
            }
        }
    }
}
