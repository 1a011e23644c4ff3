//! `/containers/{id}/exec` and `/exec/{id}/…`.

use serde::{Deserialize, Serialize};

use crate::go::string_or_list;

/// A process to be run in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ExecCreateRequest {
    /// `user[:group]`, empty for the container's.
    pub user: String,
    /// Everything allowed.
    pub privileged: bool,
    /// Give the process a terminal.
    pub tty: bool,
    /// Rows and columns of that terminal at the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<[u32; 2]>,
    /// Attach stdin when it starts.
    pub attach_stdin: bool,
    /// Attach stderr.
    pub attach_stderr: bool,
    /// Attach stdout.
    pub attach_stdout: bool,
    /// Obsolete; the start request decides.
    pub detach: bool,
    /// Keys that detach, such as `ctrl-p,ctrl-q`.
    pub detach_keys: String,
    /// `NAME=value`, beyond the container's.
    pub env: Option<Vec<String>>,
    /// Where the process begins, empty for the container's.
    pub working_dir: String,
    /// The command.
    #[serde(deserialize_with = "string_or_list")]
    pub cmd: Option<Vec<String>>,
}

/// The answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ExecCreateResponse {
    /// Id of the exec.
    pub id: String,
}

/// Starts it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ExecStartRequest {
    /// Answer at once instead of becoming its stdio.
    pub detach: bool,
    /// As when it was created.
    pub tty: bool,
    /// Rows and columns of the terminal at the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<[u32; 2]>,
}

/// How it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecInspect {
    /// Id of the exec.
    #[serde(rename = "ID")]
    pub id: String,
    /// Whether it runs.
    #[serde(rename = "Running")]
    pub running: bool,
    /// `null` until it ended.
    #[serde(rename = "ExitCode")]
    pub exit_code: Option<i64>,
    /// What it runs.
    #[serde(rename = "ProcessConfig")]
    pub process_config: ExecProcess,
    /// Whether stdin is attached.
    #[serde(rename = "OpenStdin")]
    pub open_stdin: bool,
    /// Whether stderr is.
    #[serde(rename = "OpenStderr")]
    pub open_stderr: bool,
    /// Whether stdout is.
    #[serde(rename = "OpenStdout")]
    pub open_stdout: bool,
    /// Whether its record may go.
    #[serde(rename = "CanRemove")]
    pub can_remove: bool,
    /// Its container.
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// As they were given; Docker's daemon answers with a string.
    #[serde(rename = "DetachKeys")]
    pub detach_keys: String,
    /// Pid as the host sees it, zero before the start.
    #[serde(rename = "Pid")]
    pub pid: i64,
}

/// The process of an exec; Docker spells these keys in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecProcess {
    /// Whether it has a terminal.
    pub tty: bool,
    /// The executable.
    pub entrypoint: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Whether everything is allowed; absent unless known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub privileged: Option<bool>,
    /// User, when one was given.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
}
