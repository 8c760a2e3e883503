//! The connections of one door on one worker, and how they hear of its shutdown.
//!
//! A connection leaves its waker here once, and looks at a flag whenever it runs: waiting for a shutdown costs a request
//! nothing.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::Waker,
};

use slab::Slab;
use tokio::{sync::Notify, task::AbortHandle};

use crate::proxy::{Caller, Forbidden, Worker};

/// The connections of one door on one worker.
#[derive(Default)]
pub(super) struct Members {
    draining: Cell<bool>,
    members: RefCell<Slab<Member>>,
    changed: Notify,
}

#[derive(Default)]
struct Member {
    task: Option<AbortHandle>,
    waker: Option<Waker>,
    caller: Option<Rc<Caller>>,
}

/// A connection's place among them.
pub(super) struct Membership {
    members: Rc<Members>,
    key: usize,
}

impl Members {
    pub(super) fn join(self: &Rc<Self>) -> Membership {
        let key = self.members.borrow_mut().insert(Member::default());
        Membership { members: self.clone(), key }
    }

    /// Wakes everybody, to find that the door drains.
    pub(super) fn drain(&self) {
        self.draining.set(true);
        for (_, member) in self.members.borrow().iter() {
            if let Some(waker) = &member.waker {
                waker.wake_by_ref();
            }
        }
    }

    /// Ends everybody.
    pub(super) fn cut_off(&self) {
        let tasks: Vec<_> =
            self.members.borrow().iter().filter_map(|(_, member)| member.task.clone()).collect();
        for task in tasks {
            task.abort();
        }
    }

    /// Ends those whose callers may not do anything any more.
    pub(super) fn cut_forbidden(&self, worker: &Worker) {
        let mut forbidden = Forbidden::new(worker);
        let mut is_forbidden =
            |member: &Member| member.caller.as_ref().is_some_and(|caller| forbidden.is(caller));
        let members = self.members.borrow();
        let tasks: Vec<_> = members
            .iter()
            .filter(|(_, member)| is_forbidden(member))
            .filter_map(|(_, member)| member.task.clone())
            .collect();
        drop(members);
        for task in tasks {
            task.abort();
        }
    }

    /// Returns when nobody is left.
    pub(super) async fn gone(&self) {
        loop {
            let changed = self.changed.notified();
            if self.members.borrow().is_empty() {
                return;
            }
            changed.await;
        }
    }
}

impl Membership {
    /// What to abort when the door is closed.
    pub(super) fn runs_as(&self, task: AbortHandle) {
        if let Some(member) = self.members.members.borrow_mut().get_mut(self.key) {
            member.task = Some(task);
        }
    }

    /// Who is at the other end.
    pub(super) fn is_of(&self, caller: &Rc<Caller>) {
        if let Some(member) = self.members.members.borrow_mut().get_mut(self.key) {
            member.caller = Some(caller.clone());
        }
    }

    /// Whom to wake when the door drains. A task's waker stays the same, so once is enough.
    pub(super) fn wake_with(&self, waker: &Waker) {
        if let Some(member) = self.members.members.borrow_mut().get_mut(self.key) {
            member.waker = Some(waker.clone());
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.members.draining.get()
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.members.members.borrow_mut().try_remove(self.key);
        if self.members.members.borrow().is_empty() {
            self.members.changed.notify_waiters();
        }
    }
}
