//! What the daemon is told, as one whole: what is not told is filled in, what makes no sense is refused.

pub(crate) mod defaults;
mod networks;
pub(crate) mod quantity;
mod runtimes;
mod sources;

use crate::listen::{Security, TlsFiles};
use crate::options::{FILE_ONLY, TABLE, Takes, Verdict};
use coracle_engine::Remap;
use coracle_engine::config::{
    BuildSettings, DEFAULT_CDI_DIRECTORIES, DEFAULT_DOWNLOADS, DEFAULT_UPLOADS, RegistrySettings,
    StorageSettings,
};
use coracle_spec::truth;
use sources::Values;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Where Docker's clients look for an engine.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// Everything that was decided.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) engine: coracle_engine::Config,
    pub(crate) hosts: Vec<String>,
    pub(crate) group: String,
    pub(crate) pidfile: Option<PathBuf>,
    pub(crate) log_level: String,
    pub(crate) log_format: LogFormat,
    pub(crate) security: Security,
    /// Docker's own socket, to be served as well where nobody else does.
    pub(crate) docker_socket: Option<PathBuf>,
    /// Where Prometheus gets the engine's numbers, `HOST:PORT`.
    pub(crate) metrics: Option<String>,
    pub(crate) validate: bool,
    pub(crate) debug: bool,
    /// What is filled into requests to make containers.
    pub(crate) requested: defaults::Requested,
    /// Whether clients are told that they may ask for what Docker has as an experiment: its command has no `--squash` otherwise.
    pub(crate) experimental: bool,
    /// What was given and is so anyway: said once at the start.
    pub(crate) notes: Vec<String>,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// A document a line.
    Json,
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
    /// A variable of the environment is none of ours.
    #[error("{0} is no option of the daemon")]
    Variable(String),
    /// The runtime is missing.
    #[error(transparent)]
    Engine(#[from] coracle_engine::Error),
}

/// Reads the command line, the environment and the file.
pub(crate) fn read(arguments: &[OsString]) -> Result<Settings, Error> {
    decide(&sources::read(arguments, std::env::vars_os())?)
}

fn decide(all: &Values) -> Result<Settings, Error> {
    let notes = judge(all)?;
    defaults::check_words(all)?;
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
    let log_format = format(last("log-format").as_deref())?;
    let log = log_defaults(all)?;
    let runtimes = runtimes::read(all)?;
    let requested = defaults::Requested::read(all, &runtimes)?;
    let log_level = if debug { "debug".to_owned() } else { level(last("log-level"))? };
    Ok(Settings {
        engine: coracle_engine::Config {
            data_root: absolute(
                last("data-root").unwrap_or_else(|| coracle_engine::config::DEFAULT_DATA_ROOT.into()),
            ),
            exec_root: absolute(exec_root),
            bridge: last("bridge"),
            default_v4: networks::default_v4(all)?,
            default_v6: networks::default_v6(all)?,
            mtu: number(all, "mtu", 1500)?,
            networks: networks::defaults(all)?,
            init: switch(all, "init")?,
            cgroup_parent: last("cgroup-parent").map(|parent| parent.trim_matches('/').to_owned()),
            dns: list("dns")
                .into_iter()
                .map(|text| text.parse().map_err(|_| refused("dns", &text, "it is no address")))
                .collect::<Result<_, _>>()?,
            dns_search: list("dns-search"),
            dns_options: list("dns-opt"),
            log,
            registries: registries(all)?,
            labels: list("label"),
            storage: StorageSettings {
                build_cache: last("build-cache-budget")
                    .map(|text| size("build-cache-budget", &text))
                    .transpose()?,
                container: container_size(all)?,
                ..storage(last("storage-budget"), last("storage-keep-recent"))?
            },
            builds: builds(all)?,
            cdi_directories: cdi_directories(all)?,
            defaults: defaults::of_engine(all)?,
            runtimes,
            remap: last("userns-remap")
                .filter(|text| !text.is_empty())
                .map(|text| remap(&text))
                .transpose()?,
            // Looked for when everything else is right.
            runtime: coracle_engine::find_runtime()?,
        },
        hosts,
        group: last("group").unwrap_or_else(|| "docker".to_owned()),
        pidfile: last("pidfile").map(PathBuf::from),
        log_level,
        log_format,
        security: security(all)?,
        docker_socket: docker_socket(last("docker-socket").as_deref(), last("data-root").as_deref()),
        metrics: last("metrics-addr").filter(|address| !address.is_empty()),
        validate: switch(all, "validate")?,
        debug,
        requested,
        experimental: switch(all, "experimental")?,
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
            Verdict::AlreadyTrue(why) if matches!(option.name, "userland-proxy" | "ip-forward-no-drop") => {
                notes.push(format!("--{}=false: {why}", option.name));
            }
            Verdict::AlreadyTrue(reason) => return Err(Error::Refused { name: option.name, reason }),
            Verdict::Refused(reason) if on => return Err(Error::Refused { name: option.name, reason }),
            Verdict::Refused(_) => {}
        }
    }
    for (name, verdict) in FILE_ONLY.iter().filter(|(name, _)| all.contains_key(name)) {
        match verdict {
            Verdict::Honoured => {}
            Verdict::AlreadyTrue(why) => notes.push(format!("{name}: {why}")),
            Verdict::Refused(reason) => return Err(Error::Refused { name, reason }),
        }
    }
    Ok(notes)
}

/// Finds whose ids the users of containers have outside.
fn remap(text: &str) -> Result<Remap, Error> {
    Remap::find(text).map_err(|error| refused("userns-remap", text, &error.chain()))
}

fn refused(name: &'static str, value: &str, reason: &str) -> Error {
    Error::Value { name, value: value.to_owned(), reason: reason.to_owned() }
}

fn registries(all: &Values) -> Result<RegistrySettings, Error> {
    let last = |name: &str| all.get(name).and_then(|values| values.last()).cloned();
    let list = |name: &str| all.get(name).cloned().unwrap_or_default();
    let most = |name, default| number(all, name, default).map(|most| most.try_into().unwrap_or(usize::MAX));
    let default = RegistrySettings::default();
    Ok(RegistrySettings {
        hosts: coracle_engine::Registries::new(&list("registry-mirror"), &list("insecure-registry"))?,
        proxies: coracle_engine::Proxies {
            http: last("http-proxy"),
            https: last("https-proxy"),
            no_proxy: last("no-proxy"),
        },
        downloads: most("max-concurrent-downloads", DEFAULT_DOWNLOADS)?,
        uploads: most("max-concurrent-uploads", DEFAULT_UPLOADS)?,
        attempts: number(all, "max-download-attempts", default.attempts)?,
        ..default
    })
}

fn switch(all: &Values, name: &'static str) -> Result<bool, Error> {
    let last = all.get(name).and_then(|values| values.last());
    last.map_or(Ok(false), |text| truth_of(name, text))
}

fn truth_of(name: &'static str, text: &str) -> Result<bool, Error> {
    truth(text).ok_or_else(|| refused(name, text, "it is neither true nor false"))
}

fn number(all: &Values, name: &'static str, default: u32) -> Result<u32, Error> {
    match all.get(name).and_then(|values| values.last()).filter(|text| *text != "0") {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| refused(name, text, "it is no number")),
    }
}

fn builds(all: &Values) -> Result<BuildSettings, Error> {
    let entitlements = all.get("build-entitlement").into_iter().flatten();
    let none = "it is none of network.host, security.insecure, device";
    let unknown = |name: &String| refused("build-entitlement", name, none);
    let mut settings = BuildSettings::default();
    for name in entitlements {
        match name.as_str() {
            // Clients may have it anyway, as with Docker.
            "network.host" => {}
            "security.insecure" => settings.insecure = true,
            "device" => settings.devices = true,
            _ => return Err(unknown(name)),
        }
    }
    settings.parallelism = NonZeroUsize::new(number(all, "build-parallelism", 0)? as usize);
    Ok(settings)
}

/// Where specifications of devices are; nowhere, where the feature is off, as with Docker.
fn cdi_directories(all: &Values) -> Result<Vec<PathBuf>, Error> {
    let features = all.get("feature").into_iter().flatten();
    let last = features.filter_map(|feature| feature.strip_prefix("cdi=")).next_back();
    if !last.map_or(Ok(true), |text| truth_of("feature", text))? {
        return Ok(Vec::new());
    }
    Ok(match all.get("cdi-spec-dir") {
        Some(given) => given.iter().filter(|path| !path.is_empty()).map(absolute).collect(),
        None => DEFAULT_CDI_DIRECTORIES.map(PathBuf::from).to_vec(),
    })
}

fn storage(budget: Option<String>, keep_recent: Option<String>) -> Result<StorageSettings, Error> {
    let budget = budget.map(|text| size("storage-budget", &text)).transpose()?;
    let keep_recent = match keep_recent {
        None => StorageSettings::default().keep_recent,
        Some(text) => {
            let span = quantity::duration(&text);
            span.ok_or_else(|| refused("storage-keep-recent", &text, "it is no time as 72h or 30m"))?
        }
    };
    let budget = budget.filter(|bytes| *bytes > 0);
    Ok(StorageSettings { budget, keep_recent, ..StorageSettings::default() })
}

/// What containers may write that do not say how much, of the storage driver's options.
fn container_size(all: &Values) -> Result<Option<u64>, Error> {
    let mut bytes = None;
    for text in all.get("storage-opt").into_iter().flatten() {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        match key.to_ascii_lowercase().as_str() {
            "overlay2.size" => bytes = Some(size("storage-opt", value)?),
            // There is no kernel that would be refused.
            "overlay.override_kernel_check" | "overlay2.override_kernel_check" => {
                truth_of("storage-opt", value)?;
            }
            _ => {
                return Err(refused("storage-opt", text, "the options are overlay2.size=SIZE and no others"));
            }
        }
    }
    Ok(bytes.filter(|bytes| *bytes > 0))
}

fn size(name: &'static str, text: &str) -> Result<u64, Error> {
    coracle_spec::size::bytes(text).ok_or_else(|| refused(name, text, "it is no size as 20g or 500m"))
}

/// As Docker has it: who says anything of verification speaks TLS, and `--tls=false` alone is plain.
fn security(all: &Values) -> Result<Security, Error> {
    let (encrypted, verified) = (switch(all, "tls")?, switch(all, "tlsverify")?);
    if !encrypted && !all.contains_key("tlsverify") {
        return Ok(if all.contains_key("tls") { Security::Plain } else { Security::Undecided });
    }
    let file = |option: &str, name: &str| {
        let given = all.get(option).and_then(|values| values.last());
        given.map_or_else(|| certificates().join(name), absolute)
    };
    Ok(Security::Tls(TlsFiles {
        certificate: file("tlscert", "cert.pem"),
        key: file("tlskey", "key.pem"),
        authorities: verified.then(|| file("tlscacert", "ca.pem")),
    }))
}

/// Where Docker's daemon looks for certificates that no option names.
fn certificates() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("DOCKER_CERT_PATH")
        .unwrap_or_else(|| variable("HOME").unwrap_or_else(|| "/root".into()).join(".docker"))
}

/// The usual one for the machine's own engine, none for an engine with a data root of its own: those are many.
fn docker_socket(given: Option<&str>, data_root: Option<&str>) -> Option<PathBuf> {
    match given {
        Some("none") => None,
        Some(path) => Some(absolute(path)),
        None => {
            let is_usual = data_root.is_none_or(|root| root == coracle_engine::config::DEFAULT_DATA_ROOT);
            is_usual.then(|| DOCKER_SOCKET.into())
        }
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

fn format(given: Option<&str>) -> Result<LogFormat, Error> {
    match given {
        None | Some("text") => Ok(LogFormat::Text),
        Some("json") => Ok(LogFormat::Json),
        Some(other) => Err(refused("log-format", other, "it is neither text nor json")),
    }
}

fn log_defaults(all: &Values) -> Result<coracle_engine::containers::LogDefaults, Error> {
    let driver = all.get("log-driver").and_then(|values| values.last()).cloned().unwrap_or_default();
    let options = all.get("log-opt").into_iter().flatten();
    let options = options
        .map(|option| {
            option.split_once('=').ok_or_else(|| refused("log-opt", option, "it is not NAME=VALUE"))
        })
        .map(|option| option.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect::<Result<BTreeMap<_, _>, _>>()?;
    let defaults = coracle_engine::containers::log_defaults(&driver, options)
        .map_err(|error| refused("log-driver", &driver, &error.to_string()))?;
    defaults.ok_or_else(|| refused("log-driver", &driver, "choose none with --log-driver on the container"))
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
        decide(&sources::read(&arguments, [])?)
    }

    #[test]
    fn containers_have_the_size_that_the_storage_options_say() {
        let size = |options: &[&str]| {
            let flags: Vec<String> = options.iter().map(|option| format!("--storage-opt={option}")).collect();
            let flags: Vec<OsString> = flags.into_iter().map(OsString::from).collect();
            container_size(&sources::read(&flags, [])?)
        };
        assert_eq!(
            size(&["overlay2.size=10G", "overlay2.override_kernel_check=true"]).unwrap(),
            Some(10 << 30)
        );
        assert_eq!(size(&["overlay2.size=0"]).unwrap(), None);
        for options in
            ["overlay2.size=many", "overlay2.override_kernel_check=maybe", "dm.thinpooldev=x", "size=1G"]
        {
            assert!(size(&[options]).is_err(), "{options}");
        }
    }

    #[test]
    fn every_option_of_the_table_is_parsed_and_judged_as_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("daemon.json");
        std::fs::write(&file, "{}").unwrap();
        let file = file.to_str().unwrap();
        for option in TABLE {
            let value = match option.name {
                "bip" => "10.1.2.1/24",
                "mtu" => "1400",
                "build-entitlement" => "security.insecure",
                "build-parallelism"
                | "max-concurrent-downloads"
                | "max-concurrent-uploads"
                | "max-download-attempts" => "2",
                "dns" | "ip" | "host-gateway-ip" => "10.0.0.1",
                "default-address-pool" => "base=10.0.0.0/8,size=24",
                "default-network-opt" => "bridge=com.docker.network.driver.mtu=1400",
                "default-shm-size" => "1m",
                "default-ulimit" => "nofile=1:2",
                "default-ipc-mode" | "default-cgroupns-mode" => "private",
                "default-runtime" => "runc",
                "add-runtime" => "crun=/usr/bin/crun",
                "exec-opt" => "native.cgroupdriver=cgroupfs",
                "storage-opt" => "overlay2.override_kernel_check=true",
                "seccomp-profile" => "builtin",
                "log-level" => "warn",
                "log-driver" => "json-file",
                "storage-budget" | "build-cache-budget" => "20g",
                "storage-keep-recent" => "1h30m",
                "log-opt" => "max-file=3",
                "registry-mirror" => "https://mirror.test",
                "log-format" => "json",
                "config-file" => file,
                // Off, as whose ids there are depends on the machine.
                "userns-remap" => "",
                // Nothing: they say something of --ipv6 alone.
                "bip6" | "fixed-cidr-v6" => "",
                "fixed-cidr" => "10.1.2.0/24",
                _ => "x",
            };
            let given = match (option.takes, option.name) {
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
    fn no_budget_and_a_budget_of_zero_are_none() {
        let decide = |budget: Option<&str>, keep: Option<&str>| {
            storage(budget.map(str::to_owned), keep.map(str::to_owned)).unwrap()
        };
        assert_eq!(decide(None, None), StorageSettings::default());
        assert_eq!(decide(Some("0"), None).budget, None);
        let given = decide(Some("1.5g"), Some("90m"));
        assert_eq!((given.budget, given.keep_recent.as_secs()), (Some(3 << 29), 5400));
        assert!(decide(Some("1g"), Some("0")).keep_recent.is_zero());
    }

    #[test]
    fn directories_of_devices_are_the_usual_ones_those_that_are_given_or_none() {
        let directories = |name, values: &[&str]| {
            cdi_directories(&[(name, values.iter().map(ToString::to_string).collect())].into()).unwrap()
        };
        assert_eq!(directories("feature", &["cdi=true"]), DEFAULT_CDI_DIRECTORIES.map(PathBuf::from));
        assert_eq!(directories("cdi-spec-dir", &["/a", "/b"]), ["/a", "/b"].map(PathBuf::from));
        assert!(directories("feature", &["x=true", "cdi=false"]).is_empty());
        assert!(directories("feature", &["cdi=true", "cdi=F"]).is_empty());
        assert!(!directories("feature", &["cdi=false", "cdi=true"]).is_empty());
    }

    #[test]
    fn tcp_is_secured_as_docker_reads_the_switches() {
        let security = |given: &[(&'static str, &str)]| {
            let values = given.iter().map(|(name, value)| (*name, vec![(*value).to_owned()]));
            security(&values.collect()).unwrap()
        };
        let tls = |authorities: Option<&str>| {
            let [certificate, key] = ["/c", "/k"].map(PathBuf::from);
            Security::Tls(TlsFiles { certificate, key, authorities: authorities.map(PathBuf::from) })
        };
        let files = [("tlscert", "/c"), ("tlskey", "/k"), ("tlscacert", "/a")];
        let with = |given: &[(&'static str, &'static str)]| security(&[&files[..], given].concat());
        assert_eq!(security(&[]), Security::Undecided);
        assert_eq!(with(&[]), Security::Undecided);
        assert_eq!(with(&[("tls", "false")]), Security::Plain);
        assert_eq!(with(&[("tls", "true")]), tls(None));
        assert_eq!(with(&[("tlsverify", "true")]), tls(Some("/a")));
        assert_eq!(with(&[("tlsverify", "false")]), tls(None));
        assert_eq!(with(&[("tls", "false"), ("tlsverify", "true")]), tls(Some("/a")));
    }

    #[test]
    fn dockers_socket_belongs_to_the_machines_own_engine() {
        let socket = docker_socket;
        assert_eq!(socket(None, None), Some(DOCKER_SOCKET.into()));
        assert_eq!(socket(None, Some("/var/lib/coracle")), Some(DOCKER_SOCKET.into()));
        assert_eq!(socket(None, Some("/srv/x")), None);
        assert_eq!(socket(Some("none"), None), None);
        assert_eq!(socket(Some("/x.sock"), Some("/srv/x")), Some("/x.sock".into()));
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for arguments in [
            ["--bip", "10.1.2.3"],
            ["--bip", "fd00::1/64"],
            ["--fixed-cidr", "10.1.2.3"],
            ["--fixed-cidr-v6", "fd00::/64"],
            ["--bip6", "fd00::1/64"],
            ["--mtu", "big"],
            ["--log-level", "loud"],
            ["--dns", "nowhere"],
            ["--log-driver", "syslog"],
            ["--log-opt", "max-size"],
            ["--log-format", "xml"],
            ["--storage-budget", "much"],
            ["--build-cache-budget", "-1"],
            ["--build-entitlement", "everything"],
            ["--build-parallelism", "many"],
            ["--storage-keep-recent", "3"],
            ["--debug=perhaps", "--init"],
        ] {
            assert!(matches!(decided(&arguments), Err(Error::Value { .. })), "{arguments:?}");
        }
    }
}
