//! `[[callers]]`: what a caller is called, by what is known of its connection.
//!
//! The first rule of which everything holds gives the name; else it is who its certificate says; else it is unknown. What could not
//! be found out holds for no rule: nobody is taken for somebody else for want of an answer.

use std::{net::IpAddr, sync::Arc};

use super::Identity;
use crate::{
    config::{CallerRule, Name, is_like},
    tls::Names,
};

/// What is known of where a connection comes from. None of it is said by the caller itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Its address; none of a Unix socket.
    pub address: Option<IpAddr>,
    /// The user who owns its socket.
    pub uid: Option<u32>,
    /// The control group of its socket.
    pub cgroup: Option<Arc<str>>,
    /// The names in its certificate, which was verified.
    pub certificate: Option<Names>,
}

/// What has to be asked of the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The user.
    pub uid: bool,
    /// The control group.
    pub cgroup: bool,
}

/// The rule that holds for `origin`.
pub fn rule<'r>(rules: &'r [CallerRule], origin: &Origin) -> Option<&'r CallerRule> {
    rules.iter().find(|rule| holds(rule, origin))
}

/// What `origin` is called.
pub fn named(rules: &[CallerRule], origin: &Origin) -> Name {
    if let Some(rule) = rule(rules, origin) {
        return rule.name.clone();
    }
    match origin.certificate.as_ref().and_then(Names::identity) {
        Some(identity) => identity.into(),
        None => Identity::UNKNOWN.into(),
    }
}

/// What would have to be known besides to tell what `origin` is called. The kernel is asked for nothing that decides nothing.
pub fn wanted(rules: &[CallerRule], origin: &Origin) -> Wanted {
    let mut wanted = Wanted::default();
    for rule in rules.iter().filter(|rule| may_hold(rule, origin)) {
        wanted.uid |= rule.uid.is_some() && origin.uid.is_none();
        wanted.cgroup |= rule.cgroup.is_some() && origin.cgroup.is_none();
        if holds(rule, origin) {
            break;
        }
    }
    wanted
}

fn holds(rule: &CallerRule, origin: &Origin) -> bool {
    let uid = rule.uid.is_none_or(|uid| origin.uid == Some(uid));
    let cgroup = rule.cgroup.as_ref();
    may_hold(rule, origin)
        && uid
        && cgroup.is_none_or(|like| origin.cgroup.as_ref().is_some_and(|path| is_like(path, like)))
}

/// Whether it holds, as far as the kernel need not be asked.
fn may_hold(rule: &CallerRule, origin: &Origin) -> bool {
    let spiffe = || origin.certificate.as_ref()?.spiffe.as_deref();
    rule.address.is_none_or(|range| origin.address.is_some_and(|address| range.contains(address)))
        && rule.spiffe.as_ref().is_none_or(|like| spiffe().is_some_and(|id| is_like(id, like)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Subnet;

    fn rule(name: &str) -> CallerRule {
        CallerRule { name: name.into(), uid: None, cgroup: None, address: None, spiffe: None, trusted: false }
    }

    fn range(text: &str) -> Option<Subnet> {
        let (address, length) = text.split_once('/').unwrap();
        Subnet::new(address.parse().unwrap(), length.parse().unwrap())
    }

    fn from(address: &str) -> Origin {
        Origin { address: Some(address.parse().unwrap()), ..Origin::default() }
    }

    fn shown(spiffe: Option<&str>, dns: &[&str]) -> Option<Names> {
        Some(Names { spiffe: spiffe.map(str::to_owned), dns: dns.iter().map(ToString::to_string).collect() })
    }

    #[test]
    fn the_first_rule_of_which_everything_holds_names_the_caller() {
        let rules = [
            CallerRule { uid: Some(1001), cgroup: Some("*/checkout*".into()), ..rule("both") },
            CallerRule { uid: Some(1001), ..rule("user") },
            CallerRule { address: range("10.1.2.0/24"), ..rule("pod") },
            CallerRule { spiffe: Some("spiffe://prod/ns/shop/*".into()), ..rule("shop") },
        ];
        let user = Origin { uid: Some(1001), ..from("127.0.0.1") };
        let both = Origin { cgroup: Some("/kubepods/checkout-1".into()), ..user.clone() };
        let certified =
            Origin { certificate: shown(Some("spiffe://prod/ns/shop/sa/a"), &["a"]), ..from("10.9.9.9") };
        for (origin, expected) in [
            (both, "both"),
            (user, "user"),
            (from("10.1.2.3"), "pod"),
            (from("::ffff:10.1.2.3"), "pod"),
            (from("10.1.3.3"), "unknown"),
            (certified, "shop"),
            (Origin { cgroup: Some("/x/checkout".into()), ..Origin::default() }, "unknown"),
            (Origin { uid: Some(0), ..Origin::default() }, "unknown"),
        ] {
            assert_eq!(&*named(&rules, &origin), expected, "{origin:?}");
        }
    }

    #[test]
    fn without_a_rule_a_caller_is_who_its_certificate_says() {
        let of = |spiffe, dns: &[&str]| {
            named(&[], &Origin { certificate: shown(spiffe, dns), ..Origin::default() }).to_string()
        };
        assert_eq!(of(Some("spiffe://prod/a"), &["a.internal"]), "spiffe://prod/a");
        assert_eq!(of(None, &["a.internal", "b.internal"]), "a.internal");
        assert_eq!(of(None, &[]), "unknown");
        assert_eq!(&*named(&[], &Origin::default()), "unknown");
    }

    #[test]
    fn the_kernel_is_asked_only_for_what_can_decide() {
        let pod = CallerRule { address: range("10.0.0.0/8"), ..rule("pod") };
        let user = CallerRule { uid: Some(1), address: range("127.0.0.0/8"), ..rule("user") };
        let group = CallerRule { cgroup: Some("*".into()), ..rule("group") };
        let ask = |rules: &[CallerRule], origin: &Origin| {
            let wanted = wanted(rules, origin);
            (wanted.uid, wanted.cgroup)
        };
        assert_eq!(ask(&[], &from("127.0.0.1")), (false, false));
        assert_eq!(ask(std::slice::from_ref(&user), &from("127.0.0.1")), (true, false));
        assert_eq!(
            ask(std::slice::from_ref(&user), &from("10.1.1.1")),
            (false, false),
            "its user decides nothing"
        );
        let all = [pod, user, group];
        assert_eq!(ask(&all, &from("10.1.1.1")), (false, false), "an earlier rule decides");
        assert_eq!(ask(&all, &from("127.0.0.1")), (true, true));
        assert_eq!(ask(&all, &Origin { uid: Some(1), ..from("127.0.0.1") }), (false, false));
        assert_eq!(ask(&all, &Origin { uid: Some(2), ..from("127.0.0.1") }), (false, true));
    }
}
