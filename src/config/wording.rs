//! What a key takes, in words: the same in problems, in `config/full.toml` and in the reference.

use super::{
    addresses,
    checked::StatusRange,
    definition::{Choice, Kind, Need, TableDef, Text},
    hosts, log_template, otlp,
};

/// What some syntaxes allow, where a line of the table has no room for it.
const SOME_TIME: &str = "a whole number with a unit, above zero, such as \"250ms\", \"2s\", \"5m\" or \"1h\"";
const ANY_TIME: &str = "a whole number with a unit such as \"0s\", \"250ms\", \"2s\", \"5m\" or \"1h\"";
const RETRY_ON: &str = "\"connect-failure\", \"reset\", \"timeout\", \"5xx\", \"gateway-error\", a status such as \"429\", or a gRPC code such as \"unavailable\"";
const SPIFFE: &str = "a SPIFFE id such as \"spiffe://prod/ns/shop/sa/checkout\", in whose path \"*\" stands for any characters";
const NODE_OF: &str =
    "\"same-address\", \"subnet/LENGTH\" such as \"subnet/24\", or a DNS name with \"{address}\" in it";

/// What a key takes, as it follows "must be".
pub(super) fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Text(text) => syntax(*text),
        Kind::Number { min, max } => format!("a whole number from {min} to {max}"),
        Kind::Percent => "a number from 0 to 100".to_owned(),
        Kind::NumberOr(number, text) => format!("{}, or {}", self::kind(number), syntax(*text)),
        Kind::Flag => "true or false".to_owned(),
        Kind::True => "true".to_owned(),
        Kind::List { item, .. } => format!("an array, each entry {}", self::kind(item)),
        Kind::Table(def) => table(def),
        Kind::Map { name, value, .. } => {
            format!("a table, each key {}, each value {}", syntax(*name), self::kind(value))
        }
        Kind::Or(text, def) if def.built().next().is_some() => {
            format!("{}, or {}", syntax(*text), table(def))
        }
        Kind::Or(text, _) => syntax(*text),
    }
}

/// A table, with its keys where they are few.
fn table(def: &TableDef) -> String {
    let keys: Vec<&str> = def.built().map(|key| key.name).collect();
    match &*keys {
        [] | [_, _, _, _, _, ..] => "a table".to_owned(),
        keys => format!("a table of {}", keys.join(", ")),
    }
}

/// What a key takes, for files whose head explains the syntax: words of a choice come with their meaning.
pub(super) fn brief(kind: &Kind) -> String {
    match kind {
        Kind::Text(Text::Duration { zero: true }) => "a duration".to_owned(),
        Kind::Text(Text::Duration { zero: false }) => "a duration above zero".to_owned(),
        Kind::Text(Text::Choice(words)) | Kind::Or(Text::Choice(words), _) => {
            let built = words.iter().filter(|word| word.refused.is_none());
            built.map(|word| format!("\"{}\" ({})", word.word, word.doc)).collect::<Vec<_>>().join(", ")
        }
        _ => self::kind(kind),
    }
}

/// What happens when a key is silent.
pub(super) fn silence(need: Need) -> String {
    match need {
        Need::Required => "required".to_owned(),
        Need::Optional(words) => words.to_owned(),
        Need::Default(text) => text.to_owned(),
    }
}

/// What is allowed for a syntax, as "...".
pub(super) fn syntax(syntax: Text) -> String {
    let fixed = match syntax {
        Text::Choice(words) => return one_of(words),
        Text::Duration { zero: false } => SOME_TIME,
        Text::Duration { zero: true } => ANY_TIME,
        Text::Size { min, max } => return sizes(min, max),
        Text::Name => "1 to 128 letters, digits, \"-\", \"_\" or \".\"",
        Text::ListenerName => "the name of a listener",
        Text::ServiceName => "the name of a service",
        Text::HostPattern => hosts::ALLOWED_PATTERN,
        Text::Path | Text::PathPrefix => "a path such as \"/v2\"",
        Text::Regex => "a regular expression",
        Text::Method => "a method such as \"GET\"",
        Text::HeaderName => "a header name such as \"x-user\"",
        Text::QueryName => "the name of a query parameter",
        Text::Value => "a string",
        Text::Listen => addresses::ALLOWED_LISTEN,
        Text::Endpoint => addresses::ALLOWED_ENDPOINT,
        Text::DnsServer => addresses::ALLOWED_DNS_SERVER,
        Text::DnsName => hosts::ALLOWED_DNS_NAME,
        Text::HostTemplate => hosts::ALLOWED_TEMPLATE,
        Text::LogPath => "\"stdout\", a file, or \"unix:PATH\"",
        Text::LogFormat => return log_template::allowed(),
        Text::Status => StatusRange::ALLOWED,
        Text::File => "a file",
        Text::SrvName => hosts::ALLOWED_SRV,
        Text::DnsSuffix => "a domain such as \"internal\" or \"svc.cluster.local\"",
        Text::Subnet => addresses::ALLOWED_SUBNET,
        Text::RetryOn => RETRY_ON,
        Text::Abort => "\"grpc:CODE\" such as \"grpc:unavailable\", or \"reset\"",
        Text::RequestPath => "a path such as \"/healthz\"",
        Text::GrpcService => "the name of a gRPC service such as \"shop.Orders\", or \"\"",
        Text::Authority => "a host, with a port or without, such as \"orders.internal\"",
        Text::Pattern => "a string, in which \"*\" stands for any characters",
        Text::Spiffe => SPIFFE,
        Text::ServerName => "a host name or an IP address",
        Text::NodeOf => NODE_OF,
        Text::Claim => "the name of a claim such as \"scope\"",
        Text::Otlp => otlp::ALLOWED,
        Text::FileOrUrl => "a file, or a URL such as \"https://id.example/keys\"",
        Text::Provider => "the name of an issuer in [jwt]",
        Text::ServiceOrAny => "the name of a service, or \"*\"",
        Text::HashKey => "\"header:NAME\", \"cookie:NAME\", \"source\" or \"path\"",
    };
    fixed.to_owned()
}

fn sizes(min: u64, max: u64) -> String {
    format!("a whole number with a unit, from \"{}\" to \"{}\"", size_text(min), size_text(max))
}

/// `"a", "b" or "c"` of the words that work.
fn one_of(words: &[Choice]) -> String {
    let quoted: Vec<String> =
        words.iter().filter(|word| word.refused.is_none()).map(|word| format!("\"{}\"", word.word)).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// A size in its largest whole unit.
pub(super) fn size_text(bytes: u64) -> String {
    let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let whole = units.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{bytes}B"), |(name, unit)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_their_largest_whole_unit() {
        for (bytes, text) in [(512, "512B"), (65536, "64KiB"), (1 << 20, "1MiB"), (1025, "1025B")] {
            assert_eq!(size_text(bytes), text);
        }
    }
}
