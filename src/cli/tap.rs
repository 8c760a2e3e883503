//! `towpath tap`: requests of a running daemon as they happen, a line each.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use http::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{
    args::Tap,
    http_client::Pieces,
    outcome::{Failure, Outcome},
    remote, terminal,
    way::Way,
};

/// What the daemon says before it ends the stream.
const ENDS: [&str; 2] = ["the node drains", "you may look on no longer"];

/// Shows requests until the daemon ends, or whoever reads has seen enough.
pub(super) fn tap(args: &Tap) -> Outcome {
    let way = Way::of(&args.remote)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::running(format!("cannot make a runtime: {error}")))?;
    runtime.block_on(follow(args, &way))
}

async fn follow(args: &Tap, way: &Way) -> Outcome {
    let path = path(args);
    let opened = way.listen(&path).await.map_err(|error| remote::unreachable(way, &error))?;
    let (_connection, status, body) = opened;
    if status != StatusCode::OK {
        let said = body.rest().await.unwrap_or_default();
        return Err(remote::refusal(way, &path, status, &said));
    }
    let show = Show { json: args.json, colour: terminal::takes_colour() };
    show.all(body).await.map(|()| String::new())
}

fn path(args: &Tap) -> String {
    let mut path = format!("/api/tap?rate={}", args.rate);
    let filters = [
        ("route", &args.route),
        ("service", &args.service),
        ("status", &args.status),
        ("caller", &args.caller),
    ];
    for (name, value) in filters {
        if let Some(value) = value {
            path += &format!("&{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
        }
    }
    path
}

/// How requests are shown.
struct Show {
    json: bool,
    colour: bool,
}

impl Show {
    async fn all(&self, mut body: Pieces) -> Result<(), Failure> {
        let mut text = Vec::new();
        loop {
            let piece = body.next().await.map_err(|error| {
                Failure::running(format!("the connection to towpath's admin API broke: {error}"))
            })?;
            let Some(piece) = piece else { return Ok(()) };
            text.extend_from_slice(&piece);
            let mut out = String::new();
            while let Some(end) = memchr::memchr(b'\n', &text) {
                let line: Vec<u8> = text.drain(..=end).collect();
                self.line(String::from_utf8_lossy(&line).trim_end(), &mut out);
            }
            let mut stdout = io::stdout().lock();
            if stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush()).is_err() {
                // As `| head` does.
                return Ok(());
            }
        }
    }

    /// A line of the stream of events.
    fn line(&self, line: &str, out: &mut String) {
        if let Some(dropped) = line.strip_prefix(": dropped ") {
            // Where standard error is gone, nobody can be told.
            let _ = writeln!(io::stderr(), "({dropped} more were not shown: --rate, or a filter)");
        }
        if let Some(why) = line.strip_prefix(": ").filter(|why| ENDS.contains(why)) {
            let _ = writeln!(io::stderr(), "no more requests are shown: {why}");
        }
        let Some(record) = line.strip_prefix("data: ") else { return };
        match serde_json::from_str(record) {
            Ok(record) if !self.json => *out += &readable(&record, self.colour),
            _ => *out += record,
        }
        out.push('\n');
    }
}

fn readable(record: &Value, colour: bool) -> String {
    let text = |key: &str| record[key].as_str().map(plain);
    let or_dash = |key: &str| text(key).unwrap_or_else(|| "-".to_owned());
    let time = text("time").and_then(|time| Some(time.split_once('T')?.1.trim_end_matches('Z').to_owned()));
    let status = record["status"].as_u64().unwrap_or_default();
    let mut line = format!(
        "{} {} {} {}{} {} {:.1}ms {} {}",
        time.unwrap_or_default(),
        or_dash("caller"),
        or_dash("method"),
        or_dash("host"),
        or_dash("path"),
        coloured(status, colour),
        record["duration_ms"].as_f64().unwrap_or_default(),
        or_dash("service"),
        or_dash("endpoint"),
    );
    if let Some(reason) = text("reason") {
        line += &format!(" {reason}");
    }
    if let Some(status) = record["grpc_status"].as_u64() {
        line += &format!(" grpc {status}");
    }
    if let Some(attempts) = record["attempts"].as_u64().filter(|attempts| *attempts > 1) {
        line += &format!(" {attempts} attempts");
    }
    line
}

fn coloured(status: u64, colour: bool) -> String {
    let code = match status {
        _ if !colour => return status.to_string(),
        500.. => 31,
        400.. => 33,
        _ => 32,
    };
    format!("\x1b[{code}m{status}\x1b[0m")
}

/// Without what a terminal would obey: a caller chooses most of it.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            // Writing to a string does not fail.
            let _ = write!(plain, "\\u{:04x}", u32::from(c));
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_is_a_line_in_which_no_caller_can_hide_anything() {
        let record = json!({
            "time": "2026-11-21T12:00:01.123Z", "caller": "shop", "method": "GET", "host": "reviews",
            "path": "/v2\u{1b}[2J", "status": 503, "duration_ms": 1.26, "service": "reviews", "endpoint": null,
            "reason": "no_endpoints", "attempts": 2,
        });
        let expected =
            "12:00:01.123 shop GET reviews/v2\\u001b[2J 503 1.3ms reviews - no_endpoints 2 attempts";
        assert_eq!(readable(&record, false), expected);
        assert!(readable(&record, true).contains(" \x1b[31m503\x1b[0m "));
    }

    #[test]
    fn data_is_shown_and_everything_else_is_not() {
        let (show, mut out) = (Show { json: true, colour: false }, String::new());
        for line in [": requests from now on", "", "data: {\"a\":1}", "event: x"] {
            show.line(line, &mut out);
        }
        assert_eq!(out, "{\"a\":1}\n");
    }
}
