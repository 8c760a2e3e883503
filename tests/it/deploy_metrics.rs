//! The alert rules and dashboards of `deploy/` name metrics and labels that exist.

use std::{collections::BTreeMap, fs, path::Path};

use regex::Regex;

/// Labels that Prometheus adds, and that of buckets.
const ADDED: [&str; 3] = ["job", "instance", "le"];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Every metric by its name in a query, with its labels; from the reference, which is generated.
fn declared() -> BTreeMap<String, Vec<String>> {
    let row = Regex::new(r"(?m)^\| `([a-z0-9_]+)` \| ([a-z]+) \| ([^|]*) \|").unwrap();
    let mut all = BTreeMap::new();
    for captured in row.captures_iter(&read("docs/metrics.md")) {
        let labels: Vec<String> =
            captured[3].split(',').map(|label| label.trim().trim_matches('`').to_owned()).collect();
        let ends: &[&str] = if &captured[2] == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        for end in ends {
            all.insert(format!("{}{end}", &captured[1]), labels.clone());
        }
    }
    assert!(all.len() > 50, "the reference was not understood: {}", all.len());
    all
}

/// What is wrong with the metrics that a text names, and how many it names.
fn problems(text: &str) -> (Vec<String>, usize) {
    let declared = declared();
    let used = Regex::new(r#"\b((?:towpath|process)_[a-z0-9_]+)(?:\\?\{([^}]*)\})?"#).unwrap();
    let label = Regex::new(r#"(?:^|,)\s*([a-z_]+)\s*(?:=~|!~|!=|=)"#).unwrap();
    let (mut problems, mut count) = (Vec::new(), 0);
    for captured in used.captures_iter(text) {
        count += 1;
        let Some(labels) = declared.get(&captured[1]) else {
            problems.push(format!("there is no {}", &captured[1]));
            continue;
        };
        let matched = captured.get(2).map_or("", |matched| matched.as_str());
        for name in label.captures_iter(matched).map(|name| name[1].to_owned()) {
            if !labels.contains(&name) && !ADDED.contains(&&*name) {
                problems.push(format!("{} has no label {name}", &captured[1]));
            }
        }
    }
    (problems, count)
}

#[test]
fn rules_and_dashboards_name_metrics_and_labels_that_exist() {
    for (file, least) in [
        ("deploy/prometheus/towpath.rules.yml", 30),
        ("deploy/prometheus/towpath.rules.test.yml", 15),
        ("deploy/grafana/towpath.json", 50),
    ] {
        let (problems, count) = problems(&read(file));
        assert!(problems.is_empty(), "{file}: {problems:#?}");
        assert!(count >= least, "{file} names only {count} metrics");
    }
}

#[test]
fn a_name_that_does_not_exist_is_found() {
    let text = r#"rate(towpath_requests_total{code=~"5..",kode="x"}[5m]) / towpath_request_duration_seconds"#;
    let (found, count) = problems(text);
    assert_eq!((found.len(), count), (2, 2), "{found:?}");
}

#[test]
fn a_dashboard_has_its_panels_side_by_side_with_a_query_each() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("deploy/grafana/towpath.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut taken = std::collections::BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(taken.insert(panel["id"].as_u64().unwrap()), "{title}: its number is taken");
        assert!(panel["type"] == "row" || !panel["targets"].as_array().unwrap().is_empty(), "{title}");
    }
    assert!(panels.len() > 30, "{}", panels.len());
    let square = |panel: &serde_json::Value| {
        let of = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        (of("x"), of("y"), of("w"), of("h"))
    };
    for (index, one) in panels.iter().enumerate() {
        let (x, y, w, h) = square(one);
        assert!(x + w <= 24);
        for other in &panels[index + 1..] {
            let (ox, oy, ow, oh) = square(other);
            let apart = x + w <= ox || ox + ow <= x || y + h <= oy || oy + oh <= y;
            assert!(apart, "{} lies on {}", one["title"], other["title"]);
        }
    }
}
