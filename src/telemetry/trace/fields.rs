//! Which fields of a request are about its trace.
//!
//! Most requests have none or one of them: one pass over the few fields that they have is cheaper than a look-up for each of ours.

use http::{HeaderMap, HeaderName};

pub(super) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
pub(super) static B3: HeaderName = HeaderName::from_static("b3");
pub(super) static B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
pub(super) static B3_SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
pub(super) static B3_PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
pub(super) static B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
pub(super) static B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");
pub(super) static JAEGER: HeaderName = HeaderName::from_static("uber-trace-id");

/// How often a field is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Field<'a> {
    #[default]
    Absent,
    Once(&'a [u8]),
    /// No format but tracestate has a meaning for that.
    Repeated,
}

/// The fields that are about a trace.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fields<'a> {
    pub(super) traceparent: Field<'a>,
    pub(super) tracestate: Field<'a>,
    pub(super) b3: Field<'a>,
    pub(super) b3_trace: Field<'a>,
    pub(super) b3_span: Field<'a>,
    pub(super) b3_parent: Field<'a>,
    pub(super) b3_sampled: Field<'a>,
    pub(super) b3_flags: Field<'a>,
    pub(super) jaeger: Field<'a>,
}

/// Whether there is any of them. One look at the few names that most requests have is cheaper than what follows.
pub(super) fn any(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        let name = name.as_str();
        matches!(name.len(), 2 | 10..=13 | 17) && Fields::default().named(name).is_some()
    })
}

impl<'a> Fields<'a> {
    /// Those of `headers`.
    pub(super) fn of(headers: &'a HeaderMap) -> Self {
        let mut fields = Self::default();
        for (name, value) in headers {
            if let Some(field) = fields.named(name.as_str()) {
                *field = match field {
                    Field::Absent => Field::Once(value.as_bytes()),
                    _ => Field::Repeated,
                };
            }
        }
        fields
    }

    fn named(&mut self, name: &str) -> Option<&mut Field<'a>> {
        // Lengths first: they settle it for most names.
        match name.len() {
            2 if name == "b3" => Some(&mut self.b3),
            10 if name == "tracestate" => Some(&mut self.tracestate),
            10 if name == "x-b3-flags" => Some(&mut self.b3_flags),
            11 if name == "traceparent" => Some(&mut self.traceparent),
            11 if name == "x-b3-spanid" => Some(&mut self.b3_span),
            12 if name == "x-b3-traceid" => Some(&mut self.b3_trace),
            12 if name == "x-b3-sampled" => Some(&mut self.b3_sampled),
            13 if name == "uber-trace-id" => Some(&mut self.jaeger),
            17 if name == "x-b3-parentspanid" => Some(&mut self.b3_parent),
            _ => None,
        }
    }
}

impl<'a> Field<'a> {
    /// Its value, if it is there. None: it is there more than once.
    pub(super) fn only(self) -> Option<Option<&'a [u8]>> {
        match self {
            Self::Absent => Some(None),
            Self::Once(value) => Some(Some(value)),
            Self::Repeated => None,
        }
    }

    pub(super) fn is_absent(self) -> bool {
        self == Self::Absent
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn each_field_is_found_once_or_repeated() {
        let names = [
            &TRACEPARENT,
            &TRACESTATE,
            &B3,
            &B3_TRACE,
            &B3_SPAN,
            &B3_PARENT,
            &B3_SAMPLED,
            &B3_FLAGS,
            &JAEGER,
        ];
        for name in names {
            let mut headers = HeaderMap::new();
            let field = |headers: &HeaderMap| {
                let mut fields = Fields::of(headers);
                let field = *fields.named(name.as_str()).unwrap_or_else(|| panic!("{name}"));
                field.only().map(|value| value.map(<[u8]>::to_vec))
            };
            assert_eq!(field(&headers), Some(None), "{name}");
            headers.insert("accept", HeaderValue::from_static("*/*"));
            headers.insert(name, HeaderValue::from_static("x"));
            assert_eq!(field(&headers), Some(Some(b"x".to_vec())), "{name}");
            headers.append(name, HeaderValue::from_static("x"));
            assert_eq!(field(&headers), None, "{name}");
        }
    }
}
