//! Files that are read again when they change, and what was made of them last.
//!
//! # When files change
//! They are looked at once a second. Whatever writes them (cert-manager, SPIRE's helper, a mounted Kubernetes secret, an
//! administrator) writes several, one after another or by moving a directory's link, so a look may find a new certificate beside the
//! old key. What does not fit together is not used: the old stays, and it is read again at each look until it fits. The same goes for a
//! certificate that has ended already, in place of one that has not.

use std::{
    collections::HashMap,
    fs,
    hash::Hash,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::SystemTime,
};

use super::{
    client::{Client, ClientMaterial},
    files::{self, Expiry},
    server::{Server, ServerMaterial},
};
use crate::{
    config::{ClientTls, ServerTls},
    published::Published,
};

/// What is made of files.
pub trait Material: Sized {
    /// Which files, and how.
    type Wanted: Clone + Eq + Hash;

    /// All files.
    fn files(wanted: &Self::Wanted) -> Vec<&Path>;

    /// Those of them that hold private keys.
    fn keys(wanted: &Self::Wanted) -> Vec<&Path>;

    /// Reads the files.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    fn read(wanted: &Self::Wanted) -> Result<Self, String>;

    /// When certificates end.
    fn expiries(&self) -> &[Expiry];
}

/// What was made of some files last. Handshakes read it; the control thread renews it.
pub struct Kept<M: Material> {
    /// Which files, and how.
    pub wanted: M::Wanted,
    now: Published<M>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// What the files were like when they were read.
    stamps: Vec<Option<Stamp>>,
    /// Why they could not be used the last time.
    problem: Option<String>,
}

/// What changes when a file does: device, inode, length, and the time of the last change to either content or inode, in nanoseconds.
type Stamp = (u64, u64, u64, i64, i64);

fn stamp(file: &Path) -> Option<Stamp> {
    let of = fs::metadata(file).ok()?;
    Some((of.dev(), of.ino(), of.len(), of.ctime(), of.ctime_nsec()))
}

impl<M: Material> Kept<M> {
    fn new(wanted: M::Wanted) -> Result<Self, String> {
        // Before they are read: a change in between is seen by the next look.
        let stamps = M::files(&wanted).into_iter().map(stamp).collect();
        let now = Published::new(Arc::new(M::read(&wanted)?));
        Ok(Self { wanted, now, seen: Mutex::new(Seen { stamps, problem: None }) })
    }

    /// For the next handshake.
    pub fn now(&self) -> Arc<M> {
        self.now.get()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the files again if they have changed, or could not be used.
    fn look(&self, looked: &mut Vec<Looked>) {
        let mut seen = self.seen();
        let stamps: Vec<_> = M::files(&self.wanted).into_iter().map(stamp).collect();
        if stamps == seen.stamps && seen.problem.is_none() {
            return;
        }
        seen.stamps = stamps;
        match M::read(&self.wanted).and_then(|new| self.refuse_invalid(new, SystemTime::now())) {
            Ok(material) => {
                self.now.publish(Arc::new(material));
                seen.problem = None;
                looked.push(Looked::Renewed(self.names()));
            }
            Err(problem) if seen.problem.as_ref() == Some(&problem) => {}
            Err(problem) => {
                seen.problem = Some(problem.clone());
                looked.push(Looked::Refused(problem));
            }
        }
    }

    /// A certificate that has ended, or has not begun, does not take the place of one that is valid.
    fn refuse_invalid(&self, new: M, now: SystemTime) -> Result<M, String> {
        let old = self.now();
        let is_good = |file: &Path| old.expiries().iter().any(|old| old.file == file && old.at > now);
        let invalid = |new: &&Expiry| new.is_own && (new.at <= now || new.from > now) && is_good(&new.file);
        match new.expiries().iter().find(invalid) {
            Some(early) if early.from > now => {
                Err(format!("the certificate in {} is not valid yet", early.file.display()))
            }
            Some(ended) => Err(format!("the certificate in {} has ended", ended.file.display())),
            None => Ok(new),
        }
    }

    fn names(&self) -> String {
        let names: Vec<_> = M::files(&self.wanted).iter().map(|file| file.display().to_string()).collect();
        names.join(", ")
    }
}

/// What a look has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Looked {
    /// These files are in use now.
    Renewed(String),
    /// What is in the files now cannot be used, for this reason; what was there before still is.
    Refused(String),
}

/// A file whose certificates are in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which.
    pub file: PathBuf,
    /// When the first of its certificates ends.
    pub ends: SystemTime,
    /// Why what is in it, or in its companions, now cannot be used; what was there before still is.
    pub problem: Option<String>,
}

/// Whatever is made of files, once for all who want the same.
#[derive(Default)]
pub struct Keeper {
    servers: Mutex<HashMap<ServerTls, Weak<Server>>>,
    clients: Mutex<HashMap<ClientTls, Weak<Client>>>,
}

impl Keeper {
    /// TLS towards callers.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub fn server(&self, wanted: &ServerTls) -> Result<Arc<Server>, String> {
        get(&self.servers, wanted)
    }

    /// TLS towards endpoints.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub fn client(&self, wanted: &ClientTls) -> Result<Arc<Client>, String> {
        get(&self.clients, wanted)
    }

    /// Looks whether files have changed. To be called about once a second.
    pub fn look(&self) -> Vec<Looked> {
        let mut looked = Vec::new();
        all(&self.servers).iter().for_each(|kept| kept.look(&mut looked));
        all(&self.clients).iter().for_each(|kept| kept.look(&mut looked));
        looked
    }

    /// The certificates in use; a file stands here once for each who uses it.
    pub fn standing(&self) -> Vec<Standing> {
        let mut standing = Vec::new();
        all(&self.servers).iter().for_each(|kept| standing_of(kept, &mut standing));
        all(&self.clients).iter().for_each(|kept| standing_of(kept, &mut standing));
        standing
    }

    /// Files with private keys that everybody on this host can read.
    pub fn exposed_keys(&self) -> Vec<String> {
        let servers = all(&self.servers);
        let clients = all(&self.clients);
        let of_servers = servers.iter().flat_map(|kept| ServerMaterial::keys(&kept.wanted));
        let of_clients = clients.iter().flat_map(|kept| ClientMaterial::keys(&kept.wanted));
        let exposed = of_servers.chain(of_clients).filter(|file| files::readable_by_others(file));
        let mut exposed: Vec<_> = exposed.map(|file| file.display().to_string()).collect();
        exposed.sort();
        exposed.dedup();
        exposed
    }
}

type Map<M> = Mutex<HashMap<<M as Material>::Wanted, Weak<Kept<M>>>>;

fn get<M: Material>(map: &Map<M>, wanted: &M::Wanted) -> Result<Arc<Kept<M>>, String> {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kept) = map.get(wanted).and_then(Weak::upgrade) {
        return Ok(kept);
    }
    let kept = Arc::new(Kept::new(wanted.clone())?);
    map.retain(|_, kept| kept.strong_count() > 0);
    map.insert(wanted.clone(), Arc::downgrade(&kept));
    Ok(kept)
}

fn all<M: Material>(map: &Map<M>) -> Vec<Arc<Kept<M>>> {
    map.lock().unwrap_or_else(PoisonError::into_inner).values().filter_map(Weak::upgrade).collect()
}

fn standing_of<M: Material>(kept: &Kept<M>, standing: &mut Vec<Standing>) {
    let problem = kept.seen().problem.clone();
    let of = |Expiry { file, at, .. }: &Expiry| Standing {
        file: file.clone(),
        ends: *at,
        problem: problem.clone(),
    };
    standing.extend(kept.now().expiries().iter().map(of));
}
