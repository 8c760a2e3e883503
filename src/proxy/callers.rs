//! Whether its caller may have one more request under way.

use std::time::Duration;

use super::{
    Failure, Reason,
    exchange::{Caller, Exchange},
};
use crate::limit::CallerRequest;

/// After which a caller that was refused may try again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// A place among the caller's requests, where `limits.requests_per_caller` is set.
pub(super) fn enter(caller: &Caller, exchange: &Exchange) -> Result<Option<CallerRequest>, Failure> {
    let Some(max) = exchange.view.snapshot.config.limits.requests_per_caller else { return Ok(None) };
    let Some(place) = caller.person.request(max) else { return Ok(None) };
    let refused = || {
        // Who it is stands in the log: by what it is known here is not for everybody who can send a request.
        let message = format!("{max} requests of this caller run already (limits.requests_per_caller)");
        Failure { retry_after: Some(TRY_AGAIN), ..Failure::new(Reason::CallerLimit, message) }
    };
    place.map(Some).ok_or_else(refused)
}
