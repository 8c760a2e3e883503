//! A directory with certificates and keys.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// A directory with certificates and keys.
pub(super) struct Files {
    directory: PathBuf,
    /// What is there may be replaced.
    force: bool,
}

impl Files {
    pub(super) fn new(directory: &Path, force: bool) -> Self {
        Self { directory: directory.to_owned(), force }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        // Whatever is in the way, be it a link to nowhere.
        self.path(name).symlink_metadata().is_ok()
    }

    /// Whether all of these may be written.
    ///
    /// # Errors
    /// Those that are there already.
    pub(super) fn expect(&self, names: &[&str]) -> Result<(), String> {
        let there: Vec<_> = names.iter().filter(|name| !self.force && self.has(name)).collect();
        if there.is_empty() {
            return Ok(());
        }
        let there: Vec<_> = there.iter().map(|name| self.path(name).display().to_string()).collect();
        Err(format!("{}: there already; --force replaces", there.join(", ")))
    }

    pub(super) fn read(&self, name: &str) -> Result<String, String> {
        let path = self.path(name);
        fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    }

    /// Writes a file whole or not at all: a daemon may be watching it. What is secret, its owner alone can read, from the first byte on.
    pub(super) fn write(&mut self, name: &str, text: &str, is_secret: bool) -> Result<(), String> {
        let path = self.path(name);
        self.put(&path, text, is_secret).map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    fn put(&self, path: &Path, text: &str, is_secret: bool) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".new");
        // Of an attempt that was broken off; it may be readable by others.
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mode = if is_secret { 0o600 } else { 0o644 };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, path)
    }
}
