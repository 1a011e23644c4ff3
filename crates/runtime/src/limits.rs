//! Every bound on what this crate reads from others.

use std::time::Duration;

/// Largest frame of the shim protocol, in bytes. Whole plans travel in a memory file beside their frame.
pub(crate) const FRAME: usize = 64 * 1024;
/// Most descriptors that accompany a frame.
pub(crate) const FRAME_DESCRIPTORS: usize = 64;
/// Most descriptors of a request, as many as there are ports.
pub(crate) const REQUEST_DESCRIPTORS: usize = 65_536 + FRAME_DESCRIPTORS;
/// Largest plan of a container, in bytes.
pub(crate) const PLAN: usize = 8 * 1024 * 1024;
/// Longest reason of a failure that is told, in bytes: in JSON it may become six times as long.
pub(crate) const FAILURE_TEXT: usize = 8 * 1024;
/// How much of the end of another runtime's log is looked at for the reason of a failure, in bytes.
pub(crate) const FOREIGN_LOG: u64 = 64 * 1024;
/// Longest process id that another runtime writes, in bytes.
pub(crate) const FOREIGN_PID: u64 = 32;
/// How much another runtime may write where its bundle is, as tmpfs(5) takes it; a copy of this program has to fit as well.
pub(crate) const FOREIGN_FILES: &str = "64m";
/// Longest report of a failing child, in bytes.
pub(crate) const CHILD_REPORT: usize = 8 * 1024;
/// Largest `passwd` or `group` file of a container that is read, in bytes (CVE-2026-47262).
pub(crate) const USER_FILE: u64 = 1024 * 1024;
/// Most cgroup or mount table text that is read, in bytes.
pub(crate) const KERNEL_TEXT: u64 = 16 * 1024 * 1024;
/// Longest chain of `#!` interpreters is the kernel's; longest search path entry tried, in bytes.
pub(crate) const SEARCH_PATH_ENTRY: usize = 4096;
/// How often the creation of a cgroup is tried whose parent is removed meanwhile.
pub(crate) const CREATION_TRIES: usize = 1000;
/// How often the removal of an emptied cgroup is tried, a millisecond apart.
pub(crate) const REMOVAL_TRIES: usize = 200;
/// Largest profile of system calls, in bytes.
pub(crate) const SECCOMP_PROFILE: usize = 1024 * 1024;
/// Largest piece that is relayed at once, in bytes: a datagram has no more.
pub(crate) const RELAY_BUFFER: usize = 64 * 1024;
/// Relayed ports, connections and flows that are looked at before others have their turn.
pub(crate) const RELAY_EVENTS: usize = 64;
/// Pieces that one of them passes on before others have their turn.
pub(crate) const RELAY_TURNS: usize = 16;
/// Connections that are relayed at once; more wait to be accepted.
pub(crate) const RELAYED_STREAMS: usize = 4096;
/// Flows of datagrams that are relayed at once; a further one ends the one that was silent for longest.
pub(crate) const RELAYED_FLOWS: usize = 1024;
/// How long a flow of datagrams may be silent.
pub(crate) const FLOW_PATIENCE: Duration = Duration::from_secs(90);
/// How long nobody is accepted after there were no descriptors, unless a connection ends.
pub(crate) const RELAY_PAUSE: Duration = Duration::from_millis(500);
