//! The configuration of an image: what runs in a container of it, its layers and its history.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::manifest::parse;
use crate::lenient::{is_default, nullable, strings};
use crate::{Digest, Error, Platform, Result, limits};

/// An image configuration (OCI image spec, `config.md`) with Docker's additional fields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub author: String,
    /// A note of who committed it (Docker).
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub comment: String,
    /// What it runs on.
    #[serde(flatten)]
    pub platform: Platform,
    /// What runs in a container of this image.
    #[serde(default, deserialize_with = "nullable")]
    pub config: RunConfig,
    /// The layers.
    #[serde(default, deserialize_with = "nullable")]
    pub rootfs: RootFs,
    /// How it was made, a line for each step. May be shorter or longer than the list of layers.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub history: Vec<History>,
    /// Fields this project does not know, among them Docker's `container_config` and `docker_version`.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The layers of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default = "layers")]
    pub kind: String,
    /// Digests of the uncompressed layers, lowest first.
    #[serde(default, deserialize_with = "nullable")]
    pub diff_ids: Vec<Digest>,
}

/// One step of an image's making.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub created_by: String,
    /// Who.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub author: String,
    /// A note.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub comment: String,
    /// Whether the step made no layer.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub empty_layer: bool,
    /// Fields this project does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What runs in a container of an image, unless its creator says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// `user`, `uid`, `user:group` or `uid:gid`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub user: String,
    /// Ports to publish: `80/tcp`. The values are empty objects.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub exposed_ports: BTreeMap<String, Value>,
    /// The environment, `NAME=value`.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub env: Vec<String>,
    /// The program, to which `cmd` is appended.
    #[serde(deserialize_with = "strings", skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The program, or the entry point's arguments.
    #[serde(deserialize_with = "strings", skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Places of volumes. The values are empty objects.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub volumes: BTreeMap<String, Value>,
    /// Where the program starts.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub working_dir: String,
    /// Labels.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks the program to end.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub stop_signal: String,
    /// Seconds between that signal and the kill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// How to tell whether it is healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Instructions for builds on top of this image.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub on_build: Vec<String>,
    /// What runs the shell form of instructions.
    #[serde(deserialize_with = "strings", skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Whether the command is already escaped (Windows).
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub args_escaped: bool,
    /// Fields this project does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How to tell whether a container is healthy. Durations are nanoseconds; 0 means the default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `NONE`, `CMD` and its words, or `CMD-SHELL` and a line; empty inherits.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub test: Vec<String>,
    /// Pause between checks.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub interval: i64,
    /// How long one check may take.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub timeout: i64,
    /// How long failures do not count after the start.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub start_period: i64,
    /// Pause between checks within the start period.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub retries: i64,
    /// Fields this project does not know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl ImageConfig {
    /// Whether the image was made of `other`: it has all layers and all steps of that, and further steps.
    pub fn is_made_of(&self, other: &Self) -> bool {
        self.rootfs.diff_ids.starts_with(&other.rootfs.diff_ids)
            && self.history.len() > other.history.len()
            && self.history.starts_with(&other.history)
    }

    /// Reads a configuration of at most [`limits::CONFIG`] bytes and [`limits::LAYERS`] layers.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::Json`], or [`Error::Document`] when its root file system is not made of layers.
    pub fn parse(content: &[u8]) -> Result<Self> {
        let config: Self = parse("image configuration", content, limits::CONFIG)?;
        if config.rootfs.kind != "layers" {
            let reason = "its root file system is not made of layers";
            return Err(Error::Document { what: "image configuration", reason });
        }
        let size = config.rootfs.diff_ids.len();
        if size > limits::LAYERS {
            return Err(Error::TooLarge { what: "list of layers", size, limit: limits::LAYERS });
        }
        Ok(config)
    }

    /// The JSON document: what a digest is taken of. The same value always gives the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("maps have string keys and nothing here fails to serialise")
    }
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: layers(), diff_ids: Vec::new() }
    }
}

fn layers() -> String {
    "layers".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_made_of_those_whose_steps_it_goes_on_from() {
        let made = |steps: &[&str]| ImageConfig {
            history: steps
                .iter()
                .map(|step| History { created_by: (*step).to_owned(), ..History::default() })
                .collect(),
            ..ImageConfig::default()
        };
        let base = made(&["a", "b"]);
        assert!(made(&["a", "b", "c"]).is_made_of(&base));
        assert!(!base.is_made_of(&base));
        assert!(!made(&["a"]).is_made_of(&base));
        assert!(!made(&["b", "b", "c"]).is_made_of(&base));
        let mut other = made(&["a", "b", "c"]);
        other.rootfs.diff_ids = vec![Digest::of(b"x")];
        assert!(other.is_made_of(&base));
        assert!(!made(&["a", "b", "c", "d"]).is_made_of(&other));
    }

    #[test]
    fn everything_docker_writes_survives_the_round_trip() {
        let text = serde_json::json!({
            "architecture": "amd64", "os": "linux", "variant": "v2", "created": "2024-01-02T03:04:05.678Z",
            "author": "me", "comment": "note", "docker_version": "28.2.2", "container": "abc",
            "container_config": {"Hostname": "h", "Cmd": ["x"]},
            "config": {
                "User": "1000:100", "Env": ["PATH=/bin", "A="], "Entrypoint": ["/e"], "Cmd": [], "WorkingDir": "/w",
                "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}}, "Labels": {"k": "v"}, "StopSignal": "SIGINT",
                "StopTimeout": 3, "OnBuild": ["RUN x"], "Shell": ["/bin/bash", "-c"], "ArgsEscaped": true,
                "Healthcheck": {"Test": ["CMD", "x"], "Interval": 30_000_000_000_i64, "Retries": 3, "New": 1},
                "Hostname": "", "Tty": false, "NetworkDisabled": true,
            },
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"a")]},
            "history": [{"created": "2024-01-02T03:04:05Z", "created_by": "RUN", "empty_layer": true, "x": 1}],
        });
        let config = ImageConfig::parse(text.to_string().as_bytes()).unwrap();
        assert_eq!(serde_json::to_value(&config).unwrap(), text);
        assert_eq!(ImageConfig::parse(&config.to_json()).unwrap(), config);
    }

    #[test]
    fn nulls_and_absent_fields_are_defaults() {
        let texts = [
            "{}",
            r#"{"config":null,"rootfs":null,"history":null,"created":null,"os":null,"author":null}"#,
            r#"{"config":{"Env":null,"Cmd":null,"Volumes":null,"Labels":null,"Healthcheck":null,"OnBuild":null}}"#,
        ];
        for text in texts {
            assert_eq!(ImageConfig::parse(text.as_bytes()).unwrap(), ImageConfig::default(), "{text}");
        }
        let one = ImageConfig::parse(br#"{"config":{"Cmd":"/bin/sh"}}"#).unwrap();
        assert_eq!(one.config.cmd.unwrap(), ["/bin/sh"]);
    }

    #[test]
    fn history_need_not_match_the_layers() {
        for history in ["[]", r#"[{}]"#, r#"[{"created":null},{},{}]"#] {
            let digest = Digest::of(b"a");
            let text =
                format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["{digest}"]}},"history":{history}}}"#);
            assert!(ImageConfig::parse(text.as_bytes()).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        let digest = format!("\"{}\"", Digest::of(b"a"));
        let many = vec![digest.as_str(); limits::LAYERS + 1].join(",");
        let cases = [
            String::new(),
            "[]".to_owned(),
            "null".to_owned(),
            r#"{"rootfs":{"type":"base"}}"#.to_owned(),
            r#"{"rootfs":{"type":"layers","diff_ids":["sha256:x"]}}"#.to_owned(),
            r#"{"rootfs":{"type":"layers","diff_ids":["../../etc"]}}"#.to_owned(),
            format!(r#"{{"rootfs":{{"type":"layers","diff_ids":[{many}]}}}}"#),
            r#"{"config":{"Env":"A=b"}}"#.to_owned(),
            " ".repeat(limits::CONFIG + 1),
        ];
        for text in cases {
            assert!(ImageConfig::parse(text.as_bytes()).is_err(), "{text:.100}");
        }
    }
}
