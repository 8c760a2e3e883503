//! Whether a request may go to its service: `[[policies]]`, and the listener's `default_policy`.
//!
//! The caller learns that it may not, and nothing of the rules; the access log (`policy`), the debug log and
//! `towpath_policy_decisions_total` say which policy it was.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use super::{Failure, Reason, attempt::Call, exchange::Exchange, idle::Patience};
use crate::{
    auth::{Decision, Facts},
    config::DefaultPolicy,
    snapshot::BackendView,
};

/// Refuses a request that its caller may not send to the service that it is for.
pub(super) fn authorize(call: &Call, exchange: &mut Exchange) -> Result<(), Failure> {
    let default = exchange.default_policy();
    let backend = call.backend.clone();
    // Where nobody has said anything about it.
    if backend.policies.is_none() && default == DefaultPolicy::Allow {
        return Ok(());
    }
    let Some(decision) = decide(call, exchange, &backend) else {
        exchange.policy = Some("default".into());
        exchange.view.snapshot.rules.series(&BY_DEFAULT).denied();
        return Err(denied(call, exchange));
    };
    let rules = &exchange.view.snapshot.rules;
    if !decision.allowed {
        rules.series(&decision.by).denied();
        exchange.policy = Some(decision.by.to_string().into());
        return Err(denied(call, exchange));
    }
    if let Some(by) = &decision.would_deny {
        rules.series(by).would_deny();
        let (caller, service) = (&*exchange.pass.named.name, &*backend.view.service.name);
        tracing::debug!(caller, service, policy = %by, "a policy in dry-run mode would deny a request");
        exchange.policy = Some(format!("would deny: {by}").into());
    }
    Ok(())
}

const BY_DEFAULT: crate::auth::By<'static> = crate::auth::By { policy: None, rule: None };

/// Whether the caller may send the request to a service that would stand in for its own.
pub(super) fn may_stand_in(call: &Call, exchange: &Exchange, backend: &BackendView) -> bool {
    decide(call, exchange, backend)
        .map_or_else(|| exchange.default_policy() == DefaultPolicy::Allow, |decision| decision.allowed)
}

/// None where no policy is for the service.
fn decide<'b>(call: &Call, exchange: &Exchange, backend: &'b BackendView) -> Option<Decision<'b>> {
    let facts = Facts {
        caller: &exchange.pass.named.name,
        method: &call.parts.method,
        path: call.parts.uri.path(),
        headers: &call.parts.headers,
        claims: exchange.claims.as_deref(),
    };
    Some(backend.policies.as_ref()?.decide(&facts, exchange.default_policy()))
}

fn denied(call: &Call, exchange: &Exchange) -> Failure {
    tracing::debug!(
        caller = &*exchange.pass.named.name,
        service = &*call.backend.view.service.name,
        policy = exchange.policy.as_deref(),
        method = call.parts.method.as_str(),
        path = call.parts.uri.path(),
        "a request was denied"
    );
    Failure::new(Reason::Denied, FORBIDDEN)
}

/// What a caller is told.
pub(super) const FORBIDDEN: &str = "the caller may not send this request";
/// What one is told that a reload has forbidden what it was doing.
pub(super) const REVOKED: &str = "the caller may not call this service any more";

impl Call {
    /// Whether a reload has forbidden its caller the service that it is for.
    pub(super) fn is_revoked(&self) -> bool {
        self.pass.is_revoked(&self.worker, &self.backend)
    }

    /// What `waiting` comes to.
    ///
    /// # Errors
    /// A reload has forbidden its caller the service meanwhile.
    pub(super) async fn unless_revoked<T>(
        &self,
        mut waiting: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, Failure> {
        let mut patience = Patience::new(&self.worker.waiting, Duration::MAX);
        poll_fn(|cx| {
            if let Poll::Ready(done) = waiting.as_mut().poll(cx) {
                return Poll::Ready(Ok(done));
            }
            if self.is_revoked() {
                return Poll::Ready(Err(Failure::new(Reason::Denied, REVOKED)));
            }
            // Has no end: it is where those are found whom a reload wakes.
            patience.poll(cx, 0).map(|()| Err(Failure::new(Reason::Denied, REVOKED)))
        })
        .await
    }
}
