//! The end of the machine: containers are stopped in their own time, and come back with the engine of the next boot.

use super::lifecycle::wait_until_down;
use super::registry::Container;
use super::signals;
use crate::engine::Engine;
use crate::error::{Error, Result};
use futures_util::future::join_all;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Seconds that a container has to end which says nothing of it, as in Docker.
const PATIENCE: i64 = 10;

impl Engine {
    /// Stops every container as for the end of the machine: all at once, each with its own signal and in its own time. This is
    /// nobody's wish that they stay down: restart policies start nothing from now on, and what they would have started is
    /// started by the next engine.
    ///
    /// # Errors
    /// Those that did not die, by name and reason.
    pub async fn stop_for_the_end(&self) -> Result<()> {
        self.shared.ending.store(true, Ordering::Relaxed);
        let running: Vec<Container> = self.shared.containers.all();
        let stopped = join_all(running.iter().map(|container| self.stop_in_time(container))).await;
        let failed: Vec<String> = running
            .iter()
            .zip(stopped)
            .filter_map(|(container, stopped)| {
                let error = stopped.err()?;
                Some(format!("{}: {}", container.describe().name, error.chain()))
            })
            .collect();
        if failed.is_empty() { Ok(()) } else { Err(Error::Conflict(failed.join("; "))) }
    }

    async fn stop_in_time(&self, container: &Container) -> Result<()> {
        let description = container.describe();
        if !description.state.status.is_up() {
            return Ok(());
        }
        let settings = &description.settings;
        let own = if settings.stop_signal.is_empty() { "SIGTERM" } else { &settings.stop_signal };
        let patience = settings.stop_timeout.unwrap_or(PATIENCE);
        let patience = u64::try_from(patience).ok().map(Duration::from_secs);
        self.bring_down(container, signals::parse(own)?, patience).await
    }

    /// Sends a signal, and SIGKILL if the container has not ended after `patience`; without, it is waited for.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it does not die.
    pub(super) async fn bring_down(
        &self,
        container: &Container,
        signal: i32,
        patience: Option<Duration>,
    ) -> Result<()> {
        let mut view = container.watch();
        self.signal(container, signal).await?;
        if wait_until_down(&mut view, patience).await {
            return Ok(());
        }
        self.signal(container, signals::KILL).await?;
        if wait_until_down(&mut view, Some(Duration::from_secs(10))).await {
            return Ok(());
        }
        let id = container.id();
        Err(Error::Conflict(format!(
            "container {id} did not die within ten seconds of SIGKILL; a process of it hangs in the kernel"
        )))
    }
}
