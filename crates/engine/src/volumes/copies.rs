//! Volumes become archives, archives volumes, and volumes other volumes. What is new appears whole or not at all.

use super::mounting::Mounting;
use super::{Backing, Creation, DATA, Entry, Inner, Volume, Volumes, copy};
use crate::error::{Attempt, Error, Result, blocking};
use crate::images::{BodyReader, BodyWriter};
use coracle_spec::Name;
use coracle_store::{Copying, Tree};
use coracle_sys::error::Context;
use coracle_sys::rooted::Root;
use rustix::fs::{Mode, OFlags};
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Has a volume stay as long as it is read.
#[derive(Debug)]
struct Kept(Arc<AtomicUsize>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Entry {
    /// Whether somebody reads all of it now.
    pub(super) fn is_kept(&self) -> bool {
        self.kept.load(Ordering::SeqCst) > 0
    }
}

/// The files of a volume, which are about to become an archive. The volume stays meanwhile.
#[derive(Debug)]
pub struct Saving {
    name: String,
    data: OwnedFd,
    _kept: Kept,
}

impl Saving {
    /// Writes the archive, whose entries begin with `./`. Blocks.
    ///
    /// # Errors
    /// When something cannot be read, or `output` not be written.
    pub(crate) fn write(self, output: BodyWriter) -> Result<()> {
        let saving = || format!("save volume {}", self.name);
        let tree = Root::from_fd(self.data.try_clone().attempt(saving)?).attempt(saving)?;
        let tree = Tree::new(tree, &[]).attempt(saving)?;
        let missing = || Error::NotFound { kind: "volume", name: self.name.clone() };
        let top = tree.find(Path::new("/")).attempt(saving)?.ok_or_else(missing)?;
        tree.pack(&top, OsStr::new("."), output).attempt(saving)
    }
}

impl Volumes {
    /// Prepares an archive of a volume's files.
    ///
    /// # Errors
    /// [`Error::NotFound`], and [`Error::Unsupported`] for one that is mounted from elsewhere.
    pub(crate) async fn save(&self, name: &str) -> Result<Saving> {
        let (inner, name) = (Arc::clone(&self.0), name.to_owned());
        blocking(move || inner.keep(&name).map(|(saving, _)| saving)).await?
    }

    /// Makes a volume of an archive, compressed or not. Durable on return.
    ///
    /// # Errors
    /// As [`Volumes::create`]; [`Error::Conflict`] when there is one of that name, [`Error::Invalid`] for an archive that is
    /// malformed or hostile, or that ends early.
    pub async fn load(&self, wanted: Creation, archive: BodyReader) -> Result<Volume> {
        let inner = Arc::clone(&self.0);
        blocking(move || {
            inner.create_filled(wanted, |name, data| {
                let invalid = |error: coracle_store::Error| match error.is_input() {
                    true => {
                        Error::Invalid(format!("load volume {name}: {}", coracle_spec::full_text(&error)))
                    }
                    false => Error::Failed { action: format!("load volume {name}"), source: Box::new(error) },
                };
                let loading = || format!("load volume {name}");
                let root = Root::from_fd(data.try_clone_to_owned().attempt(loading)?).attempt(loading)?;
                let tree = Tree::new(root, &[]).attempt(loading)?;
                let copying = Copying { describe_top: true, ..Copying::default() };
                tree.unpack(Path::new("/"), archive, copying).map_err(invalid)
            })
        })
        .await?
    }

    /// Makes a volume of what another one has, with its options and labels, and those of `wanted` besides. Where the file
    /// system can, they share the data until one of them changes, ioctl_ficlonerange(2). Durable on return.
    ///
    /// # Errors
    /// As [`Volumes::create`]; [`Error::NotFound`] for the other one, [`Error::Conflict`] when there is one of that name.
    pub(crate) async fn copy(&self, from: &str, mut wanted: Creation) -> Result<Volume> {
        let (inner, from) = (Arc::clone(&self.0), from.to_owned());
        blocking(move || {
            let (source, original) = inner.keep(&from)?;
            let mut labels = original.labels;
            // The copy has a name.
            labels.remove(super::ANONYMOUS);
            labels.append(&mut wanted.labels);
            let mut options = original.options;
            options.append(&mut wanted.options);
            inner.create_filled(Creation { labels, options, ..wanted }, |name, data| {
                copy::tree(source.data.as_fd(), data)
                    .and_then(|()| copy::attributes(source.data.as_fd(), data))
                    .attempt(|| format!("copy volume {from} to {name}"))
            })
        })
        .await?
    }
}

impl Inner {
    /// Opens the files of a volume, which stays as long as they are.
    fn keep(&self, name: &str) -> Result<(Saving, Volume)> {
        // Nobody removes it between the look and the note.
        let _change = self.change();
        let entry = self.entry(name)?;
        if entry.volume.backing() != Backing::Directory {
            return Err(Error::Unsupported(format!(
                "volume {name} is mounted from elsewhere: copy {} there",
                entry.volume.options.get("device").map_or("it", String::as_str)
            )));
        }
        let directory = self.directory(name).join(DATA);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let data = rustix::fs::open(&directory, flags, Mode::empty())
            .context("open", directory.display())
            .attempt(|| format!("open volume {name}"))?;
        entry.kept.fetch_add(1, Ordering::SeqCst);
        let saving = Saving { name: name.to_owned(), data, _kept: Kept(entry.kept) };
        Ok((saving, entry.volume))
    }

    /// Makes a volume that has something from the first. It is filled beside the others, without holding anybody up.
    fn create_filled(
        &self,
        wanted: Creation,
        fill: impl FnOnce(&Name, BorrowedFd<'_>) -> Result<()>,
    ) -> Result<Volume> {
        let (name, volume, bound) = self.checked(wanted)?;
        if Mounting::of(&volume.options).ok().flatten().is_some() {
            return Err(Error::Unsupported(format!(
                "volume {name} would be mounted from elsewhere, and nothing be seen of what is in its directory: fill {} there",
                volume.options.get("device").map_or("it", String::as_str)
            )));
        }
        // Nothing is filled for nothing; who is faster meanwhile is seen when it is published.
        self.require_free(&name)?;
        self.publish(&name, volume, bound, |data| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = rustix::fs::open(data, flags, Mode::empty()).context("open", data.display());
            let opened = opened.attempt(|| format!("open volume {name}"))?;
            fill(&name, opened.as_fd())?;
            rustix::fs::syncfs(&opened)
                .context("syncfs", data.display())
                .attempt(|| format!("keep volume {name}"))
        })
    }
}
