//! A new volume begins with what the image has in its place.

use super::{Backing, DATA, Inner, Volumes, copy};
use crate::error::{Attempt, Error, Result, blocking};
use coracle_spec::Digest;
use coracle_sys::atomic;
use coracle_sys::error::Context;
use coracle_sys::rooted::Root;
use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, PoisonError};

/// Beside the data; what is copied moves there once it is whole.
const COPYING: &str = "_copying";

impl Volumes {
    /// Copies what the image of `layers`, the lowest first, has at `path` into an empty volume, or into the empty directory
    /// `subpath` of it: content, and owner, mode and attributes of the directory itself. One that has something is left as
    /// it is, as is one for which the image has nothing. One that mounts something is mounted meanwhile: what is in memory is
    /// gone with its last user, and as with Docker that may be this. A part that cannot be mounted is left for the start to refuse.
    /// Durable on return.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the volume, [`Error::Invalid`] when the image has something else than a directory there, and
    /// the kernel's.
    pub async fn copy_up(
        &self,
        (volume, subpath): (&str, &str),
        layers: &[Digest],
        path: &str,
    ) -> Result<()> {
        let inner = Arc::clone(&self.0);
        let (volume, subpath) = (volume.to_owned(), subpath.to_owned());
        let (layers, path) = (layers.to_vec(), path.to_owned());
        blocking(move || inner.copy_up((&volume, &subpath), &layers, &path)).await?
    }
}

impl Inner {
    fn copy_up(&self, (volume, subpath): (&str, &str), layers: &[Digest], path: &str) -> Result<()> {
        let entry = self.entry(volume)?;
        let _copying = entry.copying.lock().unwrap_or_else(PoisonError::into_inner);
        let copying = || format!("copy {path} of the image into volume {volume}");
        let directory = self.directory(volume);
        let is_mounted = entry.volume.backing() != Backing::Directory;
        // Nothing is mounted for nothing.
        if is_mounted && (layers.is_empty() || open_source(&self.merged(layers, path)?, path)?.is_none()) {
            return Ok(());
        }
        let mounted = self.mount(&entry)?;
        let mut target = match &mounted {
            Some(mounted) => mounted.inside(|| open_directory(Path::new("/"))).attempt(copying)?,
            None => open_directory(&directory.join(DATA)),
        }
        .attempt(copying)?;
        if !subpath.is_empty() {
            let Some(part) = open_part(target, subpath) else { return Ok(()) };
            target = part;
        }
        if layers.is_empty() || !is_empty(target.as_fd()).attempt(copying)? {
            return Ok(());
        }
        let image = self.merged(layers, path)?;
        let Some(source) = open_source(&image, path)? else { return Ok(()) };
        // Most images have nothing but the directory: no need to sync the whole file system for that.
        if is_empty(source.as_fd()).attempt(copying)? {
            return adopt_attributes(source.as_fd(), target.as_fd()).attempt(copying);
        }
        if mounted.is_none() {
            return self.fill(&directory, source.as_fd(), target.as_fd()).attempt(copying);
        }
        // There is nothing beside it from which it could be moved.
        copy::tree(source.as_fd(), target.as_fd()).attempt(copying)?;
        copy::attributes(source.as_fd(), target.as_fd()).attempt(copying)?;
        rustix::fs::syncfs(&target).attempt(copying)
    }

    fn merged(&self, layers: &[Digest], path: &str) -> Result<Root> {
        self.store.merged(layers, None).attempt(|| format!("open {path} of the image"))
    }

    /// Copies beside the data and moves it there once it is whole and on the disk.
    fn fill(
        &self,
        directory: &Path,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
    ) -> coracle_store::Result<()> {
        let staging = directory.join(COPYING);
        // What an engine left that was killed here.
        atomic::discard(&staging, self.root.join("trash"))?;
        atomic::create_dir(&staging, Mode::from_raw_mode(0o700))?;
        let staged = open_directory(&staging)?;
        // What counts otherwise could not be moved there.
        self.store.share_bound(target, staged.as_fd())?;
        copy::tree(source, staged.as_fd())?;
        rustix::fs::syncfs(&staged).context("syncfs", staging.display())?;
        for name in coracle_sys::tree::names(staged.as_fd())? {
            rustix::fs::renameat_with(
                &staged,
                name.as_c_str(),
                target,
                name.as_c_str(),
                RenameFlags::NOREPLACE,
            )
            .context("renameat2", name.to_string_lossy())?;
        }
        adopt_attributes(source, target)?;
        atomic::discard(&staging, self.root.join("trash"))?;
        Ok(())
    }
}

/// The volume's directory is as the image's, durably.
fn adopt_attributes(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> coracle_sys::Result<()> {
    copy::attributes(source, target)?;
    rustix::fs::fsync(target).context("fsync", "volume")
}

/// What the image has at `path`; `None` when it has nothing.
fn open_source(image: &Root, path: &str) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    match image.open_file(path, flags, Mode::empty()) {
        Ok(source) => Ok(Some(source)),
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
        Err(error) if error.errno() == Some(Errno::NOTDIR) => {
            Err(Error::Invalid(format!("the image has something else than a directory at {path}")))
        }
        Err(error) => Err(error).attempt(|| format!("open {path} of the image")),
    }
}

fn open_directory(path: &Path) -> coracle_sys::Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).context("open", path.display()).map(File::from)
}

/// A directory in a volume, whose content is its containers'.
fn open_part(volume: File, subpath: &str) -> Option<File> {
    let handle = Root::from_fd(volume.into()).ok()?.open_beneath(subpath).ok()?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    coracle_sys::rooted::reopen(&handle, flags).ok().map(File::from)
}

fn is_empty(directory: BorrowedFd<'_>) -> coracle_sys::Result<bool> {
    coracle_sys::tree::names(directory).map(|names| names.is_empty())
}
