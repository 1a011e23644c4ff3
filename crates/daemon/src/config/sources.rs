//! Where options come from, as the texts that were given: the file, then the environment, then the command line. What
//! they mean is not decided here.

use super::Error;
use crate::options::{FILE_ONLY, Opt, TABLE, Takes, Verdict};
use clap::{Arg, ArgAction, Command};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The configuration file, if it is there.
const FILE: &str = "/etc/coracle/daemon.json";
/// Largest configuration file, in bytes.
const FILE_SIZE: u64 = 1 << 20;
/// How variables of the environment begin that name options.
const PREFIX: &str = "CORACLE_DAEMON_";

/// What was given, by the option's name.
pub(super) type Values = BTreeMap<&'static str, Vec<String>>;

/// Reads all of them. Of options that stand in several, the last source counts.
pub(super) fn read(
    arguments: &[OsString],
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Values, Error> {
    let given = parse(arguments)?;
    let variables: Vec<_> = variables.into_iter().collect();
    let proxies = proxies(&variables);
    let environment = environment(variables)?;
    let named = given.get("config-file").or_else(|| environment.get("config-file"));
    let named = named.and_then(|values| values.last()).map(PathBuf::from);
    let path = named.clone().unwrap_or_else(|| FILE.into());
    let filed = if named.is_some() || path.is_file() { read_file(&path)? } else { Values::new() };
    let both: Vec<&str> = filed.keys().copied().filter(|name| given.contains_key(name)).collect();
    if !both.is_empty() {
        return Err(Error::Both { path, names: both.join(", ") });
    }
    let sources = [proxies, filed, environment, given];
    let mut all: Values = sources.into_iter().flatten().collect();
    // What is empty is not given, as in Go.
    all.retain(|_, values| values.iter().any(|value| !value.is_empty()));
    Ok(all)
}

fn command() -> Command {
    let mut command = Command::new("coracle daemon")
        .about("Run the engine. Every option of dockerd is known; docs/user/daemon-options.md says what becomes of it")
        .version(env!("CARGO_PKG_VERSION"))
        .no_binary_name(true);
    for option in TABLE {
        let mut arg = Arg::new(option.name).long(option.name);
        if let Some(letter) = option.short {
            arg = arg.short(letter);
        }
        arg = match option.takes {
            Takes::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
            Takes::Value | Takes::List => arg.num_args(1).allow_hyphen_values(true),
        };
        arg = arg.action(ArgAction::Append).help(match option.verdict {
            Verdict::Honoured => String::new(),
            Verdict::AlreadyTrue(why) => format!("already true: {why}"),
            Verdict::Refused(why) => format!("refused: {why}"),
        });
        command = command.arg(arg);
    }
    command
}

fn parse(arguments: &[OsString]) -> Result<Values, Error> {
    let matches = command().try_get_matches_from(arguments)?;
    let values = |option: &Opt| {
        let values = matches.get_many::<String>(option.name)?;
        Some((option.name, values.cloned().collect()))
    };
    Ok(TABLE.iter().filter_map(values).collect())
}

/// `CORACLE_DAEMON_DATA_ROOT` is `--data-root`; commas separate the values of an option that takes several.
fn environment(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Values, Error> {
    let mut values = Values::new();
    for (variable, value) in variables {
        let variable = variable.to_string_lossy();
        let Some(name) = variable.strip_prefix(PREFIX) else { continue };
        let name = name.to_ascii_lowercase().replace('_', "-");
        let option = TABLE.iter().find(|option| option.name == name);
        let option = option.ok_or_else(|| Error::Variable(variable.to_string()))?;
        let value = value.into_string().map_err(|_| Error::Variable(variable.to_string()))?;
        let words = match option.takes {
            Takes::List => value.split(',').map(str::to_owned).collect(),
            Takes::Value | Takes::Switch => vec![value],
        };
        values.insert(option.name, words);
    }
    Ok(values)
}

/// The usual variables for proxies, which every other source overrides, as in Docker.
fn proxies(variables: &[(OsString, OsString)]) -> Values {
    let named = |name: &str| {
        let found = variables.iter().find(|(variable, _)| variable.eq_ignore_ascii_case(name))?;
        found.1.to_str().map(|value| vec![value.to_owned()])
    };
    let known = [("http-proxy", "HTTP_PROXY"), ("https-proxy", "HTTPS_PROXY"), ("no-proxy", "NO_PROXY")];
    known.into_iter().filter_map(|(option, variable)| Some((option, named(variable)?))).collect()
}

fn read_file(path: &Path) -> Result<Values, Error> {
    use std::io::Read;
    let failed = |reason: String| Error::File { path: path.to_owned(), reason };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let length =
        file.take(FILE_SIZE + 1).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    if u64::try_from(length).is_ok_and(|length| length > FILE_SIZE) {
        return Err(failed(format!("it is larger than {FILE_SIZE} bytes")));
    }
    if text.trim().is_empty() {
        return Ok(Values::new());
    }
    let document: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    let mut values = Values::new();
    for (key, value) in flat(document) {
        let option = TABLE.iter().find(|option| option.key() == key || option.name == key);
        let name = option.map(|option| option.name);
        let name = name.or_else(|| FILE_ONLY.iter().map(|(name, _)| *name).find(|name| *name == key));
        let name = name.ok_or_else(|| {
            failed(format!("the following directives don't match any configuration option: {key}"))
        })?;
        values.insert(name, words(&value));
    }
    Ok(values)
}

/// `{"gc": {"enabled": true, "defaultKeepStorage": "20GB", "policy": []}, "entitlements": {}}`
fn flat_builder(builder: serde_json::Map<String, serde_json::Value>) -> Vec<(String, serde_json::Value)> {
    if builder.is_empty() {
        return Vec::new();
    }
    let mut all = vec![("builder".to_owned(), serde_json::Value::from("given"))];
    for (key, value) in builder {
        let serde_json::Value::Object(gc) = value else {
            all.push((format!("builder.{key}"), value));
            continue;
        };
        if key == "entitlements" {
            if gc.get("network-host").is_some_and(|granted| *granted == false) {
                all.push(("builder.entitlements.network-host".to_owned(), false.into()));
            }
            let granted = gc.into_iter().filter(|(_, granted)| *granted == true);
            let names = granted.map(|(name, _)| name.replace('-', ".").into()).collect();
            all.push(("build-entitlement".to_owned(), serde_json::Value::Array(names)));
            continue;
        }
        if key != "gc" {
            all.push((format!("builder.{key}"), "given".into()));
            continue;
        }
        let is_off = gc.get("enabled").is_some_and(|enabled| *enabled == false);
        for (key, value) in gc {
            match key.as_str() {
                "enabled" => {}
                "defaultKeepStorage" | "defaultReservedSpace" if is_off => {}
                "defaultKeepStorage" | "defaultReservedSpace" => {
                    all.push(("build-cache-budget".to_owned(), value));
                }
                _ => all.push((format!("builder.gc.{key}"), value)),
            }
        }
        if is_off {
            all.push(("build-cache-budget".to_owned(), "0".into()));
        }
    }
    all
}

/// Docker has the proxies in a document of their own, and what builds may keep.
fn flat(document: BTreeMap<String, serde_json::Value>) -> impl Iterator<Item = (String, serde_json::Value)> {
    document.into_iter().flat_map(|(key, value)| match value {
        serde_json::Value::Object(proxies) if key == "proxies" => proxies.into_iter().collect(),
        serde_json::Value::Object(builder) if key == "builder" => flat_builder(builder),
        value => vec![(key, value)],
    })
}

/// A value of the file as the command line would have it.
fn words(value: &serde_json::Value) -> Vec<String> {
    use serde_json::Value;
    let word = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match value {
        Value::Array(list) => list.iter().map(word).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| format!("{key}={}", word(value))).collect(),
        other => vec![word(other)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        std::fs::write(&path, content).unwrap();
        (dir, path)
    }

    fn read_all(content: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Result<Values, Error> {
        let (_dir, path) = file(content);
        let arguments = ["--config-file".into(), path.into_os_string()]
            .into_iter()
            .chain(arguments.iter().map(Into::into));
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        read(&arguments.collect::<Vec<_>>(), variables)
    }

    #[test]
    fn the_file_is_read_by_dockers_names_and_contradictions_are_refused() {
        let content = r#"{"debug": true, "labels": ["a=b"], "log-opts": {"max-size": "5m"}, "mtu": 1400}"#;
        let (_dir, path) = file(content);
        let values = read_file(&path).unwrap();
        assert_eq!(values["label"], ["a=b"]);
        assert_eq!(values["log-opt"], ["max-size=5m"]);
        assert_eq!(values["mtu"], ["1400"]);
        let refusal = read_all(r#"{"no-such-key": 1}"#, &[], &[]).unwrap_err();
        assert!(refusal.to_string().contains("no-such-key"));
        assert!(matches!(read_all(r#"{"debug": true}"#, &[], &["-D"]), Err(Error::Both { .. })));
        assert!(matches!(read_all(&" ".repeat(2 << 20), &[], &[]), Err(Error::File { .. })));
    }

    #[test]
    fn the_command_line_counts_more_than_the_environment_and_that_more_than_the_file() {
        let environment =
            [("CORACLE_DAEMON_MTU", "2"), ("CORACLE_DAEMON_DNS", "10.0.0.1,10.0.0.2"), ("HOME", "/")];
        let file = r#"{"mtu": 1, "bridge": "a"}"#;
        let values = read_all(file, &environment, &["--dns", "10.0.0.3"]).unwrap();
        assert_eq!(
            (&values["mtu"], &values["bridge"], &values["dns"]),
            (&vec!["2".into()], &vec!["a".into()], &vec!["10.0.0.3".into()])
        );
        let values = read_all(file, &environment, &[]).unwrap();
        assert_eq!(values["dns"], ["10.0.0.1", "10.0.0.2"]);
        let refusal = read_all("{}", &[("CORACLE_DAEMON_NONSENSE", "1")], &[]).unwrap_err();
        assert!(matches!(refusal, Error::Variable(name) if name == "CORACLE_DAEMON_NONSENSE"));
    }

    #[test]
    fn proxies_are_known_by_the_usual_variables_and_by_dockers_document() {
        let usual = [("HTTP_PROXY", "http://a.test"), ("no_proxy", "b.test")];
        let file = r#"{"proxies": {"https-proxy": "http://c.test", "http-proxy": "http://d.test"}}"#;
        let values = read_all(file, &usual, &[]).unwrap();
        assert_eq!(
            (&values["http-proxy"][..], &values["https-proxy"][..], &values["no-proxy"][..]),
            (
                &["http://d.test".to_owned()][..],
                &["http://c.test".to_owned()][..],
                &["b.test".to_owned()][..]
            )
        );
    }

    #[test]
    fn what_builds_may_keep_is_known_by_dockers_document() {
        let budget = |gc: &str| read_all(&format!(r#"{{"builder": {{"gc": {gc}}}}}"#), &[], &[]);
        for (gc, expected) in [
            (r#"{"defaultKeepStorage": "20GB"}"#, Some("20GB")),
            (r#"{"enabled": true, "defaultReservedSpace": "1GB"}"#, Some("1GB")),
            (r#"{"enabled": false, "defaultKeepStorage": "20GB"}"#, Some("0")),
            (r#"{"enabled": true}"#, None),
        ] {
            let values = budget(gc).unwrap();
            let given = values.get("build-cache-budget").map(|values| values[0].as_str());
            assert_eq!(given, expected, "{gc}");
        }
        assert!(budget(r#"{"policy": [{"all": true}]}"#).unwrap().contains_key("builder.gc.policy"));
        assert!(budget(r#"{"nope": 1}"#).unwrap_err().to_string().contains("builder.gc.nope"));
    }

    #[test]
    fn what_is_empty_is_not_given() {
        let content = r#"{"bip": "", "authorization-plugins": [], "runtimes": {}, "userns-remap": null, "builder": {}}"#;
        let values = read_all(content, &[("CORACLE_DAEMON_BRIDGE", "")], &["--group="]).unwrap();
        assert_eq!(values.keys().copied().collect::<Vec<_>>(), ["config-file"]);
    }
}
