//! Specifications of the Container Device Interface: what a vendor says a container needs to reach its devices.
//!
//! Source: the interface's `SPEC.md`, versions 0.3.0 to 1.1.0. Fields that no version has are refused, as its own library
//! does. Whether what is asked for can be done, and what of it is on the machine, is decided by the engine.

mod check;
mod name;

use crate::{Error, Result, lenient, limits, yaml};
pub use name::{is_qualified, kind_of};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// How a specification is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A file whose name ends with `.json`.
    Json,
    /// A file whose name ends with `.yaml`.
    Yaml,
}

/// A specification: devices of one kind.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Specification {
    /// The version of the interface.
    pub cdi_version: String,
    /// `vendor/class`.
    pub kind: String,
    /// What is said of all devices.
    #[serde(default, deserialize_with = "texts")]
    pub annotations: BTreeMap<String, String>,
    /// The devices.
    #[serde(deserialize_with = "lenient::nullable")]
    pub devices: Vec<Device>,
    /// What changes for a container that gets any of the devices.
    #[serde(default, deserialize_with = "lenient::nullable")]
    pub container_edits: Edits,
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Device {
    /// Its name among those of its kind.
    #[serde(deserialize_with = "text")]
    pub name: String,
    /// What is said of it.
    #[serde(default, deserialize_with = "texts")]
    pub annotations: BTreeMap<String, String>,
    /// What changes for a container that gets it.
    #[serde(deserialize_with = "lenient::nullable")]
    pub container_edits: Edits,
}

/// What changes for a container.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Edits {
    /// Variables, each `NAME=value`.
    #[serde(deserialize_with = "lenient::nullable")]
    pub env: Vec<String>,
    /// Nodes of devices.
    #[serde(deserialize_with = "lenient::nullable")]
    pub device_nodes: Vec<DeviceNode>,
    /// Interfaces of the host's network.
    #[serde(deserialize_with = "lenient::nullable")]
    pub net_devices: Vec<NetDevice>,
    /// Mounts.
    #[serde(deserialize_with = "lenient::nullable")]
    pub mounts: Vec<Mount>,
    /// Programs of the host's that run at a moment of the container's life.
    #[serde(deserialize_with = "lenient::nullable")]
    pub hooks: Vec<Hook>,
    /// Intel's Resource Director Technology.
    pub intel_rdt: Option<IntelRdt>,
    /// Groups that the process gets; 0 is none.
    #[serde(alias = "additionalGIDs", deserialize_with = "lenient::nullable")]
    pub additional_gids: Vec<u32>,
}

/// A node of a device. What is not said is looked up on the host.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DeviceNode {
    /// Where, in the container.
    pub path: String,
    /// Where on the host; the same path if empty.
    pub host_path: String,
    /// `b`, `c`, `u` or `p`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its major number.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
    /// Its mode.
    pub file_mode: Option<u32>,
    /// Letters of `rwm`, or `none`; all if empty.
    pub permissions: String,
    /// Its owner; the container's user if absent.
    pub uid: Option<u32>,
    /// Its group; that of the container's user if absent.
    pub gid: Option<u32>,
}

/// An interface of the host's network.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetDevice {
    /// What it is called on the host.
    pub host_interface_name: String,
    /// What it is called in the container.
    pub name: String,
}

/// A mount.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Mount {
    /// What is mounted.
    pub host_path: String,
    /// Where, in the container.
    pub container_path: String,
    /// The file system.
    #[serde(rename = "type")]
    pub kind: String,
    /// Options as in fstab(5).
    #[serde(deserialize_with = "lenient::nullable")]
    pub options: Vec<String>,
}

/// A program of the host's.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Hook {
    /// When it runs.
    pub hook_name: String,
    /// Where it is.
    pub path: String,
    /// Its arguments.
    #[serde(deserialize_with = "lenient::nullable")]
    pub args: Vec<String>,
    /// Its environment.
    #[serde(deserialize_with = "lenient::nullable")]
    pub env: Vec<String>,
    /// Seconds that it may take.
    pub timeout: Option<i64>,
}

/// Intel's Resource Director Technology.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IntelRdt {
    /// The class of service.
    #[serde(rename = "closID")]
    pub clos_id: String,
    /// How the cache is divided.
    pub l3_cache_schema: String,
    /// How the bandwidth is.
    pub mem_bw_schema: String,
    /// Whether the cache is watched.
    #[serde(rename = "enableCMT")]
    pub enable_cmt: bool,
    /// Whether the bandwidth is.
    #[serde(rename = "enableMBM")]
    pub enable_mbm: bool,
    /// Lines for the kernel.
    #[serde(deserialize_with = "lenient::nullable")]
    pub schemata: Vec<String>,
    /// Whether the class is watched.
    pub enable_monitoring: bool,
}

impl Specification {
    /// Reads and checks a specification.
    ///
    /// # Errors
    /// [`Error::TooLarge`], or [`Error::Devices`], which says what is wrong where.
    pub fn parse(text: &str, format: Format) -> Result<Self> {
        let what = "CDI specification";
        if text.len() > limits::DEVICES_DOCUMENT {
            let limit = limits::DEVICES_DOCUMENT;
            return Err(Error::TooLarge { what, size: text.len(), limit });
        }
        let wrong = |reason: String| Error::Devices { reason };
        let specification: Self = match format {
            Format::Json => serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?,
            Format::Yaml => {
                let document = yaml::parse(text).map_err(wrong)?;
                serde_json::from_value(document).map_err(|error| wrong(error.to_string()))?
            }
        };
        let (size, limit) = (specification.devices.len(), limits::DEVICES);
        if size > limit {
            return Err(Error::TooLarge { what: "CDI specification, in devices,", size, limit });
        }
        check::check(&specification).map_err(wrong)?;
        Ok(specification)
    }

    /// The name that clients call a device of it by.
    pub fn qualified(&self, device: &Device) -> String {
        format!("{}={}", self.kind, device.name)
    }

    /// What is said of a device: of all, and of it.
    pub fn annotation<'a>(&'a self, device: &'a Device, key: &str) -> Option<&'a str> {
        device.annotations.get(key).or_else(|| self.annotations.get(key)).map(String::as_str)
    }
}

impl Edits {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A text that may be written as a number or a truth, as YAML without quotes has it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Text(String),
    Truth(bool),
    Number(serde_json::Number),
}

impl From<Scalar> for String {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Text(text) => text,
            Scalar::Truth(truth) => truth.to_string(),
            Scalar::Number(number) => number.to_string(),
        }
    }
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<String, D::Error> {
    Scalar::deserialize(deserializer).map(Into::into)
}

fn texts<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<BTreeMap<String, String>, D::Error> {
    let texts = Option::<BTreeMap<String, Scalar>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(texts.into_iter().map(|(key, value)| (key, value.into())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let yaml = "cdiVersion: 0.7.0\nkind: vendor.com/gpu\nannotations:\n  allow: true\ndevices:\n- name: 0\n  \
                    annotations: {count: 3}\n  containerEdits:\n    env: [A=b]\n    deviceNodes:\n    - path: /dev/gpu0\n      \
                    hostPath: /dev/null\n      fileMode: 0640\ncontainerEdits:\n  additionalGIDs: [7]\n  mounts:\n  - \
                    hostPath: /lib/gpu\n    containerPath: /usr/lib/gpu\n    options: [ro, bind]\n";
        let json = r#"{"cdiVersion":"0.7.0","kind":"vendor.com/gpu","annotations":{"allow":"true"},"devices":[{"name":"0",
            "annotations":{"count":"3"},"containerEdits":{"env":["A=b"],"deviceNodes":[{"path":"/dev/gpu0","hostPath":"/dev/null",
            "fileMode":416}],"hooks":null}}],"containerEdits":{"additionalGids":[7],"mounts":[{"hostPath":"/lib/gpu",
            "containerPath":"/usr/lib/gpu","options":["ro","bind"]}]}}"#;
        let read = Specification::parse(yaml, Format::Yaml).unwrap();
        assert_eq!(read, Specification::parse(json, Format::Json).unwrap());
        let device = &read.devices[0];
        assert_eq!(read.qualified(device), "vendor.com/gpu=0");
        assert_eq!(
            (read.annotation(device, "allow"), read.annotation(device, "count")),
            (Some("true"), Some("3"))
        );
        assert_eq!(read.annotation(device, "other"), None);
        assert_eq!(device.container_edits.device_nodes[0].file_mode, Some(0o640));
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_read() {
        let text = " ".repeat(limits::DEVICES_DOCUMENT + 1);
        assert!(matches!(Specification::parse(&text, Format::Json), Err(Error::TooLarge { .. })));
        let device =
            |number: usize| format!("{{\"name\":\"{number}\",\"containerEdits\":{{\"env\":[\"A=b\"]}}}}");
        let devices: Vec<String> = (0..=limits::DEVICES).map(device).collect();
        let text = format!(r#"{{"cdiVersion":"1.0.0","kind":"a.b/c","devices":[{}]}}"#, devices.join(","));
        assert!(matches!(Specification::parse(&text, Format::Json), Err(Error::TooLarge { .. })));
    }
}
