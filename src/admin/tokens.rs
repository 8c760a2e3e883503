//! Bearer tokens of the admin API, which stand in files.
//!
//! # When a file changes
//! It is read every second. A new content is the token from then on. What cannot be a token (half written, too short, open to others) is
//! told, and the old token stays. When the file is gone, so is the token: nobody gets in by it until there is a file again.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use subtle::ConstantTimeEq;

/// Fewer characters could be guessed.
const LEAST: usize = 16;
/// No token is longer; what is, is another file.
const MOST: u64 = 4096;

/// The content of a file, which callers have to know.
pub(super) struct Token {
    /// Under which it is configured.
    key: &'static str,
    file: PathBuf,
    seen: Mutex<Seen>,
}

struct Seen {
    /// None: the file is gone.
    content: Option<Vec<u8>>,
    problem: Option<String>,
}

enum Unreadable {
    Gone(String),
    Unusable(String),
}

impl Token {
    /// Reads `file`, which is configured under `key`.
    ///
    /// # Errors
    /// Why it holds no token.
    pub(super) fn open(key: &'static str, file: &Path) -> Result<Self, String> {
        let content = read(file).map_err(|why| match why {
            Unreadable::Gone(problem) | Unreadable::Unusable(problem) => format!("admin.{key}: {problem}"),
        })?;
        let token = Self {
            key,
            file: file.to_owned(),
            seen: Mutex::new(Seen { content: Some(content), problem: None }),
        };
        token.warn();
        Ok(token)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `given` is it. How long that takes tells no more than its length.
    pub(super) fn is(&self, given: &[u8]) -> bool {
        self.seen().content.as_ref().is_some_and(|content| content.ct_eq(given).into())
    }

    /// Why the file holds no token now.
    pub(super) fn problem(&self) -> Option<String> {
        self.seen().problem.clone()
    }

    /// Reads the file again.
    pub(super) fn look(&self) {
        let mut seen = self.seen();
        let problem = match read(&self.file) {
            Ok(content) => {
                if seen.content.as_ref() != Some(&content) {
                    seen.content = Some(content);
                    tracing::info!(file = %self.file.display(), "admin.{} renewed", self.key);
                    self.warn();
                }
                None
            }
            Err(Unreadable::Gone(problem)) => {
                seen.content = None;
                Some(format!("admin.{}: {problem}; nobody gets in by it", self.key))
            }
            Err(Unreadable::Unusable(problem)) => {
                Some(format!("admin.{}: {problem}; what it was before still is", self.key))
            }
        };
        if let Some(problem) = problem.as_ref().filter(|problem| seen.problem.as_ref() != Some(problem)) {
            tracing::error!("{problem}");
        }
        seen.problem = problem;
    }

    /// Kubernetes mounts secrets readable by default, so that is told and not refused.
    fn warn(&self) {
        if mode(&self.file).is_ok_and(|mode| mode & 0o004 != 0) {
            let file = self.file.display();
            tracing::warn!("everybody on this host can read {file}, the admin API's {}", self.key);
        }
    }
}

fn mode(file: &Path) -> io::Result<u32> {
    fs::metadata(file).map(|metadata| metadata.permissions().mode())
}

fn read(file: &Path) -> Result<Vec<u8>, Unreadable> {
    let name = file.display();
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Unreadable::Gone(format!("there is no file {name}")),
        _ => Unreadable::Unusable(format!("cannot read {name}: {error}")),
    };
    let metadata = fs::metadata(file).map_err(unreadable)?;
    let unusable = |what: String| Err(Unreadable::Unusable(what));
    if !metadata.is_file() || metadata.len() > MOST {
        return unusable(format!("{name} is no file with a token"));
    }
    if metadata.permissions().mode() & 0o022 != 0 {
        return unusable(format!("others may write {name}, a token; chmod 600 mends that"));
    }
    let content = fs::read(file).map_err(unreadable)?;
    let token = content.trim_ascii();
    if token.len() < LEAST {
        return unusable(format!("{name} has {} characters; a token has at least {LEAST}", token.len()));
    }
    if !token.iter().all(u8::is_ascii_graphic) {
        return unusable(format!("{name} has characters that cannot stand in a header; a token is one word"));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0123456789abcdef";

    fn write(file: &Path, text: &str) {
        fs::write(file, text).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn a_token_is_the_trimmed_content_of_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        write(&file, &format!("  {ONE}\n"));
        let token = Token::open("read_token", &file).unwrap();
        assert!(token.is(ONE.as_bytes()));
        for wrong in ["", "0123456789abcde", "0123456789abcdeF", "0123456789abcdef0"] {
            assert!(!token.is(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn a_file_without_a_token_is_named_with_its_key_and_never_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        for (text, part) in [("swordfish", "has 9 characters"), ("sword fish sword fish", "one word")] {
            write(&file, text);
            let problem = Token::open("read_token", &file).err().unwrap();
            assert!(problem.starts_with("admin.read_token: ") && problem.contains(part), "{problem}");
            assert!(problem.contains("/token") && !problem.contains("sword"), "{problem}");
        }
        write(&file, ONE);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o620)).unwrap();
        assert!(Token::open("read_token", &file).err().unwrap().contains("others may write"));
        assert!(Token::open("read_token", directory.path()).is_err());
    }

    #[test]
    fn a_changed_file_counts_a_bad_one_leaves_the_old_and_a_missing_one_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        write(&file, ONE);
        let token = Token::open("control_token", &file).unwrap();
        let second = "fedcba9876543210";
        write(&file, second);
        token.look();
        assert!(token.is(second.as_bytes()) && !token.is(ONE.as_bytes()));
        write(&file, "fedc");
        token.look();
        assert!(token.is(second.as_bytes()));
        assert!(token.problem().unwrap().contains("what it was before still is"));
        fs::remove_file(&file).unwrap();
        token.look();
        assert!(!token.is(second.as_bytes()) && !token.is(b""));
        assert!(token.problem().unwrap().contains("nobody gets in by it"));
        write(&file, ONE);
        token.look();
        assert!(token.is(ONE.as_bytes()) && token.problem().is_none());
    }
}
