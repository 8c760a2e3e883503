//! The warning that a configuration injects faults: nobody should have to find that out.

use crate::config::Config;

/// Routes that a warning names.
const NAMED: usize = 10;

/// Warns of the routes that inject faults, if there are any.
pub(super) fn warn(config: &Config) {
    if let Some(routes) = names(config) {
        tracing::warn!(routes, "requests of these routes are delayed or aborted on purpose (fault)");
    }
}

fn names(config: &Config) -> Option<String> {
    let faulty = || config.routes.iter().filter(|rule| rule.fault.is_some());
    let named: Vec<&str> = faulty().take(NAMED).map(|rule| &*rule.name).collect();
    match faulty().count() {
        0 => None,
        all if all > NAMED => Some(format!("{} and {} more", named.join(", "), all - NAMED)),
        _ => Some(named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn with_faults(count: usize) -> Config {
        let route = |number: usize| {
            let fault = if number < count { "fault = { abort = 503 }" } else { "" };
            format!("[[routes]]\nname = \"r{number}\"\nbackends = [{{ service = \"s\" }}]\n{fault}\n")
        };
        let routes: String = (0..count + 1).map(route).collect();
        let text = format!(
            "[[listeners]]\nname = \"l\"\nkind = \"outgoing\"\nlisten = \"127.0.0.1:0\"\n{routes}\
             [services.s]\nendpoints = [\"10.0.0.1:80\"]\n"
        );
        config::parse(&text, Path::new("t.toml")).unwrap()
    }

    #[test]
    fn the_routes_with_faults_are_named_and_beyond_ten_counted() {
        assert_eq!(names(&with_faults(0)), None);
        assert_eq!(names(&with_faults(2)).as_deref(), Some("r0, r1"));
        let many = names(&with_faults(13)).unwrap();
        assert!(many.starts_with("r0, ") && many.ends_with(", r9 and 3 more"), "{many}");
    }
}
