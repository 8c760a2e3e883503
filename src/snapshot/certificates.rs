//! The certificates in use while the node runs: files are looked at, and operators told what they should know.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    telemetry::{CertificateSeries, Metrics},
    tls::{self, Keeper, Looked},
};

const DAY: Duration = Duration::from_secs(86_400);
/// Before its end, a certificate is warned of. Whoever renews them by themselves does so long before.
const SOON: Duration = Duration::from_secs(7 * 86_400);
/// Between two times that what is shown is brought up to date.
const SHOWN_FOR: Duration = Duration::from_secs(60);

/// Looks after them. Lives on the control thread.
pub(super) struct Certificates {
    keeper: Arc<Keeper>,
    metrics: Arc<Metrics>,
    /// Of the files in use.
    series: BTreeMap<PathBuf, CertificateSeries>,
    shown: Option<SystemTime>,
    warned: Warned,
}

/// What is shown of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    /// Of the first of its certificates.
    end: SystemTime,
    stale: bool,
}

impl Certificates {
    pub(super) fn new(keeper: Arc<Keeper>, metrics: Arc<Metrics>) -> Self {
        Self { keeper, metrics, series: BTreeMap::new(), shown: None, warned: Warned::default() }
    }

    /// Looks whether files have changed.
    pub(super) fn look(&mut self) {
        let looked = self.keeper.look();
        for looked in &looked {
            match looked {
                Looked::Renewed(files) => {
                    self.metrics.tls_reload("renewed");
                    tracing::info!(files, "new certificates are in use");
                }
                Looked::Refused(problem) => {
                    self.metrics.tls_reload("refused");
                    tracing::error!("changed certificates cannot be used, the old ones stay: {problem}");
                }
            }
        }
        let now = SystemTime::now();
        let current = |shown: SystemTime| now.duration_since(shown).is_ok_and(|since| since < SHOWN_FOR);
        if !looked.is_empty() || !self.shown.is_some_and(current) {
            self.show(now);
        }
    }

    /// After a configuration has taken force: shows what it has, and tells what is wrong with it.
    pub(super) fn reloaded(&mut self) {
        self.show(SystemTime::now());
        for file in self.keeper.exposed_keys() {
            tracing::warn!(file, "everybody on this host can read a private key; chmod 600 mends that");
        }
    }

    fn show(&mut self, now: SystemTime) {
        let standing = by_file(self.keeper.standing());
        self.series.retain(|file, _| standing.contains_key(file));
        for (file, standing) in &standing {
            let metrics = &self.metrics;
            let series = self.series.entry(file.clone());
            let series = series.or_insert_with(|| metrics.certificate_series(&file.display().to_string()));
            series.days.set(days(standing.end, now));
            series.stale.set(standing.stale);
        }
        for (file, ends) in self.warned.due(&standing, now) {
            let file = file.display();
            match ends {
                Ends::Soon(days) => tracing::warn!(%file, days, "a certificate is about to end"),
                Ends::Over => tracing::error!(%file, "a certificate has ended: nobody will accept it"),
            }
        }
        self.shown = Some(now);
    }
}

/// Several may use a file, and not all of them as it is now.
fn by_file(all: Vec<tls::Standing>) -> BTreeMap<PathBuf, Standing> {
    let mut files = BTreeMap::new();
    for tls::Standing { file, ends, problem } in all {
        let standing = files.entry(file).or_insert(Standing { end: ends, stale: false });
        standing.end = standing.end.min(ends);
        standing.stale |= problem.is_some();
    }
    files
}

/// Negative when the end has passed.
fn days(end: SystemTime, now: SystemTime) -> f64 {
    match end.duration_since(now) {
        Ok(left) => left.as_secs_f64() / DAY.as_secs_f64(),
        Err(past) => -past.duration().as_secs_f64() / DAY.as_secs_f64(),
    }
}

/// How far a certificate is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// In so many days, rounded down.
    Soon(u64),
    Over,
}

/// Of which certificates has been warned, and when: once a day, and once more when they have ended.
#[derive(Default)]
struct Warned(HashMap<PathBuf, (SystemTime, bool)>);

impl Warned {
    /// Those that are to be warned of now.
    fn due<'a>(
        &mut self,
        standing: &'a BTreeMap<PathBuf, Standing>,
        now: SystemTime,
    ) -> Vec<(&'a PathBuf, Ends)> {
        self.0.retain(|file, _| standing.get(file).is_some_and(|standing| standing.end < now + SOON));
        let mut due = Vec::new();
        for (file, standing) in standing.iter().filter(|(_, standing)| standing.end < now + SOON) {
            let ends = standing
                .end
                .duration_since(now)
                .map_or(Ends::Over, |left| Ends::Soon(left.as_secs() / DAY.as_secs()));
            let over = ends == Ends::Over;
            let last = self.0.get(file).filter(|(at, was_over)| {
                *was_over == over && now.duration_since(*at).is_ok_and(|since| since < DAY)
            });
            if last.is_none() {
                self.0.insert(file.clone(), (now, over));
                due.push((file, ends));
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn one(end: SystemTime) -> BTreeMap<PathBuf, Standing> {
        BTreeMap::from([(PathBuf::from("a"), Standing { end, stale: false })])
    }

    fn due(warned: &mut Warned, end: SystemTime, now: SystemTime) -> Option<Ends> {
        warned.due(&one(end), now).first().map(|(_, ends)| *ends)
    }

    #[test]
    fn the_end_of_a_certificate_is_warned_of_once_a_day_in_its_last_week_and_when_it_has_come() {
        let (end, mut warned) = (SystemTime::now() + 100 * DAY, Warned::default());
        assert_eq!(due(&mut warned, end, end - 8 * DAY), None);
        assert_eq!(due(&mut warned, end, end - 7 * DAY + HOUR), Some(Ends::Soon(6)));
        assert_eq!(due(&mut warned, end, end - 7 * DAY + 2 * HOUR), None);
        assert_eq!(due(&mut warned, end, end - 6 * DAY + HOUR), Some(Ends::Soon(5)));
        assert_eq!(due(&mut warned, end, end - HOUR), Some(Ends::Soon(0)));
        assert_eq!(due(&mut warned, end, end + HOUR), Some(Ends::Over));
        assert_eq!(due(&mut warned, end, end + 2 * HOUR), None);
        assert_eq!(due(&mut warned, end, end + 26 * HOUR), Some(Ends::Over));
    }

    #[test]
    fn a_certificate_that_was_renewed_is_warned_of_again_when_it_ends_in_turn() {
        let (end, mut warned) = (SystemTime::now() + 100 * DAY, Warned::default());
        assert!(due(&mut warned, end, end - DAY).is_some());
        let renewed = end + DAY * 30;
        assert_eq!(due(&mut warned, renewed, end - DAY + HOUR), None);
        assert!(due(&mut warned, renewed - 29 * DAY, end - DAY + 2 * HOUR).is_some());
    }

    #[test]
    fn a_file_shows_the_worst_of_those_who_use_it() {
        let now = SystemTime::now();
        let of = |ends, stale: bool| tls::Standing {
            file: "a".into(),
            ends,
            problem: stale.then(|| "no key".to_owned()),
        };
        let files = by_file(vec![of(now + DAY, false), of(now - DAY, false), of(now + 2 * DAY, true)]);
        assert_eq!(files[&PathBuf::from("a")], Standing { end: now - DAY, stale: true });
        assert!((days(now - DAY, now) + 1.0).abs() < 1e-9 && (days(now + DAY, now) - 1.0).abs() < 1e-9);
    }
}
