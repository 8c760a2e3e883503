//! An issuer: how its tokens are judged, its keys, and what is known of how current those are.
//!
//! The control thread renews the keys; workers read them. Keys that were good stay until there are others: an issuer that cannot be
//! reached, or a file that is half written, must not lock everybody out. Before the first keys no token is valid.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use http::HeaderName;
use tokio::sync::Notify;

use super::{
    fetch::KeyServer,
    key_set::{KeySet, LARGEST},
};
use crate::{
    config::{Jwks, JwtProvider, Name},
    published::{Published, Reader},
    telemetry::TokenSeries,
    tls::Keeper,
};

/// An issuer. Equal configuration, same object: its keys survive a reload.
pub struct Provider {
    /// In `[jwt]`.
    pub name: Name,
    /// How its tokens are judged.
    pub config: Arc<JwtProvider>,
    /// The header that tokens stand in.
    pub header: HeaderName,
    /// Headers that endpoints get, and the claims whose values they have.
    pub forward: Vec<(HeaderName, String)>,
    /// What it counts with.
    pub series: TokenSeries,
    /// Where its keys are, unless in a file.
    pub(super) server: Option<KeyServer>,
    pub(super) wanted: Wanted,
    keys: Published<KeySet>,
    standing: Mutex<Standing>,
}

/// What is known of its keys.
struct Standing {
    /// When they were last had; when the issuer was made before that.
    confirmed: Instant,
    /// What the file was like when it was read.
    stamp: Option<Stamp>,
    /// Why they could not be had the last time.
    problem: Option<String>,
}

/// What changes when a file does: device, inode, length, and the time of the last change to content or inode.
type Stamp = (u64, u64, u64, i64, i64);

/// How current an issuer's keys are, for operators.
#[derive(Clone, Debug)]
pub struct KeyState {
    /// How many can be used, and how many of the set cannot.
    pub keys: (usize, usize),
    /// Seconds since they were last had.
    pub age: u64,
    /// Why they could not be had the last time.
    pub problem: Option<String>,
}

impl Provider {
    /// `previous`: the one of the same name before a reload.
    ///
    /// # Errors
    /// The file cannot be used, or the URL or its `ca`; the key in `[jwt.NAME]`, and why.
    pub fn new(
        name: &Name,
        config: &Arc<JwtProvider>,
        keeper: &Keeper,
        series: TokenSeries,
        previous: Option<&Self>,
    ) -> Result<Self, String> {
        let mut standing = Standing { confirmed: Instant::now(), stamp: None, problem: None };
        let (keys, server) = match &config.jwks {
            Jwks::File(file) => {
                // Before it is read: a change in between is seen by the next look.
                standing.stamp = stamp(file);
                (Arc::new(read(file).map_err(|error| format!("jwks: {error}"))?), None)
            }
            Jwks::Url { url, ca, .. } => {
                // Of the same place, they are as good under another audience or leeway.
                let kept = previous.filter(|previous| previous.is_at(url));
                if let Some(previous) = kept {
                    standing.confirmed = previous.standing().confirmed;
                }
                let keys = kept.map(|previous| previous.keys.get()).unwrap_or_default();
                (keys, Some(KeyServer::new(url, ca.as_deref(), keeper)?))
            }
        };
        Ok(Self {
            name: name.clone(),
            config: config.clone(),
            header: header(&config.header)?,
            forward: config
                .forward
                .iter()
                .map(|(name, claim)| Ok((header(name)?, claim.clone())))
                .collect::<Result<_, String>>()?,
            series,
            server,
            wanted: Wanted::default(),
            keys: Published::new(keys),
            standing: Mutex::new(standing),
        })
    }

    fn is_at(&self, wanted: &str) -> bool {
        matches!(&self.config.jwks, Jwks::Url { url, .. } if url == wanted)
    }

    /// The host and port that its keys are fetched from, if they are.
    pub fn key_server(&self) -> Option<(&str, u16)> {
        self.server.as_ref().map(KeyServer::place)
    }

    /// One worker's view of its keys.
    pub(super) fn reader(&self) -> Reader<KeySet> {
        self.keys.reader()
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How current its keys are.
    pub fn state(&self) -> KeyState {
        let standing = self.standing();
        KeyState {
            keys: self.keys.get().count(),
            age: standing.confirmed.elapsed().as_secs(),
            problem: standing.problem.clone(),
        }
    }

    /// Reads its file again if that has changed, or could not be used; tells how old the keys are. To be called about once a second.
    pub fn look(&self) {
        if let Jwks::File(file) = &self.config.jwks {
            let now = stamp(file);
            let mut standing = self.standing();
            if now == standing.stamp && standing.problem.is_none() {
                standing.confirmed = Instant::now();
            } else {
                standing.stamp = now;
                drop(standing);
                self.heard(read(file));
            }
        }
        self.series.age.set(self.standing().confirmed.elapsed().as_secs_f64());
    }

    /// Takes over what came of a reading.
    pub(super) fn heard(&self, read: Result<KeySet, String>) {
        let had = self.keys.get();
        match read {
            Ok(keys) => {
                let changed = !keys.is_same(&had);
                let ((count, left_out), provider) = (keys.count(), &*self.name);
                if changed {
                    self.keys.publish(Arc::new(keys));
                    tracing::info!(provider, keys = count, left_out, "the issuer's keys have changed");
                }
                self.series.update(if changed { "changed" } else { "unchanged" });
                let mut standing = self.standing();
                standing.confirmed = Instant::now();
                if standing.problem.take().is_some() && !changed {
                    tracing::info!(provider, keys = count, "the issuer's keys can be had again");
                }
            }
            Err(problem) => {
                self.series.update("failed");
                let mut standing = self.standing();
                if standing.problem.as_ref() != Some(&problem) {
                    warn(&self.name, &problem, had.is_empty());
                }
                standing.problem = Some(problem);
            }
        }
    }
}

fn warn(provider: &str, problem: &str, none_yet: bool) {
    if none_yet {
        tracing::error!(provider, problem, "the issuer's keys cannot be had: until then no token is valid");
    } else {
        tracing::warn!(provider, problem, "the issuer's keys cannot be had: the last ones stay in use");
    }
}

fn header(name: &str) -> Result<HeaderName, String> {
    HeaderName::try_from(name).map_err(|_| format!("`{name}` is no header"))
}

fn stamp(file: &Path) -> Option<Stamp> {
    let of = fs::metadata(file).ok()?;
    Some((of.dev(), of.ino(), of.len(), of.ctime(), of.ctime_nsec()))
}

/// The keys in a file. Whoever may write it can make tokens that are valid, so not everybody may.
fn read(file: &Path) -> Result<KeySet, String> {
    let shown = file.display();
    let unreadable = |error| format!("cannot read {shown}: {error}");
    let metadata = fs::metadata(file).map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > LARGEST as u64 {
        return Err(format!("{shown} is no file with a JWK set"));
    }
    if metadata.mode() & 0o002 != 0 {
        return Err(format!(
            "everybody may write {shown}, which decides whom to believe; chmod o-w mends that"
        ));
    }
    KeySet::parse(&fs::read(file).map_err(unreadable)?).map_err(|error| format!("{shown}: {error}"))
}

/// Whether a worker has met a token that keys are missing for.
#[derive(Default)]
pub(super) struct Wanted {
    /// Spares those that come after the first one the wake-up.
    asked: AtomicBool,
    notify: Notify,
}

impl Wanted {
    pub(super) fn ask(&self) {
        if !self.asked.load(Ordering::Relaxed) && !self.asked.swap(true, Ordering::Relaxed) {
            self.notify.notify_one();
        }
    }

    pub(super) async fn asked(&self) {
        self.notify.notified().await;
    }

    /// What was asked for so far is here, or cannot be had.
    pub(super) fn settle(&self) {
        // While `asked` is set nobody notifies, so that this takes back all there is.
        pin!(self.notify.notified()).enable();
        self.asked.store(false, Ordering::Relaxed);
    }
}
