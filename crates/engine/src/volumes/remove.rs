//! Volumes go.

use super::{Backing, Inner, Volumes, list};
use crate::error::{Attempt, Error, Result, blocking};
use crate::labels::LabelChoice;
use coracle_spec::Name;
use coracle_sys::atomic;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a prune did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The names of the volumes that are gone.
    pub volumes: Vec<String>,
    /// Bytes in their files.
    pub bytes: u64,
}

impl Volumes {
    /// Removes a volume that none of the containers `users` has. With `force`, absent is no error.
    ///
    /// # Errors
    /// [`Error::Conflict`] while there are users, [`Error::NotFound`], and the kernel's.
    pub async fn remove(&self, name: &str, force: bool, users: &[String]) -> Result<()> {
        match self.0.entry(name) {
            Err(Error::NotFound { .. }) if force => return Ok(()),
            entry => entry.map(drop)?,
        }
        if !users.is_empty() {
            let users = users.join(", ");
            return Err(Error::Conflict(format!("remove {name}: volume is in use - [{users}]")));
        }
        let (inner, name) = (Arc::clone(&self.0), name.to_owned());
        blocking(move || inner.remove(&name)).await?
    }

    /// Removes the volumes that no container has, as `is_used` says, that mount nothing, and that `labels` mean: those without
    /// a name, or `all`.
    ///
    /// # Errors
    /// The first failure, after everything that can be removed is.
    pub async fn prune(
        &self,
        all: bool,
        labels: &LabelChoice,
        is_used: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<Pruned> {
        let chosen: Vec<_> = self.list(&list::VolumeFilter::default(), is_used);
        let chosen = chosen.into_iter().filter(|volume| {
            // What is mounted is no room that could be had here, and its options are all that there is of it. Docker spares it too.
            (all || volume.is_anonymous())
                && volume.backing() == Backing::Directory
                && labels.matches(&volume.labels)
                && !is_used(&volume.name)
        });
        let chosen: Vec<_> = chosen.collect();
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let mut pruned = Pruned::default();
            let mut failure = None;
            for volume in chosen {
                match list::size(&volume).and_then(|size| inner.remove(&volume.name).map(|()| size)) {
                    Ok(size) => {
                        pruned.bytes = pruned.bytes.saturating_add(size);
                        pruned.volumes.push(volume.name);
                    }
                    // Gone already, or read by somebody.
                    Err(Error::NotFound { .. } | Error::Conflict(_)) => {}
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
            let attributes = BTreeMap::from([("reclaimed".to_owned(), pruned.bytes.to_string())]);
            inner.events.tell("volume", "prune", "", attributes);
            failure.map_or(Ok(pruned), Err)
        })
        .await?
    }
}

impl Inner {
    /// From the index first: what is left if the engine is killed in between is a directory with a record, and so a
    /// volume again.
    fn remove(&self, name: &str) -> Result<()> {
        let _change = self.change();
        let entry = self.entry(name)?;
        if entry.is_kept() {
            return Err(Error::Conflict(format!(
                "remove {name}: volume is in use - it is being saved or copied"
            )));
        }
        let checked: Name = name.parse().attempt(|| format!("remove volume {name}"))?;
        self.index.remove_volume(&checked)?;
        let directory = self.directory(name);
        let discarded = self.store.unbound(&directory.join(super::DATA), || {
            atomic::discard(&directory, self.root.join("trash")).map_err(coracle_store::Error::from)
        });
        if let Err(error) = discarded {
            self.index.put_volume(&checked, super::record::write(&entry.volume))?;
            return Err(error).attempt(|| format!("remove volume {name}"));
        }
        self.lock().remove(name);
        self.tell(name, "destroy");
        Ok(())
    }
}
