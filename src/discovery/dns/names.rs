//! The names that are followed: each once, however many services, ports and SRV targets it is for.
//!
//! A name is asked for as long as somebody listens, and whoever comes later hears at once what is known. All of it lives
//! on the control thread.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::IpAddr,
    rc::{Rc, Weak},
    time::Duration,
};

use tokio::{
    sync::{Notify, SemaphorePermit},
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Schedule,
    answer::Share,
    cause::Cause,
    members::{Answer, Family, Kind, Member, Question, Unanswered},
    pace::{Pace, Trust},
    reach::reachable,
    resolver::{Found, Late, Resolver},
    standing::{News, Standing},
    update::Failure,
};
use crate::config::Dns;

/// What a name that was answered the last time has for its answer, before it is taken for one that fails. Servers that
/// have to ask others take less.
const QUICK: Duration = Duration::from_millis(500);

/// What a listener hears of a name.
#[derive(Clone, Debug)]
pub(in crate::discovery) struct Heard {
    /// In order. Empty: there has been no good answer yet, or it is too old.
    pub(in crate::discovery) members: Rc<[(Member, Share)]>,
    /// Why the last question was not answered.
    pub(in crate::discovery) failure: Option<Failure>,
}

/// Whether the addresses of a family have no route.
pub(in crate::discovery) type Unreachable = fn(IpAddr) -> bool;

/// All names.
pub(in crate::discovery) struct Names {
    resolver: RefCell<Resolver>,
    schedule: RefCell<Schedule>,
    max_stale: Cell<Duration>,
    /// How long requests wait for a first answer.
    patience: Cell<Duration>,
    unreachable: Unreachable,
    pace: Pace,
    followed: RefCell<HashMap<Question, Weak<Name>>>,
}

/// Which names are asked again at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::discovery) enum Again {
    All,
    /// Those that fail, and those whose entry in the hosts file is another now.
    Failing,
}

/// One name that is followed, until nobody holds it.
struct Name {
    question: Question,
    standing: RefCell<Standing>,
    /// What listeners heard last; none before the first answer or failure.
    heard: RefCell<Option<Heard>>,
    listeners: RefCell<Vec<Weak<Listener>>>,
    signals: Rc<Signals>,
    task: RefCell<Option<AbortHandle>>,
    /// It has its turn, and servers are asked.
    is_asked: Cell<bool>,
    /// A request waits for the first answer.
    is_awaited: Cell<bool>,
    /// When to ask again, unless something hurries it on.
    due: Cell<Instant>,
    /// The family that kept the last answer waiting.
    silent: Cell<Option<Family>>,
    /// Waits for the late part of an answer.
    late: RefCell<Option<AbortHandle>>,
    names: Weak<Names>,
}

/// What hurries a name on.
#[derive(Default)]
struct Signals {
    /// Ask again.
    again: Notify,
    /// It is due sooner than was said before.
    sooner: Notify,
    /// A request waits for it.
    urgent: Notify,
}

struct Listener(Box<Hear>);

type Hear = dyn Fn(&Heard, News);

/// Somebody listens to a name until this is dropped.
pub(in crate::discovery) struct Listening {
    name: Rc<Name>,
    _listener: Rc<Listener>,
}

impl Listening {
    /// A request has been waiting for the first answer since then. When it has to give up, the name fails for now, so
    /// that the request can say why.
    pub(in crate::discovery) fn urgent(&self, since: Instant) {
        if self.name.heard.borrow().is_some() {
            return;
        }
        self.name.signals.urgent.notify_one();
        if !self.name.is_awaited.replace(true) {
            tokio::task::spawn_local(give_up(Rc::downgrade(&self.name), since));
        }
    }
}

impl Names {
    pub(in crate::discovery) fn new(
        resolver: Resolver,
        schedule: Schedule,
        dns: &Dns,
        unreachable: Unreachable,
    ) -> Rc<Self> {
        Rc::new(Self {
            resolver: RefCell::new(resolver),
            schedule: RefCell::new(schedule),
            max_stale: Cell::new(dns.max_stale),
            patience: Cell::new(patience(dns)),
            unreachable,
            pace: Pace::new(),
            followed: RefCell::default(),
        })
    }

    /// Lets `listener` hear what becomes of `host`; what is known already, before this returns. To be called on
    /// a thread with local tasks.
    pub(in crate::discovery) fn listen(
        self: &Rc<Self>,
        host: &str,
        kind: Kind,
        listener: impl Fn(&Heard, News) + 'static,
    ) -> Listening {
        let question = self.resolver.borrow().question(host, kind);
        let known = self.followed.borrow().get(&question).and_then(Weak::upgrade);
        let name = known.unwrap_or_else(|| self.follow(question));
        let listener = Rc::new(Listener(Box::new(listener)));
        name.listeners.borrow_mut().push(Rc::downgrade(&listener));
        let heard = name.heard.borrow().clone();
        if let Some(heard) = heard {
            (listener.0)(&heard, if heard.members.is_empty() { News::Failed } else { News::Changed });
        }
        Listening { name, _listener: listener }
    }

    /// Asks during `turn`. A name that has always been answered may find its server silent, and with it hundreds of
    /// others: it soon gives its place back, and is asked for again among its like.
    async fn lookup(
        &self,
        question: &Question,
        silent: Option<Family>,
        trust: Trust,
        mut turn: SemaphorePermit<'_>,
    ) -> Result<Found, Unanswered> {
        let resolver = self.resolver.borrow().clone();
        if trust == Trust::Answered {
            if let Ok(result) = timeout(QUICK, resolver.lookup(question, silent)).await {
                return result;
            }
            drop(turn);
            turn = self.pace.turn(Trust::Failing).await;
        }
        let result = resolver.lookup(question, silent).await;
        drop(turn);
        result
    }

    fn follow(self: &Rc<Self>, question: Question) -> Rc<Name> {
        let schedule = self.schedule.borrow_mut().fork();
        let standing = Standing::new(question.host.trim_end_matches('.'), schedule, self.max_stale.get());
        let signals = Rc::<Signals>::default();
        let name = Rc::new(Name {
            question: question.clone(),
            standing: RefCell::new(standing),
            heard: RefCell::default(),
            listeners: RefCell::default(),
            signals: signals.clone(),
            task: RefCell::default(),
            is_asked: Cell::default(),
            is_awaited: Cell::default(),
            due: Cell::new(Instant::now()),
            silent: Cell::default(),
            late: RefCell::default(),
            names: Rc::downgrade(self),
        });
        let task =
            tokio::task::spawn_local(ask(self.clone(), Rc::downgrade(&name), signals, question.clone()));
        *name.task.borrow_mut() = Some(task.abort_handle());
        self.followed.borrow_mut().insert(question, Rc::downgrade(&name));
        name
    }

    /// Asks `resolver` from now on.
    pub(in crate::discovery) fn replace(&self, resolver: Resolver, dns: &Dns, again: Again) {
        let old = self.resolver.replace(resolver.clone());
        self.max_stale.set(dns.max_stale);
        self.patience.set(patience(dns));
        let names: Vec<Rc<Name>> = self.followed.borrow().values().filter_map(Weak::upgrade).collect();
        for name in names {
            name.standing.borrow_mut().set_max_stale(dns.max_stale);
            name.forget_late();
            let host = &name.question.host;
            let failing = || name.standing.borrow().failure().is_some();
            let moved = || resolver.hosts_file_entry(host) != old.hosts_file_entry(host);
            if again == Again::All || failing() || moved() {
                name.signals.again.notify_one();
            }
        }
    }

    /// How many names are followed.
    #[cfg(test)]
    pub(in crate::discovery) fn count(&self) -> usize {
        self.followed.borrow().len()
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        self.forget_late();
        if let Some(names) = self.names.upgrade() {
            names.followed.borrow_mut().remove(&self.question);
        }
    }
}

/// A little less than requests wait for a first answer: they are to hear why there is none.
fn patience(dns: &Dns) -> Duration {
    dns.first_answer_timeout.mul_f64(0.95)
}

/// Ends the waiting for a first answer when requests have waited for as long as they do.
async fn give_up(name: Weak<Name>, since: Instant) -> Option<()> {
    let waits = name.upgrade()?.names.upgrade()?.patience.get();
    sleep_until(since + waits).await;
    let name = name.upgrade()?;
    if name.heard.borrow().is_none() {
        let names = name.names.upgrade()?;
        let cause = match name.is_asked.get() {
            true => Cause::no_answer_yet(waits, names.resolver.borrow().servers()),
            false => Cause::not_asked_yet(waits),
        };
        let failure = cause.into_failure(name.question.host.trim_end_matches('.'), &[]);
        let unanswered = Unanswered { failure, negative_ttl: None };
        let (news, _) = name.standing.borrow_mut().failed(unanswered, Instant::now());
        name.tell(news, names.unreachable);
    }
    Some(())
}

/// Asks for a name until nobody listens.
async fn ask(names: Rc<Names>, name: Weak<Name>, signals: Rc<Signals>, question: Question) -> Option<()> {
    let mut new = true;
    loop {
        let (trust, silent) = {
            let name = name.upgrade()?;
            (name.standing.borrow().trust(), name.silent.get())
        };
        let lookup = async {
            let turn = match new {
                true => names.pace.paced_turn(trust, &signals.urgent).await,
                false => names.pace.turn(trust).await,
            };
            name.upgrade()?.is_asked.set(true);
            Some(names.lookup(&question, silent, trust, turn).await)
        };
        let result = while_time_passes(&name, lookup).await??;
        name.upgrade()?.hear(result, names.unreachable);
        new = while_time_passes(&name, due(&name, &signals)).await??;
    }
}

/// Returns when the name is to be asked for again; whether that is because all are.
async fn due(name: &Weak<Name>, signals: &Signals) -> Option<bool> {
    loop {
        let due = name.upgrade()?.due.get();
        tokio::select! {
            () = sleep_until(due) => return Some(false),
            () = signals.again.notified() => return Some(true),
            () = signals.sooner.notified() => {}
        }
    }
}

/// Does `work`, and meanwhile lets go of what gets too old. None: nobody listens any more.
async fn while_time_passes<T>(name: &Weak<Name>, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    loop {
        let deadline = name.upgrade()?.standing.borrow().deadline();
        let too_old = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            done = &mut work => return Some(done),
            () = too_old => name.upgrade()?.time_passed(),
        }
    }
}

impl Name {
    fn hear(self: &Rc<Self>, result: Result<Found, Unanswered>, unreachable: Unreachable) {
        let now = Instant::now();
        let (news, wait) = match result {
            Ok(Found { answer, late }) => {
                self.wait_for(late);
                (News::Answered, self.standing.borrow_mut().answered(answer, now))
            }
            Err(unanswered) => self.standing.borrow_mut().failed(unanswered, now),
        };
        self.due.set(now + wait);
        self.tell(news, unreachable);
    }

    /// Waits for the part that an answer lacks. While it does, the family is not asked for again.
    fn wait_for(self: &Rc<Self>, late: Option<Late>) {
        self.silent.set(late.as_ref().map(|late| late.family));
        let Some(late) = late else { return self.forget_late() };
        if self.late.borrow().as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let (name, names) = (Rc::downgrade(self), self.names.clone());
        let task = tokio::task::spawn_local(async move {
            let names = names.upgrade()?;
            let _place = names.pace.late().ok()?;
            let answer = late.answer().await?;
            name.upgrade()?.hear_late(answer, names.unreachable);
            Some(())
        });
        *self.late.borrow_mut() = Some(task.abort_handle());
    }

    fn forget_late(&self) {
        if let Some(task) = self.late.take() {
            task.abort();
        }
    }

    fn hear_late(&self, answer: Answer, unreachable: Unreachable) {
        let now = Instant::now();
        let before: Vec<Member> =
            self.standing.borrow().members().map(|(member, _)| member.clone()).collect();
        let due = now + self.standing.borrow_mut().take_in(answer, now);
        self.silent.set(None);
        if due < self.due.get() {
            self.due.set(due);
            self.signals.sooner.notify_one();
        }
        let same = self.standing.borrow().members().map(|(member, _)| member).eq(&before);
        if !same {
            self.tell(News::Changed, unreachable);
        }
    }

    fn time_passed(&self) {
        let news = self.standing.borrow_mut().time_passed(Instant::now());
        if let (Some(news), Some(names)) = (news, self.names.upgrade()) {
            self.tell(news, names.unreachable);
        }
    }

    fn tell(&self, news: News, unreachable: Unreachable) {
        let heard = self.picture(unreachable);
        *self.heard.borrow_mut() = Some(heard.clone());
        let listeners: Vec<Rc<Listener>> = {
            let mut listeners = self.listeners.borrow_mut();
            listeners.retain(|listener| listener.strong_count() > 0);
            listeners.iter().filter_map(Weak::upgrade).collect()
        };
        for listener in listeners {
            (listener.0)(&heard, news);
        }
    }

    fn picture(&self, unreachable: Unreachable) -> Heard {
        let standing = self.standing.borrow();
        let failure = standing.failure().cloned();
        let members: Rc<[(Member, Share)]> = match self.question.kind {
            Kind::Targets => standing.members().map(|(member, share)| (member.clone(), *share)).collect(),
            Kind::Addresses => {
                let addresses = standing.members().filter_map(|(member, _)| match member {
                    Member::Address(ip) => Some(*ip),
                    Member::Target(_) => None,
                });
                let usable = reachable(addresses.collect(), unreachable);
                usable.into_iter().map(|ip| (Member::Address(ip), Share::default())).collect()
            }
        };
        Heard { members, failure }
    }
}
