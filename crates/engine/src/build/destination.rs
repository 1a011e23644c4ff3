//! Where files of a build go: what is there already, and the directories on the way.

use crate::error::{Attempt, Error, Result};
use coracle_store::{Altered, Copying, Tree};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// A destination, links on the way to it followed.
pub(super) struct Destination<'a> {
    target: &'a Tree,
    /// As it was written.
    text: &'a str,
    path: PathBuf,
    /// Whether files keep their names in it.
    is_directory: bool,
    /// Whether a file has its name already.
    is_taken: bool,
    /// Whose directories become that are made on the way.
    owner: Option<(u32, u32)>,
}

impl<'a> Destination<'a> {
    /// Looks at what is there. A slash at the end of `text` says that it is to be a directory.
    pub(super) fn find(target: &'a Tree, text: &'a str, owner: Option<(u32, u32)>) -> Result<Self> {
        let finding = || format!("look for {text}");
        let path = target.root().evaluate(text).attempt(finding)?;
        let is_directory = text.ends_with('/') || target.is_directory(&path).attempt(finding)?;
        Ok(Self { target, text, path, is_directory, is_taken: false, owner })
    }

    /// The destination as a directory, made if it is missing: with mode 0755 whatever is copied into it, as BuildKit does.
    pub(super) fn directory(&mut self) -> Result<&Path> {
        self.make(&self.path)?;
        self.is_directory = true;
        Ok(&self.path)
    }

    /// Where a file goes that is called `name` where it comes from.
    pub(super) fn file(&mut self, name: &OsStr) -> Result<PathBuf> {
        if self.is_directory {
            return Ok(self.directory()?.join(name));
        }
        if std::mem::replace(&mut self.is_taken, true) {
            return Err(Error::Invalid(format!(
                "when using COPY with more than one source file, the destination must be a directory and end with a /, not {}",
                self.text
            )));
        }
        self.make(self.path.parent().unwrap_or(&self.path))?;
        Ok(self.path.clone())
    }

    /// Makes a directory and those that are missing above it.
    fn make(&self, directory: &Path) -> Result<()> {
        let making = || format!("make directories of {}", self.text);
        let mut missing = Vec::new();
        for directory in directory.ancestors() {
            if self.target.is_directory(directory).attempt(making)? {
                break;
            }
            if self.target.find(directory).is_ok_and(|found| found.is_some()) {
                let shown = directory.display();
                return Err(Error::Invalid(format!("cannot copy to non-directory: {shown}")));
            }
            missing.push(directory.to_owned());
        }
        if missing.is_empty() {
            return Ok(());
        }
        missing.reverse();
        let mut archive = Vec::new();
        let altered = Altered { owner: self.owner, ..Altered::default() };
        coracle_store::pack_directories(&missing, altered, &mut archive).attempt(making)?;
        let unpacked = self.target.unpack(Path::new("/"), &archive[..], Copying::default());
        unpacked.map_err(|error| super::context::of_input(error, making))
    }
}
