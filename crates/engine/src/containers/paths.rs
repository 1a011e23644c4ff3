//! Where things of a container are on the host, as `inspect` shows it.

use super::Description;
use crate::engine::Engine;
use std::path::PathBuf;

/// The places of one container.
#[derive(Clone, Debug)]
pub struct Paths {
    state: PathBuf,
    log: PathBuf,
    layers: Vec<(&'static str, String)>,
}

impl Paths {
    /// A file that is mounted into the container: `hosts`, `hostname` or `resolv.conf`.
    pub fn file(&self, name: &str) -> String {
        self.state.join(name).display().to_string()
    }

    /// The log's current file.
    pub fn log(&self) -> String {
        self.log.display().to_string()
    }

    /// The directories of the layers, by Docker's names for them.
    pub fn layers(&self) -> Vec<(&str, String)> {
        self.layers.iter().map(|(name, path)| (*name, path.clone())).collect()
    }
}

impl Engine {
    /// Where things of a container are.
    pub fn paths_of(&self, container: &Description) -> Paths {
        let shared = &self.shared;
        let owner = super::partners::owner_of_network(shared, container).ok();
        let mut layers = Vec::new();
        if let Ok(snapshot) = shared.store.snapshot(&container.id, &container.layers) {
            let lower: Vec<String> = snapshot.lower.iter().map(|path| path.display().to_string()).collect();
            layers.push(("LowerDir", lower.join(":")));
            layers.push(("UpperDir", snapshot.upper.display().to_string()));
            layers.push(("WorkDir", snapshot.work.display().to_string()));
        }
        Paths {
            state: shared.state_directory(owner.as_ref().unwrap_or(&container.id)),
            log: shared.log_path(&container.id),
            layers,
        }
    }
}
