//! Which context a command is for, and which engine that means.

use coracle_client::{Endpoint, Error as ClientError};

use super::{DEFAULT, Store};
use crate::args::Globals;
use crate::configuration::Configuration;
use crate::error::Result;
use crate::resolve::Invalid;

/// Which context, and who said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) name: String,
    /// The variable that names an engine and makes the choice of `context use` void.
    pub(crate) overridden_by: Option<&'static str>,
}

/// The context of a command, as Docker chooses it: `--context`, `--host`, the variables that name an engine,
/// `DOCKER_CONTEXT`, what `context use` wrote.
pub(crate) fn current(
    globals: &Globals,
    variable: impl Fn(&str) -> Option<String>,
    configuration: &Configuration,
) -> Result<Choice, Invalid> {
    let given = |name| variable(name).filter(|value| !value.is_empty());
    let chosen = |name: &str| Choice { name: name.to_owned(), overridden_by: None };
    match (&globals.context, globals.host.as_slice()) {
        (Some(_), [_, ..]) => {
            return Err(Invalid("conflicting options: cannot specify both --host and --context".to_owned()));
        }
        (None, [_, _, ..]) => return Err(Invalid("specify only one --host".to_owned())),
        (Some(name), []) if !name.is_empty() => return Ok(chosen(name)),
        (None, [_]) => return Ok(chosen(DEFAULT)),
        (_, []) => {}
    }
    let overridden_by = ["CORACLE_HOST", "DOCKER_HOST"].into_iter().find(|name| given(name).is_some());
    if overridden_by.is_some() {
        return Ok(Choice { name: DEFAULT.to_owned(), overridden_by });
    }
    let name = given("DOCKER_CONTEXT").or_else(|| configuration.text("currentContext").map(str::to_owned));
    Ok(chosen(name.as_deref().unwrap_or(DEFAULT)))
}

/// The engine of a context.
pub(crate) fn endpoint_of(
    choice: &Choice,
    globals: &Globals,
    variable: impl Fn(&str) -> Option<String>,
    store: &Store,
) -> Result<Endpoint> {
    if choice.name == DEFAULT {
        return Ok(match globals.host.first() {
            Some(host) => Endpoint::parse(host)?,
            None => Endpoint::from_environment(variable)?,
        });
    }
    let context = store.get(&choice.name)?;
    let endpoint = match context.host() {
        "" => return Err(Invalid(format!("context {:?} names no engine", choice.name)).into()),
        host => Endpoint::parse(host)?,
    };
    if matches!(endpoint, Endpoint::Tcp { .. }) && !store.tls(&choice.name)?.is_empty() {
        let reason = "its context has keys for TLS, which is not supported yet; use ssh:// or a unix socket";
        return Err(ClientError::Endpoint { text: context.host().to_owned(), reason }.into());
    }
    Ok(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::LogLevel;

    fn chosen(
        context: Option<&str>,
        hosts: &[&str],
        environment: &[(&str, &str)],
        used: &str,
    ) -> Option<String> {
        let directory = tempfile::tempdir().expect("a directory");
        let mut configuration = Configuration::read(directory.path()).expect("none is empty");
        configuration.document.insert("currentContext".into(), used.into());
        let globals = Globals {
            context: context.map(str::to_owned),
            host: hosts.iter().map(ToString::to_string).collect(),
            ..Globals::default()
        };
        assert_eq!(globals.log_level, LogLevel::Info);
        let variable = |name: &str| {
            environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        current(&globals, variable, &configuration).map(|choice| choice.name).ok()
    }

    #[test]
    fn who_says_it_closest_to_the_command_is_heard() {
        let all = [("DOCKER_HOST", "unix:///x"), ("DOCKER_CONTEXT", "variable")];
        for (context, hosts, environment, used, expected) in [
            (Some("flag"), &[][..], &all[..], "used", Some("flag")),
            (None, &["unix:///y"], &all, "used", Some("default")),
            (None, &[], &all, "used", Some("default")),
            (None, &[], &all[1..], "used", Some("variable")),
            (None, &[], &[], "used", Some("used")),
            (None, &[], &[], "", Some("default")),
            (None, &[], &[("DOCKER_HOST", ""), ("DOCKER_CONTEXT", "")], "used", Some("used")),
            (Some("flag"), &["unix:///y"], &[], "", None),
            (None, &["unix:///y", "unix:///z"], &[], "", None),
        ] {
            assert_eq!(
                chosen(context, hosts, environment, used).as_deref(),
                expected,
                "{context:?} {hosts:?}"
            );
        }
    }
}
