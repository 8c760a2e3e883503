//! Which requests a rule is for, as meant.

use std::fmt;

/// A host that a route serves. Names are lower case, without port or trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// This host.
    Exact(String),
    /// `*.suffix`, kept as `suffix`: one or more labels in front of it.
    Suffix(String),
    /// `*`: any host.
    Any,
}

/// All of an entry must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Any path when silent.
    pub path: Option<PathMatch>,
    /// Upper case tokens, sorted; any method when empty.
    pub methods: Vec<String>,
    /// Lower case names, sorted.
    pub headers: Vec<(String, ValueMatch)>,
    /// Decoded names, sorted; the first parameter of a name decides.
    pub query: Vec<(String, ValueMatch)>,
}

/// A condition on the path (without query), compared as sent: no decoding, no normalisation.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// On segment boundaries: `/v2` holds for `/v2` and `/v2/x`, not for `/v20`. No trailing slash, except `/` itself.
    Prefix(String),
    /// The whole path must match: the expression is anchored at both ends.
    Regex(regex::Regex),
}

/// A condition on a header's or query parameter's value.
#[derive(Clone, Debug)]
pub enum ValueMatch {
    /// This value.
    Exact(String),
    /// The whole value must match: the expression is anchored at both ends.
    Regex(regex::Regex),
    /// Any value, even an empty one.
    Present,
    /// No such header or parameter.
    Absent,
}

/// What it asks for, in words.
impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            None => f.write_str("any path"),
            Some(PathMatch::Exact(path)) => write!(f, "path exactly `{path}`"),
            Some(PathMatch::Prefix(path)) => write!(f, "path prefix `{path}`"),
            Some(PathMatch::Regex(path)) => write!(f, "path expression `{}`", bare(path)),
        }?;
        if !self.methods.is_empty() {
            write!(f, ", method {}", self.methods.join(" or "))?;
        }
        let headers = self.headers.iter().map(|named| ("header", named));
        let query = self.query.iter().map(|named| ("query parameter", named));
        headers.chain(query).try_for_each(|(kind, (name, wanted))| match wanted {
            ValueMatch::Exact(value) => write!(f, ", {kind} `{name}` is `{value}`"),
            ValueMatch::Regex(value) => write!(f, ", {kind} `{name}` matches `{}`", bare(value)),
            ValueMatch::Present => write!(f, ", {kind} `{name}` is there"),
            ValueMatch::Absent => write!(f, ", {kind} `{name}` is not there"),
        })
    }
}

/// The expression as the file has it, without the anchors that checking put around it.
pub fn bare(expression: &regex::Regex) -> &str {
    let text = expression.as_str();
    text.strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(")$")).unwrap_or(text)
}

impl PartialEq for PathMatch {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) | (Self::Prefix(a), Self::Prefix(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

impl Eq for PathMatch {}

impl Eq for ValueMatch {}

impl PartialEq for ValueMatch {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            (Self::Present, Self::Present) | (Self::Absent, Self::Absent) => true,
            _ => false,
        }
    }
}
