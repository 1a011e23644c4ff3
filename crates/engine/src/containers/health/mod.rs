//! Health checks: whether what a container runs still works, asked again and again.
//!
//! ```text
//! check.rs    what is asked, how often: pure    native.rs  tcp:// and http:// URLs, pure; dial.rs asks them
//! verdict.rs  what follows from an answer: pure  probe.rs  one question, in a task of its own: command.rs an exec, dial.rs
//! monitor.rs  when to ask, in the container's task          action.rs  what is done about what does not work
//! record.rs   what the next engine is told
//! ```
//!
//! ```text
//!            start            success             failures in a row
//! (stopped) ───────► starting ───────► healthy ◄────────────────────► unhealthy
//!                        └──────────── failures, the start period is over ───▲
//! ```
//!
//! As Docker, a container that is not asked (it is paused or has ended) is shown as unhealthy.

mod action;
mod check;
mod command;
mod dial;
mod monitor;
mod native;
mod probe;
mod record;
mod verdict;

pub(crate) use check::validate;
pub(crate) use monitor::{Monitor, judge};
pub(crate) use record::{HealthRecord, recall};

use super::Description;
use super::settings::Settings;
use super::state::State;
use check::Check;
use std::fmt;
use std::sync::Arc;
use time::OffsetDateTime;

/// What the health check says of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What it comes to.
    pub status: Status,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last answers, the oldest first; at most five.
    pub log: Vec<Probe>,
}

/// Whether a container works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// Nobody knows yet.
    #[default]
    Starting,
    /// It does.
    Healthy,
    /// It does not.
    Unhealthy,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        })
    }
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// When it was asked.
    pub start: OffsetDateTime,
    /// When it was answered.
    pub end: OffsetDateTime,
    /// 0 where it works, 1 where it does not, -1 where the question could not be put or took too long.
    pub exit_code: i32,
    /// What the check has said, cut after 4096 bytes.
    pub output: String,
}

/// The container starts, and it is not known yet whether it works. The answers of its last run are kept.
pub(crate) fn begin(now: &mut Description) {
    let asked = is_asked(&now.settings);
    let before = now.state.health.take();
    now.state.health = asked.then(|| {
        let log = before.map(|health| health.log.clone()).unwrap_or_default();
        Arc::new(Health { status: Status::Starting, failing_streak: 0, log })
    });
}

/// Whether a container with these settings is asked for its health.
pub(crate) fn is_asked(settings: &Settings) -> bool {
    Check::of(settings).is_ok_and(|check| check.is_some())
}

/// Nobody asks the container any more.
pub(crate) fn leave(state: &mut State) {
    if let Some(health) = &mut state.health {
        Arc::make_mut(health).status = Status::Unhealthy;
    }
}
