//! Trees that come by descriptor, as no path names them, and the mounts that show them.

use super::plan::PlannedMount;
use crate::error::{Error, Result};
use crate::protocol::{SHARED_MEMORY, tree_number};
use coracle_spec::runtime::Mount;
use std::os::fd::OwnedFd;

/// Detached mounts that came with a plan.
#[derive(Debug, Default)]
pub struct Given {
    /// What the mount with the source [`SHARED_MEMORY`] shows.
    pub shared_memory: Option<OwnedFd>,
    /// What mounts with sources of [`crate::protocol::tree`] show, by number.
    pub trees: Vec<OwnedFd>,
}

impl Given {
    /// The tree of the host that a mount shows, if it shows one, as it is seen in the caller's mount namespace.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a mount that no container may have, `ENOENT` and the like for its source.
    pub(crate) fn open_tree(&self, mount: &Mount) -> Result<Option<OwnedFd>> {
        Ok(self.open(mount)?.into_tree())
    }

    /// Checks a mount, and opens what it shows.
    pub(super) fn open(&self, mount: &Mount) -> Result<PlannedMount> {
        let found = if mount.source == SHARED_MEMORY {
            self.shared_memory.as_ref()
        } else if let Some(number) = tree_number(&mount.source) {
            self.trees.get(number)
        } else {
            return PlannedMount::open(mount);
        };
        PlannedMount::with(mount, || {
            let missing = || Error::Invalid(format!("the {} did not come with the plan", mount.source));
            let found = found.ok_or_else(missing)?;
            found.try_clone().map_err(|error| Error::Child(format!("duplicate a mount: {error}")))
        })
    }
}
