//! What devices make of a container: the edits of their specifications, with what they leave open looked up on the host.
//!
//! Nothing of an edit is left out: what this engine does not do is refused with the name of the device.

use super::{Catalogue, Found, failed, gpus};
use crate::containers::settings::DeviceRequest;
use crate::error::{Error, Result};
use coracle_spec::cdi::{DeviceNode, Edits, Mount as SpecifiedMount};
use coracle_spec::runtime::{Device, DeviceRule, Mount};
use rustix::fs::FileType;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The driver of devices by name.
const DRIVER: &str = "cdi";

/// What every container has below `/dev` by itself.
const OWN: [&str; 16] = [
    "null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "pts", "shm", "mqueue", "fd",
    "stdin", "stdout", "stderr", "core",
];

/// What a container gets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Injection {
    /// Variables, which count more than the container's.
    pub(crate) env: Vec<String>,
    /// Nodes, with the rules that open them.
    pub(crate) devices: Vec<(Device, Option<DeviceRule>)>,
    /// Mounts, each in the place of what would be mounted there.
    pub(crate) mounts: Vec<Mount>,
    /// Groups of the process.
    pub(crate) groups: Vec<u32>,
}

/// What the devices of some requests make of a container. Blocks.
///
/// # Errors
/// [`Error::Failed`] in Docker's words for a device that is not found or not there, [`Error::Unsupported`] for what this
/// engine does not do.
pub(crate) fn inject(directories: &[PathBuf], requests: &[DeviceRequest]) -> Result<Injection> {
    let mut injection = Injection::default();
    if requests.is_empty() {
        return Ok(injection);
    }
    let catalogue = Catalogue::read(directories);
    let mut names = Vec::new();
    for request in requests {
        names.extend(names_of(&catalogue, directories, request)?);
    }
    let missing: Vec<&str> =
        names.iter().filter(|name| catalogue.find(name).is_none()).map(String::as_str).collect();
    if !missing.is_empty() {
        let reasons = catalogue.reasons();
        return Err(failed(format!("unresolvable CDI devices {}{reasons}", missing.join(", "))));
    }
    let (mut done, mut documents) = (BTreeSet::new(), BTreeSet::new());
    for name in &names {
        let Some((name, found)) = catalogue.find(name).filter(|(name, _)| done.insert(*name)) else {
            continue;
        };
        let origin = Origin { name, found };
        let [of_all, own] = found.edits();
        if documents.insert(&found.document.path) {
            injection.take(origin, of_all)?;
        }
        injection.take(origin, own)?;
    }
    Ok(injection)
}

/// The names of the devices that a request asks for.
fn names_of(catalogue: &Catalogue, directories: &[PathBuf], request: &DeviceRequest) -> Result<Vec<String>> {
    if request.driver != DRIVER {
        return gpus::names(catalogue, directories, request);
    }
    let names = request.ids.clone().unwrap_or_default();
    match names.first().filter(|_| directories.is_empty()) {
        Some(first) => Err(Error::Unsupported(format!(
            "device {first} cannot be given: this engine was started without CDI devices (features: cdi=false)"
        ))),
        None => Ok(names),
    }
}

/// Whose edits they are.
#[derive(Clone, Copy)]
struct Origin<'a> {
    name: &'a str,
    found: &'a Found,
}

impl Origin<'_> {
    fn failed(self, reason: &str) -> Error {
        failed(format!("device {} of {}: {reason}", self.name, self.found.document.path.display()))
    }

    fn refused(self, what: &str, why: &str) -> Error {
        let path = self.found.document.path.display();
        Error::Unsupported(format!("device {} cannot be given: {path} asks for {what}, and {why}", self.name))
    }
}

impl Injection {
    fn take(&mut self, origin: Origin<'_>, edits: &Edits) -> Result<()> {
        refuse(origin, edits)?;
        self.env.extend(edits.env.iter().cloned());
        for node in &edits.device_nodes {
            let made = make(origin, node)?;
            self.devices.retain(|(device, _)| device.path != made.0.path);
            self.devices.push(made);
        }
        for mount in &edits.mounts {
            let made = mounted(origin, mount)?;
            self.mounts.retain(|mount| mount.destination != made.destination);
            self.mounts.push(made);
        }
        let groups = edits.additional_gids.iter().filter(|group| **group != 0);
        self.groups.extend(groups);
        Ok(())
    }
}

/// Refuses what this engine does not do.
fn refuse(origin: Origin<'_>, edits: &Edits) -> Result<()> {
    if let Some(hook) = edits.hooks.first() {
        let what = format!("the hook {} ({})", hook.hook_name, hook.path);
        return Err(origin.refused(&what, "this engine runs no hooks"));
    }
    if let Some(device) = edits.net_devices.first() {
        let what = format!("the network interface {}", device.host_interface_name);
        return Err(origin.refused(&what, "this engine moves no interfaces into containers"));
    }
    if edits.intel_rdt.is_some() {
        return Err(origin.refused("intelRdt", "this engine does not divide caches and bandwidth"));
    }
    Ok(())
}

/// A node, with its type and numbers, which the host's node has where the specification does not say them.
fn make(origin: Origin<'_>, node: &DeviceNode) -> Result<(Device, Option<DeviceRule>)> {
    let inside = Path::new(&node.path).strip_prefix("/dev").ok();
    let Some(first) = inside.and_then(|inside| inside.components().next()) else {
        let what = format!("the device node {}", node.path);
        return Err(origin.refused(&what, "this engine makes nodes below /dev and nowhere else"));
    };
    if OWN.iter().any(|own| first.as_os_str() == *own) {
        let what = format!("the device node {}", node.path);
        return Err(origin.refused(&what, "every container has its own there"));
    }
    let is_complete = node.kind == "p" || (!node.kind.is_empty() && node.major != 0);
    let (kind, major, minor) =
        if is_complete { (node.kind.clone(), node.major, node.minor) } else { complete(origin, node)? };
    let device = Device {
        kind,
        path: node.path.clone(),
        major,
        minor,
        file_mode: node.file_mode,
        uid: node.uid,
        gid: node.gid,
    };
    let rule = rule(&device, &node.permissions);
    Ok((device, rule))
}

/// Type and numbers of a node that does not say them all.
fn complete(origin: Origin<'_>, node: &DeviceNode) -> Result<(String, u32, u32)> {
    let host = if node.host_path.is_empty() { &node.path } else { &node.host_path };
    let stat = rustix::fs::stat(host.as_str())
        .map_err(|error| origin.failed(&format!("failed to stat CDI host device {host:?}: {error}")))?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => "c",
        FileType::BlockDevice => "b",
        FileType::Fifo => "p",
        _ => return Err(origin.failed(&format!("{host} is not a device node"))),
    };
    let wanted = if node.kind == "u" { "c" } else { node.kind.as_str() };
    if !wanted.is_empty() && wanted != kind {
        return Err(origin.failed(&format!("{host} has the type {kind}, not {wanted}")));
    }
    if kind == "p" {
        return Ok((kind.to_owned(), 0, 0));
    }
    if node.major != 0 {
        return Ok((kind.to_owned(), node.major, node.minor));
    }
    Ok((kind.to_owned(), rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)))
}

/// What opens a node in the device cgroup.
fn rule(device: &Device, permissions: &str) -> Option<DeviceRule> {
    let kind = match device.kind.as_str() {
        "p" => return None,
        "u" => "c",
        kind => kind,
    };
    let access = match permissions {
        "none" => return None,
        "" => "rwm",
        some => some,
    };
    Some(DeviceRule {
        allow: true,
        kind: Some(kind.to_owned()),
        major: Some(i64::from(device.major)),
        minor: Some(i64::from(device.minor)),
        access: Some(access.to_owned()),
    })
}

fn mounted(origin: Origin<'_>, mount: &SpecifiedMount) -> Result<Mount> {
    let destination = mount.container_path.trim_end_matches('/').to_owned();
    if Path::new(&destination).starts_with("/proc") {
        let what = format!("a mount at {destination}");
        return Err(origin.refused(&what, "nothing may lie on /proc"));
    }
    let mut options = mount.options.clone();
    if mount.is_bind() {
        if !options.iter().any(|option| option == "bind" || option == "rbind") {
            options.insert(0, "bind".to_owned());
        }
        std::fs::metadata(&mount.host_path)
            .map_err(|error| origin.failed(&format!("cannot mount {}: {error}", mount.host_path)))?;
    }
    Ok(Mount { destination, kind: mount.kind.clone(), source: mount.host_path.clone(), options })
}
