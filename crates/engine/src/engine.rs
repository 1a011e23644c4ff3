//! The engine itself: what all parts share, how it starts, and how it finds its containers again.

use crate::build::{Cache, CacheMounts, History};
use crate::config::{Config, RegistrySettings, StorageSettings};
use crate::containers::Available;
use crate::containers::exec::Execs;
use crate::containers::registry::{Container, Registry};
use crate::containers::sizes::Sizes;
use crate::containers::state::Status;
use crate::containers::task::Command;
use crate::containers::{Description, host, isolation, prepare, recover};
use crate::error::{Attempt, Result, blocking};
use crate::events::{Bus, Event};
use crate::images::{Images, Policy};
use crate::index::Index;
use crate::launcher::Launcher;
use crate::network::{Network, Networks, Wanted};
use crate::runtimes::{Other, Runtimes};
use crate::volumes::Volumes;
use coracle_runtime::cgroup::{Group, Layout};
use coracle_spec::ContainerId;
use coracle_spec::runtime::Seccomp;
use coracle_store::Store;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::{Notify, Semaphore, broadcast, watch};

/// How often the network is looked at for damage.
const HEALING: Duration = Duration::from_secs(5);
/// Most resolved filters that are remembered.
const FILTERS: usize = 64;

/// A profile (the default one if absent) and the capabilities that it was resolved for.
type FilterKey = (Option<String>, Vec<String>);

/// What the tasks of all containers share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) store: Arc<Store>,
    pub(crate) index: Arc<Index>,
    pub(crate) events: Arc<Bus>,
    pub(crate) images: Images,
    pub(crate) volumes: Volumes,
    pub(crate) networks: Networks,
    pub(crate) launcher: Arc<Launcher>,
    pub(crate) containers: Registry,
    /// What containers that do not run have written.
    pub(crate) sizes: Arc<Sizes>,
    pub(crate) execs: Execs,
    /// For containers that are prepared and not started.
    pub(crate) preparations: Arc<Semaphore>,
    /// What builds have done before.
    pub(crate) built: Cache,
    /// For steps of builds that are done at once.
    pub(crate) build_permits: Semaphore,
    /// What commands of builds keep for the next one.
    pub(crate) caches: Arc<CacheMounts>,
    /// Which builds there were.
    pub(crate) history: Arc<History>,
    pub(crate) cgroups: Layout,
    /// The lowest layer of every container: what is mounted on.
    pub(crate) mount_points: PathBuf,
    /// What this process can hand on of its capabilities.
    pub(crate) available: Available,
    pub(crate) boot_id: String,
    pub(crate) hostname: String,
    /// How often containers were asked for their health.
    pub(crate) health: Tally,
    filters: Mutex<HashMap<FilterKey, Seccomp>>,
    runtimes: RwLock<Runtimes>,
    /// Whether all containers are known; none is restarted before.
    pub(crate) recovered: watch::Sender<bool>,
    /// Whether the machine ends; none is restarted from then on.
    pub(crate) ending: AtomicBool,
    /// Woken when something may be to be deleted.
    pub(crate) trash: Arc<Notify>,
}

/// What an engine counts from when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Events that were told.
    pub events: u64,
    /// Answers of containers that were asked for their health.
    pub health_checks: u64,
    /// Those of them that were bad.
    pub failed_health_checks: u64,
}

/// How often containers were asked for their health.
#[derive(Default)]
pub(crate) struct Tally {
    checks: AtomicU64,
    failed: AtomicU64,
}

impl Tally {
    pub(crate) fn count(&self, is_healthy: bool) {
        self.checks.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(u64::from(!is_healthy), Ordering::Relaxed);
    }
}

/// The engine.
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
    upkeep: Vec<tokio::task::JoinHandle<()>>,
}

impl Engine {
    /// Opens the data of an engine and takes over the containers that run.
    ///
    /// # Errors
    /// When another engine has the data, or a part cannot be set up; then nothing was changed.
    pub async fn open(config: Config) -> Result<Self> {
        let data_root = config.data_root.clone();
        crate::descriptors::raise();
        prepare_directories(&config)?;
        let (store, launcher, cgroups) = {
            let (runtime, group) = (config.runtime.clone(), config.group_of_shims());
            let container = config.storage.container;
            blocking(move || {
                let store = Store::open(&data_root).attempt(|| format!("open {}", data_root.display()))?;
                refuse_unbounded(&store, container)?;
                let cgroups = Layout::detect().attempt(|| "find the cgroup hierarchies".to_owned())?;
                let group = group.map(|path| Group::existing(&cgroups, &path));
                let launcher = Launcher::new(&runtime, group)?;
                Ok::<_, crate::Error>((Arc::new(store), Arc::new(launcher), cgroups))
            })
            .await??
        };
        let index = Arc::new(Index::open(&config.data_root).await?);
        let events = Arc::new(Bus::open(&config.data_root).await?);
        let trash = Arc::new(Notify::new());
        let shared = Arc::new(Shared {
            images: Images::new(
                Arc::clone(&store),
                Arc::clone(&index),
                Arc::clone(&events),
                config.registries.clone(),
                Arc::clone(&trash),
            )
            .await?,
            volumes: Volumes::open(
                &config.data_root,
                Arc::clone(&store),
                Arc::clone(&index),
                Arc::clone(&events),
            )
            .await?,
            networks: Networks::open(&config, Arc::clone(&index), Arc::clone(&events)).await?,
            containers: Registry::default(),
            sizes: Arc::default(),
            execs: Execs::default(),
            preparations: Arc::new(Semaphore::new(prepare::MOST)),
            built: Cache::open(Arc::clone(&index)).await?,
            build_permits: Semaphore::new(config.builds.steps_at_once()),
            caches: Arc::new(CacheMounts::new(&config.data_root)),
            history: Arc::new(History::open(Arc::clone(&index)).await?),
            mount_points: prepare_mount_points(&config)?,
            available: Available::read(&std::fs::read_to_string("/proc/self/status").unwrap_or_default()),
            boot_id: read_line("/proc/sys/kernel/random/boot_id")?,
            hostname: read_line("/proc/sys/kernel/hostname")?,
            health: Tally::default(),
            filters: Mutex::default(),
            runtimes: RwLock::new(config.runtimes.clone()),
            recovered: watch::Sender::new(false),
            ending: AtomicBool::new(false),
            trash,
            config,
            store,
            index,
            events,
            launcher,
            cgroups,
        });
        isolation::prove(&shared).await?;
        recover::recover(&shared).await?;
        crate::build::leftovers::remove_all(&shared).await?;
        let upkeep =
            vec![tokio::spawn(heal(Arc::clone(&shared))), tokio::spawn(empty_trash(Arc::clone(&shared)))];
        shared.empty_trash_soon();
        Ok(Self { shared, upkeep })
    }

    /// The engine as a part of it sees it that acts in nobody's name.
    pub(crate) fn of(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), upkeep: Vec::new() }
    }

    /// How the engine is set up.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// The images.
    pub fn images(&self) -> &Images {
        &self.shared.images
    }

    /// The volumes.
    pub fn volumes(&self) -> &Volumes {
        &self.shared.volumes
    }

    /// What is remembered of what happened, and everything from now on.
    pub fn listen_events(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        self.shared.events.listen()
    }

    /// The networks that have a bridge, the default one first, the others by age.
    pub fn networks(&self) -> Vec<Network> {
        self.shared.networks.all().iter().map(|live| live.network.clone()).collect()
    }

    /// A network that has a bridge, by its id, its name, or an unambiguous beginning of its id.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`], [`crate::Error::Invalid`] for a beginning that several have.
    pub fn network(&self, name: &str) -> Result<Network> {
        Ok(self.shared.networks.find(name)?.network.clone())
    }

    /// Makes a network.
    ///
    /// # Errors
    /// [`crate::Error::Conflict`] for a taken name, [`crate::Error::Forbidden`] for a subnet that another network has, and
    /// for what cannot be.
    pub async fn create_network(&self, wanted: Wanted) -> Result<Network> {
        self.shared.networks.create(wanted).await
    }

    /// Removes a network to which no running container is connected.
    ///
    /// # Errors
    /// [`crate::Error::Forbidden`] for one that is used or was always there, [`crate::Error::NotFound`].
    pub async fn remove_network(&self, name: &str) -> Result<Network> {
        let removed = self.shared.networks.remove(name).await;
        // Its record is there.
        self.shared.empty_trash_soon();
        removed
    }

    /// Removes the networks to which no running container is connected, as far as they are `meant`. Returns their names.
    ///
    /// # Errors
    /// The first of what could not be removed for another reason than that somebody uses it.
    pub async fn prune_networks(&self, meant: impl Fn(&Network) -> bool) -> Result<Vec<String>> {
        let mut removed = Vec::new();
        for network in self.networks().iter().filter(|network| !network.is_predefined() && meant(network)) {
            match self.remove_network(&network.id).await {
                Ok(network) => removed.push(network.name),
                // Used, or removed by somebody else meanwhile.
                Err(crate::Error::Forbidden(_) | crate::Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.shared.tell_of_pruning("network", 0);
        Ok(removed)
    }

    /// The version of the machine's cgroups, `1` or `2`.
    pub fn cgroup_version(&self) -> &'static str {
        self.shared.cgroups.version()
    }

    /// How many listen to what happens.
    pub fn event_listeners(&self) -> usize {
        self.shared.events.listeners()
    }

    /// What was counted since the engine began.
    pub fn counts(&self) -> Counts {
        let Shared { events, health, .. } = &*self.shared;
        Counts {
            events: events.told(),
            health_checks: health.checks.load(Ordering::Relaxed),
            failed_health_checks: health.failed.load(Ordering::Relaxed),
        }
    }

    /// Takes over how registries are spoken to from a configuration that was read again.
    ///
    /// # Errors
    /// When that cannot be prepared; then nothing changes.
    pub fn reload(&self, registries: RegistrySettings, runtimes: Runtimes) -> Result<()> {
        self.shared.images.speak_to_registries(registries)?;
        *self.shared.runtimes.write().unwrap_or_else(PoisonError::into_inner) = runtimes;
        Ok(())
    }

    /// The OCI runtimes besides the engine's own.
    pub fn runtimes(&self) -> Runtimes {
        self.shared.runtimes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells listeners that the configuration was read again, and what it is now.
    pub fn tell_of_reload(&self, attributes: BTreeMap<String, String>) {
        self.shared.events.tell("daemon", "reload", &self.shared.config.engine_id(), attributes);
    }

    /// Ends the engine's own work. Containers go on.
    pub async fn shutdown(&self) {
        for task in &self.upkeep {
            task.abort();
        }
        self.dismiss_prepared().await;
        self.remove_cgroup();
        // What was not awaited before is written now.
        if let Err(error) = self.shared.index.flush().await {
            tracing::error!(error = error.chain(), "the index could not be flushed");
        }
        if let Err(error) = self.shared.events.close().await {
            tracing::error!(error = error.chain(), "the last events may be lost");
        }
    }
}

impl Engine {
    /// Removes the cgroup of all containers unless one is in it; the next engine makes it again. One that was given is its
    /// owner's, systemd's for instance.
    fn remove_cgroup(&self) {
        if self.shared.config.cgroup_parent.is_some() {
            return;
        }
        let path = self.shared.config.cgroup();
        let group = Group::existing(&self.shared.cgroups, Path::new(&path));
        if let Err(error) = group.remove() {
            tracing::debug!(error = error.chain(), "the cgroup of all containers stays");
        }
    }

    /// Leaves nothing of containers that were prepared and not started.
    async fn dismiss_prepared(&self) {
        // Nothing is prepared from now on.
        self.shared.preparations.close();
        let made = |container: &Container| container.describe().state.status == Status::Created;
        for container in self.shared.containers.all().iter().filter(|container| made(container)) {
            // One that was removed meanwhile has nothing.
            let _ = container.ask(|reply| Command::Dismiss { reply }).await;
        }
    }
}

impl Shared {
    /// Where a container's socket and records are while it runs.
    pub(crate) fn state_directory(&self, id: &ContainerId) -> PathBuf {
        self.config.exec_root.join("containers").join(id.as_str())
    }

    /// The current file of a container's log.
    pub(crate) fn log_path(&self, id: &ContainerId) -> PathBuf {
        self.config.data_root.join("containers").join(id.as_str()).join(format!("{id}-json.log"))
    }

    /// The runtime that a container names; none for the engine's own.
    pub(crate) fn runtime(&self, name: &str) -> Result<Option<Other>> {
        self.runtimes.read().unwrap_or_else(PoisonError::into_inner).find(name).map(Option::<&Other>::cloned)
    }

    /// The filter of a profile (the default one if absent) for these capabilities, resolved once.
    pub(crate) fn filter(&self, profile: Option<&str>, capabilities: &[String]) -> Result<Seccomp> {
        let key = (profile.map(str::to_owned), capabilities.to_vec());
        let mut filters = self.filters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = filters.get(&key) {
            return Ok(known.clone());
        }
        let resolved = host::resolve_filter(profile, capabilities)?;
        if filters.len() >= FILTERS {
            filters.clear();
        }
        filters.insert(key, resolved.clone());
        Ok(resolved)
    }

    /// Tells that things of a kind were removed because nobody needs them.
    pub(crate) fn tell_of_pruning(&self, kind: &'static str, bytes: u64) {
        let attributes = BTreeMap::from([("reclaimed".to_owned(), bytes.to_string())]);
        self.events.tell(kind, "prune", "", attributes);
    }

    /// Tells of something that happened to a container.
    pub(crate) fn tell_of(&self, container: &Description, action: &str, details: &[(&str, &str)]) {
        let mut attributes: BTreeMap<String, String> = container.settings.labels.clone();
        attributes.insert("image".to_owned(), container.settings.image.clone());
        attributes.insert("name".to_owned(), container.name.to_string());
        attributes.extend(details.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        self.events.tell("container", action, container.id.as_str(), attributes);
    }

    /// Removes a volume that was made for a container alone.
    pub(crate) async fn remove_anonymous_volume(&self, name: &str, owner: &ContainerId) -> Result<()> {
        let users = self.volume_users(name, Some(owner));
        self.volumes.remove(name, false, &users).await
    }

    /// The containers that have a volume, but for `except`.
    pub(crate) fn volume_users(&self, name: &str, except: Option<&ContainerId>) -> Vec<String> {
        let uses = |container: &Description| container.mounts.iter().any(|mount| mount.name == name);
        self.containers
            .all()
            .iter()
            .map(crate::containers::registry::Container::describe)
            .filter(|container| Some(&container.id) != except && uses(container))
            .map(|container| container.id.to_string())
            .collect()
    }

    /// Has what was removed deleted, when there is time.
    pub(crate) fn empty_trash_soon(&self) {
        self.trash.notify_one();
    }
}

/// Refuses, in Docker's words, a size of containers to which nobody would be held.
fn refuse_unbounded(store: &Store, size: Option<u64>) -> Result<()> {
    if size.is_none() || store.has_quotas() {
        return Ok(());
    }
    Err(coracle_store::Error::NoQuotas).attempt(|| {
        "Storage option overlay2.size not supported. Filesystem does not support Project Quota".to_owned()
    })
}

fn prepare_directories(config: &Config) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    for path in [&config.data_root, &config.exec_root, &config.exec_root.join("containers")] {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(path)
            .attempt(|| format!("make {}", path.display()))?;
    }
    Ok(())
}

/// Makes a layer of nothing but what containers mount on, so that no start has to make it and no commit has it.
fn prepare_mount_points(config: &Config) -> Result<PathBuf> {
    let layer = config.exec_root.join("mount-points");
    let made = || format!("make {}", layer.display());
    for directory in ["dev", "proc", "sys", "etc"] {
        std::fs::create_dir_all(layer.join(directory)).attempt(made)?;
    }
    for file in ["etc/hosts", "etc/hostname", "etc/resolv.conf", ".dockerenv"] {
        std::fs::write(layer.join(file), "").attempt(made)?;
    }
    Ok(layer)
}

fn read_line(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    std::fs::read_to_string(path)
        .map(|text| text.trim().to_owned())
        .attempt(|| format!("read {}", path.display()))
}

async fn heal(shared: Arc<Shared>) {
    let mut turns = tokio::time::interval(HEALING);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        shared.networks.heal().await;
    }
}

async fn empty_trash(shared: Arc<Shared>) {
    let mut again = None;
    loop {
        wait_for_trash(&shared, again).await;
        let users: Arc<dyn crate::images::InUse> = crate::containers::image_users(&shared);
        if again.is_some_and(|again| again <= OffsetDateTime::now_utc()) {
            again = None;
            shared.images.look_again();
        }
        if let Some(done) = stay_within_budget(&shared, &users).await {
            again = done.again;
        }
        if let Err(error) = crate::build::stay_within_budget(&shared).await {
            tracing::warn!(error = error.chain(), "what builds remember takes more room than it may");
        }
        if let Err(error) = shared.images.collect_garbage(users).await {
            tracing::warn!(error = error.chain(), "layers that nobody needs could not be removed");
        }
        let store = Arc::clone(&shared.store);
        match blocking(move || store.empty_trash()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(
                error = coracle_spec::full_text(&error),
                "what was removed could not be deleted"
            ),
            Err(error) => tracing::warn!(error = error.chain(), "what was removed could not be deleted"),
        }
    }
}

/// Waits until something may be to be removed, or images stop being recent.
async fn wait_for_trash(shared: &Shared, again: Option<OffsetDateTime>) {
    let told = shared.trash.notified();
    let Some(again) = again else { return told.await };
    let rest = again - OffsetDateTime::now_utc();
    // Whichever comes first.
    let _ = tokio::time::timeout(rest.try_into().unwrap_or(Duration::ZERO), told).await;
}

/// Removes images where all take more than they may, if something has arrived.
async fn stay_within_budget(
    shared: &Shared,
    users: &Arc<dyn crate::images::InUse>,
) -> Option<crate::images::Reclaimed> {
    let StorageSettings { budget, keep_recent, .. } = shared.config.storage;
    let policy = Policy { budget: budget?, keep_recent };
    let done = shared.images.reclaim_if_grown(policy, Arc::clone(users)).await;
    done.unwrap_or_else(|error| {
        let error = error.chain();
        tracing::warn!(error, "images take more room than they may, and could not be removed");
        None
    })
}
