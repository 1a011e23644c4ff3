//! Volumes, bind mounts and tmpfs: from what the client wrote to mount points, and from those to mounts.

use super::mount_mode::{self, Kind};
use super::network::Files;
use super::settings::{MountSetting, Settings};
use super::{Below, Description, MountPoint};
use crate::error::{Error, Result};
use coracle_runtime::protocol;
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
    if settings.host.read_only_non_recursive {
        let binds = asked.iter_mut().map(|wanted| &mut wanted.point);
        let as_usual = |point: &&mut MountPoint| point.kind == "bind" && point.below == Below::Alike;
        binds.filter(as_usual).for_each(|point| point.below = Below::Writable);
    }
    // As Docker has it of volumes of its own driver that the client names.
    let bare = asked.iter_mut().map(|wanted| &mut wanted.point);
    let is_bare = |point: &&mut MountPoint| point.kind == "volume" && point.mode.is_empty();
    bare.filter(is_bare).for_each(|point| "z".clone_into(&mut point.mode));
    let mut targets = std::collections::BTreeSet::new();
    for wanted in &asked {
        if !targets.insert(wanted.point.destination.clone()) {
            return Err(Error::Invalid(format!("Duplicate mount point: {}", wanted.point.destination)));
        }
    }
    settings.host.tmpfs.keys().try_for_each(|target| check_target(target))?;
    settings.host.mounts.iter().filter(|mount| mount.kind == "tmpfs").try_for_each(check_tmpfs)?;
    let tmpfs = tmpfs_targets(settings);
    if let Some(twice) = targets.intersection(&tmpfs).next() {
        return Err(Error::Invalid(format!("Duplicate mount point: {twice}")));
    }
    by_target.retain(|target, _| !targets.contains(target) && !tmpfs.contains(target));
    Ok(by_target.into_values().chain(asked).collect())
}

fn check_tmpfs(mount: &MountSetting) -> Result<()> {
    let invalid = |text: &str| Error::Invalid(format!("invalid mount config for type \"tmpfs\": {text}"));
    if mount.target.is_empty() {
        return Err(invalid("field Target must not be empty"));
    }
    if !mount.source.is_empty() {
        return Err(invalid("field Source must not be specified"));
    }
    check_target(&mount.target).map_err(|error| invalid(&error.to_string()))
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

/// Parses `[SOURCE:]TARGET[:MODE]` of `-v`.
fn parse_bind(text: &str) -> Result<Wanted> {
    let invalid = |reason: &str| Error::Invalid(format!("invalid volume specification: '{text}'{reason}"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts[..] {
        [target] if !target.is_empty() => ("", target, ""),
        // Without a source there is no mode.
        [source, target] if mount_mode::words(target).is_none() => (source, target, ""),
        [source, target, mode] => (source, target, mode),
        _ => return Err(invalid("")),
    };
    if parts.iter().take(2).any(|part| part.is_empty()) {
        return Err(invalid(""));
    }
    let words = mount_mode::words(mode).ok_or_else(|| Error::Invalid(format!("invalid mode: {mode}")))?;
    check_target(target).map_err(|error| invalid(&format!(": {error}")))?;
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
    let kind = wanted.point.kind.clone();
    let foreign = |field: &str| {
        invalid(&format!(": invalid mount config for type \"{kind}\": field {field} must not be specified"))
    };
    for (about, word) in words {
        match about {
            Kind::Access => wanted.point.writable = word == "rw",
            Kind::Propagation if kind == "bind" => word.clone_into(&mut wanted.point.propagation),
            Kind::Propagation => return Err(foreign("BindOptions")),
            Kind::Copying if kind == "bind" => return Err(foreign("VolumeOptions")),
            Kind::Copying => wanted.copy_up = false,
            Kind::Label | Kind::Consistency => {}
        }
    }
    wanted.point.mode = mode.to_owned();
    Ok(wanted)
}

fn from_setting(mount: &MountSetting) -> Result<Wanted> {
    let invalid =
        |text: String| Error::Invalid(format!("invalid mount config for type \"{}\": {text}", mount.kind));
    if mount.target.is_empty() {
        return Err(invalid("field Target must not be empty".to_owned()));
    }
    check_target(&mount.target).map_err(|error| invalid(error.to_string()))?;
    if matches!(mount.kind.as_str(), "bind" | "image") && mount.source.is_empty() {
        return Err(invalid("field Source must not be empty".to_owned()));
    }
    match mount.kind.as_str() {
        "bind" => {
            if mount_mode::words(&mount.propagation)
                .is_none_or(|words| words.iter().any(|(kind, _)| *kind != Kind::Propagation))
            {
                return Err(invalid(format!("invalid propagation mode: {}", mount.propagation)));
            }
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
                writable: !mount.read_only,
                propagation: propagation.to_owned(),
                is_engines: mount.is_engines,
                below: below(mount).map_err(|text| invalid(text.to_owned()))?,
                ..MountPoint::default()
            };
            Ok(Wanted { point, create_source: mount.create_source, ..Wanted::default() })
        }
        "volume" => {
            let mut wanted = volume(mount.source.clone(), &mount.target);
            wanted.point.anonymous = mount.source.is_empty();
            if wanted.point.anonymous && !mount.subpath.is_empty() {
                return Err(invalid("must not set Subpath when using anonymous volumes".to_owned()));
            }
            if wanted.point.anonymous && mount.read_only {
                let text = "must not set ReadOnly mode when using anonymous volumes";
                return Err(invalid(text.to_owned()));
            }
            wanted.point.subpath = local(&mount.subpath, "volume").map_err(invalid)?;
            wanted.point.writable = !mount.read_only;
            wanted.copy_up = !mount.no_copy;
            wanted.labels.clone_from(&mount.labels);
            wanted.options.clone_from(&mount.driver_options);
            if !mount.driver.is_empty() {
                wanted.point.driver.clone_from(&mount.driver);
            }
            Ok(wanted)
        }
        "image" => {
            let point = MountPoint {
                kind: "image".to_owned(),
                name: mount.source.clone(),
                destination: clean(&mount.target),
                subpath: local(&mount.subpath, "image").map_err(invalid)?,
                propagation: "rprivate".to_owned(),
                ..MountPoint::default()
            };
            Ok(Wanted { point, ..Wanted::default() })
        }
        other @ ("cluster" | "npipe") => Err(Error::Unsupported(format!(
            "mounts of type {other:?} are not supported; use bind, volume, image or tmpfs"
        ))),
        _ => Err(invalid("mount type unknown".to_owned())),
    }
}

/// What becomes of that which is mounted below a bind mount.
fn below(mount: &MountSetting) -> std::result::Result<Below, &'static str> {
    match (mount.read_only, mount.read_only_non_recursive, mount.read_only_force_recursive) {
        (false, true, _) => Err("mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive"),
        (false, _, true) => Err("mount options conflict: !ReadOnly && BindOptions.ReadOnlyForceRecursive"),
        (_, true, true) => {
            Err("mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive")
        }
        _ if mount.non_recursive => Ok(Below::Absent),
        (_, true, false) => Ok(Below::Writable),
        (_, false, _) => Ok(Below::Alike),
    }
}

/// A path that does not lead out of where it begins, as far as its text tells.
fn local(subpath: &str, of: &str) -> std::result::Result<String, String> {
    let mut depth = 0_usize;
    let stays = Path::new(subpath).components().all(|component| match component {
        Component::ParentDir => depth.checked_sub(1).map(|up| depth = up).is_some(),
        Component::Normal(_) => {
            depth += 1;
            true
        }
        Component::CurDir => true,
        Component::RootDir | Component::Prefix(_) => false,
    });
    if stays && !subpath.contains('\0') {
        Ok(subpath.to_owned())
    } else {
        Err(format!("subpath must be a relative path within the {of}"))
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
    let mut trees = (0..).map(protocol::tree);
    let mut mounts = Vec::new();
    for point in &description.mounts {
        let tree = if point.is_tree() { trees.next() } else { None };
        let mut mount = Mount { source: tree.unwrap_or_else(|| point.source.clone()), ..bind(point) };
        mount.options.extend(map.clone().filter(|_| point.is_of_containers()));
        mounts.push(mount);
    }
    for (target, options) in &settings.host.tmpfs {
        let options: Vec<&str> = options.split(',').filter(|option| !option.is_empty()).collect();
        mounts.push(tmpfs(&clean(target), &options));
    }
    for mount in settings.host.mounts.iter().filter(|mount| mount.kind == "tmpfs") {
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

/// The mount of a point that a path names.
pub(super) fn bind(point: &MountPoint) -> Mount {
    let depth = if point.below == Below::Absent { "bind" } else { "rbind" };
    let propagation = if point.propagation.is_empty() { "rprivate" } else { &point.propagation };
    let mut options = vec![depth.to_owned(), propagation.to_owned()];
    if !point.writable {
        let access = if point.below == Below::Writable { "ro" } else { "rro" };
        options.push(access.to_owned());
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
        for (text, reason) in [
            ("", ""),
            ("/b:ro", ""),
            (":/b:ro", ""),
            ("/a:", ""),
            ("/a:/b:ro:z", ""),
            ("data:relative", ": invalid mount path: 'relative' mount path must be absolute"),
            ("/a:/", ": invalid specification: destination can't be '/'"),
            (
                "/a:/b:nocopy",
                ": invalid mount config for type \"bind\": field VolumeOptions must not be specified",
            ),
            (
                "v:/b:rshared",
                ": invalid mount config for type \"volume\": field BindOptions must not be specified",
            ),
        ] {
            let error = parse_bind(text).unwrap_err().to_string();
            assert_eq!(error, format!("invalid volume specification: '{text}'{reason}"));
        }
        for mode in ["rx", "ro,ro", "ro,rshared,shared"] {
            let error = parse_bind(&format!("/a:/b:{mode}")).unwrap_err().to_string();
            assert_eq!(error, format!("invalid mode: {mode}"));
        }
    }

    #[test]
    fn a_subpath_leads_nowhere_else() {
        for (subpath, stays) in [
            ("", true),
            ("a/b", true),
            ("a/../b", true),
            ("..a", true),
            ("a/..", true),
            ("..", false),
            ("a/../../b", false),
            ("/a", false),
            ("a\0b", false),
        ] {
            assert_eq!(local(subpath, "volume").is_ok(), stays, "{subpath:?}");
        }
    }

    #[test]
    fn what_is_mounted_below_is_as_the_client_wants_it() {
        let options = |read_only, [non_recursive, writable, force]: [bool; 3]| {
            let setting = MountSetting {
                kind: "bind".into(),
                source: "/a".into(),
                target: "/b".into(),
                read_only,
                non_recursive,
                read_only_non_recursive: writable,
                read_only_force_recursive: force,
                ..MountSetting::default()
            };
            from_setting(&setting).map(|wanted| bind(&wanted.point).options.join(","))
        };
        for (read_only, asked, expected) in [
            (false, [false; 3], "rbind,rprivate"),
            (false, [true, false, false], "bind,rprivate"),
            (true, [false; 3], "rbind,rprivate,rro"),
            (true, [false, true, false], "rbind,rprivate,ro"),
            (true, [false, false, true], "rbind,rprivate,rro"),
            (true, [true, true, false], "bind,rprivate,rro"),
        ] {
            assert_eq!(options(read_only, asked).unwrap(), expected);
        }
        for (read_only, asked) in
            [(false, [false, true, false]), (false, [false, false, true]), (true, [false, true, true])]
        {
            let error = options(read_only, asked).unwrap_err().to_string();
            assert!(error.contains("mount options conflict: "), "{error}");
        }
    }

    #[test]
    fn before_api_1_44_read_only_binds_left_writable_what_is_below() {
        let mut settings = Settings::default();
        settings.host.binds = vec!["/a:/b:ro".into()];
        settings.host.read_only_non_recursive = true;
        let wanted = wanted(&settings, Vec::new()).unwrap();
        assert_eq!(bind(&wanted[0].point).options.join(","), "rbind,rprivate,ro");
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
