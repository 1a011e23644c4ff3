//! Which volumes there are, and how large they are.

use super::{Backing, DRIVER, Volume, Volumes, tree};
use crate::error::{Attempt, Result, blocking};
use crate::labels::LabelFilter;
use coracle_sys::rooted::Root;
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;

/// Which volumes are listed. What is empty or absent lets all pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeFilter {
    /// Any of these is in the name.
    pub names: Vec<String>,
    /// All of these are among the labels.
    pub labels: Vec<LabelFilter>,
    /// Any of these is the driver.
    pub drivers: Vec<String>,
    /// Whether no container has it, or one has.
    pub dangling: Option<bool>,
}

impl VolumeFilter {
    fn matches(&self, volume: &Volume, is_used: &dyn Fn(&str) -> bool) -> bool {
        (self.names.is_empty() || self.names.iter().any(|name| volume.name.contains(name.as_str())))
            && self.labels.iter().all(|label| label.matches(&volume.labels))
            && (self.drivers.is_empty() || self.drivers.iter().any(|driver| driver == DRIVER))
            && self.dangling.is_none_or(|dangling| dangling != is_used(&volume.name))
    }
}

impl Volumes {
    /// The volumes that pass a filter, by name. `is_used` says whether a container has the volume of a name.
    pub fn list(&self, filter: &VolumeFilter, is_used: &dyn Fn(&str) -> bool) -> Vec<Volume> {
        let all: Vec<Volume> = self.0.lock().values().map(|entry| entry.volume.clone()).collect();
        all.into_iter().filter(|volume| filter.matches(volume, is_used)).collect()
    }

    /// Bytes in the files of each volume that mounts nothing, by name. Containers write them, so all files are looked at.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn sizes(&self) -> Result<BTreeMap<String, u64>> {
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let volumes: Vec<Volume> = inner.lock().values().map(|entry| entry.volume.clone()).collect();
            let mut sizes = BTreeMap::new();
            for volume in volumes {
                // One that is being removed has no size any more, and what is mounted may be anywhere, and slow.
                if volume.backing() == Backing::Directory && volume.mountpoint.exists() {
                    sizes.insert(volume.name.clone(), size(&volume)?);
                }
            }
            Ok(sizes)
        })
        .await?
    }
}

/// Bytes in the files of a volume.
pub(super) fn size(volume: &Volume) -> Result<u64> {
    let measuring = || format!("measure volume {}", volume.name);
    let root = Root::open(&volume.mountpoint).attempt(measuring)?;
    tree::size(root.as_fd()).attempt(measuring)
}
