//! Making a container: everything that can be checked is checked before anything is made.

use super::confinement::SecurityOptions;
use super::memberships::{self, Membership};
use super::modes::{NetworkMode, UtsMode};
use super::mounts::{self, Wanted};
use super::settings::Settings;
use super::state::State;
use super::task::{spawn, spawn_prepared};
use super::{
    Description, MountPoint, MountedImage, isolation, links, logs, merge, oci_spec, partners, quota, record,
    volumes_from,
};
use crate::engine::{Engine, Shared};
use crate::error::{Attempt, Error, Result, blocking};
use crate::images::{Hold, Image};
use crate::index::Durability;
use crate::volumes::Creation;
use coracle_spec::{ContainerId, Name, Platform};
use std::collections::BTreeMap;
use std::sync::Arc;
use time::OffsetDateTime;

/// A container that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// Its id.
    pub id: ContainerId,
    /// What the client should know.
    pub warnings: Vec<String>,
}

impl Engine {
    /// Makes a container.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the image, [`Error::Conflict`] for a taken name, [`Error::Invalid`] and
    /// [`Error::Unsupported`] for what cannot be. Nothing is left of it then.
    pub async fn create(&self, name: Option<&str>, settings: Settings) -> Result<Created> {
        self.create_for(name, settings, None).await
    }

    /// Makes a container of an image for a platform; without one, of the image that runs best here.
    ///
    /// # Errors
    /// As [`Engine::create`]; [`Error::Missing`] when the image is not here for this platform.
    pub async fn create_for(
        &self,
        name: Option<&str>,
        settings: Settings,
        platform: Option<&Platform>,
    ) -> Result<Created> {
        let shared = &self.shared;
        let id = ContainerId::random();
        // Until the container is known, nothing else keeps the image and its layers.
        let hold = shared.images.hold();
        let image = shared.images.resolve_for(&settings.image, platform).await?;
        shared.images.hold_for_container(&hold, &image).await?;
        shared.images.note_use(&image.id, OffsetDateTime::now_utc());
        let mounted = mounted_images(shared, &settings).await?;
        let default = shared.config.storage.container;
        let of = (&image, &mounted, default);
        let (mut created, description) = create_on(shared, id, name, settings, of).await?;
        shared.containers.insert(spawn_prepared(shared, description));
        created.warnings.extend(foreign(&image.config.platform).filter(|_| platform.is_none()));
        Ok(created)
    }
}

/// Makes a container on an image that need not have a record.
///
/// # Errors
/// As [`Engine::create`]. What it writes is bounded only if it asks for that. Whoever calls holds on to the image's layers, and
/// waits for the end: of what is half made nobody knows.
pub(crate) async fn create_of(
    shared: Arc<Shared>,
    id: ContainerId,
    settings: Settings,
    image: Image,
) -> Result<Created> {
    let of = (&image, &BTreeMap::new(), None);
    let (created, description) = create_on(&shared, id, None, settings, of).await?;
    shared.containers.insert(spawn(&shared, description, None));
    Ok(created)
}

/// Makes a container that has no task yet, on an image and with a bound for what it writes unless it asks for another.
async fn create_on(
    shared: &Arc<Shared>,
    id: ContainerId,
    name: Option<&str>,
    settings: Settings,
    (image, mounted, default): (&Image, &BTreeMap<String, Mounted>, Option<u64>),
) -> Result<(Created, Description)> {
    refuse_artifact(image, &settings.image)?;
    // What the image exposes is no choice of the client's, and what is published is refused as such.
    let exposes = !settings.exposed_ports.is_empty() && settings.host.ports.is_empty();
    if matches!(settings.host.network, NetworkMode::Container(_)) && exposes {
        let text = "conflicting options: port exposing and the container type network mode";
        return Err(Error::Invalid(text.to_owned()));
    }
    let mut settings = merge::merge(settings, &image.config.config);
    links::resolve(shared, &mut settings.host)?;
    partners::resolve(&shared.containers, &mut settings.host)?;
    let mut warnings = check(shared, &id, &settings)?;
    let networks = memberships::of(&shared.networks, &settings)?;
    warnings.extend(unpublished(shared, &settings, &networks)?);
    let bound = quota::bound(shared, &settings.host, default)?;
    let wanted = mounts::wanted(&settings, volumes_from::shared_points(&shared.containers, &settings)?)?;
    let name = reserve_name(shared, &id, name)?;
    let request = Request { id: id.clone(), name: name.clone(), settings, networks, wanted, bound };
    let made = make(shared, (image, mounted), request).await;
    if made.is_err() {
        shared.containers.release(&name, &id);
    }
    let description = made?;
    shared.tell_of(&description, "create", &[]);
    Ok((Created { id, warnings }, description))
}

/// An image that is mounted, which nobody frees before the container is known.
struct Mounted {
    image: MountedImage,
    _hold: Hold,
}

/// The images that a container is to mount, by the names that it has for them.
async fn mounted_images(shared: &Shared, settings: &Settings) -> Result<BTreeMap<String, Mounted>> {
    let mut mounted = BTreeMap::new();
    for mount in settings.host.mounts.iter().filter(|mount| mount.kind == "image" && !mount.source.is_empty())
    {
        let hold = shared.images.hold();
        let image = shared.images.resolve(&mount.source).await?;
        if image.artifact.is_some() {
            let text = format!("{} is no image but an artifact: it cannot be mounted", mount.source);
            return Err(Error::Invalid(text));
        }
        shared.images.hold_for_container(&hold, &image).await?;
        shared.images.note_use(&image.id, OffsetDateTime::now_utc());
        let image = MountedImage { id: image.id, layers: image.layers };
        mounted.insert(mount.source.clone(), Mounted { image, _hold: hold });
    }
    Ok(mounted)
}

/// Nothing runs in a chart or a signature.
pub(crate) fn refuse_artifact(image: &Image, name: &str) -> Result<()> {
    let Some(kind) = &image.artifact else { return Ok(()) };
    Err(Error::Invalid(format!(
        "{name} is no image but an artifact of type {kind:?}: no container can be made of it"
    )))
}

/// A warning that an image is for other machines, in Docker's words.
fn foreign(platform: &Platform) -> Option<String> {
    let host = Platform::host();
    let said = !platform.os.is_empty() && !platform.architecture.is_empty();
    (said && platform.rank_on(&host).is_none()).then(|| {
        format!(
            "The requested image's platform ({platform}) does not match the detected host platform ({host}) and no \
             specific platform was requested"
        )
    })
}

/// Refuses what would fail at the start.
fn check(shared: &Shared, id: &ContainerId, settings: &Settings) -> Result<Vec<String>> {
    let mut warnings = super::health::validate(settings)?;
    let facts = oci_spec::Host {
        cgroup_parent: shared.config.cgroup(),
        available: shared.available,
        ..oci_spec::Host::default()
    };
    let rates = &settings.host.resources;
    let mut checked = settings.clone();
    // Block devices are looked up at the start, on the machine as it is then.
    checked.host.resources = super::settings::Resources {
        blkio_weight_device: Vec::new(),
        blkio_read_bps: Vec::new(),
        blkio_write_bps: Vec::new(),
        blkio_read_iops: Vec::new(),
        blkio_write_iops: Vec::new(),
        ..rates.clone()
    };
    oci_spec::build(id, &checked, &facts)?;
    SecurityOptions::parse(&settings.host.security_opt)?;
    logs::limits(&settings.host.log, &shared.config)?;
    check_modes(settings)?;
    shared.runtime(&settings.host.runtime)?;
    isolation::check(shared, settings)?;
    check_texts(settings)?;
    if settings.host.network == NetworkMode::Host && !settings.host.ports.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    if settings.host.binds.iter().any(|bind| bind.contains("docker.sock") || bind.contains("coracle.sock")) {
        warnings
            .push("A container that reaches the engine's socket can do everything that root can.".to_owned());
    }
    Ok(warnings)
}

/// A warning that nothing is published where nothing may come in.
fn unpublished(shared: &Shared, settings: &Settings, networks: &[Membership]) -> Result<Option<String>> {
    let publishes = !settings.host.ports.is_empty() || settings.host.publish_all;
    if !publishes || networks.is_empty() {
        return Ok(None);
    }
    let nowhere = match super::network::way_out(&shared.networks, networks) {
        // What is not there yet is not known to be internal.
        Err(Error::NotFound { .. }) => false,
        way_out => way_out?.is_none(),
    };
    Ok(nowhere.then(|| "Published ports are discarded when using internal networks only".to_owned()))
}

fn check_modes(settings: &Settings) -> Result<()> {
    let host = &settings.host;
    if host.uts == UtsMode::Host {
        // The names would be the machine's own.
        for (name, own) in [("hostname", &settings.hostname), ("domainname", &settings.domainname)] {
            if !own.is_empty() {
                return Err(Error::Invalid(format!("conflicting options: {name} and the UTS mode")));
            }
        }
    }
    check_network_mode(settings)?;
    if host.auto_remove && host.restart != super::settings::RestartPolicy::No {
        return Err(Error::Invalid("can't create 'AutoRemove' container with restart policy".to_owned()));
    }
    Ok(())
}

/// What is another's cannot be chosen as well, in Docker's words.
fn check_network_mode(settings: &Settings) -> Result<()> {
    let host = &settings.host;
    let is_anothers = matches!(host.network, NetworkMode::Container(_));
    let has_ports = !host.ports.is_empty() || host.publish_all;
    let conflicts = [
        (is_anothers && !settings.hostname.is_empty(), "hostname and the network mode"),
        (is_anothers && !host.dns.is_empty(), "dns and the network mode"),
        (is_anothers && !host.extra_hosts.is_empty(), "custom host-to-IP mapping and the network mode"),
        (
            (is_anothers || host.network == NetworkMode::Host) && !host.mac_address.is_empty(),
            "mac-address and the network mode",
        ),
        (is_anothers && has_ports, "port publishing and the container type network mode"),
    ];
    match conflicts.iter().find(|(is_so, _)| *is_so) {
        Some((_, what)) => Err(Error::Invalid(format!("conflicting options: {what}"))),
        None => Ok(()),
    }
}

fn check_texts(settings: &Settings) -> Result<()> {
    if let Some(entry) = settings.env.iter().find(|entry| entry.is_empty() || entry.starts_with('=')) {
        return Err(Error::Invalid(format!("invalid environment variable: {entry}")));
    }
    if settings.host.annotations.contains_key("") {
        let text = "invalid Annotations: the empty string is not permitted as an annotation key";
        return Err(Error::Invalid(text.to_owned()));
    }
    Ok(())
}

fn reserve_name(shared: &Shared, id: &ContainerId, name: Option<&str>) -> Result<Name> {
    if let Some(text) = name.filter(|name| !name.is_empty()) {
        let name: Name = text.strip_prefix('/').unwrap_or(text).parse().map_err(|_| {
            Error::Invalid(format!(
                "Invalid container name ({text}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            ))
        })?;
        shared.containers.reserve(&name, id)?;
        return Ok(name);
    }
    loop {
        let name = super::names::random();
        if shared.containers.reserve(&name, id).is_ok() {
            return Ok(name);
        }
    }
}

async fn make(
    shared: &Arc<Shared>,
    images: (&Image, &BTreeMap<String, Mounted>),
    request: Request,
) -> Result<Description> {
    let mut volumes = Vec::new();
    let id = request.id.clone();
    let made = make_steps(shared, images, request, &mut volumes).await;
    if made.is_err() {
        undo(shared, &id, &volumes).await;
    }
    made
}

/// A container that was checked and is to be made.
struct Request {
    id: ContainerId,
    name: Name,
    settings: Settings,
    networks: Vec<Membership>,
    wanted: Vec<Wanted>,
    /// Bytes that it may write, if that is bounded.
    bound: Option<u64>,
}

async fn make_steps(
    shared: &Arc<Shared>,
    (image, mounted): (&Image, &BTreeMap<String, Mounted>),
    request: Request,
    volumes: &mut Vec<String>,
) -> Result<Description> {
    let Request { id, name, mut settings, networks, wanted, bound } = request;
    // The container knows from here on.
    settings.host.joins.clear();
    settings.host.endpoint_links.clear();
    settings.host.read_only_non_recursive = false;
    let mut points = Vec::new();
    for wanted in wanted {
        points.push(realise(shared, (image, mounted), wanted, volumes).await?);
    }
    let (store, layers, container) = (Arc::clone(&shared.store), image.layers.clone(), id.clone());
    let prepare = move || {
        store.prepare(&container, &layers)?;
        bound.map_or(Ok(()), |bytes| store.bound_snapshot(&container, bytes))
    };
    blocking(prepare).await?.attempt(|| format!("prepare the layers of container {id}"))?;
    let description = Description {
        id,
        name,
        created: OffsetDateTime::now_utc(),
        image: image.id,
        layers: image.layers.clone(),
        settings: Arc::new(settings),
        mounts: points,
        state: State::default(),
        networks,
    };
    logs::attributes(&description, &shared.config)?;
    let record = record::write(&description);
    shared.index.put_container(&description.id, &description.name, record, Durability::Durable).await?;
    Ok(description)
}

/// Makes what a mount needs, and returns its mount point.
async fn realise(
    shared: &Shared,
    (image, mounted): (&Image, &BTreeMap<String, Mounted>),
    wanted: Wanted,
    made: &mut Vec<String>,
) -> Result<MountPoint> {
    let mut point = wanted.point;
    if wanted.is_shared {
        if point.kind == "volume" {
            // Its container may have been removed with it meanwhile.
            shared.volumes.get(&point.name).await?;
        }
        return Ok(point);
    }
    if point.kind == "bind" {
        let (path, create) = (std::path::PathBuf::from(&point.source), wanted.create_source);
        blocking(move || check_source(&path, create)).await??;
        return Ok(point);
    }
    if point.kind == "image" {
        let missing = || Error::NotFound { kind: "image", name: point.name.clone() };
        let image = mounted.get(&point.name).ok_or_else(missing)?.image.clone();
        point.source = image.id.to_string();
        point.image = Some(image);
        return Ok(point);
    }
    let creation = Creation {
        name: (!point.name.is_empty()).then(|| point.name.clone()),
        driver: point.driver.clone(),
        labels: wanted.labels,
        options: wanted.options,
    };
    let volume = shared.volumes.create(creation).await?;
    if point.anonymous {
        made.push(volume.name.clone());
    }
    if wanted.copy_up {
        let part = (volume.name.as_str(), point.subpath.as_str());
        shared.volumes.copy_up(part, &image.layers, &point.destination).await?;
    }
    point.source = volume.mountpoint.display().to_string();
    point.backing = volume.backing();
    point.name = volume.name;
    Ok(point)
}

fn check_source(path: &std::path::Path, create: bool) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    if !create {
        return Err(Error::Invalid(format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {}",
            path.display()
        )));
    }
    std::fs::create_dir_all(path).attempt(|| format!("make the bind source {}", path.display()))
}

/// Undoes what was made of a container that came to nothing.
async fn undo(shared: &Arc<Shared>, id: &ContainerId, volumes: &[String]) {
    let (store, container) = (Arc::clone(&shared.store), id.clone());
    let snapshot = blocking(move || store.remove_snapshot(&container)).await;
    if !matches!(snapshot, Ok(Ok(_))) {
        tracing::warn!(container = %id, "the layers of a container that was not made could not be removed");
    }
    shared.empty_trash_soon();
    for volume in volumes {
        if let Err(error) = shared.remove_anonymous_volume(volume, id).await {
            tracing::warn!(
                volume,
                error = error.chain(),
                "a volume of a container that was not made could not be removed"
            );
        }
    }
    if let Err(error) = shared.index.remove_container(id).await {
        tracing::warn!(container = %id, error = error.chain(), "the record of a container that was not made could not be removed");
    }
}
