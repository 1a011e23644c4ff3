//! Which images, layers and volumes containers and builds need.

use super::Description;
use super::registry::Container;
use crate::engine::{Engine, Shared};
use crate::error::{Attempt, Error, Result, blocking};
use crate::images::{ContainerUse, InUse};
use coracle_spec::Digest;
use std::collections::HashSet;
use std::sync::Arc;

struct Uses(Arc<Shared>);

/// What containers and builds need of images.
pub(crate) fn image_users(shared: &Arc<Shared>) -> Arc<dyn InUse> {
    Arc::new(Uses(Arc::clone(shared)))
}

impl Uses {
    fn all(&self) -> Vec<Arc<Description>> {
        self.0.containers.all().iter().map(Container::describe).collect()
    }
}

impl InUse for Uses {
    fn image(&self, id: &Digest) -> Option<ContainerUse> {
        let mut users: Vec<_> = self.all().into_iter().filter(|container| uses(container, id)).collect();
        // One that runs forbids more than one that does not.
        users.sort_by_key(|container| !container.state.status.is_up());
        users.first().map(|container| ContainerUse {
            container: container.id.short().to_owned(),
            running: container.state.status.is_up(),
        })
    }

    fn layer(&self, diff_id: &Digest) -> bool {
        self.0.built.has_layer(diff_id)
            || self.all().iter().any(|container| layers(container).any(|layer| layer == diff_id))
    }

    fn remembers(&self, diff_id: &Digest) -> bool {
        self.0.built.has_layer(diff_id)
    }

    fn layers(&self) -> HashSet<Digest> {
        let of_containers = self.all();
        let of_containers = of_containers.iter().flat_map(|container| layers(container).copied());
        of_containers.chain(self.0.built.layers()).collect()
    }
}

/// Whether it is made of the image, or mounts it.
fn uses(container: &Description, image: &Digest) -> bool {
    container.image == *image || container.mounted_images().any(|mounted| mounted.id == *image)
}

/// Of the image that it is made of, and of those that it mounts.
fn layers(container: &Description) -> impl Iterator<Item = &Digest> {
    container.layers.iter().chain(container.mounted_images().flat_map(|mounted| &mounted.layers))
}

/// Containers that were removed, and the bytes that came free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Ids.
    pub removed: Vec<String>,
    /// Bytes.
    pub bytes: u64,
}

impl Engine {
    /// What containers need of images, for those who remove images.
    pub fn image_users(&self) -> Arc<dyn InUse> {
        image_users(&self.shared)
    }

    /// Has what images and volumes left behind deleted, when there is time.
    pub fn tidy_soon(&self) {
        self.shared.empty_trash_soon();
    }

    /// Ids of the containers that have a volume.
    pub fn volume_users(&self, name: &str) -> Vec<String> {
        self.shared.volume_users(name, None)
    }

    /// How many bytes a container has written over its image; none when it is removed meanwhile. They are counted, unless it
    /// does not run and nothing can have changed since they were counted last.
    ///
    /// # Errors
    /// When its files cannot be counted.
    pub async fn size_of(&self, container: &Description) -> Result<u64> {
        let (shared, id) = (Arc::clone(&self.shared), container.id.clone());
        let runs = container.state.status.is_up();
        blocking(move || {
            let count = || shared.store.snapshot_size(&id);
            let counted = if runs { count() } else { shared.sizes.get_or_count(&id, count) };
            if shared.containers.find(id.as_str()).is_err() {
                shared.sizes.forget(&id);
                return Ok(counted.unwrap_or(0));
            }
            counted.attempt(|| format!("count the files of container {id}"))
        })
        .await?
    }

    /// Removes the containers that do not run and that `chosen` chooses.
    ///
    /// # Errors
    /// The first failure, after everything that can be removed is.
    pub async fn prune_containers(&self, chosen: impl Fn(&Description) -> bool) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        let mut failure = None;
        for container in self.list() {
            if container.state.status.is_up() || !chosen(&container) {
                continue;
            }
            let size = self.size_of(&container).await.unwrap_or(0);
            match self.remove(container.id.as_str(), false, false).await {
                Ok(()) => {
                    pruned.bytes += size;
                    pruned.removed.push(container.id.to_string());
                }
                // Started, or removed by somebody else, in the meantime.
                Err(Error::Conflict(_) | Error::NotFound { .. }) => {}
                Err(error) => failure = Some(error),
            }
        }
        self.shared.tell_of_pruning("container", pruned.bytes);
        failure.map_or(Ok(pruned), Err)
    }
}
