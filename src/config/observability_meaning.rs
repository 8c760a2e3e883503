//! What was read -> what towpath tells about requests.

use std::path::Path;

use super::{
    observability::{Keep, Otlp, TraceFormats, Tracing},
    section::Section,
    tree::{Data, Node},
};

/// `[tracing]`; none without that table.
pub(super) fn tracing(root: Section<'_>, directory: &Path) -> Option<Tracing> {
    root.written("tracing")?;
    let tracing = root.table("tracing");
    let ca = tracing.text("ca").map(|file| directory.join(file));
    let keep = tracing.table("keep");
    Some(Tracing {
        otlp: tracing
            .text("otlp")
            .and_then(|url| super::otlp::read(&url).ok())
            .map(|otlp| Otlp { ca, ..otlp }),
        sample_ppm: tracing.count("sample"),
        propagate: formats(tracing.list("propagate")),
        keep: Keep {
            slower_than: keep.duration("slower_than").unwrap_or_default(),
            per_second: keep.count("per_second"),
        },
    })
}

fn formats(nodes: &[Node]) -> TraceFormats {
    let mut formats = TraceFormats::default();
    for node in nodes {
        match &node.data {
            Data::Text(word) if word == "w3c" => formats.w3c = true,
            Data::Text(word) if word == "b3" => formats.b3 = true,
            Data::Text(word) if word == "b3-single" => formats.b3_single = true,
            Data::Text(word) if word == "jaeger" => formats.jaeger = true,
            _ => {}
        }
    }
    formats
}
