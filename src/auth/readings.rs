//! The ways in which an endpoint may read a path: what a policy compares.
//!
//! # Why more than one
//! A path is forwarded as it came, so a rule that looks at it as it came can be got around where the endpoint reads more into it:
//! `/v1/../admin`, `/%61dmin`, `//admin`, `/admin;x=1`, `/v1\..\admin`. Normalising before comparing, as Envoy can, trusts that the
//! endpoint reads the path in just that way; comparing it as it is, as linkerd does, that it reads nothing into it. Here a deny rule holds when *any*
//! reading of the path is one that it is for, an allow rule only when *all* are. Nothing is changed about what is forwarded.
//!
//! # Which
//! As it came; with escapes decoded; and that with parameters (`;...`) taken away, backslashes turned, runs of slashes made one, and dot
//! segments resolved. An escape that hides another is decoded again.
//!
//! # What cannot be read
//! Where dot segments meet any of the other oddities, their order matters, and each kind of server has its own. No honest client sends
//! that. Such a path is read as any path: every deny rule's condition on it holds, and no allow rule's.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Escapes within escapes that are decoded.
const ROUNDS: usize = 3;

/// The readings of a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Readings<'p> {
    /// There is one, as nearly always.
    One(&'p str),
    /// There are several; at least one.
    Several(Vec<Cow<'p, str>>),
    /// It can be anything.
    Any,
}

impl Readings<'_> {
    /// Whether any is one that `wanted` holds for.
    pub(super) fn any(&self, mut wanted: impl FnMut(&str) -> bool) -> bool {
        match self {
            Self::One(path) => wanted(path),
            Self::Several(all) => all.iter().any(|path| wanted(path)),
            Self::Any => true,
        }
    }

    /// Whether all are such that `wanted` holds for them.
    pub(super) fn all(&self, mut wanted: impl FnMut(&str) -> bool) -> bool {
        match self {
            Self::One(path) => wanted(path),
            Self::Several(all) => all.iter().all(|path| wanted(path)),
            Self::Any => false,
        }
    }
}

/// The readings of `path`, which has no query.
pub(super) fn readings(path: &str) -> Readings<'_> {
    if !is_odd(path) {
        return Readings::One(path);
    }
    let mut all = vec![Cow::Borrowed(path)];
    let mut hidden = 0;
    while let Some(decoded) = all.last().and_then(|last| decode(last)) {
        if hidden == ROUNDS {
            return Readings::Any;
        }
        hidden += 1;
        all.push(Cow::Owned(decoded));
    }
    let decoded = all.last().map_or_else(String::new, |last| last.clone().into_owned());
    let plain = plain(&decoded);
    if has_dots(&plain) {
        if hidden > 1 || is_ambiguous(path, &decoded) {
            return Readings::Any;
        }
        let resolved = resolve(&decoded);
        all.push(Cow::Owned(resolved));
        return Readings::Several(all);
    }
    // Some servers end a path there.
    if let Some(end) = plain.find(['\0', '?', '#']) {
        all.push(Cow::Owned(plain[..end].to_owned()));
    }
    if plain != decoded {
        all.push(Cow::Owned(plain));
    }
    Readings::Several(all)
}

/// Whether there can be more than one reading.
fn is_odd(path: &str) -> bool {
    let mut before = 0;
    path.bytes().any(|byte| {
        let odd = matches!(byte, b'%' | b';' | b'\\') || before == b'/' && matches!(byte, b'/' | b'.');
        before = byte;
        odd
    })
}

/// With its escapes decoded; none where it has none. Bytes that are not UTF-8 become U+FFFD.
fn decode(path: &str) -> Option<String> {
    if !path.contains('%') {
        return None;
    }
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    (*decoded != *path).then(|| decoded.into_owned())
}

/// Without parameters, with slashes for backslashes, and each of them once.
fn plain(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    for segment in path.split(['/', '\\']) {
        let bare = segment.split(';').next().unwrap_or_default();
        if !bare.is_empty() {
            plain.push('/');
            plain.push_str(bare);
        }
    }
    let ends_in_slash = path.ends_with(['/', '\\']);
    if plain.is_empty() || ends_in_slash {
        plain.push('/');
    }
    plain
}

fn has_dots(plain: &str) -> bool {
    plain.split('/').any(|segment| {
        // What some servers cut off behind it does not make it another.
        let bare = segment.split(['\0', '?', '#']).next().unwrap_or_default().trim();
        matches!(bare, "." | "..")
    })
}

/// Whether servers differ in what dot segments in it mean.
fn is_ambiguous(path: &str, decoded: &str) -> bool {
    let separators = |text: &str| text.bytes().filter(|byte| matches!(byte, b'/' | b'\\')).count();
    let odd = |byte: u8| matches!(byte, b';' | b'\\' | b'?' | b'#') || byte.is_ascii_control();
    decoded.bytes().any(odd)
        || decoded.contains("//")
        // One of them was an escape.
        || separators(path) != separators(decoded)
        || decoded.split('/').any(|segment| segment.trim() != segment && segment.contains('.'))
}

/// With its dot segments resolved (RFC 3986 5.2.4).
fn resolve(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut is_directory = false;
    for segment in path.split('/').skip(1) {
        is_directory = matches!(segment, "" | "." | "..");
        match segment {
            ".." => drop(segments.pop()),
            "." | "" => {}
            segment => segments.push(segment),
        }
    }
    let end = if is_directory && !segments.is_empty() { "/" } else { "" };
    format!("/{}{end}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(path: &str) -> Vec<String> {
        match readings(path) {
            Readings::One(path) => vec![path.to_owned()],
            Readings::Several(all) => all.into_iter().map(Cow::into_owned).collect(),
            Readings::Any => Vec::new(),
        }
    }

    #[test]
    fn a_usual_path_has_one_reading() {
        for path in ["/", "/v1", "/v1/orders/7", "/a.b/c..d", "*", "/v1/", "/~x/a=b,c:d@e+f!$&'()*"] {
            assert_eq!(readings(path), Readings::One(path), "{path}");
        }
    }

    #[test]
    fn what_an_endpoint_may_read_into_a_path_is_among_its_readings() {
        for (path, read) in [
            ("/v1/../admin", "/admin"),
            ("/v1/./../admin/x", "/admin/x"),
            ("/v1/%2e%2E/admin", "/admin"),
            ("/%61dmin", "/admin"),
            ("/%2561dmin", "/admin"),
            ("//admin", "/admin"),
            ("/v1//..//", "any"),
            ("/admin;x=1", "/admin"),
            ("/admin;x=1/users", "/admin/users"),
            ("/admin;x=1/users", "/admin;x=1/users"),
            ("/%61;b", "/a;b"),
            ("/admin%3bx", "/admin"),
            ("/;/admin", "/admin"),
            ("/\\admin", "/admin"),
            ("/x%5cadmin", "/x/admin"),
            ("/admin%2fusers", "/admin/users"),
            ("/admin%00.png", "/admin"),
            ("/admin%3fx", "/admin"),
            ("/admin%23x", "/admin"),
            ("/./admin", "/admin"),
            ("/../admin", "/admin"),
            ("/admin/.", "/admin/"),
            ("/admin/x/..", "/admin/"),
        ] {
            let found = all(path);
            let any = read == "any" && found.is_empty();
            assert!(any || found.iter().any(|found| found == read), "{path}: {found:?}");
            assert!(found.is_empty() || found[0] == path, "{path}: {found:?}");
        }
    }

    #[test]
    fn where_servers_differ_in_what_dots_mean_it_can_be_any_path() {
        for path in [
            "/v1/..;/admin",
            "/v1/..%2fadmin",
            "/v1/%2e%2e%2fadmin",
            "/v1\\..\\admin",
            "/v1/..%5cadmin",
            "/v1//../admin",
            "/v1/%252e%252e/admin",
            "/v1/..%00/admin",
            "/v1/..%3f/admin",
            "/v1/..%20/admin",
            "/%25252525",
        ] {
            assert_eq!(readings(path), Readings::Any, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_read_and_the_first_reading_is_as_it_came(path in "/[a/.%;2e5c\\\\ü0-9]{0,24}") {
            let found = all(&path);
            prop_assert!(found.is_empty() || found[0] == path);
            prop_assert!(found.iter().all(|found| found.starts_with('/')), "{:?}", found);
        }

        #[test]
        fn no_reading_but_the_first_ones_has_dot_segments(path in "(/(a|\\.|\\.\\.|b;x|%2e|%2e%2e|))*") {
            if let Some(last) = all(&path).last() && readings(&path) != Readings::Any && !path.is_empty() {
                prop_assert!(!has_dots(last), "{}: {}", path, last);
            }
        }
    }
}
