//! The part of a container's configuration that does not depend on the host; also the configuration of an image.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::go::{Empty, string_or_list};

/// What runs in the container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Config {
    /// Host name; empty for the first 12 digits of the id.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: String,
    /// `user[:group]`, names or numbers.
    pub user: String,
    /// Whether the creating client wants to attach to stdin.
    pub attach_stdin: bool,
    /// Whether it wants stdout.
    pub attach_stdout: bool,
    /// Whether it wants stderr.
    pub attach_stderr: bool,
    /// `port/protocol`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Empty>>,
    /// Give the process a terminal.
    pub tty: bool,
    /// Keep stdin open without anybody attached.
    pub open_stdin: bool,
    /// Close stdin when the first attached client leaves.
    pub stdin_once: bool,
    /// `NAME=value`; `NAME` alone removes the image's variable.
    pub env: Option<Vec<String>>,
    /// Arguments, or the whole command without an entry point. `[]` is not `null`.
    #[serde(deserialize_with = "string_or_list")]
    pub cmd: Option<Vec<String>>,
    /// How to find out whether the container works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Windows only: the command is escaped already.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub args_escaped: bool,
    /// Name of the image as the client gave it.
    pub image: String,
    /// Paths that get an anonymous volume.
    pub volumes: Option<BTreeMap<String, Empty>>,
    /// Where the process begins.
    pub working_dir: String,
    /// The executable. `[""]` clears the image's; `[]` is not `null`.
    #[serde(deserialize_with = "string_or_list")]
    pub entrypoint: Option<Vec<String>>,
    /// No network at all.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub network_disabled: bool,
    /// Before API 1.44: the address of the only endpoint.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac_address: String,
    /// `ONBUILD` triggers of an image.
    pub on_build: Option<Vec<String>>,
    /// Labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Signal that stops the container, `SIGTERM` when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Seconds between that signal and `SIGKILL`; 10 when absent, -1 for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// Shell of the shell forms of `RUN`, `CMD` and `ENTRYPOINT`.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "string_or_list")]
    pub shell: Option<Vec<String>>,
}

/// A health check. Durations in nanoseconds; zero takes the image's or the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthConfig {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`; empty inherits.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "string_or_list")]
    pub test: Option<Vec<String>>,
    /// Pause between checks, 30 s by default.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub interval: i64,
    /// How long one check may take, 30 s by default.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub timeout: i64,
    /// Time after the start in which failures do not count.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub start_period: i64,
    /// Pause between checks in that time, 5 s by default.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make the container unhealthy, 3 by default.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub retries: i64,
}
