//! A new volume begins with what the image has in its place.

use super::{DATA, Inner, Volumes, copy};
use crate::error::{Attempt, Error, Result, blocking};
use coracle_spec::Digest;
use coracle_sys::error::Context;
use coracle_sys::rooted::Root;
use coracle_sys::{atomic, mount};
use rustix::fs::{Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

/// Beside the data; what is copied moves there once it is whole.
const COPYING: &str = "_copying";

impl Volumes {
    /// Copies what the image of `layers`, the lowest first, has at `path` into an empty volume: content, and owner, mode
    /// and attributes of the directory itself. A volume that has something is left as it is, as is one for which the
    /// image has nothing. Durable on return.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the volume, [`Error::Invalid`] when the image has something else than a directory there, and
    /// the kernel's.
    pub async fn copy_up(&self, volume: &str, layers: &[Digest], path: &str) -> Result<()> {
        let inner = Arc::clone(&self.0);
        let (volume, layers, path) = (volume.to_owned(), layers.to_vec(), path.to_owned());
        blocking(move || inner.copy_up(&volume, &layers, &path)).await?
    }
}

impl Inner {
    fn copy_up(&self, volume: &str, layers: &[Digest], path: &str) -> Result<()> {
        let entry = self.entry(volume)?;
        let _copying = entry.copying.lock().unwrap_or_else(PoisonError::into_inner);
        let copying = || format!("copy {path} of the image into volume {volume}");
        let directory = self.directory(volume);
        let target = open_directory(&directory.join(DATA)).attempt(copying)?;
        if layers.is_empty() || !is_empty(target.as_fd()).attempt(copying)? {
            return Ok(());
        }
        let lowers = self.store.lowers(layers).attempt(copying)?;
        let image = self.open_image(&lowers).attempt(copying)?;
        let Some(source) = open_source(&image, path)? else { return Ok(()) };
        // Most images have nothing but the directory: no need to sync the whole file system for that.
        if is_empty(source.as_fd()).attempt(copying)? {
            return adopt_attributes(source.as_fd(), target.as_fd()).attempt(copying);
        }
        self.fill(&directory, source.as_fd(), target.as_fd()).attempt(copying)
    }

    /// The merged layers, the topmost first, mounted nowhere and read-only.
    fn open_image(&self, lowers: &[PathBuf]) -> coracle_sys::Result<Root> {
        let open = |path: &PathBuf| Root::open(path).map(Root::into_fd);
        let mut layers = lowers.iter().map(open).collect::<coracle_sys::Result<Vec<_>>>()?;
        // An overlay without an upper directory wants two lower ones at least. The mount keeps it, not the name.
        let empty = self.root.join("tmp").join(atomic::random_name()?);
        atomic::create_dir(&empty, Mode::from_raw_mode(0o700))?;
        let opened = open(&empty);
        rustix::fs::rmdir(&empty).context("rmdir", empty.display())?;
        layers.push(opened?);
        Root::from_fd(mount::overlay(&layers, None)?)
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

fn is_empty(directory: BorrowedFd<'_>) -> coracle_sys::Result<bool> {
    coracle_sys::tree::names(directory).map(|names| names.is_empty())
}
