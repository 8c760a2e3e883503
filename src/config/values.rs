//! Strings of the file -> values, one function for each syntax.
//!
//! Hosts and addresses have files of their own. Every error says what is wrong; `wording.rs` says what is right.

use std::time::Duration;

use regex::Regex;

use super::{
    addresses,
    checked::{HashKey, StatusRange},
    definition::{Choice, Text},
    hosts, identities, log_template, otlp,
    tree::Data,
};
use crate::http::{authority, grpc};

/// The value that `text` stands for.
pub(super) fn read(syntax: Text, text: &str) -> Result<Data, String> {
    let kept = || Data::Text(text.to_owned());
    match syntax {
        Text::Name => name(text).map(|()| kept()),
        // Whether such a thing exists is checked once all names are known.
        Text::ListenerName | Text::ServiceName | Text::Provider | Text::ServiceOrAny => Ok(kept()),
        Text::Choice(words) => choice(words, text).map(|()| kept()),
        Text::Duration { zero } => duration(text, zero).map(Data::Duration),
        Text::Size { min, max } => size(text, min, max).map(Data::Number),
        Text::HostPattern => hosts::pattern(text).map(Data::Host),
        Text::Path => path(text).map(|()| kept()),
        Text::PathPrefix => path(text).map(|()| Data::Text(without_slash(text).to_owned())),
        Text::Regex => regex(text).map(Data::Regex),
        Text::Method => method(text).map(|()| kept()),
        Text::HeaderName => header_name(text).map(Data::Text),
        Text::QueryName if text.is_empty() => Err("the name is empty".to_owned()),
        Text::QueryName => Ok(kept()),
        Text::Value => value(text).map(|()| kept()),
        Text::Listen => addresses::listen(text).map(Data::Address),
        Text::Endpoint => addresses::endpoint(text).map(Data::Socket),
        Text::DnsServer => addresses::dns_server(text).map(Data::Socket),
        Text::DnsName => hosts::name_and_port(text).map(|(host, port)| Data::DnsName { host, port }),
        Text::HostTemplate => {
            hosts::template(text).map(|(prefix, suffix, port)| Data::Template { prefix, suffix, port })
        }
        Text::LogPath | Text::File | Text::FileOrUrl if text.is_empty() => {
            Err("the path is empty".to_owned())
        }
        Text::Pattern | Text::Claim if text.is_empty() => Err("the string is empty".to_owned()),
        Text::Pattern | Text::Claim => Ok(kept()),
        Text::Spiffe => identities::spiffe(text).map(|()| kept()),
        Text::ServerName => identities::server_name(text).map(Data::Text),
        Text::NodeOf => identities::node_of(text).map(Data::NodeOf),
        Text::FileOrUrl => identities::file_or_url(text).map(|()| kept()),
        Text::Otlp => otlp::read(text).map(|_| kept()),
        Text::LogPath if text == "unix:" => Err("the path is empty".to_owned()),
        Text::LogPath | Text::File => Ok(kept()),
        Text::LogFormat if text == "json" => Ok(kept()),
        Text::LogFormat => log_template::read(text).map(|_| kept()),
        Text::Status => StatusRange::read(text).map(|_| kept()),
        Text::SrvName => hosts::srv_name(text).map(Data::Text),
        Text::DnsSuffix => hosts::name(text.trim_start_matches('.')).map(Data::Text),
        Text::Subnet => addresses::subnet(text).map(Data::Subnet),
        Text::HashKey => hash_key(text).map(Data::HashKey),
        Text::RetryOn => retry_on(text).map(|()| kept()),
        Text::Abort => abort(text).map(|()| kept()),
        Text::RequestPath => request_path(text).map(|()| kept()),
        Text::GrpcService => grpc_service(text).map(|()| kept()),
        Text::Authority => match authority::split(text) {
            Some(_) => Ok(kept()),
            None => Err(format!("\"{text}\" is not a host")),
        },
    }
}

fn choice(words: &[Choice], text: &str) -> Result<(), String> {
    match words.iter().find(|choice| choice.word == text) {
        Some(Choice { refused: None, .. }) => Ok(()),
        Some(Choice { refused: Some(why), .. }) => Err((*why).to_owned()),
        None => {
            let other = words.iter().find(|choice| choice.word == Choice::ANY_OTHER);
            let unknown = || format!("\"{text}\" is not known");
            Err(other.and_then(|choice| choice.refused).map_or_else(unknown, str::to_owned))
        }
    }
}

fn name(text: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let sound = (1..=128).contains(&text.len()) && text.bytes().all(plain);
    if sound { Ok(()) } else { Err(format!("\"{text}\" is not a name")) }
}

/// A number and a unit: `250ms`.
fn duration(text: &str, zero: bool) -> Result<Duration, String> {
    let (number, unit) = number_and_unit(text, "duration")?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(format!("\"{text}\" has no unit of time, which are ms, s, m and h")),
    };
    // Timers add durations to the present; a year is long enough to mean for ever, and cannot overflow.
    let total = number.checked_mul(millis).filter(|total| *total <= 8760 * 3_600_000);
    match total {
        None => Err(format!("\"{text}\" is too long: more than a year")),
        Some(0) if !zero => Err(format!("\"{text}\" leaves no time at all")),
        Some(total) => Ok(Duration::from_millis(total)),
    }
}

/// A number and a unit: `64KiB`.
fn size(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let (number, unit) = number_and_unit(text, "size")?;
    let bytes: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(format!("\"{text}\" has no unit of size, which are B, KiB, MiB and GiB")),
    };
    let total = number.checked_mul(bytes).filter(|total| (min..=max).contains(total));
    total.ok_or_else(|| format!("\"{text}\" is out of range"))
}

/// A number too great for its type is the greatest: it is out of every range.
fn number_and_unit<'a>(text: &'a str, what: &str) -> Result<(u64, &'a str), String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(format!("\"{text}\" is not a {what}"));
    }
    if unit.starts_with(['.', ',']) {
        return Err(format!("\"{text}\" has a fraction"));
    }
    Ok((number.parse().unwrap_or(u64::MAX), unit))
}

fn path(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err(format!("\"{text}\" does not start with \"/\""));
    }
    match text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '?' | '#')) {
        Some(wrong) => Err(format!("{wrong:?} cannot stand in a path, which is compared as sent")),
        None => Ok(()),
    }
}

/// A prefix holds on segment boundaries, with or without a final slash.
fn without_slash(prefix: &str) -> &str {
    let bare = prefix.trim_end_matches('/');
    if bare.is_empty() { "/" } else { bare }
}

/// Anchored at both ends. Parsed bare first: `a)(b` is sound only inside the anchors' group. Compiling, which costs ten
/// times as much, is done once.
fn regex(text: &str) -> Result<Regex, String> {
    let anchored = || Regex::new(&format!("^(?:{text})$"));
    let compiled = match regex_syntax::parse(text) {
        Ok(_) => anchored(),
        Err(_) => Regex::new(text).and_then(|_| anchored()),
    };
    compiled.map_err(|error| {
        let said = error.to_string();
        let reason = said.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("\"{text}\" does not compile: {reason}")
    })
}

/// A token of RFC 9110 5.6.2.
fn is_token(text: &str) -> bool {
    let other = b"!#$%&'*+-.^_`|~";
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || other.contains(&byte))
}

fn method(text: &str) -> Result<(), String> {
    if !is_token(text) {
        return Err(format!("\"{text}\" is not a token"));
    }
    let upper = text.to_ascii_uppercase();
    if upper == text { Ok(()) } else { Err(format!("methods are in upper case, as in \"{upper}\"")) }
}

fn header_name(text: &str) -> Result<String, String> {
    if is_token(text) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("\"{text}\" is not a header name"))
    }
}

/// `header:NAME`, `cookie:NAME`, `source` or `path`.
fn hash_key(text: &str) -> Result<HashKey, String> {
    match text.split_once(':') {
        Some(("header", name)) => header_name(name).map(|name| HashKey::Header(name.into())),
        // RFC 6265 4.1.1: a cookie's name is a token. Its case counts.
        Some(("cookie", name)) if is_token(name) => Ok(HashKey::Cookie(name.into())),
        Some(("cookie", name)) => Err(format!("\"{name}\" is not the name of a cookie")),
        None if text == "source" => Ok(HashKey::Source),
        None if text == "path" => Ok(HashKey::Path),
        _ => Err(format!("\"{text}\" is not known")),
    }
}

/// A class, a status, or a gRPC code.
fn retry_on(text: &str) -> Result<(), String> {
    let class = matches!(text, "connect-failure" | "reset" | "timeout" | "5xx" | "gateway-error");
    let status = text.len() == 3 && text.parse::<u16>().is_ok_and(|status| (400..600).contains(&status));
    // What went well is not repeated.
    let code = grpc::code(text).is_some_and(|code| code > 0);
    if class || status || code { Ok(()) } else { Err(format!("\"{text}\" is not known")) }
}

fn abort(text: &str) -> Result<(), String> {
    let code = text.strip_prefix("grpc:").and_then(grpc::code).filter(|code| *code > 0);
    if text == "reset" || code.is_some() { Ok(()) } else { Err(format!("\"{text}\" is not known")) }
}

fn request_path(text: &str) -> Result<(), String> {
    path(text.split_once('?').map_or(text, |(path, _)| path))?;
    match text.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
        Some(wrong) => Err(format!("{wrong:?} cannot stand in a path")),
        None => Ok(()),
    }
}

fn grpc_service(text: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
    if text.chars().all(plain) {
        Ok(())
    } else {
        Err(format!("\"{text}\" is not the name of a gRPC service"))
    }
}

fn value(text: &str) -> Result<(), String> {
    let control = text.chars().any(char::is_control);
    if control { Err("a control character never stands in a value".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        for (text, millis) in
            [("250ms", 250), ("2s", 2000), ("5m", 300_000), ("1h", 3_600_000), ("8760h", 31_536_000_000)]
        {
            assert_eq!(duration(text, false), Ok(Duration::from_millis(millis)), "{text}");
        }
        for wrong in ["", "5", "s", "-1s", "1.5s", "1 s", "1d", "8761h", "99999999999999999999s", "0s", "5S"]
        {
            assert!(duration(wrong, false).is_err(), "{wrong}");
        }
        assert_eq!(duration("0s", true), Ok(Duration::ZERO));
    }

    #[test]
    fn a_duration_that_is_wrong_is_told_in_what_way() {
        for (text, reason) in [("1.5s", "fraction"), ("99999999999999999999s", "too long"), ("10", "unit")] {
            let said = duration(text, false).unwrap_err();
            assert!(said.contains(reason) && said.contains(text), "{said}");
        }
        assert!(size("99999999999999999999B", 1, 10).unwrap_err().contains("out of range"));
        assert!(size("1.5KiB", 1, 10).unwrap_err().contains("fraction"));
    }

    #[test]
    fn sizes_have_binary_units_and_bounds() {
        for (text, bytes) in [("512B", 512), ("64KiB", 65536), ("1MiB", 1 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(size(text, 1, 1 << 40), Ok(bytes), "{text}");
        }
        for wrong in ["64", "64KB", "64kib", "KiB", "0B", "2MiB"] {
            assert!(size(wrong, 1, 1 << 20).is_err(), "{wrong}");
        }
    }

    #[test]
    fn regexes_are_anchored_and_their_errors_take_one_line() {
        assert!(!regex("a|b").unwrap().is_match("ab"));
        assert!(regex("a|b").unwrap().is_match("b"));
        assert_eq!(regex("(").unwrap_err(), "\"(\" does not compile: unclosed group");
        assert!(regex("a)(b").is_err());
    }

    #[test]
    fn a_prefix_loses_its_final_slash_except_the_root() {
        assert_eq!(without_slash("/v2/"), "/v2");
        assert_eq!(without_slash("//"), "/");
        assert_eq!(without_slash("/"), "/");
    }

    #[test]
    fn methods_are_tokens_in_upper_case() {
        assert!(method("M-SEARCH").is_ok());
        assert!(method("get").unwrap_err().contains("\"GET\""));
        assert!(method("G T").is_err());
        assert!(method("").is_err());
    }
}
