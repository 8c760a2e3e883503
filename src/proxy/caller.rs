//! Who asks: the caller of a connection, and of each request.
//!
//! A connection keeps the facts by which it got its name (`auth/callers.rs`), so that a reload which changes `[[callers]]` names it anew,
//! with its next request. Only what the new rules want to know besides is asked of the kernel then.
//!
//! A node of the mesh speaks for its own callers: it names them in `towpath-caller`, request by request. The field of anybody else counts
//! for nothing, and goes no further than this node (`http/hop_by_hop.rs`).

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderMap;

use super::Worker;
use crate::{
    auth::{self, Identity, Origin},
    config::{DefaultPolicy, ListenerKind, Name},
    limit::{CallerConnection, CallerKey, CallerRequest},
    net::LooseStream,
    snapshot::{BackendView, Door, Rules},
    telemetry::{CallerSeries, Held, Metrics},
};

/// Longer names are nobody's.
const LONGEST: usize = 512;
/// How often the kernel is asked anew about a caller of whom it could not tell enough.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Names that a worker keeps though nobody uses them.
const KEPT: usize = 1024;

/// A caller's name, and what it counts with on this worker.
pub struct Named {
    /// In policies, metrics and logs.
    pub name: Name,
    /// None of a caller that is unknown.
    series: Option<CallerSeries>,
}

impl Named {
    /// One more of its requests.
    pub(super) fn record(&self, service: &str, status: u16) {
        if let Some(series) = &self.series {
            series.request(service, status);
        }
    }
}

/// The callers that one worker knows.
pub(super) struct Callers {
    unknown: Rc<Named>,
    known: RefCell<HashMap<Name, Rc<Named>>>,
}

impl Default for Callers {
    fn default() -> Self {
        let unknown = Rc::new(Named { name: Identity::UNKNOWN.into(), series: None });
        Self { unknown, known: RefCell::default() }
    }
}

impl Callers {
    fn get(&self, name: &str, metrics: &Metrics) -> Rc<Named> {
        if name == Identity::UNKNOWN {
            return self.unknown.clone();
        }
        if let Some(known) = self.known.borrow().get(name) {
            return known.clone();
        }
        let name = Name::from(name);
        let named = Rc::new(Named { series: Some(metrics.caller_series(&name)), name: name.clone() });
        self.known.borrow_mut().insert(name, named.clone());
        named
    }

    /// Lets go of names that nobody uses, where there are many.
    pub(super) fn sweep(&self) {
        let mut known = self.known.borrow_mut();
        if known.len() > KEPT {
            known.retain(|_, named| Rc::strong_count(named) > 1);
        }
    }
}

/// Who is at the other end of a connection.
pub(super) struct Person {
    door: Arc<Door>,
    is_node: bool,
    origin: RefCell<Origin>,
    stream: RefCell<Option<LooseStream>>,
    now: RefCell<Option<Now>>,
    /// The kernel has been asked for its user, whoever wants to know.
    was_asked: Cell<bool>,
    /// Its place among the connections of its caller.
    place: RefCell<Option<CallerConnection>>,
}

/// What it is called, by which rules.
struct Now {
    rules: Arc<Rules>,
    named: Rc<Named>,
    /// Since when something that the rules want to know could not be found out.
    unsure: Option<Instant>,
    _open: Option<Held>,
}

impl Person {
    pub(super) fn new(door: &Arc<Door>, identity: &Identity, place: Option<CallerConnection>) -> Self {
        let (origin, place) = (RefCell::new(identity.origin.clone()), RefCell::new(place));
        let (stream, now, was_asked) = (RefCell::default(), RefCell::default(), Cell::default());
        Self { door: door.clone(), is_node: identity.is_node, origin, stream, now, was_asked, place }
    }

    /// Room for one more request of the caller, if fewer than `max` run; none where nobody counts.
    pub(super) fn request(&self, max: usize) -> Option<Option<CallerRequest>> {
        self.place.borrow().as_ref().map(|place| place.request(max))
    }

    /// The stream that the kernel can be asked about.
    pub(super) fn attach(&self, stream: LooseStream) {
        self.stream.replace(Some(stream));
    }

    /// What it is called now.
    pub(super) fn named(&self, rules: &Arc<Rules>, worker: &Worker) -> Rc<Named> {
        if let Some(now) = &*self.now.borrow()
            && Arc::ptr_eq(&now.rules, rules)
            && now.unsure.is_none_or(|since| since.elapsed() < ASK_AGAIN)
        {
            return now.named.clone();
        }
        let unsure = self.learn(rules).then(Instant::now);
        let name = auth::named(&rules.callers, &self.origin.borrow());
        self.counts_as(&name);
        let named = worker.callers.get(&name, &worker.metrics);
        let open = named.series.as_ref().map(|series| series.connections.hold());
        self.now.replace(Some(Now { rules: rules.clone(), named: named.clone(), unsure, _open: open }));
        named
    }

    /// Whether it may see how its requests are served: as `[[callers]]` says; where no entry can hold, and it comes from this node by an
    /// outgoing listener, root and towpath's own user. What could not be found out makes nobody trusted.
    fn is_trusted(&self, rules: &Rules) -> bool {
        if self.is_node {
            return true;
        }
        self.learn(rules);
        if let Some(rule) = auth::rule(&rules.callers, &self.origin.borrow()) {
            return rule.trusted;
        }
        let unsure = auth::wanted(&rules.callers, &self.origin.borrow()) != auth::Wanted::default();
        if unsure || self.door.kind != ListenerKind::Outgoing {
            return false;
        }
        self.uid().is_some_and(|uid| uid == 0 || uid == rustix::process::geteuid().as_raw())
    }

    /// The user who owns its socket, if the kernel tells. It is asked once.
    fn uid(&self) -> Option<u32> {
        let known = self.origin.borrow().uid;
        if known.is_some() || self.was_asked.replace(true) {
            return known;
        }
        let uid = self.stream.borrow().as_ref()?.owner().map(|owner| owner.uid);
        self.origin.borrow_mut().uid = uid;
        uid
    }

    /// Its connection counts as one of the caller that it is now; of one who is unknown, as when it came.
    fn counts_as(&self, name: &Name) {
        let Some(place) = &mut *self.place.borrow_mut() else { return };
        let origin = self.origin.borrow();
        place.moves_to(match (origin.address, origin.uid) {
            _ if **name != *Identity::UNKNOWN => CallerKey::Name(name.clone()),
            (Some(address), _) => CallerKey::of_address(address),
            (None, Some(uid)) => CallerKey::User(uid),
            (None, None) => CallerKey::Nobody,
        });
    }

    /// Asks the kernel for what the rules want to know besides. True when it may be able to tell more in a while.
    fn learn(&self, rules: &Rules) -> bool {
        let mut origin = self.origin.borrow_mut();
        let wanted = auth::wanted(&rules.callers, &origin);
        let asks = wanted.uid || wanted.cgroup;
        let Some(owner) = asks.then(|| self.stream.borrow().as_ref()?.owner()).flatten() else {
            return false;
        };
        origin.uid = Some(owner.uid);
        let Some(id) = owner.cgroup.filter(|_| wanted.cgroup) else { return false };
        origin.cgroup = rules.cgroups.known_path(id);
        origin.cgroup.is_none()
    }
}

/// Who asks for one request, and whether it still may.
#[derive(Clone)]
pub(super) struct Pass {
    person: Rc<Person>,
    pub(super) named: Rc<Named>,
    /// A node has named it.
    stated: bool,
    /// Of the rules by which it was found to be allowed.
    revision: Cell<u32>,
    /// What it is for is towpath's own, and no reload takes that from the caller.
    for_towpath: bool,
}

impl Pass {
    /// Of a request with these fields.
    pub(super) fn new(person: &Rc<Person>, worker: &Worker, rules: &Arc<Rules>, headers: &HeaderMap) -> Self {
        let stated = person.is_node.then(|| stated(headers)).flatten();
        let named = match stated {
            Some(name) => worker.callers.get(name, &worker.metrics),
            None => person.named(rules, worker),
        };
        let revision = Cell::new(worker.waiting.revision());
        Self { person: person.clone(), named, stated: stated.is_some(), revision, for_towpath: false }
    }

    /// Whether it may see how its requests are served. Asks the kernel: for requests that want to.
    pub(super) fn is_trusted(&self, rules: &Rules) -> bool {
        self.person.is_trusted(rules)
    }

    /// For what towpath asks another service on its own behalf, about a request of this caller.
    pub(super) fn for_towpath(&self) -> Self {
        Self { for_towpath: true, ..self.clone() }
    }

    /// The request goes to another service: that it might call the last one says nothing of this one.
    pub(super) fn look_again(&self, worker: &Worker) {
        self.revision.set(worker.waiting.revision().wrapping_sub(1));
    }

    /// Whether a reload has forbidden its caller all that it may ask of the service. Nearly always one comparison.
    pub(super) fn is_revoked(&self, worker: &Worker, backend: &BackendView) -> bool {
        let revision = worker.waiting.revision();
        if self.revision.get() == revision || self.for_towpath {
            return false;
        }
        let view = worker.view();
        let rules = &view.snapshot.rules;
        let named = if self.stated { self.named.clone() } else { self.person.named(rules, worker) };
        let policies = match backend.is_made {
            true => rules.of_host_services(),
            false => rules.of_service(&backend.view.service.name),
        };
        let default = rules.default_of(&self.person.door.name);
        let allowed = match policies {
            Some(policies) => policies.may_ever(&named.name, default),
            None => default == DefaultPolicy::Allow,
        };
        if allowed {
            self.revision.set(worker.waiting.revision());
        }
        !allowed
    }
}

/// The caller that a node names: in one field, which is all that a node sends.
fn stated(headers: &HeaderMap) -> Option<&str> {
    let mut fields = headers.get_all("towpath-caller").iter();
    let first = fields.next()?;
    let name = first.to_str().ok().filter(|name| !name.is_empty() && name.len() <= LONGEST);
    // The node has sent it, so that nobody is taken for the node itself.
    Some(name.filter(|_| fields.next().is_none()).unwrap_or(Identity::UNKNOWN))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_node_names_its_caller_in_one_field_or_nobody() {
        let of = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("towpath-caller", HeaderValue::from_bytes(value).unwrap());
            }
            stated(&headers).map(str::to_owned)
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[b"checkout"]).as_deref(), Some("checkout"));
        assert_eq!(of(&[b"checkout", b"admin"]).as_deref(), Some("unknown"));
        assert_eq!(of(&[b""]).as_deref(), Some("unknown"));
        assert_eq!(of(&[b"\xff"]).as_deref(), Some("unknown"));
        assert_eq!(of(&[&[b'a'; LONGEST + 1]]).as_deref(), Some("unknown"));
    }

    #[test]
    fn a_worker_keeps_one_name_once_and_forgets_what_nobody_uses() {
        let (metrics, callers) = (Metrics::new(1), Callers::default());
        let one = callers.get("one", &metrics);
        assert!(Rc::ptr_eq(&one, &callers.get("one", &metrics)));
        (0..=KEPT).for_each(|number| drop(callers.get(&number.to_string(), &metrics)));
        callers.sweep();
        assert_eq!(callers.known.borrow().len(), 1);
        assert!(callers.get("unknown", &metrics).series.is_none());
    }
}
