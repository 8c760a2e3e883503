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
