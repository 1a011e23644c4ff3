//! The states of a container.
//!
//! ```text
//!            start            exit
//! Created ─────────► Running ──────► Exited ─── start ──► Running
//!                     ▲   │ pause      │  ▲
//!             unpause │   ▼            │  └── exit
//!                     Paused           ├── restart policy ──► Restarting ──► Running
//!                                      └── remove ──► gone (Dead while it cannot be removed)
//! ```

use super::health::Health;
use std::fmt;
use std::sync::Arc;
use time::OffsetDateTime;

/// In which state a container is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Status {
    /// Made and never started.
    #[default]
    Created,
    /// Its first process runs.
    Running,
    /// All its processes are frozen.
    Paused,
    /// It has ended and waits to be started again by its restart policy.
    Restarting,
    /// It has ended.
    Exited,
    /// Its removal has begun and could not be finished.
    Dead,
}

impl Status {
    /// Whether it has processes.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Dead => "dead",
        })
    }
}

/// How a container is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The state.
    pub status: Status,
    /// The id of the first process; 0 when there is none.
    pub pid: i32,
    /// The last exit code.
    pub exit_code: i32,
    /// Why the last start failed.
    pub error: String,
    /// Whether the kernel killed a process of the last run for want of memory.
    pub oom_killed: bool,
    /// When it was last started.
    pub started_at: Option<OffsetDateTime>,
    /// When it last ended.
    pub finished_at: Option<OffsetDateTime>,
    /// How often the restart policy has started it since it was started by hand.
    pub restart_count: u32,
    /// Whether somebody stopped it, which some restart policies respect.
    pub stopped_by_hand: bool,
    /// What the health check says; absent without one, and before the first start.
    pub health: Option<Arc<Health>>,
}
