//! What the daemon is told: defaults, then the file, then the command line. What stands in both the file and the command
//! line is refused, as dockerd does.

use crate::options::{Opt, TABLE, Takes, Verdict};
use clap::{Arg, ArgAction, Command};
use coracle_engine::network::Subnet;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// The configuration file, if it is there.
const FILE: &str = "/etc/coracle/daemon.json";
/// Largest configuration file, in bytes.
const FILE_SIZE: u64 = 1 << 20;

/// Everything that was decided.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) engine: coracle_engine::Config,
    pub(crate) hosts: Vec<String>,
    pub(crate) group: String,
    pub(crate) pidfile: Option<PathBuf>,
    pub(crate) log_level: String,
    pub(crate) log_format: String,
    pub(crate) plain_tcp: bool,
    pub(crate) validate: bool,
    pub(crate) debug: bool,
    /// What was given and is so anyway: said once at the start.
    pub(crate) notes: Vec<String>,
}

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line is wrong, or asks for help.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// The file cannot be read.
    #[error("cannot read {path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// An option is refused.
    #[error("--{name} is not supported: {reason}")]
    Refused {
        /// The option.
        name: &'static str,
        /// Why, or what to do instead.
        reason: &'static str,
    },
    /// A value makes no sense.
    #[error("invalid value {value:?} for --{name}: {reason}")]
    Value {
        /// The option.
        name: &'static str,
        /// What was given.
        value: String,
        /// What is wrong.
        reason: String,
    },
    /// In both places.
    #[error(
        "unable to configure the daemon with file {path}: the following directives are specified both as a flag and in the configuration file: {names}"
    )]
    Both {
        /// The file.
        path: PathBuf,
        /// The options.
        names: String,
    },
    /// A registry cannot be used as configured.
    #[error(transparent)]
    Registry(#[from] coracle_engine::RegistryError),
    /// The runtime is missing.
    #[error(transparent)]
    Engine(#[from] coracle_engine::Error),
}

type Values = BTreeMap<&'static str, Vec<String>>;

/// Reads the command line and the file.
pub(crate) fn read(arguments: &[OsString]) -> Result<Settings, Error> {
    let given = parse(arguments)?;
    let path = given.get("config-file").and_then(|values| values.last()).map(PathBuf::from);
    let filed = match &path {
        Some(path) => read_file(path)?,
        None if std::path::Path::new(FILE).is_file() => read_file(std::path::Path::new(FILE))?,
        None => Values::new(),
    };
    let path = path.unwrap_or_else(|| FILE.into());
    let both: Vec<&str> = filed.keys().copied().filter(|name| given.contains_key(name)).collect();
    if !both.is_empty() {
        return Err(Error::Both { path, names: both.join(", ") });
    }
    let all: Values = filed.into_iter().chain(given).collect();
    decide(&all)
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

fn read_file(path: &std::path::Path) -> Result<Values, Error> {
    use std::io::Read;
    let failed = |reason: String| Error::File { path: path.to_owned(), reason };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    file.take(FILE_SIZE).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    if text.trim().is_empty() {
        return Ok(Values::new());
    }
    let document: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    let mut values = Values::new();
    for (key, value) in document {
        let option = TABLE.iter().find(|option| option.key() == key || option.name == key);
        let option = option.ok_or_else(|| {
            failed(format!("the following directives don't match any configuration option: {key}"))
        })?;
        values.insert(option.name, words(&value));
    }
    Ok(values)
}

/// A value of the file as the command line would have it.
fn words(value: &serde_json::Value) -> Vec<String> {
    use serde_json::Value;
    let word = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match value {
        Value::Array(list) => list.iter().map(word).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| format!("{key}={}", word(value))).collect(),
        other => vec![word(other)],
    }
}

fn decide(all: &Values) -> Result<Settings, Error> {
    let notes = judge(all)?;
    let last = |name: &str| all.get(name).and_then(|values| values.last()).cloned();
    let list = |name: &str| all.get(name).cloned().unwrap_or_default();
    let debug = switch(all, "debug")?;
    let exec_root =
        last("exec-root").map_or_else(|| coracle_engine::config::DEFAULT_EXEC_ROOT.into(), PathBuf::from);
    let own_socket = format!("unix://{}/coracle.sock", exec_root.display());
    let mut hosts = list("host");
    // Docker takes both for its own socket.
    hosts
        .iter_mut()
        .filter(|host| matches!(host.as_str(), "" | "unix://"))
        .for_each(|host| host.clone_from(&own_socket));
    if hosts.is_empty() {
        hosts.push(own_socket);
    }
    let (log_size, log_files) = log_limits(all)?;
    let log_level = if debug { "debug".to_owned() } else { level(last("log-level"))? };
    Ok(Settings {
        engine: coracle_engine::Config {
            data_root: absolute(
                last("data-root").unwrap_or_else(|| coracle_engine::config::DEFAULT_DATA_ROOT.into()),
            ),
            exec_root: absolute(exec_root),
            bridge: last("bridge"),
            bip: last("bip").map(|text| subnet(&text)).transpose()?,
            mtu: number(all, "mtu", 1500)?,
            init: switch(all, "init")?,
            cgroup_parent: last("cgroup-parent").map(|parent| parent.trim_matches('/').to_owned()),
            dns: list("dns")
                .into_iter()
                .map(|text| text.parse().map_err(|_| refused("dns", &text, "it is no address")))
                .collect::<Result<_, _>>()?,
            dns_search: list("dns-search"),
            dns_options: list("dns-opt"),
            log_size,
            log_files,
            registries: coracle_engine::Registries::new(
                &list("registry-mirror"),
                &list("insecure-registry"),
            )?,
            labels: list("label"),
            // Looked for when everything else is right.
            runtime: coracle_engine::find_runtime()?,
        },
        hosts,
        group: last("group").unwrap_or_else(|| "docker".to_owned()),
        pidfile: last("pidfile").map(PathBuf::from),
        log_level,
        log_format: last("log-format").unwrap_or_else(|| "text".to_owned()),
        plain_tcp: all.contains_key("tls") && !switch(all, "tls")?,
        validate: switch(all, "validate")?,
        debug,
        notes,
    })
}

/// Refuses what is refused, and notes what is so anyway. Switching off what cannot be switched off is refused as well.
fn judge(all: &Values) -> Result<Vec<String>, Error> {
    let mut notes = Vec::new();
    for option in TABLE.iter().filter(|option| all.contains_key(option.name)) {
        let on = option.takes != Takes::Switch || switch(all, option.name)?;
        match option.verdict {
            Verdict::Honoured => {}
            Verdict::AlreadyTrue(why) if on => notes.push(format!("--{}: {why}", option.name)),
            // A proxy that is off, and features that are: that is how it is.
            Verdict::AlreadyTrue(why)
                if matches!(option.name, "userland-proxy" | "experimental" | "ip-forward-no-drop") =>
            {
                notes.push(format!("--{}=false: {why}", option.name));
            }
            Verdict::AlreadyTrue(reason) => return Err(Error::Refused { name: option.name, reason }),
            Verdict::Refused(reason) if on => return Err(Error::Refused { name: option.name, reason }),
            Verdict::Refused(_) => {}
        }
    }
    if switch(all, "tls")? {
        return Err(Error::Refused { name: "tls", reason: "TLS comes later; use a unix socket or ssh" });
    }
    Ok(notes)
}

fn refused(name: &'static str, value: &str, reason: &str) -> Error {
    Error::Value { name, value: value.to_owned(), reason: reason.to_owned() }
}

fn switch(all: &Values, name: &'static str) -> Result<bool, Error> {
    match all.get(name).and_then(|values| values.last()).map(String::as_str) {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1" | "") => Ok(true),
        Some(other) => Err(refused(name, other, "it is neither true nor false")),
    }
}

fn number(all: &Values, name: &'static str, default: u32) -> Result<u32, Error> {
    match all.get(name).and_then(|values| values.last()) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| refused(name, text, "it is no number")),
    }
}

fn level(given: Option<String>) -> Result<String, Error> {
    let level = given.unwrap_or_else(|| "info".to_owned());
    match level.as_str() {
        "debug" | "info" | "warn" | "error" | "trace" => Ok(level),
        "fatal" | "panic" => Ok("error".to_owned()),
        other => Err(refused("log-level", other, "it is none of debug, info, warn, error, fatal")),
    }
}

fn subnet(text: &str) -> Result<Subnet, Error> {
    let invalid = |reason: &str| refused("bip", text, reason);
    let (address, length) = text.split_once('/').ok_or_else(|| invalid("it has no prefix length"))?;
    let address = address.parse().map_err(|_| invalid("it is no IPv4 address"))?;
    let length = length.parse().map_err(|_| invalid("its prefix length is no number"))?;
    Subnet::new(address, length).map_err(|error| invalid(&error.to_string()))
}

fn log_limits(all: &Values) -> Result<(u64, u32), Error> {
    let driver = all.get("log-driver").and_then(|values| values.last()).cloned().unwrap_or_default();
    let options = all.get("log-opt").into_iter().flatten();
    let options = options
        .map(|option| {
            option.split_once('=').ok_or_else(|| refused("log-opt", option, "it is not NAME=VALUE"))
        })
        .map(|option| option.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect::<Result<BTreeMap<_, _>, _>>()?;
    let limits = coracle_engine::containers::log_limits(&driver, options)
        .map_err(|error| refused("log-driver", &driver, &error.to_string()))?;
    limits.ok_or_else(|| refused("log-driver", &driver, "choose none with --log-driver on the container"))
}

/// Roots are part of names that must not depend on where the daemon was started.
fn absolute(path: impl Into<PathBuf>) -> PathBuf {
    let path = path.into();
    std::path::absolute(&path).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(arguments: &[&str]) -> Result<Settings, Error> {
        let arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
        let all = parse(&arguments)?;
        decide(&all)
    }

    #[test]
    fn every_option_of_the_table_is_parsed_and_judged_as_it_says() {
        for option in TABLE {
            let value = match option.name {
                "bip" => "10.1.2.1/24",
                "mtu" => "1400",
                "dns" => "10.0.0.1",
                "log-level" => "warn",
                "log-driver" => "json-file",
                "log-opt" => "max-file=3",
                "registry-mirror" => "https://mirror.test",
                _ => "x",
            };
            let given = match (option.takes, option.name) {
                (Takes::Switch, "tls") => "--tls=false".to_owned(),
                (Takes::Switch, name) => format!("--{name}"),
                (_, name) => format!("--{name}={value}"),
            };
            match (decided(&[&given]), option.verdict) {
                // Where the runtime is not built beside the test, only that is missing.
                (Ok(_) | Err(Error::Engine(_)), Verdict::Honoured | Verdict::AlreadyTrue(_)) => {}
                (Err(Error::Refused { name, reason }), Verdict::Refused(why)) => {
                    assert_eq!((name, reason), (option.name, why));
                }
                (other, verdict) => panic!("{given}: {verdict:?}, but {other:?}"),
            }
        }
    }

    #[test]
    fn the_file_is_read_by_dockers_names_and_contradictions_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        std::fs::write(&path, r#"{"debug": true, "labels": ["a=b"], "log-opts": {"max-size": "5m"}}"#)
            .unwrap();
        let values = read_file(&path).unwrap();
        assert_eq!(values["label"], ["a=b"]);
        assert_eq!(values["log-opt"], ["max-size=5m"]);
        std::fs::write(&path, r#"{"no-such-key": 1}"#).unwrap();
        assert!(read_file(&path).unwrap_err().to_string().contains("no-such-key"));
        std::fs::write(&path, r#"{"debug": true}"#).unwrap();
        let arguments = ["-D".into(), "--config-file".into(), path.into_os_string()];
        assert!(matches!(read(&arguments), Err(Error::Both { .. })));
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for arguments in [
            ["--bip", "10.1.2.3"],
            ["--mtu", "big"],
            ["--log-level", "loud"],
            ["--dns", "nowhere"],
            ["--log-driver", "syslog"],
            ["--log-opt", "max-size"],
        ] {
            assert!(matches!(decided(&arguments), Err(Error::Value { .. })), "{arguments:?}");
        }
    }
}
