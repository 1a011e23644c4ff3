//! What is done about a container that has become unhealthy, where its label says so. Docker does nothing.

use crate::containers::admit::Command as Kind;
use crate::containers::settings::Settings;
use crate::containers::task::{Command, Task};
use crate::engine::{Engine, Shared};
use crate::error::{Error, Result};
use coracle_runtime::protocol::Request;
use coracle_spec::ContainerId;
use std::fmt;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// The label that says it.
const LABEL: &str = "coracle.on-unhealthy";

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnUnhealthy {
    /// It is stopped and started, as `restart` does.
    Restart,
    /// It is stopped, and stays so.
    Stop,
    /// It is killed; its restart policy decides what follows.
    Kill,
}

impl fmt::Display for OnUnhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Kill => "kill",
        })
    }
}

impl OnUnhealthy {
    /// What these settings ask for; `None` for nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a label that says something else.
    pub(super) fn of(settings: &Settings) -> Result<Option<Self>> {
        match settings.labels.get(LABEL).map(String::as_str) {
            None | Some("none" | "") => Ok(None),
            Some("restart") => Ok(Some(Self::Restart)),
            Some("stop") => Ok(Some(Self::Stop)),
            Some("kill") => Ok(Some(Self::Kill)),
            Some(other) => Err(Error::Invalid(format!(
                "label {LABEL}={other}: an unhealthy container can be left alone (none), or restart, stop or kill"
            ))),
        }
    }
}

/// Does what is to be done about the container of `task`, beside it. `None` where that is nothing.
pub(super) fn act(task: &Task) -> Option<JoinHandle<()>> {
    // Whoever stops it already wants nothing else, and an invalid label was refused when the container was made.
    let wanted =
        OnUnhealthy::of(&task.now.settings).ok().flatten().filter(|_| !task.now.state.stopped_by_hand)?;
    let reason = reason(task);
    tracing::warn!(container = %task.now.id, action = %wanted, reason, "a container is unhealthy");
    task.tell(&format!("on_unhealthy: {wanted}"), &[("reason", &reason)]);
    let (shared, id) = (Arc::clone(&task.shared), task.now.id.clone());
    Some(tokio::spawn(async move {
        if let Err(error) = carry_out(wanted, &shared, &id).await {
            tracing::error!(container = %id, action = %wanted, error = error.chain(), "nothing could be done about an unhealthy container");
        }
    }))
}

/// Why, for people.
fn reason(task: &Task) -> String {
    let Some(health) = &task.now.state.health else { return String::new() };
    let last = health.log.last().map(|probe| match probe.output.lines().next() {
        Some(line) => format!(", the last with exit code {}: {line}", probe.exit_code),
        None => format!(", the last with exit code {}", probe.exit_code),
    });
    format!("{} health checks in a row have failed{}", health.failing_streak, last.unwrap_or_default())
}

async fn carry_out(wanted: OnUnhealthy, shared: &Arc<Shared>, id: &ContainerId) -> Result<()> {
    let engine = Engine::of(shared);
    match wanted {
        OnUnhealthy::Restart => engine.restart(id.as_str(), None, None).await,
        OnUnhealthy::Stop => engine.stop(id.as_str(), None, None).await.map(drop),
        OnUnhealthy::Kill => {
            // Not as if somebody had stopped it by hand, or its restart policy would leave it alone.
            let request = Request::Signal { exec: None, number: 9 };
            let ask = |reply| Command::Ask { kind: Kind::Signal, request, descriptors: Vec::new(), reply };
            shared.containers.find(id.as_str())?.ask(ask).await.map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_label_says_what_is_done() {
        let of = |value: &str| {
            let labels = [(LABEL.to_owned(), value.to_owned())].into();
            OnUnhealthy::of(&Settings { labels, ..Settings::default() })
        };
        for wanted in [OnUnhealthy::Restart, OnUnhealthy::Stop, OnUnhealthy::Kill] {
            assert_eq!(of(&wanted.to_string()).unwrap(), Some(wanted));
        }
        assert_eq!(of("none").unwrap(), None);
        assert!(of("explode").unwrap_err().to_string().contains("explode"));
        assert_eq!(OnUnhealthy::of(&Settings::default()).unwrap(), None);
    }
}
