//! Whether a specification makes sense by itself.

use super::{DeviceNode, Edits, Mount, Specification, name};
use std::collections::BTreeSet;
use std::path::{Component, Path};

/// The released versions, oldest first. The first two were drafts that say less than is asked for here.
const VERSIONS: [&str; 8] = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0"];

/// When a hook may run.
const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

type Checked = Result<(), String>;

/// Checks a specification; what is wrong with it.
pub(super) fn check(specification: &Specification) -> Checked {
    check_version(specification)?;
    name::check_kind(&specification.kind)?;
    if specification.devices.is_empty() {
        return Err("it has no devices".to_owned());
    }
    check_edits(&specification.container_edits)?;
    let mut names = BTreeSet::new();
    for device in &specification.devices {
        name::check_device(&device.name)?;
        if !names.insert(&device.name) {
            return Err(format!("the device {:?} is there twice", device.name));
        }
        if device.container_edits.is_empty() {
            return Err(format!("the device {:?} has no containerEdits", device.name));
        }
        check_edits(&device.container_edits)
            .map_err(|reason| format!("the device {:?}: {reason}", device.name))?;
    }
    Ok(())
}

/// The version is known, and has all that is used.
fn check_version(specification: &Specification) -> Checked {
    let version = specification.cdi_version.as_str();
    let place = |version: &str| VERSIONS.iter().position(|known| *known == version);
    let known = place(version.strip_prefix('v').unwrap_or(version))
        .ok_or_else(|| format!("cdiVersion {version:?} is none of {}", VERSIONS.join(", ")))?;
    let needed = needed(specification);
    match needed {
        Some((what, least)) if place(least).is_some_and(|least| least > known) => Err(format!(
            "{what} is not in version {version} of the interface: cdiVersion must be {least} or later"
        )),
        _ => Ok(()),
    }
}

/// What of a specification came into the interface last, and when.
fn needed(specification: &Specification) -> Option<(&'static str, &'static str)> {
    let devices = &specification.devices;
    let all_edits =
        || devices.iter().map(|device| &device.container_edits).chain([&specification.container_edits]);
    let any = |has: fn(&Edits) -> bool| all_edits().any(has);
    let rdt = |edits: &Edits| {
        edits.intel_rdt.as_ref().is_some_and(|rdt| !rdt.schemata.is_empty() || rdt.enable_monitoring)
    };
    let begins_with_digit = |name: &str| name.starts_with(|first: char| first.is_ascii_digit());
    let class = specification.kind.split_once('/').map_or("", |(_, class)| class);
    let newest_first = [
        (any(|edits| !edits.net_devices.is_empty()), "netDevices", "1.1.0"),
        (all_edits().any(rdt), "intelRdt.schemata or enableMonitoring", "1.1.0"),
        (any(|edits| edits.intel_rdt.is_some()), "intelRdt", "0.7.0"),
        (any(|edits| !edits.additional_gids.is_empty()), "additionalGids", "0.7.0"),
        (
            !specification.annotations.is_empty()
                || devices.iter().any(|device| !device.annotations.is_empty()),
            "annotations",
            "0.6.0",
        ),
        (class.contains('.'), "a dot in the class", "0.6.0"),
        (
            devices.iter().any(|device| begins_with_digit(&device.name)),
            "a device whose name begins with a digit",
            "0.5.0",
        ),
        (
            any(|edits| edits.device_nodes.iter().any(|node| !node.host_path.is_empty())),
            "hostPath of a device node",
            "0.5.0",
        ),
        (any(|edits| edits.mounts.iter().any(|mount| !mount.kind.is_empty())), "type of a mount", "0.4.0"),
    ];
    newest_first.into_iter().find(|(is_used, ..)| *is_used).map(|(_, what, version)| (what, version))
}

fn check_edits(edits: &Edits) -> Checked {
    for entry in &edits.env {
        check_variable(entry)?;
    }
    edits.device_nodes.iter().try_for_each(check_node)?;
    edits.mounts.iter().try_for_each(check_mount)?;
    for hook in &edits.hooks {
        if !HOOKS.contains(&hook.hook_name.as_str()) {
            return Err(format!("the hook {:?} is none of {}", hook.hook_name, HOOKS.join(", ")));
        }
        check_path("the program of a hook", &hook.path)?;
        for entry in &hook.env {
            check_variable(entry)?;
        }
    }
    match edits
        .net_devices
        .iter()
        .find(|device| device.host_interface_name.is_empty() || device.name.is_empty())
    {
        Some(_) => Err("a netDevice has no hostInterfaceName or no name".to_owned()),
        None => Ok(()),
    }
}

fn check_variable(entry: &str) -> Checked {
    let is_variable =
        entry.split_once('=').is_some_and(|(name, _)| !name.is_empty()) && !entry.contains('\0');
    if is_variable { Ok(()) } else { Err(format!("the variable {entry:?} is not NAME=value")) }
}

fn check_node(node: &DeviceNode) -> Checked {
    check_path("the path of a device node", &node.path)?;
    if !node.host_path.is_empty() {
        check_path("the hostPath of a device node", &node.host_path)?;
    }
    if !matches!(node.kind.as_str(), "" | "b" | "c" | "u" | "p") {
        return Err(format!("the type {:?} of {} is none of b, c, u, p", node.kind, node.path));
    }
    let permissions = node.permissions.as_str();
    if permissions != "none" && !permissions.chars().all(|letter| "rwm".contains(letter)) {
        return Err(format!("the permissions {permissions:?} of {} are no letters of rwm", node.path));
    }
    Ok(())
}

fn check_mount(mount: &Mount) -> Checked {
    check_path("the containerPath of a mount", &mount.container_path)?;
    if mount.is_bind() {
        check_path("the hostPath of a mount", &mount.host_path)?;
    }
    if mount.options.iter().any(|option| option.contains(['\0', ','])) {
        return Err(format!("an option of the mount at {} is several", mount.container_path));
    }
    Ok(())
}

impl Mount {
    /// Whether a file or directory of the host is mounted: where no file system is named, as its path says.
    pub fn is_bind(&self) -> bool {
        matches!(self.kind.as_str(), "" | "bind" | "none")
            || self.options.iter().any(|option| option == "bind" || option == "rbind")
    }
}

/// A path from the root, which climbs nowhere.
fn check_path(what: &str, path: &str) -> Checked {
    let mut parts = Path::new(path).components();
    let is_plain = parts.next() == Some(Component::RootDir)
        && parts.all(|part| matches!(part, Component::Normal(_)))
        && !path.contains('\0');
    match path {
        "" => Err(format!("{what} is empty")),
        "/" => Err(format!("{what} is the root")),
        _ if is_plain => Ok(()),
        _ => Err(format!("{what} is {path:?}: it must begin with / and have no .. in it")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Format;
    use super::*;
    use serde_json::{Value, json};

    fn with(pointer: &str, value: Value) -> Result<Specification, String> {
        let mut document = json!({
            "cdiVersion": "1.1.0", "kind": "vendor.com/class", "annotations": {}, "containerEdits": {},
            "devices": [{"name": "one", "annotations": {}, "containerEdits": {"env": ["A=b"],
                "deviceNodes": [{"path": "/dev/a"}], "mounts": [{"hostPath": "/a", "containerPath": "/b"}],
                "hooks": [{"hookName": "poststop", "path": "/bin/x"}]}}],
        });
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        match document.pointer_mut(parent).unwrap() {
            Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
            parent => parent[key] = value,
        }
        Specification::parse(&document.to_string(), Format::Json).map_err(|error| error.to_string())
    }

    #[test]
    fn what_makes_sense_is_taken() {
        let edits = "/devices/0/containerEdits";
        for (pointer, value) in [
            ("/cdiVersion", json!("v1.0.0")),
            ("/kind", json!("a-b_c.d/e.f")),
            ("/devices/0/name", json!("0:1.2-x_y")),
            (&format!("{edits}/env"), json!(["A=", "B==", "C=\n"])),
            (&format!("{edits}/netDevices"), json!([{"hostInterfaceName": "a", "name": "b"}])),
            (&format!("{edits}/intelRdt"), json!({"closID": "x", "enableCMT": true, "schemata": ["L3:0=f"]})),
            (&format!("{edits}/additionalGids"), json!([0, 5])),
            (&format!("{edits}/deviceNodes/0/permissions"), json!("none")),
            (&format!("{edits}/deviceNodes/0/uid"), json!(1000)),
            (
                &format!("{edits}/mounts/0"),
                json!({"hostPath": "tmpfs", "containerPath": "/t", "type": "tmpfs"}),
            ),
        ] {
            assert!(
                with(pointer, value.clone()).is_ok(),
                "{pointer}: {value}: {:?}",
                with(pointer, value.clone())
            );
        }
    }

    #[test]
    fn what_makes_none_is_refused_with_its_reason() {
        let device = |rest: Value| json!([rest]);
        let node = "/devices/0/containerEdits/deviceNodes/0";
        let mount = "/devices/0/containerEdits/mounts/0";
        for (pointer, value, words) in [
            ("/cdiVersion", json!("0.2.0"), "is none of 0.3.0"),
            ("/cdiVersion", json!("2.0.0"), "is none of"),
            ("/cdiVersion", json!(1), "expected a string"),
            ("/kind", json!("vendor.com"), "is not vendor/class"),
            ("/kind", json!("vendor.com/a/b"), "the class of the kind"),
            ("/kind", json!("-/a"), "the vendor of the kind"),
            ("/devices", json!([]), "no devices"),
            ("/devices", json!(null), "no devices"),
            ("/devices", device(json!({"name": "a", "containerEdits": {}})), "has no containerEdits"),
            ("/devices", device(json!({"containerEdits": {"env": ["A=b"]}})), "missing field `name`"),
            ("/devices/0/name", json!("a b"), "the device \"a b\" does not begin"),
            ("/devices/0/name", json!("../x"), "does not begin"),
            ("/devices/0/more", json!(1), "unknown field `more`"),
            ("/more", json!(1), "unknown field `more`"),
            ("/containerEdits/env", json!(["A"]), "the variable \"A\" is not"),
            ("/containerEdits/env", json!(["=b"]), "is not NAME=value"),
            ("/containerEdits/env", json!(["A=\0"]), "is not NAME=value"),
            ("/containerEdits/hooks", json!([{"hookName": "never", "path": "/x"}]), "the hook \"never\""),
            ("/containerEdits/hooks", json!([{"hookName": "poststop", "path": "x"}]), "must begin with /"),
            ("/containerEdits/netDevices", json!([{"name": "a"}]), "no hostInterfaceName"),
            ("/containerEdits/additionalGids", json!([-1]), "invalid value"),
            (&format!("{node}/path"), json!(""), "the path of a device node is empty"),
            (&format!("{node}/path"), json!("dev/a"), "must begin with /"),
            (&format!("{node}/path"), json!("/dev/../a"), "have no .."),
            (&format!("{node}/hostPath"), json!("null"), "the hostPath of a device node is \"null\""),
            (&format!("{node}/hostPath"), json!("/dev/../etc/shadow"), "have no .."),
            (&format!("{node}/type"), json!("x"), "none of b, c, u, p"),
            (&format!("{node}/major"), json!(-1), "invalid value"),
            (&format!("{node}/permissions"), json!("rx"), "no letters of rwm"),
            (&format!("{mount}/hostPath"), json!(""), "the hostPath of a mount is empty"),
            (&format!("{mount}/hostPath"), json!("lib"), "must begin with /"),
            (&format!("{mount}/containerPath"), json!("/"), "is the root"),
            (&format!("{mount}/containerPath"), json!("/a/../../b"), "have no .."),
            (&format!("{mount}/options"), json!(["ro,bind"]), "is several"),
        ] {
            let refused = with(pointer, value).unwrap_err();
            assert!(refused.contains(words), "{pointer}: {refused}");
        }
    }

    #[test]
    fn a_version_has_what_came_with_it_or_before() {
        let edits = "/devices/0/containerEdits";
        for (pointer, value, version) in [
            (format!("{edits}/netDevices"), json!([{"hostInterfaceName": "a", "name": "b"}]), "1.1.0"),
            (format!("{edits}/intelRdt"), json!({"enableMonitoring": true}), "1.1.0"),
            (format!("{edits}/intelRdt"), json!({}), "0.7.0"),
            (format!("{edits}/additionalGids"), json!([1]), "0.7.0"),
            ("/annotations".to_owned(), json!({"a": "b"}), "0.6.0"),
            ("/devices/0/annotations".to_owned(), json!({"a": "b"}), "0.6.0"),
            ("/kind".to_owned(), json!("vendor.com/a.b"), "0.6.0"),
            ("/devices/0/name".to_owned(), json!("0"), "0.5.0"),
            (format!("{edits}/deviceNodes/0/hostPath"), json!("/dev/b"), "0.5.0"),
            (format!("{edits}/mounts/0/type"), json!("none"), "0.4.0"),
        ] {
            let mut read = with(&pointer, value).unwrap();
            let place = VERSIONS.iter().position(|known| *known == version).unwrap();
            for (at, known) in VERSIONS.iter().enumerate() {
                (*known).clone_into(&mut read.cdi_version);
                assert_eq!(check(&read).is_ok(), at >= place, "{pointer} in {known}");
            }
        }
    }
}
