//! When a container is asked: the part of its task that waits for the next question, or for the answer to the last one.

use super::check::Check;
use super::probe::{Asked, Subject, ask};
use super::{Health, Probe, action, record};
use crate::containers::Description;
use crate::containers::state::Status;
use crate::containers::task::Task;
use crate::engine::Shared;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Asks one container, while it runs.
#[derive(Default)]
pub(crate) struct Monitor {
    watch: Option<Watch>,
    /// What is done about it.
    action: Option<JoinHandle<()>>,
    /// Whether the next question is put at once: what is asked has changed.
    at_once: bool,
}

/// One run of the container, or what is between two pauses of it.
struct Watch {
    started: OffsetDateTime,
    check: Arc<Check>,
    phase: Phase,
}

enum Phase {
    Waiting(Instant),
    Asking(Asked),
}

impl Watch {
    fn begin(now: &Description, health: &Health) -> Option<Self> {
        let started = now.state.started_at?;
        // What cannot be carried out was refused when the container was made.
        let check = Arc::new(Check::of(&now.settings).ok().flatten()?);
        let at = Instant::now() + health.pause(&check, age(started));
        Some(Self { started, check, phase: Phase::Waiting(at) })
    }
}

/// How long ago a container was started.
fn age(started: OffsetDateTime) -> Duration {
    (OffsetDateTime::now_utc() - started).try_into().unwrap_or_default()
}

impl Monitor {
    /// Begins to ask a container that has begun to run, and calls off what is asked of one that does not any more.
    pub(crate) fn follow(&mut self, now: &Description) {
        let asked = now.state.health.as_ref().filter(|_| now.state.status == Status::Running);
        let same = self.watch.as_ref().map(|watch| watch.started) == now.state.started_at;
        match asked {
            Some(_) if same => {}
            Some(health) => {
                self.watch = Watch::begin(now, health);
                if let Some(watch) = self.watch.as_mut().filter(|_| std::mem::take(&mut self.at_once)) {
                    watch.phase = Phase::Waiting(Instant::now());
                }
            }
            None => {
                self.watch = None;
                self.at_once = false;
            }
        }
    }

    /// Calls off what is asked: from now on it is something else, and at once if the container is up.
    pub(crate) fn forget(&mut self, at_once: bool) {
        self.watch = None;
        self.at_once = at_once;
    }

    /// Asks when it is time, and waits for the answer. May be dropped and called again.
    pub(crate) async fn next(&mut self, shared: &Arc<Shared>, now: &Description) -> Probe {
        let Some(watch) = &mut self.watch else { return std::future::pending().await };
        loop {
            match &mut watch.phase {
                Phase::Waiting(at) => {
                    tokio::time::sleep_until(*at).await;
                    watch.phase = Phase::Asking(ask(Subject {
                        shared: Arc::clone(shared),
                        container: now.id.clone(),
                        pid: now.state.pid,
                        check: Arc::clone(&watch.check),
                    }));
                }
                Phase::Asking(asked) => {
                    let answer = asked.answer().await;
                    watch.phase = Phase::Waiting(Instant::now() + watch.check.interval);
                    if let Some(probe) = answer {
                        return probe;
                    }
                }
            }
        }
    }
}

/// Takes note of an answer, tells of what it has changed, and has done what is to be done about it.
pub(crate) async fn judge(task: &mut Task, probe: Probe) {
    let (Some(watch), Some(health)) = (&mut task.health.watch, &mut task.now.state.health) else { return };
    task.shared.health.count(probe.exit_code == 0);
    let health = Arc::make_mut(health);
    let verdict = health.note(probe, &watch.check, watch.started);
    watch.phase = Phase::Waiting(Instant::now() + health.pause(&watch.check, age(watch.started)));
    task.publish();
    if verdict.counts
        && let Err(error) = record::keep(&task.shared, &task.now).await
    {
        tracing::warn!(container = %task.now.id, error = error.chain(), "the next engine will not know of it");
    }
    if let Some(status) = verdict.became {
        task.tell(&format!("health_status: {status}"), &[]);
    }
    let acting = task.health.action.as_ref().is_some_and(|action| !action.is_finished());
    if verdict.has_failed && !acting {
        task.health.action = action::act(task);
    }
}
