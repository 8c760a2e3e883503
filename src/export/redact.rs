//! Queries without their secrets.

use std::borrow::Cow;

/// Parameters whose values are secrets: those of OpenTelemetry's conventions for `url.query` (with its case, as they say), the others
/// that AWS signs with, and RFC 6750's token.
const SECRET: [&str; 8] = [
    "AWSAccessKeyId",
    "Signature",
    "sig",
    "X-Goog-Signature",
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "access_token",
];

/// `query` with `REDACTED` in place of what must not be told.
pub(super) fn query(query: &str) -> Cow<'_, str> {
    if !query.split('&').any(is_secret) {
        return Cow::Borrowed(query);
    }
    let told = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if is_secret(pair) => Cow::Owned(format!("{name}=REDACTED")),
        _ => Cow::Borrowed(pair),
    });
    Cow::Owned(told.collect::<Vec<_>>().join("&"))
}

fn is_secret(pair: &str) -> bool {
    let Some((name, _)) = pair.split_once('=') else { return false };
    // An encoded name is the same parameter to whoever decodes it.
    let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
    SECRET.contains(&&*name)
}

#[cfg(test)]
mod tests {
    #[test]
    fn values_of_secret_parameters_are_not_told() {
        for (query, told) in [
            ("", ""),
            ("q=OpenTelemetry&sig=abc", "q=OpenTelemetry&sig=REDACTED"),
            ("Signature=a=b&x", "Signature=REDACTED&x"),
            ("s%69g=secret", "s%69g=REDACTED"),
            ("sig", "sig"),
            ("SIG=kept&design=sig", "SIG=kept&design=sig"),
            ("access_token=t&X-Amz-Credential=c", "access_token=REDACTED&X-Amz-Credential=REDACTED"),
        ] {
            assert_eq!(super::query(query), told, "{query}");
        }
    }
}
