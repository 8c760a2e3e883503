//! Tokens: whether a request has the one that its route wants (`jwt`), and what it says.
//!
//! # What is refused
//! A token that is shown and not valid, always, required or not: whoever shows one means it. Several fields of the header that the
//! token stands in, because the endpoint might read another than is read here. A missing token, where it is required. What is wrong
//! with a token is counted and logged; the caller is told no more than whether it should get a new one (RFC 6750 3.1).
//!
//! # What endpoints get
//! The headers of `forward` say what a verified token says, or are not there: such headers from callers go, whether there is a
//! token or not. So do those that some servers take for the same, with `_` in place of `-`.

use std::{
    rc::Rc,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Cause, Failure, Reason, exchange::Exchange};
use crate::{
    auth::{Holder, Provider, Refused, claim_is},
    config::RouteJwt,
};

/// A request without credentials is told what to bring, and nothing else (RFC 6750 3.1).
const BRING: &str = "Bearer";
const BRING_ANOTHER: &str = "Bearer error=\"invalid_token\"";

/// Verifies the token of the request with these headers, if its route wants one.
///
/// # Errors
/// 401 when there is none that is valid, 403 when it does not say what the route wants.
pub(super) fn authenticate(exchange: &mut Exchange, headers: &mut HeaderMap) -> Result<(), Failure> {
    let Some(route) = exchange.route() else { return Ok(()) };
    let (Some(issuer), Some(wanted)) = (&route.issuer, &route.rule.jwt) else { return Ok(()) };
    let holder = verified(exchange, issuer, wanted, headers)?;
    remove(issuer.forward.iter().map(|(name, _)| name), headers);
    if let Some(holder) = holder {
        for (name, value) in &holder.headers {
            headers.insert(name, value.clone());
        }
        exchange.claims = Some(holder.claims.clone());
    }
    Ok(())
}

/// What the request's token says; none where it has none and needs none.
fn verified(
    exchange: &Exchange,
    issuer: &Arc<Provider>,
    wanted: &RouteJwt,
    headers: &HeaderMap,
) -> Result<Option<Rc<Holder>>, Failure> {
    let shown = match shown(headers, &issuer.header) {
        Ok(Some(token)) => exchange.worker.tokens.verify(issuer, token, now()),
        Ok(None) => {
            issuer.series.token("missing");
            return if wanted.required { Err(missing()) } else { Ok(None) };
        }
        Err(refused) => Err(refused),
    };
    let holder = shown.map_err(|why| {
        issuer.series.token(why.name());
        tracing::debug!(issuer = &*issuer.name, why = why.name(), "a request's token was refused");
        refused(why)
    })?;
    let lacking = wanted.claims.iter().find(|(name, value)| !claim_is(&holder.claims, name, value));
    issuer.series.token(if lacking.is_some() { "claims" } else { "valid" });
    match lacking {
        None => Ok(Some(holder)),
        Some(_) => Err(Failure::new(Reason::Denied, "the request's token does not allow this")
            .because(Cause::TokenClaims)),
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The token that stands in `name`, if one does. Another scheme than `Bearer` is none; a header that is for tokens alone may do
/// without the scheme.
fn shown<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Refused> {
    let mut fields = headers.get_all(name).iter();
    let Some(field) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        return Err(Refused::Malformed);
    }
    let text = field.to_str().map_err(|_| Refused::Malformed)?;
    let (scheme, token) = text.split_once(SPACE).unwrap_or((text, ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some(token.trim_matches(SPACE)));
    }
    if *name != http::header::AUTHORIZATION {
        return Ok(Some(text));
    }
    // Behind another scheme, some endpoints find it all the same.
    let lower = token.to_ascii_lowercase();
    match SPACE.iter().any(|space| lower.contains(&format!("bearer{space}"))) {
        true => Err(Refused::Malformed),
        false => Ok(None),
    }
}

/// What servers take for the end of a scheme.
const SPACE: [char; 2] = [' ', '\t'];

fn missing() -> Failure {
    let failure = Failure::new(Reason::Unauthenticated, "the request has no token");
    Failure { challenge: Some(BRING), ..failure.because(Cause::TokenMissing) }
}

fn refused(why: Refused) -> Failure {
    let (cause, message) = match why {
        Refused::Expired => (Cause::TokenExpired, "the request's token has expired"),
        Refused::NoKeys => (
            Cause::TokenKeys,
            "the request's token cannot be verified: its issuer's keys have not been had yet",
        ),
        _ => (Cause::TokenInvalid, "the request's token is not valid"),
    };
    Failure {
        challenge: Some(BRING_ANOTHER),
        ..Failure::new(Reason::Unauthenticated, message).because(cause)
    }
}

/// Removes the headers that only towpath may set, and those that could be taken for them.
pub(super) fn remove<'n>(
    names: impl Iterator<Item = &'n HeaderName> + Clone,
    headers: &mut HeaderMap<HeaderValue>,
) {
    let is_alike = |name: &HeaderName| {
        name.as_str().contains('_') && names.clone().any(|own| is_same(own.as_str(), name.as_str()))
    };
    let alike: Vec<HeaderName> = headers.keys().filter(|name| is_alike(name)).cloned().collect();
    alike.iter().for_each(|name| drop(headers.remove(name)));
    names.for_each(|name| drop(headers.remove(name)));
}

/// Whether servers that write `-` as `_` (CGI, WSGI) take both for one.
fn is_same(one: &str, other: &str) -> bool {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte };
    one.bytes().map(plain).eq(other.bytes().map(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_token_is_what_stands_behind_bearer() {
        let own = HeaderName::from_static("x-token");
        for (name, value, expected) in [
            ("authorization", "Bearer a.b.c", Some("a.b.c")),
            ("authorization", "bEARER  a.b.c ", Some("a.b.c")),
            ("authorization", "Bearer\ta.b.c", Some("a.b.c")),
            ("authorization", "Bearer \t a.b.c\t", Some("a.b.c")),
            ("authorization", "Bearer", Some("")),
            ("authorization", "Basic YTpi", None),
            ("authorization", "a.b.c", None),
            ("authorization", "", None),
            ("x-token", "Bearer a.b.c", Some("a.b.c")),
            ("x-token", "a.b.c", Some("a.b.c")),
            ("x-other", "Bearer a.b.c", None),
        ] {
            let of = if name == "x-token" { &own } else { &http::header::AUTHORIZATION };
            assert_eq!(shown(&headers(&[(name, value)]), of), Ok(expected), "{name}: {value}");
        }
    }

    #[test]
    fn a_token_behind_another_scheme_is_not_overlooked() {
        for value in ["Basic YTpi, Bearer a.b.c", "Basic bearer a.b.c", "x,\tBEARER a.b.c"] {
            let fields = headers(&[("authorization", value)]);
            assert_eq!(shown(&fields, &http::header::AUTHORIZATION), Err(Refused::Malformed), "{value}");
        }
    }

    #[test]
    fn which_of_several_tokens_is_meant_nobody_can_tell() {
        for second in ["Bearer a.b.c", "Bearer d.e.f", "Basic YTpi"] {
            let both = headers(&[("authorization", "Bearer a.b.c"), ("authorization", second)]);
            assert_eq!(shown(&both, &http::header::AUTHORIZATION), Err(Refused::Malformed));
        }
    }

    #[test]
    fn headers_that_pass_for_forwarded_ones_go() {
        let forward = [HeaderName::from_static("x-user-id")];
        let mut all = headers(&[
            ("x-user-id", "1"),
            ("x_user_id", "2"),
            ("x-user_id", "3"),
            ("x-user-id", "4"),
            ("x-user-ids", "5"),
            ("x_user", "6"),
        ]);
        remove(forward.iter(), &mut all);
        let left: Vec<_> = all.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-user-ids", "x_user"]);
    }
}
