//! What pulls are bringing and no image has yet. A pull that fails, or an engine that is killed, leaves layers which the
//! next attempt need not fetch again: for a while the garbage collector keeps them.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use coracle_spec::Digest;
use coracle_sys::atomic;
use coracle_sys::error::Context;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::{Store, layout, limits};

const VERSION: u32 = 1;

/// The form on disk. Its age is that of the file.
#[derive(Serialize, Deserialize)]
struct Lease {
    version: u32,
    blobs: Vec<Digest>,
}

impl Store {
    /// Notes that the blobs of a manifest are about to come. Survives the process; power loss may forget it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn lease(&self, manifest: &Digest, blobs: &[Digest]) -> Result<()> {
        let lease = Lease { version: VERSION, blobs: blobs.to_vec() };
        let content = serde_json::to_vec(&lease).expect("plain data");
        Ok(atomic::write(self.layout.lease(manifest), &content, layout::FILE)?)
    }

    /// An image has them now.
    ///
    /// # Errors
    /// The kernel's.
    pub fn end_lease(&self, manifest: &Digest) -> Result<()> {
        self.layout.discard(&self.layout.lease(manifest)).map(drop)
    }

    /// The manifests whose blobs are leased.
    ///
    /// # Errors
    /// The kernel's.
    pub fn leases(&self) -> Result<Vec<Digest>> {
        let directory = self.layout.leases();
        let mut manifests = Vec::new();
        for entry in std::fs::read_dir(&directory).context("readdir", directory.display())? {
            let name = entry.context("readdir", directory.display())?.file_name();
            // What is being written has another name yet.
            manifests.extend(name.to_str().and_then(layout::from_flat_name));
        }
        Ok(manifests)
    }

    /// All blobs that are leased for less than `age`. Older leases end, and so do those that cannot be read.
    ///
    /// # Errors
    /// The kernel's.
    pub fn leased(&self, age: Duration) -> Result<HashSet<Digest>> {
        let directory = self.layout.leases();
        let mut blobs = HashSet::new();
        for entry in std::fs::read_dir(&directory).context("readdir", directory.display())? {
            let entry = entry.context("readdir", directory.display())?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                // It is being written; what a killed engine was writing goes when the store is opened.
                continue;
            }
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let young = modified.is_ok_and(|time| is_younger(time, age));
            let content = std::fs::read(entry.path()).ok().filter(|content| content.len() <= limits::LEASE);
            match content.and_then(|content| serde_json::from_slice::<Lease>(&content).ok()) {
                Some(lease) if young && lease.version == VERSION => blobs.extend(lease.blobs),
                _ => drop(self.layout.discard(&entry.path())?),
            }
        }
        Ok(blobs)
    }
}

/// A clock that was set back makes nothing old.
fn is_younger(time: SystemTime, age: Duration) -> bool {
    SystemTime::now().duration_since(time).map_or(!age.is_zero(), |elapsed| elapsed < age)
}
