//! A request as one attempt sends it.

use http::{HeaderName, HeaderValue, request::Parts};

use crate::http::Body;

/// A request for one attempt. What all attempts have in common is borrowed.
pub struct Outgoing<'r> {
    /// Method, target and fields, written for the version of the connection.
    pub parts: &'r Parts,
    /// The content, from its beginning.
    pub body: Body,
    /// Fields of this attempt alone; `parts` has none of these names.
    pub fields: Vec<(&'static HeaderName, HeaderValue)>,
}
