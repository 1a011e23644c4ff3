//! Volumes, bind mounts and tmpfs: from what the client wrote to mount points, and from those to mounts.

use super::network::Files;
use super::settings::{MountSetting, Settings};
use super::{Description, MountPoint};
use crate::error::{Error, Result};
use coracle_spec::Owners;
use coracle_spec::runtime::Mount;
use std::collections::BTreeMap;
use std::path::{Component, Path};

/// A mount that was asked for, of any spelling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The mount point, its source still missing for volumes.
    pub(crate) point: MountPoint,
    /// Whether a missing source on the host is made.
    pub(crate) create_source: bool,
    /// Whether a new volume gets the image's content.
    pub(crate) copy_up: bool,
    /// Labels of a new volume.
    pub(crate) labels: BTreeMap<String, String>,
    /// Options of a new volume's driver.
    pub(crate) options: BTreeMap<String, String>,
    /// Whether it is another container's already, so that nothing is made for it.
    pub(crate) is_shared: bool,
}

/// Everything that was asked for, checked for form. What the client mounts takes the place of what other containers
/// share (`shared`, a later one in the place of an earlier), and that the place of the image's volumes. Pure.
///
/// # Errors
/// [`Error::Invalid`] with Docker's words.
pub(crate) fn wanted(settings: &Settings, shared: Vec<MountPoint>) -> Result<Vec<Wanted>> {
    let mut by_target: BTreeMap<String, Wanted> = BTreeMap::new();
    for path in &settings.volumes {
        check_target(path)?;
        let mut anonymous = volume(String::new(), path);
        choose_driver(&mut anonymous, &settings.host.volume_driver);
        anonymous.point.anonymous = true;
        by_target.insert(anonymous.point.destination.clone(), anonymous);
    }
    for point in shared {
        let target = point.destination.clone();
        by_target.insert(target, Wanted { point, is_shared: true, ..Wanted::default() });
    }
    let mut asked: Vec<Wanted> =
        settings.host.binds.iter().map(|text| parse_bind(text)).collect::<Result<_>>()?;
    for wanted in &mut asked {
        choose_driver(wanted, &settings.host.volume_driver);
    }
    for mount in settings.host.mounts.iter().filter(|mount| mount.kind != "tmpfs") {
        asked.push(from_setting(mount)?);
    }
    let mut targets = std::collections::BTreeSet::new();
    for wanted in &asked {
        if !targets.insert(wanted.point.destination.clone()) {
            return Err(Error::Invalid(format!("Duplicate mount point: {}", wanted.point.destination)));
        }
    }
    settings.host.tmpfs.keys().try_for_each(|target| check_target(target))?;
    let tmpfs = tmpfs_targets(settings);
    by_target.retain(|target, _| !targets.contains(target) && !tmpfs.contains(target));
    Ok(by_target.into_values().chain(asked).collect())
}

fn tmpfs_targets(settings: &Settings) -> std::collections::BTreeSet<String> {
    let mounts =
        settings.host.mounts.iter().filter(|mount| mount.kind == "tmpfs").map(|mount| mount.target.clone());
    settings.host.tmpfs.keys().cloned().chain(mounts).map(|path| clean(&path)).collect()
}

fn volume(name: String, target: &str) -> Wanted {
    Wanted {
        point: MountPoint {
            kind: "volume".to_owned(),
            name,
            destination: clean(target),
            writable: true,
            driver: "local".to_owned(),
            ..MountPoint::default()
        },
        copy_up: true,
        ..Wanted::default()
    }
}

/// Has a volume made by this driver, if it has to be made and one was named.
fn choose_driver(wanted: &mut Wanted, driver: &str) {
    if wanted.point.kind == "volume" && !driver.is_empty() {
        driver.clone_into(&mut wanted.point.driver);
    }
}

/// Parses `[SOURCE:]TARGET[:OPTIONS]` of `-v`.
fn parse_bind(text: &str) -> Result<Wanted> {
    let invalid = |reason: &str| Error::Invalid(format!("invalid volume specification: '{text}': {reason}"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] if target.starts_with('/') => (source, target, ""),
        [target, options] => ("", target, options),
        [source, target, options] => (source, target, options),
        _ => return Err(invalid("too many colons")),
    };
    if source.is_empty() && parts.len() > 2 {
        return Err(invalid("the source is missing"));
    }
    check_target(target)?;
    let mut wanted = if source.starts_with('/') {
        let point = MountPoint {
            kind: "bind".to_owned(),
            source: clean(source),
            destination: clean(target),
            writable: true,
            propagation: "rprivate".to_owned(),
            ..MountPoint::default()
        };
        Wanted { point, create_source: true, ..Wanted::default() }
    } else {
        let mut wanted = volume(source.to_owned(), target);
        wanted.point.anonymous = source.is_empty();
        wanted
    };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        apply_option(&mut wanted, option).ok_or_else(|| invalid("invalid mode"))?;
    }
    wanted.point.mode = options.to_owned();
    Ok(wanted)
}

fn apply_option(wanted: &mut Wanted, option: &str) -> Option<()> {
    let bind = wanted.point.kind == "bind";
    match option {
        "ro" => wanted.point.writable = false,
        // SELinux relabelling means nothing where SELinux is off; consistency is a matter of Docker Desktop.
        "rw" | "z" | "Z" | "consistent" | "cached" | "delegated" => {}
        "nocopy" if !bind => wanted.copy_up = false,
        "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared" if bind => {
            option.clone_into(&mut wanted.point.propagation);
        }
        _ => return None,
    }
    Some(())
}

fn from_setting(mount: &MountSetting) -> Result<Wanted> {
    let invalid =
        |text: String| Error::Invalid(format!("invalid mount config for type \"{}\": {text}", mount.kind));
    check_target(&mount.target)?;
    match mount.kind.as_str() {
        "bind" => {
            if !mount.source.starts_with('/') {
                return Err(invalid(format!(
                    "invalid mount path: '{}' mount path must be absolute",
                    mount.source
                )));
            }
            let propagation = if mount.propagation.is_empty() { "rprivate" } else { &mount.propagation };
            let point = MountPoint {
                kind: "bind".to_owned(),
                source: clean(&mount.source),
                destination: clean(&mount.target),
                mode: if mount.non_recursive { "nonrecursive".to_owned() } else { String::new() },
                writable: !mount.read_only,
                propagation: propagation.to_owned(),
                is_engines: mount.is_engines,
                ..MountPoint::default()
            };
            Ok(Wanted { point, create_source: mount.create_source, ..Wanted::default() })
        }
        "volume" => {
            let mut wanted = volume(mount.source.clone(), &mount.target);
            wanted.point.anonymous = mount.source.is_empty();
            wanted.point.writable = !mount.read_only;
            wanted.copy_up = !mount.no_copy;
            wanted.labels.clone_from(&mount.labels);
            wanted.options.clone_from(&mount.driver_options);
            if !mount.driver.is_empty() {
                wanted.point.driver.clone_from(&mount.driver);
            }
            Ok(wanted)
        }
        other => Err(Error::Unsupported(format!(
            "mounts of type {other:?} are not supported; use bind, volume or tmpfs"
        ))),
    }
}

fn check_target(target: &str) -> Result<()> {
    if !target.starts_with('/') {
        return Err(Error::Invalid(format!("invalid mount path: '{target}' mount path must be absolute")));
    }
    if clean(target) == "/" {
        return Err(Error::Invalid("invalid specification: destination can't be '/'".to_owned()));
    }
    if target.contains('\0') {
        return Err(Error::Invalid("a mount path contains a zero byte".to_owned()));
    }
    Ok(())
}

/// An absolute path without `.`, `..` and doubled slashes. The target is resolved inside the container all the same.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&std::ffi::OsStr> = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    let joined: Vec<String> = parts.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    format!("/{}", joined.join("/"))
}

/// The mounts of a container that was made: its mount points, its tmpfs, and the files that its network decides. With a user
/// namespace (`mapped`) it sees its own users where they own what is there.
pub(super) fn of(description: &Description, files: Files, mapped: Option<&Owners>) -> Result<Vec<Mount>> {
    let settings = &description.settings;
    let map = mapped.map(|_| "idmap".to_owned());
    let mut mounts: Vec<Mount> = Vec::new();
    for point in &description.mounts {
        let mut mount = bind(point);
        mount.options.extend(map.clone().filter(|_| point.is_of_containers()));
        mounts.push(mount);
    }
    for (target, options) in &settings.host.tmpfs {
        let options: Vec<&str> = options.split(',').filter(|option| !option.is_empty()).collect();
        mounts.push(tmpfs(&clean(target), &options));
    }
    for mount in settings.host.mounts.iter().filter(|mount| mount.kind == "tmpfs") {
        check_target(&mount.target)?;
        let size = format!("size={}", mount.tmpfs_size);
        let mode = format!("mode={:o}", mount.tmpfs_mode);
        let mut options = Vec::new();
        options.extend((mount.tmpfs_size > 0).then_some(size.as_str()));
        options.extend((mount.tmpfs_mode > 0).then_some(mode.as_str()));
        options.extend(mount.read_only.then_some("ro"));
        mounts.push(tmpfs(&clean(&mount.target), &options));
    }
    for (path, inside) in files {
        if !mounts.iter().any(|mount| mount.destination == inside) {
            let access = if settings.host.readonly_root { "ro" } else { "rw" };
            let options = ["bind", "private", access].map(str::to_owned).into_iter().chain(map.clone());
            mounts.push(Mount {
                destination: inside.to_owned(),
                kind: "bind".to_owned(),
                source: path.display().to_string(),
                options: options.collect(),
            });
        }
    }
    Ok(mounts)
}

pub(super) fn bind(point: &MountPoint) -> Mount {
    let depth = if point.mode == "nonrecursive" { "bind" } else { "rbind" };
    let propagation = if point.propagation.is_empty() { "rprivate" } else { &point.propagation };
    let mut options = vec![depth.to_owned(), propagation.to_owned()];
    if !point.writable {
        // Recursively: what is mounted below would be writable otherwise.
        options.push("rro".to_owned());
    }
    Mount {
        destination: point.destination.clone(),
        kind: "bind".to_owned(),
        source: point.source.clone(),
        options,
    }
}

fn tmpfs(target: &str, options: &[&str]) -> Mount {
    let mut all = vec!["noexec".to_owned(), "nosuid".to_owned(), "nodev".to_owned()];
    all.extend(options.iter().map(ToString::to_string));
    Mount {
        destination: target.to_owned(),
        kind: "tmpfs".to_owned(),
        source: "tmpfs".to_owned(),
        options: all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volume_specifications_are_read_as_docker_reads_them() {
        for (text, kind, source, name, target, writable) in [
            ("/a:/b", "bind", "/a", "", "/b", true),
            ("/a//x/../y:/b/:ro", "bind", "/a/y", "", "/b", false),
            ("data:/b", "volume", "", "data", "/b", true),
            ("/b", "volume", "", "", "/b", true),
            ("/b:ro", "volume", "", "", "/b", false),
            ("data:/b:ro,nocopy", "volume", "", "data", "/b", false),
        ] {
            let wanted = parse_bind(text).unwrap();
            let point = &wanted.point;
            let found = (point.kind.as_str(), point.source.as_str(), point.name.as_str());
            assert_eq!(found, (kind, source, name), "{text}");
            assert_eq!((point.destination.as_str(), point.writable), (target, writable), "{text}");
        }
    }

    #[test]
    fn impossible_specifications_are_refused() {
        for text in
            ["", "data:relative", "/a:/", "/a:/b:rx", "/a:/b:ro:z", ":/b:ro", "/a:/b:nocopy", "v:/b:rshared"]
        {
            assert!(parse_bind(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_volume_of_the_image_gives_way_to_what_the_client_mounts_there() {
        let mut settings = Settings::default();
        settings.volumes.extend(["/data".to_owned(), "/cache".to_owned(), "/tmp".to_owned()]);
        settings.host.binds = vec!["/host:/data".into()];
        settings.host.tmpfs.insert("/tmp".into(), String::new());
        let found: Vec<_> = wanted(&settings, Vec::new())
            .unwrap()
            .into_iter()
            .map(|w| (w.point.kind, w.point.destination))
            .collect();
        assert_eq!(found, [("volume".into(), "/cache".into()), ("bind".into(), "/data".into())]);
        settings.host.binds.push("/other:/data/".into());
        assert!(wanted(&settings, Vec::new()).unwrap_err().to_string().contains("Duplicate mount point"));
    }
}
