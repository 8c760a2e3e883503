//! Which fully qualified names a host stands for: the search list and `ndots` of resolv.conf(5).
//!
//! Done here and not by the resolver library, which walks the list separately for A and AAAA and so could take IPv4
//! addresses from one name and IPv6 addresses from another.

use hickory_resolver::proto::rr::Name;

/// How a host becomes fully qualified.
#[derive(Clone, Debug, Default)]
pub(super) struct Search {
    /// In the order they are tried.
    pub(super) domains: Vec<Name>,
    /// A host with at least this many dots is first tried as it is.
    pub(super) ndots: usize,
}

impl Search {
    /// The names to try, in order; at least one. `Err` says what is wrong with `host`.
    pub(super) fn candidates(&self, host: &str) -> Result<Vec<Name>, String> {
        let name = Name::from_str_relaxed(host).map_err(|e| e.to_string())?;
        let mut absolute = name.clone();
        absolute.set_fqdn(true);
        if name.is_fqdn() || name.is_localhost() {
            return Ok(vec![absolute]);
        }
        // A name that the domain makes too long cannot exist.
        let mut names: Vec<Name> =
            self.domains.iter().filter_map(|domain| name.clone().append_domain(domain).ok()).collect();
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        names.insert(if dots >= self.ndots { 0 } else { names.len() }, absolute);
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(host: &str) -> Vec<String> {
        let domains = ["prod.svc.cluster.local.", "cluster.local."].map(|d| Name::from_ascii(d).unwrap());
        let search = Search { domains: domains.to_vec(), ndots: 2 };
        search.candidates(host).unwrap().iter().map(Name::to_string).collect()
    }

    #[test]
    fn a_host_with_few_dots_is_tried_in_the_search_domains_first() {
        assert_eq!(
            candidates("reviews.dev"),
            ["reviews.dev.prod.svc.cluster.local.", "reviews.dev.cluster.local.", "reviews.dev."]
        );
    }

    #[test]
    fn a_host_with_enough_dots_is_tried_as_it_is_first() {
        assert_eq!(
            candidates("a.b.test"),
            ["a.b.test.", "a.b.test.prod.svc.cluster.local.", "a.b.test.cluster.local."]
        );
    }

    #[test]
    fn a_trailing_dot_and_localhost_are_never_searched() {
        assert_eq!(candidates("reviews."), ["reviews."]);
        assert_eq!(candidates("localhost"), ["localhost."]);
    }

    #[test]
    fn underscores_are_taken_and_overlong_labels_refused() {
        assert_eq!(candidates("_grpc.my_app.test")[0], "_grpc.my_app.test.");
        assert!(Search::default().candidates(&"a".repeat(64)).is_err());
    }
}
