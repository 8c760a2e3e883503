//! Trailers of a request whose route sets fields that only towpath may set: a server may merge trailers into the head, where those would
//! be the caller's word for it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderName;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::authenticate::remove;
use crate::{
    http::{Body, BodyError},
    snapshot::Route,
};

/// The same content, whose trailers have none of the fields that `route` sets.
pub(super) fn guard(body: Body, route: &Route) -> Body {
    let by_token = route.issuer.iter().flat_map(|issuer| issuer.forward.iter().map(|(name, _)| name));
    let by_answer = route.authorizer.iter().flat_map(|authorizer| &authorizer.forward);
    let names: Vec<HeaderName> = by_token.chain(by_answer).cloned().collect();
    if names.is_empty() { body } else { Body::other(Guarded { body, names }) }
}

struct Guarded {
    body: Body,
    names: Vec<HeaderName>,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let poll = Pin::new(&mut self.body).poll_frame(cx);
        poll.map_ok(|mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                remove(self.names.iter(), trailers);
            }
            frame
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
