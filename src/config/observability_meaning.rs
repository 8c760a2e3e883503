//! What was read -> what towpath tells about requests.

use std::path::Path;

use super::{
    access_log::{AccessLog, LogFormat, LogPath, RecordFilter, StatusRange},
    check,
    checked::Name,
    log_template,
    observability::{Keep, Otlp, TraceFormats, Tracing},
    problems::Report,
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

/// `[access_log]`; none without a path.
pub(super) fn access_log(log: Section<'_>, directory: &Path, report: &mut Report) -> Option<AccessLog> {
    let path = match log.text("path")?.as_str() {
        "stdout" => LogPath::Stdout,
        path => match path.strip_prefix("unix:") {
            Some(socket) => LogPath::Unix(directory.join(socket)),
            None => LogPath::File(directory.join(path)),
        },
    };
    if let (Some(written), LogPath::Unix(path)) = (log.written("path"), &path) {
        check::socket_path(path, written, report);
    }
    let template = log.text("format").filter(|format| format != "json");
    // A template that cannot be read is a problem already.
    let template = template.and_then(|text| log_template::read(&text).ok());
    let format = template.map_or(LogFormat::Json, LogFormat::Template);
    Some(AccessLog { path, format, only: filter(log.table("only")) })
}

fn filter(only: Section<'_>) -> RecordFilter {
    let names = |key| only.texts(key).into_iter().map(Name::from).collect();
    let status = only.texts("status");
    RecordFilter {
        status: status.iter().filter_map(|status| StatusRange::read(status).ok()).collect(),
        slower_than: only.duration("slower_than"),
        routes: names("routes"),
        services: names("services"),
        callers: names("callers"),
        sample_ppm: only.count("sample"),
    }
}
