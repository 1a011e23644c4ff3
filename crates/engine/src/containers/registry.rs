//! All containers of the engine, found by id, by the beginning of an id, and by name.

use super::Description;
use super::task::Command;
use crate::error::{Error, Result};
use coracle_spec::{ContainerId, Name};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{mpsc, oneshot, watch};

/// A container: what it is, and the way to its task.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    id: ContainerId,
    view: watch::Receiver<Arc<Description>>,
    /// In boxes, as a channel keeps room for 32 from the beginning.
    commands: mpsc::Sender<Box<Command>>,
    /// For how many it stands still for a moment ([`super::still`]).
    holders: Arc<tokio::sync::Mutex<usize>>,
}

impl Container {
    pub(crate) fn new(
        id: ContainerId,
        view: watch::Receiver<Arc<Description>>,
        commands: mpsc::Sender<Box<Command>>,
    ) -> Self {
        Self { id, view, commands, holders: Arc::default() }
    }

    /// For how many the container stands still; locked while it begins to, or goes on.
    pub(super) fn holders(&self) -> &tokio::sync::Mutex<usize> {
        &self.holders
    }

    /// Whether it stands still for a moment, or is about to.
    pub(super) fn is_held_still(&self) -> bool {
        !self.holders.try_lock().is_ok_and(|holders| *holders == 0)
    }

    pub(crate) fn id(&self) -> &ContainerId {
        &self.id
    }

    /// The container as it is now.
    pub(crate) fn describe(&self) -> Arc<Description> {
        Arc::clone(&self.view.borrow())
    }

    /// Follows the container; the channel closes when it is removed.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Description>> {
        self.view.clone()
    }

    /// Gives the task a command and waits for its answer.
    pub(crate) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T>>) -> Command,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let removed = || Error::no_container(self.id.as_str());
        self.commands.send(Box::new(command(reply))).await.map_err(|_| removed())?;
        answer.await.map_err(|_| removed())?
    }
}

#[derive(Default)]
struct Maps {
    by_id: BTreeMap<String, Container>,
    by_name: BTreeMap<String, ContainerId>,
}

impl Maps {
    /// What the container before the slash calls by the name behind it.
    fn linked(&self, way: &str) -> Option<Container> {
        let (name, alias) = way.split_once('/')?;
        let container = self.by_id.get(self.by_name.get(name)?.as_str())?.describe();
        let link = container.settings.host.links.iter().find(|link| link.alias == alias)?;
        self.by_id.get(&link.container).cloned()
    }
}

/// All containers.
#[derive(Default)]
pub(crate) struct Registry(RwLock<Maps>);

impl Registry {
    /// Finds a container by its whole id, its name, an unambiguous beginning of its id, or what a linked one calls it,
    /// `CONTAINER/ALIAS`.
    pub(crate) fn find(&self, wanted: &str) -> Result<Container> {
        let maps = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(container) = maps.by_id.get(wanted) {
            return Ok(container.clone());
        }
        let name = wanted.strip_prefix('/').unwrap_or(wanted);
        if let Some(container) = maps.by_name.get(name).and_then(|id| maps.by_id.get(id.as_str())) {
            return Ok(container.clone());
        }
        if let Some(container) = maps.linked(name) {
            return Ok(container);
        }
        if wanted.is_empty() || !wanted.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::no_container(wanted));
        }
        let mut matching = maps.by_id.range(wanted.to_owned()..).take_while(|(id, _)| id.starts_with(wanted));
        match (matching.next(), matching.next()) {
            (Some((_, container)), None) => Ok(container.clone()),
            (None, _) => Err(Error::no_container(wanted)),
            (Some(_), Some(_)) => Err(Error::Ambiguous { prefix: wanted.to_owned() }),
        }
    }

    pub(crate) fn all(&self) -> Vec<Container> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_id.values().cloned().collect()
    }

    /// Reserves a name for a container that is being made.
    ///
    /// # Errors
    /// [`Error::Conflict`] with Docker's words when it is taken.
    pub(crate) fn reserve(&self, name: &Name, id: &ContainerId) -> Result<()> {
        let mut maps = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match maps.by_name.get(name.as_str()) {
            Some(owner) if owner != id => Err(Error::Conflict(format!(
                "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to \
                 remove (or rename) that container to be able to reuse that name."
            ))),
            _ => {
                maps.by_name.insert(name.to_string(), id.clone());
                Ok(())
            }
        }
    }

    /// Makes a name free again, unless it belongs to somebody else.
    pub(crate) fn release(&self, name: &Name, id: &ContainerId) {
        let mut maps = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if maps.by_name.get(name.as_str()) == Some(id) {
            maps.by_name.remove(name.as_str());
        }
    }

    pub(crate) fn insert(&self, container: Container) {
        let mut maps = self.0.write().unwrap_or_else(PoisonError::into_inner);
        maps.by_id.insert(container.id.to_string(), container);
    }

    pub(crate) fn remove(&self, id: &ContainerId, name: &Name) {
        self.release(name, id);
        self.0.write().unwrap_or_else(PoisonError::into_inner).by_id.remove(id.as_str());
    }
}
