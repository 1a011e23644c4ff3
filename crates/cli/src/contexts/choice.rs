//! Which context a command is for, and which engine that means.

use coracle_client::Endpoint;

use super::{Context, DEFAULT, Store, TlsFile, tls};
use crate::args::Globals;
use crate::configuration::Configuration;
use crate::error::Result;
use crate::resolve::Invalid;

/// The engine that is meant when TLS is asked for and no address is given, as Docker has it.
const DEFAULT_TLS: &str = "tcp://localhost:2376";

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
        let (context, files) = surroundings(globals, variable)?;
        return endpoint(&context, &files);
    }
    if let Some(flag) = tls::flag(globals) {
        return Err(Invalid(format!(
            "{flag} is for engines that --host names; the context {:?} has files of its own, which `context update` changes",
            choice.name
        ))
        .into());
    }
    let context = store.get(&choice.name)?;
    if context.host().is_empty() {
        return Err(Invalid(format!("context {:?} names no engine", choice.name)).into());
    }
    endpoint(&context, &store.tls(&choice.name)?)
}

/// The context that is in no file: what flags and variables say, with the certificates and keys that they name.
pub(crate) fn surroundings(
    globals: &Globals,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<(Context, Vec<TlsFile>)> {
    let given = |name| variable(name).filter(|value| !value.is_empty());
    let host = globals.host.first().cloned();
    let host = host.or_else(|| given("CORACLE_HOST")).or_else(|| given("DOCKER_HOST"));
    let wish = tls::Wish::read(globals, &variable)?;
    let host = host.unwrap_or_else(|| match &wish {
        Some(_) => DEFAULT_TLS.to_owned(),
        None => Endpoint::default().to_string(),
    });
    let mut context = Context { name: DEFAULT.to_owned(), ..Context::default() };
    context.set_host(&host, false);
    match (wish, tls::flag(globals)) {
        (Some(wish), _) if Endpoint::is_tcp(&host) => {
            let files = wish.apply(&mut context)?;
            Ok((context, files))
        }
        (Some(_), Some(flag)) => Err(Invalid(format!(
            "{flag} is for TLS, which is spoken with tcp:// addresses, and {host} is none"
        ))
        .into()),
        _ => Ok((context, Vec::new())),
    }
}

/// The engine that a context stands for.
pub(crate) fn endpoint(context: &Context, files: &[TlsFile]) -> Result<Endpoint> {
    let host = context.host();
    Ok(match if Endpoint::is_tcp(host) { tls::of_context(context, files)? } else { None } {
        Some(tls) => Endpoint::parse_secured(host, tls)?,
        None => Endpoint::parse(host)?,
    })
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

    #[test]
    fn the_environment_names_the_engine_ours_first() {
        let with = |environment: &[(&str, &str)], hosts: &[&str], tls: Option<bool>| {
            let variable = |name: &str| {
                environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
            };
            let host = hosts.iter().map(ToString::to_string).collect();
            let (context, files) =
                surroundings(&Globals { host, tls, ..Globals::default() }, variable).ok()?;
            endpoint(&context, &files).map(|endpoint| endpoint.to_string()).ok()
        };
        let ours = "unix:///run/coracle/coracle.sock";
        let both = [("DOCKER_HOST", "unix:///d"), ("CORACLE_HOST", "tcp://[::1]:1")];
        let nowhere = ("DOCKER_CERT_PATH", "/nonexistent");
        for (environment, hosts, tls, expected) in [
            (&[][..], &[][..], None, Some(ours)),
            (&[("DOCKER_HOST", "")], &[], None, Some(ours)),
            (&both[..1], &[], None, Some("unix:///d")),
            (&both, &[], None, Some("tcp://[::1]:1")),
            (&both, &["tcp://h"], None, Some("tcp://h:2375")),
            (&[("DOCKER_HOST", "ssh://m@h:1/s")], &[], None, Some("ssh://m@h:1/s")),
            (&[nowhere], &["tcp://h"], Some(true), Some("tcp://h:2376")),
            (&[nowhere], &[], Some(true), Some("tcp://localhost:2376")),
            (&[nowhere, ("DOCKER_TLS_VERIFY", "1")], &["tcp://h"], None, None),
            (&[nowhere, ("DOCKER_TLS_VERIFY", "1")], &["unix:///d"], None, Some("unix:///d")),
            (&[nowhere], &["unix:///d"], Some(true), None),
        ] {
            assert_eq!(with(environment, hosts, tls).as_deref(), expected, "{environment:?} {hosts:?}");
        }
    }
}
