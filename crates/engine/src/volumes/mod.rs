//! Volumes: data of containers that outlives them.
//!
//! ```text
//! volumes/<name>/_data          what containers see
//! volumes/<name>/record.json    the index's copy of the record
//! volumes/<name>/_copying       what is being copied from an image
//! ```
//!
//! What a volume mounts that has such options is in a mount namespace of its own; `_data` is empty then.
//!
//! A volume appears with its record in one step and goes in one. What lies in `volumes/` without a record is reported
//! and never touched.

mod copies;
mod copy;
mod copy_up;
mod list;
mod mounted;
mod mounting;
mod open;
mod options;
mod record;
mod remove;
#[cfg(test)]
mod tests;
mod tree;

pub use copies::Saving;
pub use list::VolumeFilter;
pub(crate) use mounted::Mounted;
pub use mounting::Backing;
pub use remove::Pruned;

use crate::containers::MountPoint;
use crate::error::{Attempt, Error, Result, blocking};
use crate::events::Bus;
use crate::index::Index;
use coracle_spec::{ContainerId, Name};
use coracle_store::Store;
use coracle_sys::atomic;
use rustix::fs::Mode;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use time::OffsetDateTime;

/// The only driver.
pub const DRIVER: &str = "local";
/// The label of volumes that were made without a name, as Docker sets it.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

const DATA: &str = "_data";
/// Passable for a mapped root, as everything above a container's files.
const DIRECTORY: Mode = Mode::from_raw_mode(0o710);

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// The directory that containers see.
    pub mountpoint: PathBuf,
    /// When it was made.
    pub created: OffsetDateTime,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

impl Volume {
    /// Whose its files are, and where.
    pub fn backing(&self) -> Backing {
        let mounting = mounting::Mounting::of(&self.options).ok().flatten();
        mounting.map_or(Backing::Directory, |mounting| mounting.backing())
    }

    /// Whether it was made without a name.
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS)
    }
}

/// A volume that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Creation {
    /// Its name; a random one if absent or empty.
    pub name: Option<String>,
    /// `local`, or empty for the same.
    pub driver: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

/// The volumes of an engine.
#[derive(Debug)]
pub struct Volumes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    store: Arc<Store>,
    index: Arc<Index>,
    events: Arc<Bus>,
    volumes: Mutex<BTreeMap<String, Entry>>,
    /// Held by whoever makes or removes a volume, on a blocking thread.
    changing: Mutex<()>,
}

#[derive(Clone, Debug)]
struct Entry {
    volume: Volume,
    /// Held by whoever copies into it, on a blocking thread.
    copying: Arc<Mutex<()>>,
    /// How many read all of it.
    kept: Arc<AtomicUsize>,
    /// What it mounts, while somebody uses it. Held by whoever mounts it, on a blocking thread.
    mounted: Arc<Mutex<Weak<Mounted>>>,
}

impl Entry {
    fn new(volume: Volume) -> Self {
        Self { volume, copying: Arc::default(), kept: Arc::default(), mounted: Arc::default() }
    }
}

impl Volumes {
    /// The volumes below the data root `root`.
    ///
    /// # Errors
    /// When the directory or the index cannot be read, or a newer engine wrote a record.
    pub(crate) async fn open(
        root: &Path,
        store: Arc<Store>,
        index: Arc<Index>,
        events: Arc<Bus>,
    ) -> Result<Self> {
        let root = root.to_owned();
        blocking(move || {
            let volumes = Mutex::new(open::volumes(&root, &index)?);
            Ok(Self(Arc::new(Inner { root, store, index, events, volumes, changing: Mutex::default() })))
        })
        .await?
    }

    /// Makes a volume; one that is there already is left as it is. Durable on return.
    ///
    /// # Errors
    /// [`Error::Invalid`] for the name or an option, also for a size where the file system has no quotas,
    /// [`Error::Missing`] for another driver, [`Error::Conflict`] when something unknown lies where it would be.
    pub async fn create(&self, wanted: Creation) -> Result<Volume> {
        let (name, volume, bound) = self.0.checked(wanted)?;
        if let Some(entry) = self.0.lock().get(name.as_str()) {
            return Ok(entry.volume.clone());
        }
        let inner = Arc::clone(&self.0);
        blocking(move || inner.create(&name, volume, bound)).await?
    }

    /// A volume.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, name: &str) -> Result<Volume> {
        self.0.entry(name).map(|entry| entry.volume)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // Every change is one insertion or removal: a panic elsewhere leaves nothing half done.
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, name: &str) -> Result<Entry> {
        let not_found = || Error::NotFound { kind: "volume", name: name.to_owned() };
        self.lock().get(name).cloned().ok_or_else(not_found)
    }

    fn directory(&self, name: &str) -> PathBuf {
        directory(&self.root, name)
    }

    fn create(&self, name: &Name, volume: Volume, bound: Option<u64>) -> Result<Volume> {
        match self.publish(name, volume, bound, |_| Ok(())) {
            // Somebody else may have been faster.
            Err(error @ Error::Conflict(_)) => {
                self.lock().get(name.as_str()).map(|entry| entry.volume.clone()).ok_or(error)
            }
            done => done,
        }
    }

    /// A volume that is not there yet, and how many bytes it may hold, if that is bounded.
    fn checked(&self, wanted: Creation) -> Result<(Name, Volume, Option<u64>)> {
        check_driver(&wanted)?;
        let (name, labels) = name_and_labels(wanted.name.filter(|name| !name.is_empty()), wanted.labels)?;
        let bound = options::check(name.as_str(), &wanted.options, self.store.has_quotas())?;
        let volume = Volume {
            name: name.to_string(),
            mountpoint: self.directory(name.as_str()).join(DATA),
            created: OffsetDateTime::now_utc(),
            labels,
            options: wanted.options,
        };
        Ok((name, volume, bound))
    }

    /// Fails when there is a volume of this name, or something else in its place.
    fn require_free(&self, name: &Name) -> Result<()> {
        if self.lock().contains_key(name.as_str()) {
            return Err(Error::Conflict(format!("create {name}: there is a volume of that name")));
        }
        let directory = self.directory(name.as_str());
        if directory.symlink_metadata().is_ok() {
            let text = "something that is no volume lies in its place";
            return Err(Error::Conflict(format!("create {name}: {text}: {}", directory.display())));
        }
        Ok(())
    }

    /// The directory of a volume, which holds `bound` bytes at most, appears with everything that `fill` puts into the
    /// directory that it is given, or not at all.
    fn publish(
        &self,
        name: &Name,
        volume: Volume,
        bound: Option<u64>,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Volume> {
        let creating = || format!("create volume {name}");
        let made = self.root.join("tmp").join(atomic::random_name().attempt(creating)?);
        let record = record::write(&volume);
        let published = self
            .make_directory(&made, record.as_bytes(), bound)
            .attempt(creating)
            .and_then(|()| fill(&made.join(DATA)))
            .and_then(|()| self.enter(name, volume, record, &made));
        if published.is_err() {
            // The failure that is reported is the one that matters; what stays is swept at the next start.
            let _ = atomic::discard(&made, self.root.join("trash"));
        }
        published
    }

    fn make_directory(&self, made: &Path, record: &[u8], bound: Option<u64>) -> coracle_store::Result<()> {
        atomic::create_dir(made, DIRECTORY)?;
        let data = made.join(DATA);
        atomic::create_dir(&data, Mode::from_raw_mode(0o755))?;
        bound.map_or(Ok(()), |bytes| self.store.bound(&data, bytes))?;
        Ok(atomic::write_durable(made.join(open::RECORD), record, Mode::from_raw_mode(0o600))?)
    }

    /// The volume whose directory was made is one.
    fn enter(&self, name: &Name, volume: Volume, record: String, made: &Path) -> Result<Volume> {
        let _change = self.change();
        self.require_free(name)?;
        let directory = self.directory(name.as_str());
        atomic::publish_durable(made, &directory).attempt(|| format!("create volume {name}"))?;
        if let Err(error) = self.index.put_volume(name, record) {
            // The failure that is reported is the one that matters; what stays is found at the next start.
            let _ = atomic::discard(&directory, self.root.join("trash"));
            return Err(error);
        }
        self.lock().insert(name.to_string(), Entry::new(volume.clone()));
        self.tell(name.as_str(), "create");
        Ok(volume)
    }

    fn tell(&self, name: &str, action: &str) {
        let attributes = BTreeMap::from([("driver".to_owned(), DRIVER.to_owned())]);
        self.events.tell("volume", action, name, attributes);
    }
}

impl Volumes {
    /// Tells that a container that starts has a volume.
    pub(crate) fn tell_mounted(&self, mount: &MountPoint, container: &ContainerId) {
        let attributes = [
            ("container", container.to_string()),
            ("destination", mount.destination.clone()),
            ("driver", mount.driver.clone()),
            ("propagation", mount.propagation.clone()),
            ("read/write", mount.writable.to_string()),
        ];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value));
        self.0.events.tell("volume", "mount", &mount.name, attributes.into());
    }

    /// Tells that a container that has ended had a volume.
    pub(crate) fn tell_unmounted(&self, name: &str, container: &ContainerId) {
        let attributes = [("container", container.as_str()), ("driver", DRIVER)];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.0.events.tell("volume", "unmount", name, attributes.into());
    }
}

fn directory(root: &Path, name: &str) -> PathBuf {
    root.join("volumes").join(name)
}

fn check_driver(wanted: &Creation) -> Result<()> {
    if matches!(wanted.driver.as_str(), "" | DRIVER) {
        return Ok(());
    }
    let name = wanted.name.as_deref().unwrap_or_default();
    Err(Error::Missing(format!(
        "create {name}: error looking up volume plugin {0}: plugin \"{0}\" not found",
        wanted.driver
    )))
}

/// Checks a name, or makes one up and marks it.
fn name_and_labels(
    name: Option<String>,
    mut labels: BTreeMap<String, String>,
) -> Result<(Name, BTreeMap<String, String>)> {
    let Some(name) = name else {
        let name = ContainerId::random().as_str().parse().expect("64 hex digits are a name");
        labels.insert(ANONYMOUS.to_owned(), String::new());
        return Ok((name, labels));
    };
    if name.len() == 1 {
        let text = "volume name is too short, names should be at least two alphanumeric characters";
        return Err(Error::Invalid(format!("create {name}: {text}")));
    }
    let invalid = || {
        Error::Invalid(format!(
            "create {name}: \"{name}\" includes invalid characters for a local volume name, only \
             \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
        ))
    };
    Ok((name.parse().map_err(|_| invalid())?, labels))
}
