//! Whether a command is legal in a state, and what it comes to.

use super::state::Status;
use crate::error::Error;
use coracle_spec::ContainerId;

/// What a container can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Start,
    Signal,
    Pause,
    Unpause,
    Exec,
    /// Reach its files.
    Files,
    Remove {
        force: bool,
    },
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// What was asked for.
    Do,
    /// It is so already; Docker answers 304 where a client may want to know.
    Nothing,
    /// Kill it first.
    KillFirst,
}

/// Why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotRunning,
    Paused,
    PausedStart,
    NotPaused,
    AlreadyPaused,
    StillRunning,
    Restarting,
    BeingRemoved,
}

impl Refusal {
    /// The refusal in Docker's words.
    pub(crate) fn error(self, id: &ContainerId) -> Error {
        Error::Conflict(match self {
            Self::NotRunning => format!("container {id} is not running"),
            Self::Paused => format!("container {id} is paused, unpause the container first"),
            Self::PausedStart => "cannot start a paused container, try unpause instead".to_owned(),
            Self::NotPaused => format!("Container {id} is not paused"),
            Self::AlreadyPaused => format!("Container {id} is already paused"),
            Self::StillRunning => {
                format!("container {id} is running: stop it before removing or force remove")
            }
            Self::Restarting => format!("Container {id} is restarting, wait until the container is running"),
            Self::BeingRemoved => format!("container {id} is marked for removal"),
        })
    }
}

/// Decides whether `command` is legal in `status`. Pure: no clock, no IO, no locks.
pub(crate) fn admit(status: Status, command: Command) -> Result<Plan, Refusal> {
    use Command::{Exec, Files, Pause, Remove, Signal, Start, Unpause};
    use Status::{Created, Dead, Exited, Paused, Restarting, Running};
    match (status, command) {
        (Created | Exited | Restarting, Start) => Ok(Plan::Do),
        (Running, Start) => Ok(Plan::Nothing),
        (Paused, Start) => Err(Refusal::PausedStart),
        (Running | Paused, Signal) => Ok(Plan::Do),
        (Created | Exited | Restarting, Signal) => Err(Refusal::NotRunning),
        (Running, Pause) => Ok(Plan::Do),
        (Paused, Pause) => Err(Refusal::AlreadyPaused),
        (Created | Exited, Pause) => Err(Refusal::NotRunning),
        (Paused, Unpause) => Ok(Plan::Do),
        (Created | Running | Exited | Restarting, Unpause) => Err(Refusal::NotPaused),
        (Running, Exec) => Ok(Plan::Do),
        (Paused, Exec) => Err(Refusal::Paused),
        (Created | Exited, Exec) => Err(Refusal::NotRunning),
        (Created | Running | Paused | Restarting | Exited, Files) => Ok(Plan::Do),
        (Restarting, Pause | Exec) => Err(Refusal::Restarting),
        (Created | Exited | Dead, Remove { .. }) | (Restarting, Remove { force: true }) => Ok(Plan::Do),
        (Running | Paused, Remove { force: true }) => Ok(Plan::KillFirst),
        (Running | Paused, Remove { force: false }) => Err(Refusal::StillRunning),
        (Restarting, Remove { force: false }) => Err(Refusal::Restarting),
        (Dead, Start | Signal | Pause | Unpause | Exec | Files) => Err(Refusal::BeingRemoved),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [Status; 6] =
        [Status::Created, Status::Running, Status::Paused, Status::Restarting, Status::Exited, Status::Dead];
    const COMMANDS: [Command; 8] = [
        Command::Start,
        Command::Signal,
        Command::Pause,
        Command::Unpause,
        Command::Exec,
        Command::Files,
        Command::Remove { force: false },
        Command::Remove { force: true },
    ];

    #[test]
    fn a_forced_removal_is_never_refused_and_a_plain_one_never_kills() {
        for status in STATES {
            assert!(admit(status, Command::Remove { force: true }).is_ok(), "{status}");
            assert_ne!(admit(status, Command::Remove { force: false }), Ok(Plan::KillFirst), "{status}");
        }
    }

    #[test]
    fn processes_are_only_touched_where_there_are_some() {
        for status in STATES {
            for command in COMMANDS {
                let touches =
                    matches!(command, Command::Signal | Command::Pause | Command::Unpause | Command::Exec);
                if touches && admit(status, command) == Ok(Plan::Do) {
                    assert!(status.is_up(), "{command:?} in {status}");
                }
            }
        }
    }

    #[test]
    fn what_is_dead_is_only_removed() {
        for command in COMMANDS {
            let removal = matches!(command, Command::Remove { .. });
            assert_eq!(admit(Status::Dead, command).is_ok(), removal, "{command:?}");
        }
    }
}
