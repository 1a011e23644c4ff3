//! What has to be looked up on the host to build a container's configuration.

use super::confinement::{SeccompChoice, SecurityOptions, rule};
use super::modes::IpcMode;
use super::oci_spec::Host;
use super::settings::{DeviceMapping, Settings};
use crate::cdi;
use crate::config::DefaultFilter;
use crate::engine::Shared;
use crate::error::{Error, Result};
use coracle_runtime::seccomp;
use coracle_spec::runtime::{Device, DeviceRule, Mount, Seccomp};
use rustix::fs::FileType;
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Gathers what [`super::oci_spec::build`] needs. Blocks.
pub(super) fn facts(shared: &Shared, settings: &Settings, mut mounts: Vec<Mount>) -> Result<Host> {
    let mut devices = devices(settings)?;
    let injection = cdi::inject(&shared.config.cdi_directories, &settings.host.device_requests)?;
    devices.retain(|(device, _)| !injection.devices.iter().any(|(other, _)| other.path == device.path));
    devices.extend(injection.devices);
    mounts.retain(|mount| !injection.mounts.iter().any(|other| other.destination == mount.destination));
    mounts.extend(injection.mounts);
    Ok(Host {
        hostname: shared.hostname.clone(),
        cgroup_parent: shared.config.cgroup(),
        devices,
        links: Vec::new(),
        env: injection.env,
        groups: injection.groups,
        mounts,
        block_devices: block_devices(settings),
        available: shared.available,
        // Asked for where the host's own is mounted.
        has_mqueue: settings.host.ipc == IpcMode::Host && Path::new("/dev/mqueue").is_dir(),
        seccomp: filter(shared, settings)?,
        no_new_privileges: shared.config.defaults.no_new_privileges,
        init: shared.config.init,
        owners: None,
    })
}

fn filter(shared: &Shared, settings: &Settings) -> Result<Option<Seccomp>> {
    if settings.host.privileged {
        return Ok(None);
    }
    let capabilities = super::confinement::capabilities(&settings.host, &shared.available)?;
    let options = SecurityOptions::parse(&settings.host.security_opt)?;
    match options.seccomp {
        SeccompChoice::Unconfined => Ok(None),
        SeccompChoice::BuiltIn => shared.filter(None, &capabilities).map(Some),
        SeccompChoice::Default => match &shared.config.defaults.seccomp {
            DefaultFilter::BuiltIn => shared.filter(None, &capabilities).map(Some),
            DefaultFilter::Unconfined => Ok(None),
            DefaultFilter::Profile { text, .. } => shared.filter(Some(text), &capabilities).map(Some),
        },
        SeccompChoice::Profile(profile) => shared.filter(Some(&profile), &capabilities).map(Some),
    }
}

/// Resolves a profile for a set of capabilities on this machine.
pub(crate) fn resolve_filter(profile: Option<&str>, capabilities: &[String]) -> Result<Seccomp> {
    let refused =
        |error: coracle_runtime::Error| Error::Invalid(format!("seccomp profile: {}", error.chain()));
    let kernel = seccomp::profile::KernelVersion::running().map_err(refused)?;
    let profile = profile.unwrap_or(seccomp::default_profile());
    seccomp::profile::resolve(profile, capabilities, seccomp::Machine::native(), kernel).map_err(refused)
}

type Opened = (Device, Option<DeviceRule>);

fn devices(settings: &Settings) -> Result<Vec<Opened>> {
    let mut devices = Vec::new();
    if settings.host.privileged {
        all_devices(Path::new("/dev"), &mut devices);
    }
    for mapping in &settings.host.devices {
        let path = Path::new(&mapping.host);
        if path.is_dir() {
            let before = devices.len();
            for_each_device(path, &mut |host| {
                let inside = host.strip_prefix(path).map(|rest| Path::new(&mapping.container).join(rest));
                if let (Ok(inside), Some(found)) = (inside, device(host, Path::new(""))) {
                    devices.push(opened(Device { path: inside.display().to_string(), ..found }, mapping));
                }
            });
            if devices.len() == before {
                return Err(Error::Invalid(format!(
                    "error gathering device information while adding custom device \"{}\": not a device node",
                    mapping.host
                )));
            }
            continue;
        }
        let missing = || {
            Error::Invalid(format!(
                "error gathering device information while adding custom device \"{}\": no such file or directory, or not a device node",
                mapping.host
            ))
        };
        let found = device(path, Path::new(&mapping.container)).ok_or_else(missing)?;
        devices.push(opened(found, mapping));
    }
    Ok(devices)
}

fn opened(device: Device, mapping: &DeviceMapping) -> Opened {
    let access = if mapping.permissions.is_empty() { "rwm" } else { &mapping.permissions };
    let (major, minor) = (i64::from(device.major), i64::from(device.minor));
    let rule = rule(true, &device.kind, Some(major), Some(minor), access);
    (device, Some(rule))
}

/// All devices of the host, but for terminals and what the container has of its own.
fn all_devices(directory: &Path, devices: &mut Vec<Opened>) {
    for_each_device(directory, &mut |path| {
        if let Some(found) = device(path, path) {
            // A privileged container's rules allow everything.
            devices.push((found, None));
        }
    });
}

fn for_each_device(directory: &Path, visit: &mut dyn FnMut(&Path)) {
    const OWN: [&str; 8] = ["pts", "shm", "mqueue", "console", "ptmx", "fd", "core", ".udev"];
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if OWN.iter().any(|own| entry.file_name() == *own) {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => for_each_device(&entry.path(), visit),
            Ok(kind) if kind.is_char_device() || kind.is_block_device() => visit(&entry.path()),
            _ => {}
        }
    }
}

fn device(path: &Path, inside: &Path) -> Option<Device> {
    let stat = rustix::fs::stat(path).ok()?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => "c",
        FileType::BlockDevice => "b",
        _ => return None,
    };
    Some(Device {
        kind: kind.to_owned(),
        path: if inside.as_os_str().is_empty() { path } else { inside }.display().to_string(),
        major: rustix::fs::major(stat.st_rdev),
        minor: rustix::fs::minor(stat.st_rdev),
        file_mode: Some(stat.st_mode & 0o7777),
        uid: Some(stat.st_uid),
        gid: Some(stat.st_gid),
    })
}

fn block_devices(settings: &Settings) -> BTreeMap<String, (i64, i64)> {
    let asked = &settings.host.resources;
    let lists = [
        &asked.blkio_weight_device,
        &asked.blkio_read_bps,
        &asked.blkio_write_bps,
        &asked.blkio_read_iops,
        &asked.blkio_write_iops,
    ];
    let number = |path: &str| {
        let metadata = std::fs::metadata(path).ok().filter(|m| m.file_type().is_block_device())?;
        let device = metadata.rdev();
        Some((i64::from(rustix::fs::major(device)), i64::from(rustix::fs::minor(device))))
    };
    let rates = lists.into_iter().flatten();
    rates.filter_map(|rate| Some((rate.path.clone(), number(&rate.path)?))).collect()
}
