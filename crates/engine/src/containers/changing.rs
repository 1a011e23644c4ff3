//! What can be changed of a container once it is made: limits, restart policy, published ports, health check, bounds of the log. A
//! change that fails leaves everything as it was.

use super::republish::Republished;
use super::settings::{LogSettings, RestartPolicy, Settings};
use super::task::{Change, Task};
use super::{health, limits, log_attributes, logs};
use crate::error::{Error, Result};
use crate::index::Durability;
use coracle_runtime::protocol::{LogBounds, Request};
use coracle_spec::runtime::{Pids, Resources};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Task {
    /// Changes settings. Returns what the client should know.
    pub(super) async fn update(&mut self, change: Change) -> Result<Vec<String>> {
        let before = Arc::clone(&self.now.settings);
        let mut settings = before.as_ref().clone();
        change(&mut settings)?;
        if settings.host.auto_remove && settings.host.restart != RestartPolicy::No {
            let text = "Restart policy cannot be updated because AutoRemove is enabled for the container";
            return Err(Error::Invalid(text.to_owned()));
        }
        let resources = resources(&settings)?;
        let checked = settings.healthcheck != before.healthcheck;
        let warnings = if checked { health::validate(&settings)? } else { Vec::new() };
        let bounds = self.log_bounds(&before.host.log, &settings.host.log)?;
        // What is refused most often comes first, and its undo is exact.
        let (asked, had) = (&settings.host, &before.host);
        let republished = if asked.ports == had.ports && asked.publish_all == had.publish_all {
            None
        } else {
            self.republish(&settings).await?
        };
        if let Err(error) = self.tell_shim(resources, bounds).await {
            return Err(self.given_up(republished, error).await);
        }
        self.now.settings = Arc::new(settings);
        if let Err(error) = self.save(Durability::Durable).await {
            self.now.settings = before;
            return Err(self.given_up(republished, error).await);
        }
        if let Some(republished) = republished {
            self.settle_ports(republished).await;
        }
        if checked {
            self.ask_anew();
        }
        self.tell("update", &[]);
        self.changed().await;
        Ok(warnings)
    }

    async fn given_up(&mut self, republished: Option<Republished>, error: Error) -> Error {
        if let Some(republished) = republished {
            self.take_ports_back(republished).await;
        }
        error
    }

    /// Has a running container's shim do what is its part.
    async fn tell_shim(&self, resources: Resources, bounds: Option<LogBounds>) -> Result<()> {
        let Some(live) = &self.live else { return Ok(()) };
        live.shim.ask(&Request::Update(Box::new(resources)), &[]).await?;
        match bounds {
            None => Ok(()),
            Some(bounds) => live.shim.ask_for_change(&Request::Log(bounds), &[]).await.map(drop),
        }
    }

    /// The bounds that a running container's log has from now on, if they are others.
    fn log_bounds(&self, before: &LogSettings, after: &LogSettings) -> Result<Option<LogBounds>> {
        if before == after {
            return Ok(None);
        }
        let config = &self.shared.config;
        let new = logs::limits(after, config)?;
        if self.live.is_none() {
            return Ok(None);
        }
        let marks = |settings: &LogSettings| {
            let options = settings.options.iter();
            options
                .filter(|(key, _)| log_attributes::OPTIONS.contains(&key.as_str()))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect::<BTreeMap<_, _>>()
        };
        if marks(before) != marks(after) {
            return Err(Error::Conflict(format!(
                "what the lines of a log are marked with cannot be changed while its container runs: stop {} before",
                self.now.name
            )));
        }
        match (logs::limits(before, config)?, new) {
            (Some(_), Some((max_size, max_files))) => Ok(Some(LogBounds { max_size, max_files })),
            (None, None) => Ok(None),
            _ => Err(Error::Conflict(format!(
                "the log of a container that runs cannot be begun or given up: stop {} before its log driver is changed",
                self.now.name
            ))),
        }
    }

    /// Begins anew to find out whether the container works.
    fn ask_anew(&mut self) {
        self.health.forget(self.now.state.status.is_up());
        if self.now.state.status.is_up() {
            let is_paused = self.now.state.status == super::state::Status::Paused;
            health::begin(&mut self.now);
            if is_paused {
                health::leave(&mut self.now.state);
            }
        } else if !health::is_asked(&self.now.settings) {
            self.now.state.health = None;
        }
    }
}

/// The limits of settings; what has none stays as it is, but for the number of processes.
fn resources(settings: &Settings) -> Result<Resources> {
    let mut resources = limits::resources(&settings.host.resources, &BTreeMap::new())?;
    // Without a limit is something else than as before.
    resources.pids = settings.host.resources.pids.map(|limit| Pids { limit });
    Ok(resources)
}
