//! A connection, or a place on one, in the hands of one request.

use std::rc::Rc;

use http::Response;

use super::{
    error::SendError, http1::Http1Connection, http2::Http2Stream, outgoing::Outgoing, pool::EndpointPool,
    target::Version,
};
use crate::http::{Body, Interim};

/// What a request sends on. Dropped before [`Lease::finish`], it cancels the request: an HTTP/1.1 connection closes,
/// an HTTP/2 stream is reset.
pub struct Lease {
    kind: Kind,
    /// Whether an earlier request used the connection.
    reused: bool,
}

enum Kind {
    Http1 { connection: Http1Connection, pool: Rc<EndpointPool> },
    Http2(Http2Stream),
}

impl Lease {
    pub(super) fn http1(connection: Http1Connection, pool: Rc<EndpointPool>, reused: bool) -> Self {
        Self { kind: Kind::Http1 { connection, pool }, reused }
    }

    pub(super) fn http2(stream: Http2Stream, reused: bool) -> Self {
        Self { kind: Kind::Http2(stream), reused }
    }

    /// The protocol of the connection.
    pub fn version(&self) -> Version {
        match self.kind {
            Kind::Http1 { .. } => Version::Http1,
            Kind::Http2(_) => Version::Http2,
        }
    }

    /// Sends `request`, written for this lease's version, and waits for the response's head. Interim answers go to
    /// `interim`.
    ///
    /// # Errors
    /// [`SendError`], which says how much the endpoint may have seen.
    pub async fn send(
        &mut self,
        request: Outgoing<'_>,
        interim: &Interim,
    ) -> Result<Response<Body>, SendError> {
        let result = match &mut self.kind {
            Kind::Http1 { connection, .. } => connection.send(request, interim, self.reused).await,
            Kind::Http2(stream) => stream.send(request, interim, self.reused).await,
        };
        result.map_err(|error| SendError { reused: self.reused, ..error })
    }

    /// The response has been read to its end: the connection may serve the next request.
    pub fn finish(self) {
        match self.kind {
            Kind::Http1 { connection, pool } => pool.give_back(connection),
            Kind::Http2(stream) => stream.finish(),
        }
    }
}
