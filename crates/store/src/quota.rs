//! Bounds on what directories may take, where the file system has quotas of projects.
//!
//! Each engine numbers its projects in a range of its own, by its data root, and gives a number only to one directory at a
//! time: a number is free when the file system counts no file of it. What is in the trash still is somebody's.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use coracle_spec::{ContainerId, Digest};
use coracle_sys::error::Context;
use coracle_sys::quota::{self, RoomToMount};
use rustix::fs::{Mode, OFlags};

use crate::Store;
use crate::error::{Error, Result};

/// Projects of an engine, and the least number of any.
const RANGE: u32 = 1 << 20;
const FIRST: u32 = 1 << 30;

/// The projects of a data root that lies on a file system with quotas.
#[derive(Debug)]
pub(crate) struct Projects {
    first: u32,
    /// How many numbers above `first` are looked at next.
    next: Mutex<u32>,
}

impl Projects {
    /// Nothing where the file system of `root` holds nobody to a limit.
    pub(crate) fn of(root: &Path) -> Result<Option<Self>> {
        // A link may lead to it.
        let opened = File::open(root).context("open", root.display())?;
        if !quota::is_enforced(opened.as_fd())? {
            return Ok(None);
        }
        let digest = Digest::of(root.as_os_str().as_encoded_bytes());
        let range = u32::from_str_radix(&digest.hex()[..8], 16).unwrap_or(0) % (FIRST / RANGE);
        Ok(Some(Self { first: FIRST + range * RANGE, next: Mutex::new(0) }))
    }

    fn has(&self, project: u32) -> bool {
        (self.first..self.first + RANGE).contains(&project)
    }

    /// Has the empty `directories` be one project, which nobody has, and holds it to `bytes`.
    fn bound(&self, directories: &[&Path], bytes: u64) -> Result<()> {
        let opened = directories.iter().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
        let Some(first) = opened.first().map(AsFd::as_fd) else { return Ok(()) };
        // Held until the number is taken.
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..RANGE {
            let project = self.first + *next;
            *next = (*next + 1) % RANGE;
            if quota::usage(first, project)?.files > 0 {
                continue;
            }
            quota::set_limit(first, project, bytes)?;
            return opened
                .iter()
                .try_for_each(|directory| Ok(quota::set_project(directory.as_fd(), project)?));
        }
        Err(Error::NoProject)
    }

    /// The project of a directory, if it is one of these.
    fn find(&self, directory: BorrowedFd<'_>) -> Result<Option<u32>> {
        Ok(quota::project(directory)?.filter(|project| self.has(*project)))
    }
}

impl Store {
    /// Whether [`Store::bound`] and [`Store::bound_snapshot`] can do what they are asked for.
    pub fn has_quotas(&self) -> bool {
        self.projects.is_some()
    }

    /// Holds what is made in an empty directory of the data root to `bytes`. The kernel refuses more, with `EDQUOT` or
    /// `ENOSPC`.
    ///
    /// # Errors
    /// [`Error::NoQuotas`], [`Error::NoProject`], and the kernel's.
    pub fn bound(&self, directory: &Path, bytes: u64) -> Result<()> {
        self.projects()?.bound(&[directory], bytes)
    }

    /// Holds what a container writes, which [`Store::prepare`] has just made the directories for, to `bytes`.
    ///
    /// # Errors
    /// As [`Store::bound`].
    pub fn bound_snapshot(&self, container: &ContainerId, bytes: u64) -> Result<()> {
        let directory = self.layout.container(container);
        self.projects()?.bound(&[&directory.join("upper"), &directory.join("work")], bytes)
    }

    /// Makes sure that what a container writes is held to `bytes` still: quotas are a matter of how a file system is
    /// mounted, and copies of a data root have none.
    ///
    /// # Errors
    /// [`Error::NoQuotas`], also when its files do not belong to a project of this engine any more.
    pub fn check_bound(&self, container: &ContainerId, bytes: u64) -> Result<()> {
        let projects = self.projects()?;
        let upper = open(&self.upper(container))?;
        let project = projects.find(upper.as_fd())?.ok_or(Error::NoQuotas)?;
        Ok(quota::set_limit(upper.as_fd(), project, bytes)?)
    }

    /// Room to mount what a container writes although it is full, until the result is dropped; see [`RoomToMount`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn room_to_mount(&self, container: &ContainerId) -> Result<Option<RoomToMount>> {
        match &self.projects {
            Some(_) => Ok(RoomToMount::of(open(&self.upper(container))?.into())?),
            None => Ok(None),
        }
    }

    /// Has an empty `directory` count with `other`, so that files can be moved from the one into the other.
    ///
    /// # Errors
    /// The kernel's.
    pub fn share_bound(&self, other: BorrowedFd<'_>, directory: BorrowedFd<'_>) -> Result<()> {
        match &self.projects {
            Some(projects) => {
                let project = projects.find(other)?;
                project.map_or(Ok(()), |project| Ok(quota::set_project(directory, project)?))
            }
            None => Ok(()),
        }
    }

    /// Does `work`, which makes `directory` go, and then forgets its bound.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn unbound<T>(&self, directory: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let Some(projects) = &self.projects else { return work() };
        // One that is not there has no bound; whoever removes it says so.
        let bounded = open(directory).ok().and_then(|opened| {
            let project = projects.find(opened.as_fd()).ok()??;
            Some((opened, project))
        });
        let done = work()?;
        if let Some((opened, project)) = bounded {
            // What is gone is gone; whoever gets the number sets a limit of its own.
            let _ = quota::set_limit(opened.as_fd(), project, 0);
        }
        Ok(done)
    }

    fn projects(&self) -> Result<&Projects> {
        self.projects.as_ref().ok_or(Error::NoQuotas)
    }
}

fn open(directory: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(directory, flags, Mode::empty()).context("open", directory.display())?;
    Ok(File::from(opened))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_quotas_nothing_is_bounded_and_everything_else_goes_on() {
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let store = Store::open(memory.path()).unwrap();
        let inside = memory.path().join("tmp");
        assert!(!store.has_quotas());
        assert!(matches!(store.bound(&inside, 1), Err(Error::NoQuotas)));
        let opened = open(&inside).unwrap();
        store.share_bound(opened.as_fd(), opened.as_fd()).unwrap();
        assert_eq!(store.unbound(&inside, || Ok(7)).unwrap(), 7);
    }

    #[test]
    fn engines_number_their_projects_apart() {
        let range = |first| Projects { first, next: Mutex::default() };
        assert!(range(FIRST).has(FIRST) && !range(FIRST).has(FIRST + RANGE) && !range(FIRST).has(1));
    }
}
