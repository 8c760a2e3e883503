//! Match entries by themselves, without the hosts and the precedence of a rule: for what only some of a rule's requests
//! are meant by.

use super::{request::RequestView, rule::Entry};
use crate::config::Match;

/// Some match entries; a request is meant when it meets any of them. Without an entry all are.
#[derive(Debug)]
pub struct Matcher(Box<[Entry]>);

impl Matcher {
    /// Of these entries.
    pub fn new(entries: &[Match]) -> Self {
        // There is no rule that they are of, and nobody asks for it.
        Self(entries.iter().map(|entry| Entry::new(0, entry)).collect())
    }

    /// Whether the request is meant.
    pub fn matches(&self, request: &RequestView<'_>) -> bool {
        let met = |entry: &Entry| entry.path_matches(request.path) && entry.unmet(request).is_none();
        self.0.is_empty() || self.0.iter().any(met)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::*;
    use crate::config::{PathMatch, ValueMatch};

    fn entry(path: Option<&str>, methods: &[&str], headers: &[(&str, &str)]) -> Match {
        Match {
            path: path.map(|path| PathMatch::Prefix(path.to_owned())),
            methods: methods.iter().map(ToString::to_string).collect(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), ValueMatch::Exact((*value).to_owned())))
                .collect(),
            query: vec![("q".to_owned(), ValueMatch::Present)],
        }
    }

    fn meets(entries: &[Match], method: &str, path: &str, query: Option<&str>, chaos: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        if let Some(chaos) = chaos {
            headers.insert("x-chaos", HeaderValue::from_str(chaos).unwrap());
        }
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let view = RequestView { host: "any", method: &method, path, query, headers: &headers };
        Matcher::new(entries).matches(&view)
    }

    #[test]
    fn all_of_an_entry_must_hold() {
        let entries = [entry(Some("/v2"), &["GET"], &[("x-chaos", "on")])];
        assert!(meets(&entries, "GET", "/v2/x", Some("q=1"), Some("on")));
        assert!(!meets(&entries, "PUT", "/v2/x", Some("q=1"), Some("on")));
        assert!(!meets(&entries, "GET", "/v22", Some("q=1"), Some("on")));
        assert!(!meets(&entries, "GET", "/v2/x", None, Some("on")));
        assert!(!meets(&entries, "GET", "/v2/x", Some("q=1"), Some("off")));
        assert!(!meets(&entries, "GET", "/v2/x", Some("q=1"), None));
    }

    #[test]
    fn any_entry_is_enough_and_without_one_every_request_is_meant() {
        let entries = [entry(Some("/a"), &[], &[]), entry(None, &["PUT"], &[])];
        assert!(meets(&entries, "GET", "/a", Some("q"), None));
        assert!(meets(&entries, "PUT", "/b", Some("q"), None));
        assert!(!meets(&entries, "GET", "/b", Some("q"), None));
        assert!(meets(&[], "GET", "/b", None, None));
    }
}
