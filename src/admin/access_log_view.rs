//! The access log in the words of the file, and how it fares.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::words;
use crate::{
    config::{AccessLog, Config, EVERY, LogFormat, Name, StatusRange},
    snapshot::Observers,
};

/// The access log of a running node.
#[derive(Debug, Serialize, Deserialize)]
pub struct AccessLogState {
    /// Where lines go.
    pub path: String,
    /// `writing`; `behind` where records were dropped lately because they are taken too slowly, `failing` where they cannot be
    /// written.
    pub state: String,
    /// Records lost since the node started.
    pub dropped: u64,
}

impl AccessLogState {
    /// None where there is no access log.
    pub(super) fn of(config: &Config, observers: &Observers, dropped: u64) -> Option<Self> {
        let path = config.access_log.as_ref()?.path.to_string();
        let state = observers.access_log.as_ref()?.trouble().unwrap_or("writing").to_owned();
        Some(Self { path, state, dropped })
    }
}

/// `[access_log]`.
pub(super) fn access_log(log: &AccessLog) -> Value {
    let format = match &log.format {
        LogFormat::Json => "json",
        LogFormat::Template(template) => &template.written,
    };
    let names = |names: &[Name]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
    let only = &log.only;
    json!({
        "path": log.path.to_string(),
        "format": format,
        "only": {
            "status": only.status.iter().map(status).collect::<Vec<_>>(),
            "slower_than": only.slower_than.map(words::duration),
            "routes": names(&only.routes),
            "services": names(&only.services),
            "callers": names(&only.callers),
            "sample": f64::from(only.sample_ppm) * 100.0 / f64::from(EVERY),
        },
    })
}

fn status(range: &StatusRange) -> String {
    if range.first == range.last { range.first.to_string() } else { format!("{}xx", range.first / 100) }
}
