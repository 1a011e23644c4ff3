//! Directories for files of builds that are no content yet.

use crate::engine::Shared;
use coracle_store::{Result, Workspace};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::Notify;

/// An empty directory at first, which goes with the value.
#[derive(Debug)]
pub(super) struct Room {
    workspace: Workspace,
    /// After what it tells of.
    _wakes: Wakes,
}

/// Tells whoever empties the trash: a thread may have had something longer than its build went on.
#[derive(Debug)]
struct Wakes(Arc<Notify>);

impl Room {
    /// Makes one.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn open(shared: &Shared) -> Result<Self> {
        Ok(Self { workspace: shared.store.workspace()?, _wakes: Wakes(Arc::clone(&shared.trash)) })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.workspace.path()
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}
