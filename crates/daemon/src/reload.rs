//! Reading the configuration again while the engine runs (SIGHUP), and what of it can change then.

use crate::config::defaults::Requested;
use crate::config::{self, Settings};
use crate::server::Context;
use coracle_engine::config::RegistrySettings;
use coracle_spec::full_text;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::PoisonError;

/// Changes how much is logged.
pub(crate) type SetLevel = Box<dyn Fn(&str)>;

/// What SIGHUP can change of the daemon; how registries are spoken to is the engine's.
#[derive(Clone, Debug)]
pub(crate) struct Reloadable {
    pub(crate) labels: Vec<String>,
    pub(crate) debug: bool,
    pub(crate) requested: Requested,
}

impl Reloadable {
    /// That part of the settings.
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            labels: settings.engine.labels.clone(),
            debug: settings.debug,
            requested: settings.requested.clone(),
        }
    }

    /// What is told of it, by Docker's names.
    fn attributes(&self, registries: &RegistrySettings) -> BTreeMap<String, String> {
        let list = |items: &[String]| serde_json::Value::from(items.to_vec()).to_string();
        let own = [
            ("name", rustix::system::uname().nodename().to_string_lossy().into_owned()),
            ("debug", self.debug.to_string()),
            ("labels", list(&self.labels)),
            ("registry-mirrors", list(registries.hosts.mirrors())),
            ("insecure-registries", list(registries.hosts.insecure())),
            ("max-concurrent-downloads", registries.downloads.to_string()),
            ("max-concurrent-uploads", registries.uploads.to_string()),
            ("max-download-attempts", registries.attempts.to_string()),
            ("live-restore", true.to_string()),
        ];
        own.into_iter()
            .chain(self.requested.attributes())
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }
}

/// What it takes to read the configuration again.
pub(crate) struct Again {
    pub(crate) arguments: Vec<OsString>,
    pub(crate) set_level: SetLevel,
}

impl Again {
    /// Takes over what can change while the engine runs, all of it or nothing.
    pub(crate) fn reload(&self, context: &Context) {
        let reloaded = config::read(&self.arguments).and_then(|settings| {
            context.engine.reload(settings.engine.registries.clone(), settings.engine.runtimes.clone())?;
            Ok(settings)
        });
        let settings = match reloaded {
            Ok(settings) => settings,
            Err(error) => return tracing::error!(error = full_text(&error), "nothing was reloaded"),
        };
        (self.set_level)(&settings.log_level);
        let reloaded = Reloadable::of(&settings);
        let attributes = reloaded.attributes(&settings.engine.registries);
        tracing::info!(?attributes, "reloaded the configuration");
        *context.reloadable.write().unwrap_or_else(PoisonError::into_inner) = reloaded;
        context.engine.tell_of_reload(attributes);
    }
}
