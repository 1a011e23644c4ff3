//! `RUN --device`: which devices of the machine a command gets, and whether it may.
//!
//! A Dockerfile names them, and nothing in it gives them: the client has to grant them, where the operator lets it, or
//! the vendor's specification says that builds get them.

use super::Allowed;
use super::cache::Inputs;
use super::stages::Build;
use crate::cdi::{Catalogue, Found};
use crate::containers::settings::{DeviceRequest, Settings};
use crate::error::{Error, Result, blocking};
use coracle_build::{DeviceRequest as Asked, Operation};
use coracle_spec::cdi::kind_of;
use std::collections::BTreeMap;

/// What stands for all devices of a kind.
const ALL: &str = "*";

/// Devices of one step.
#[derive(Debug, Default)]
pub(super) struct Devices {
    names: Vec<String>,
    /// What each makes of a container, by its name.
    edits: BTreeMap<String, String>,
    /// Where something is mounted.
    targets: Vec<String>,
}

impl Devices {
    /// Finds those that a step asks for.
    ///
    /// # Errors
    /// [`Error::Invalid`] for one that is required and not there, and for one that the command may not have.
    pub(super) async fn of(build: &Build<'_>, operation: &Operation) -> Result<Self> {
        let asked = match operation {
            Operation::Run(command) if !command.devices.is_empty() => command.devices.clone(),
            _ => return Ok(Self::default()),
        };
        let allowed = build.request.allowed.clone();
        let directories = build.shared().config.cdi_directories.clone();
        blocking(move || choose(&Catalogue::read(&directories), &asked, &allowed)).await?
    }

    /// Adds what they are to what the step depends on.
    pub(super) fn add_inputs(&self, inputs: &mut Inputs) {
        for (name, edits) in &self.edits {
            inputs.add(format!("what the device {name} is"), edits);
        }
    }

    /// Where something is mounted.
    pub(super) fn targets(&self) -> &[String] {
        &self.targets
    }

    /// Adds them to the settings of the command's container.
    pub(super) fn add_to(self, settings: &mut Settings) {
        if !self.names.is_empty() {
            let ids = Some(self.names);
            settings.host.device_requests =
                vec![DeviceRequest { driver: "cdi".to_owned(), ids, ..DeviceRequest::default() }];
        }
    }

    fn take(&mut self, name: &str, found: &Found) {
        if self.edits.contains_key(name) {
            return;
        }
        self.names.push(name.to_owned());
        self.edits.insert(name.to_owned(), format!("{:?}", found.edits()));
        let mounts = found.edits().into_iter().flat_map(|edits| &edits.mounts);
        self.targets.extend(mounts.map(|mount| mount.container_path.clone()));
    }
}

fn choose(catalogue: &Catalogue, asked: &[Asked], allowed: &Allowed) -> Result<Devices> {
    let mut devices = Devices::default();
    let granted: Vec<&str> =
        allowed.devices.iter().flat_map(|name| named(catalogue, name)).map(|(name, _)| name).collect();
    let mut forbidden = Vec::new();
    for Asked { name, required } in asked {
        let all = named(catalogue, name);
        if all.is_empty() {
            let reasons = catalogue.reasons();
            if *required {
                return Err(Error::Invalid(format!("required device {name:?} is not registered{reasons}")));
            }
            tracing::warn!(device = name, reasons, "a command runs without a device that it asks for");
        }
        for (name, found) in all {
            if allowed.all_devices || granted.contains(&name) || found.is_auto_allowed() {
                devices.take(name, found);
            } else {
                forbidden.push(name);
            }
        }
    }
    if forbidden.is_empty() {
        return Ok(devices);
    }
    let (what, verb) = if forbidden.len() == 1 { ("device", "is") } else { ("devices", "are") };
    Err(Error::Invalid(format!(
        "{what} {} {verb} requested by the build but not allowed: RUN --device needs a build with --allow device or --allow \
         device={}, and a daemon with --build-entitlement device",
        forbidden.join(", "),
        forbidden[0]
    )))
}

/// The devices that a name means, as BuildKit has it.
fn named<'a>(catalogue: &'a Catalogue, asked: &str) -> Vec<(&'a str, &'a Found)> {
    let of_kind = |kind: &str| {
        let prefix = format!("{kind}=");
        catalogue.all().filter(move |(name, _)| name.starts_with(&prefix))
    };
    let found: Vec<_> = match kind_of(asked) {
        None => Vec::new(),
        Some((kind, None | Some(""))) => of_kind(kind).take(1).collect(),
        Some((kind, Some(ALL))) => of_kind(kind).collect(),
        Some(_) => catalogue.find(asked).into_iter().collect(),
    };
    if !found.is_empty() {
        return found;
    }
    catalogue.all().filter(|(_, found)| found.class() == Some(asked)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIFICATION: &str = "cdiVersion: 0.6.0\nkind: v.com/c\ncontainerEdits:\n  env: [ALL=1]\ndevices:\n\
        - {name: a, containerEdits: {env: [A=1]}, annotations: {org.mobyproject.buildkit.device.class: fast}}\n\
        - {name: b, containerEdits: {env: [B=1]}, annotations: {org.mobyproject.buildkit.device.class: fast}}\n\
        - {name: c, containerEdits: {mounts: [{hostPath: /etc, containerPath: /there}]}, annotations: \
        {org.mobyproject.buildkit.device.autoallow: true}}\n";

    fn chosen(asked: &[&str], allowed: &Allowed) -> Result<Vec<String>> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("v.yaml"), SPECIFICATION).unwrap();
        let catalogue = Catalogue::read(&[directory.path().to_owned()]);
        let asked: Vec<Asked> = asked
            .iter()
            .map(|name| match name.strip_suffix('!') {
                Some(name) => Asked { name: name.to_owned(), required: true },
                None => Asked { name: (*name).to_owned(), required: false },
            })
            .collect();
        choose(&catalogue, &asked, allowed).map(|devices| devices.names)
    }

    #[test]
    fn a_name_means_one_the_first_all_or_a_class() {
        let all = Allowed { all_devices: true, ..Allowed::default() };
        for (asked, names) in [
            (&["v.com/c=b"][..], &["v.com/c=b"][..]),
            (&["v.com/c"], &["v.com/c=a"]),
            (&["v.com/c=*"], &["v.com/c=a", "v.com/c=b", "v.com/c=c"]),
            (&["fast"], &["v.com/c=a", "v.com/c=b"]),
            (&["v.com/c=b", "fast", "v.com/c"], &["v.com/c=b", "v.com/c=a"]),
            (&["v.com/c=z", "other", "x.com/c=*"], &[]),
        ] {
            assert_eq!(chosen(asked, &all).unwrap(), names, "{asked:?}");
        }
        let refused = chosen(&["v.com/c=a", "v.com/c=z!"], &all).unwrap_err().to_string();
        assert_eq!(refused, "required device \"v.com/c=z\" is not registered");
    }

    #[test]
    fn who_may_have_what_is_said_by_the_client_and_the_specification() {
        let some = |names: &[&str]| Allowed {
            devices: names.iter().map(ToString::to_string).collect(),
            ..Allowed::default()
        };
        assert_eq!(chosen(&["v.com/c=c"], &Allowed::default()).unwrap(), ["v.com/c=c"]);
        assert_eq!(chosen(&["v.com/c=a"], &some(&["v.com/c=a"])).unwrap(), ["v.com/c=a"]);
        assert_eq!(chosen(&["fast"], &some(&["fast"])).unwrap().len(), 2);
        let refused = chosen(&["fast"], &some(&["v.com/c=a", "v.com/c=z"])).unwrap_err().to_string();
        assert!(
            refused.starts_with("device v.com/c=b is requested by the build but not allowed"),
            "{refused}"
        );
        let refused = chosen(&["v.com/c=*"], &Allowed::default()).unwrap_err().to_string();
        assert!(refused.starts_with("devices v.com/c=a, v.com/c=b are requested"), "{refused}");
        assert!(refused.contains("--build-entitlement device"), "{refused}");
    }

    #[test]
    fn what_a_device_is_is_part_of_what_the_step_depends_on() {
        let key = |text: &str| {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("v.yaml"), text).unwrap();
            let catalogue = Catalogue::read(&[directory.path().to_owned()]);
            let asked = [Asked { name: "v.com/c=c".to_owned(), required: false }];
            let mut inputs = Inputs::default();
            let devices = choose(&catalogue, &asked, &Allowed::default()).unwrap();
            devices.add_inputs(&mut inputs);
            (inputs.key(), devices.targets().to_vec())
        };
        let before = key(SPECIFICATION);
        assert_eq!(before, key(&SPECIFICATION.replace("A=1", "A=2")));
        assert_eq!(before.1, ["/there"]);
        for (from, to) in [("ALL=1", "ALL=2"), ("/there", "/elsewhere"), ("name: c", "name: d")] {
            assert_ne!(before.0, key(&SPECIFICATION.replace(from, to)).0, "{to}");
        }
    }
}
