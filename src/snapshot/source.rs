//! Where a node's configuration comes from, and reading it again and again.

use std::path::PathBuf;

use crate::config::{self, Config};

/// Where a node's configuration comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file, read again at each reload.
    File(PathBuf),
    /// A text that was compiled in or made by a test; `name` stands for the file in messages.
    Text {
        /// Stands for the file in messages.
        name: String,
        /// The TOML.
        text: String,
    },
}

/// Reads a source; what did not change since the last time is not read again.
#[derive(Debug)]
pub struct Reader {
    source: Source,
    memory: config::Memory,
}

impl Reader {
    /// One that has read nothing.
    pub fn new(source: Source) -> Self {
        Self { source, memory: config::Memory::default() }
    }

    /// Replaces the text of a [`Source::Text`].
    pub fn replace(&mut self, new: String) {
        if let Source::Text { text, .. } = &mut self.source {
            *text = new;
        }
    }

    /// Reads and checks the source.
    ///
    /// # Errors
    /// Every problem, a line each.
    pub fn read(&mut self) -> Result<Config, String> {
        match &self.source {
            Source::File(path) => config::reload(path, &mut self.memory),
            Source::Text { name, text } => config::reparse(text, name.as_ref(), &mut self.memory),
        }
        .map_err(|problems| problems.to_string().trim_end().to_owned())
    }
}
