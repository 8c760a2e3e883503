//! `/` and `/dashboard/FILE`: the dashboard, for people. A page of our own that asks the rest of the admin API and nothing else.
//!
//! Its files are in `dashboard/`, written as they are served: no build step, nothing from elsewhere, and a policy that lets browsers run
//! only them (`script-src 'self'`, no inline). They tell nothing of the node, so everybody gets them: where the API wants a token, the page
//! asks its reader for it.

use axum::{
    extract::Path,
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::server::refused;

/// What browsers may do with the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const SHELL: &str = include_str!("dashboard/index.html");

macro_rules! assets {
    ($($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("dashboard/", $name)))),*] };
}

/// Every file but the shell, with its text.
const ASSETS: &[(&str, &str)] = assets![
    "api.js",
    "charts.js",
    "config.js",
    "dom.js",
    "explain.js",
    "format.js",
    "health.js",
    "icon.svg",
    "live.js",
    "main.js",
    "map.js",
    "parts.js",
    "routes.js",
    "service.js",
    "services.js",
    "style.css",
    "tap.js",
];

/// Whether everybody may have what is at this path.
pub(super) fn is_public(path: &str) -> bool {
    path.strip_prefix("/dashboard/").is_some_and(|name| find(name).is_some())
}

pub(super) async fn shell() -> Response {
    page()
}

pub(super) async fn asset(Path(name): Path<String>) -> Response {
    match find(&name) {
        Some(text) => answer(kind(&name), text),
        None => refused(StatusCode::NOT_FOUND, format!("there is no /dashboard/{name}")),
    }
}

/// The shell.
pub(super) fn page() -> Response {
    answer("text/html; charset=utf-8", SHELL)
}

fn find(name: &str) -> Option<&'static str> {
    ASSETS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.') {
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

fn answer(kind: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // The next version of towpath has other files under the same names.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use regex::Regex;

    use super::*;

    fn directory() -> BTreeSet<String> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/dashboard");
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        fs::read_dir(directory).unwrap().map(name).collect()
    }

    fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
        ASSETS.iter().copied().chain([("index.html", SHELL)])
    }

    #[test]
    fn every_file_of_the_directory_is_served_and_known_by_its_kind() {
        assert_eq!(all().map(|(name, _)| name.to_owned()).collect::<BTreeSet<_>>(), directory());
        for (name, _) in ASSETS {
            assert_ne!(kind(name), "application/octet-stream", "{name}");
            assert!(is_public(&format!("/dashboard/{name}")));
        }
        for path in ["/", "/dashboard/", "/dashboard/x.js", "/dashboard/main.js/", "/api/status", "main.js"] {
            assert!(!is_public(path), "{path}");
        }
    }

    #[test]
    fn what_files_name_is_there_and_every_script_is_named() {
        let (import, link) =
            (Regex::new(r#"from "\./([^"]+)""#).unwrap(), Regex::new(r#""/dashboard/([^"]+)""#).unwrap());
        let mut named = BTreeSet::new();
        for (file, text) in all() {
            for found in import.captures_iter(text).chain(link.captures_iter(text)) {
                assert!(find(&found[1]).is_some(), "{file} names {}", &found[1]);
                named.insert(found[1].to_owned());
            }
        }
        assert_eq!(named, ASSETS.iter().map(|(name, _)| (*name).to_owned()).collect());
    }

    #[test]
    fn nothing_comes_from_elsewhere_and_nothing_is_inline() {
        // Names of languages, not addresses.
        let spaces = ["http://www.w3.org/2000/svg"];
        let url = Regex::new(r#"(?i)(https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s"'`]*|url\("#).unwrap();
        for (file, text) in all() {
            for found in url.find_iter(text) {
                assert!(spaces.contains(&found.as_str()), "{file}: {}", found.as_str());
            }
            for word in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"]
            {
                assert!(!text.contains(word), "{file}: {word}");
            }
        }
        assert!(!Regex::new(r"(?i)<style|\sstyle=|\son[a-z]+=|javascript:").unwrap().is_match(SHELL));
        assert_eq!(
            SHELL.matches("<script").count(),
            SHELL.matches("<script type=\"module\" src=\"/").count()
        );
    }

    #[test]
    fn all_files_together_stay_small() {
        let size: usize = all().map(|(_, text)| text.len()).sum();
        assert!(size < 160 << 10, "{size} bytes");
    }
}
