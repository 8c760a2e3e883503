//! Attributes of spans, and what OpenTelemetry's conventions say of their values.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};

use crate::net::Address;

/// Attributes in the making.
#[derive(Default)]
pub(super) struct Attributes(pub(super) Vec<KeyValue>);

impl Attributes {
    pub(super) fn text(&mut self, key: &str, value: impl Into<String>) {
        self.add(key, Value::StringValue(value.into()));
    }

    /// Where there is one.
    pub(super) fn maybe(&mut self, key: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    pub(super) fn number(&mut self, key: &str, value: impl Into<i64>) {
        self.add(key, Value::IntValue(value.into()));
    }

    /// The other end of a connection.
    pub(super) fn peer(&mut self, peer: &Address) {
        match peer {
            Address::Tcp(address) => {
                self.text("network.peer.address", address.ip().to_string());
                self.number("network.peer.port", address.port());
            }
            Address::Unix(path) => {
                self.text("network.peer.address", path.display().to_string());
                self.text("network.transport", "unix");
            }
        }
    }

    /// `_OTHER` stands for a method that is none of those which the conventions know (RFC 9110, PATCH, and QUERY).
    pub(super) fn method(&mut self, method: &str) {
        let known = known_method(method);
        self.text("http.request.method", known.unwrap_or("_OTHER"));
        if known.is_none() {
            self.text("http.request.method_original", method);
        }
    }

    fn add(&mut self, key: &str, value: Value) {
        let value = Some(AnyValue { value: Some(value) });
        self.0.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    }
}

/// The method, if it is one that the conventions know.
pub(super) fn known_method(method: &str) -> Option<&'static str> {
    const KNOWN: [&str; 10] =
        ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method)
}
