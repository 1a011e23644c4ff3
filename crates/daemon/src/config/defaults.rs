//! What containers get that do not say what they want: the options of the daemon whose names begin with `default`, and their
//! likes.

use super::{Error, Values, refused, size, switch};
use coracle_api::container::{HostConfig, Ulimit};
use coracle_engine::config::{ContainerDefaults, DefaultFilter};
use coracle_engine::containers::settings::DEFAULT_SHM_SIZE;
use coracle_engine::runtimes::{OWN, Runtimes};
use std::collections::BTreeMap;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

/// Largest system call profile, in bytes.
const PROFILE_SIZE: u64 = 1 << 20;

/// What is filled into a request to make a container, as clients could have done themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Requested {
    ipc: Option<String>,
    cgroupns: Option<String>,
    /// In bytes; 0 for what the engine has by default.
    shm_size: i64,
    ulimits: BTreeMap<String, Ulimit>,
    runtime: Option<String>,
}

impl Requested {
    /// Reads the options.
    ///
    /// # Errors
    /// [`Error::Value`] for what makes no sense.
    pub(super) fn read(all: &Values, runtimes: &Runtimes) -> Result<Self, Error> {
        let last = |name: &str| all.get(name).and_then(|values| values.last()).cloned();
        let one_of = |name: &'static str, known: &[&str]| match last(name) {
            Some(word) if !known.contains(&word.as_str()) => {
                Err(refused(name, &word, &format!("it is none of {}", known.join(", "))))
            }
            word => Ok(word),
        };
        let known: Vec<&str> = OWN.into_iter().chain(runtimes.iter().map(|(name, _)| name)).collect();
        let shm_size = last("default-shm-size").map(|text| size("default-shm-size", &text)).transpose()?;
        let ulimits = all.get("default-ulimit").into_iter().flatten().map(|text| ulimit(text));
        Ok(Self {
            ipc: one_of("default-ipc-mode", &["private", "shareable"])?,
            cgroupns: one_of("default-cgroupns-mode", &["private", "host"])?,
            shm_size: i64::try_from(shm_size.unwrap_or(0)).unwrap_or(i64::MAX),
            ulimits: ulimits
                .map(|limit| limit.map(|limit| (limit.name.clone(), limit)))
                .collect::<Result<_, _>>()?,
            runtime: one_of("default-runtime", &known)?,
        })
    }

    /// Fills in what a request leaves open.
    pub(crate) fn fill(&self, host: &mut HostConfig) {
        let fill = |field: &mut String, default: &Option<String>| {
            if field.is_empty() {
                field.clone_from(&default.clone().unwrap_or_default());
            }
        };
        fill(&mut host.ipc_mode, &self.ipc);
        fill(&mut host.cgroupns_mode, &self.cgroupns);
        fill(&mut host.runtime, &self.runtime);
        if host.shm_size == 0 {
            host.shm_size = self.shm_size;
        }
        let asked = host.ulimits.get_or_insert_default();
        let missing = self.ulimits.values().filter(|limit| !asked.iter().any(|own| own.name == limit.name));
        let missing: Vec<Ulimit> = missing.cloned().collect();
        asked.extend(missing);
    }

    /// What is told of them when they were read again, by Docker's names.
    pub(crate) fn attributes(&self) -> [(&'static str, String); 4] {
        let or = |chosen: &Option<String>, usual: &str| chosen.clone().unwrap_or_else(|| usual.to_owned());
        let shm_size = if self.shm_size == 0 { DEFAULT_SHM_SIZE } else { self.shm_size };
        [
            ("default-ipc-mode", or(&self.ipc, "private")),
            ("default-cgroupns-mode", or(&self.cgroupns, "private")),
            ("default-shm-size", shm_size.to_string()),
            ("default-runtime", self.runtime().to_owned()),
        ]
    }

    /// The name of the runtime that containers have by default.
    pub(crate) fn runtime(&self) -> &str {
        self.runtime.as_deref().unwrap_or(OWN[0])
    }
}

/// Reads what the engine itself does by default.
///
/// # Errors
/// [`Error::Value`] for what makes no sense, [`Error::File`] for a profile that cannot be read.
pub(super) fn of_engine(all: &Values) -> Result<ContainerDefaults, Error> {
    let address = |name: &'static str| match all.get(name).map(Vec::as_slice) {
        None => Ok(None),
        Some([text]) => text.parse::<IpAddr>().map(Some).map_err(|_| refused(name, text, "it is no address")),
        Some(several) => {
            Err(refused(name, &several.join(","), "networks have IPv4 addresses only: give one"))
        }
    };
    Ok(ContainerDefaults {
        no_new_privileges: switch(all, "no-new-privileges")?,
        seccomp: match all.get("seccomp-profile").and_then(|values| values.last()).map(String::as_str) {
            None | Some("builtin") => DefaultFilter::BuiltIn,
            Some("unconfined") => DefaultFilter::Unconfined,
            Some(path) => profile(Path::new(path))?,
        },
        publish_address: address("ip")?,
        host_gateway: address("host-gateway-ip")?,
    })
}

/// Reads and checks a profile, so that no container has to fail of it.
fn profile(path: &Path) -> Result<DefaultFilter, Error> {
    let failed = |reason: String| Error::File { path: path.to_owned(), reason };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| failed(error.to_string()))?;
    let length =
        file.take(PROFILE_SIZE + 1).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    if u64::try_from(length).is_ok_and(|length| length > PROFILE_SIZE) {
        return Err(failed(format!("it is larger than {PROFILE_SIZE} bytes")));
    }
    coracle_engine::check_profile(&text).map_err(|error| failed(error.chain()))?;
    Ok(DefaultFilter::Profile { path: path.to_owned(), text })
}

/// `nofile=1024:2048` of the command line, or `nofile={"Hard": 2048, "Soft": 1024}` made of the file.
fn ulimit(text: &str) -> Result<Ulimit, Error> {
    let invalid = |reason: &str| refused("default-ulimit", text, reason);
    let (name, value) = text.split_once('=').ok_or_else(|| invalid("it is not NAME=SOFT[:HARD]"))?;
    if value.starts_with('{') {
        let limit: Ulimit =
            coracle_api::from_slice(value.as_bytes()).map_err(|error| invalid(&error.to_string()))?;
        return Ok(Ulimit { name: name.to_owned(), ..limit });
    }
    let (soft, hard) = value.split_once(':').unwrap_or((value, value));
    let number = |text: &str| text.parse::<i64>().map_err(|_| invalid("it is no number"));
    let limit = Ulimit { name: name.to_owned(), soft: number(soft)?, hard: number(hard)? };
    let (most, least) = (limit.hard.cast_unsigned(), limit.soft.cast_unsigned());
    if least > most { Err(invalid("its soft limit is above its hard limit")) } else { Ok(limit) }
}

/// Checks options of which only one value says what is so anyway.
///
/// # Errors
/// [`Error::Value`] for every other.
pub(super) fn check_words(all: &Values) -> Result<(), Error> {
    for text in all.get("exec-opt").into_iter().flatten() {
        match text.split_once('=') {
            Some(("native.cgroupdriver", "cgroupfs")) => {}
            Some(("native.cgroupdriver", "systemd")) => {
                return Err(refused(
                    "exec-opt",
                    text,
                    "cgroups are managed as files; there is no systemd driver yet",
                ));
            }
            _ => return Err(refused("exec-opt", text, "native.cgroupdriver=cgroupfs is the only one")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(given: &[(&'static str, &[&str])]) -> Values {
        given.iter().map(|(name, values)| (*name, values.iter().map(ToString::to_string).collect())).collect()
    }

    #[test]
    fn what_a_request_leaves_open_is_filled_in_and_nothing_else() {
        let defaults = Requested::read(
            &values(&[
                ("default-ipc-mode", &["shareable"]),
                ("default-cgroupns-mode", &["host"]),
                ("default-shm-size", &["1m"]),
                ("default-ulimit", &["nofile=5:6", r#"core={"Name": "core", "Hard": -1, "Soft": 0}"#]),
                ("default-runtime", &["runc"]),
            ]),
            &Runtimes::default(),
        )
        .unwrap();
        let mut open = HostConfig::default();
        defaults.fill(&mut open);
        assert_eq!((open.ipc_mode.as_str(), open.cgroupns_mode.as_str()), ("shareable", "host"));
        assert_eq!((open.shm_size, open.runtime.as_str()), (1 << 20, "runc"));
        let limits: Vec<_> = open.ulimits.unwrap().into_iter().map(|l| (l.name, l.soft, l.hard)).collect();
        assert_eq!(limits, [("core".to_owned(), 0, -1), ("nofile".to_owned(), 5, 6)]);
        let asked = HostConfig {
            ipc_mode: "none".into(),
            cgroupns_mode: "private".into(),
            shm_size: 7,
            runtime: "coracle".into(),
            ulimits: Some(
                ["core", "nofile"].map(|name| Ulimit { name: name.into(), soft: 1, hard: 1 }).into(),
            ),
            ..HostConfig::default()
        };
        let mut filled = asked.clone();
        defaults.fill(&mut filled);
        assert_eq!(filled, asked);
        let mut untouched = HostConfig { ulimits: Some(Vec::new()), ..HostConfig::default() };
        Requested::default().fill(&mut untouched);
        assert_eq!(untouched, HostConfig { ulimits: Some(Vec::new()), ..HostConfig::default() });
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (name, value) in [
            ("default-ipc-mode", "host"),
            ("default-cgroupns-mode", "none"),
            ("default-shm-size", "large"),
            ("default-ulimit", "nofile"),
            ("default-ulimit", "nofile=many"),
            ("default-ulimit", "nofile=2:1"),
            ("default-ulimit", "nofile=-1:1"),
            ("default-ulimit", "nofile={}}"),
            ("default-runtime", "kata"),
        ] {
            assert!(
                Requested::read(&values(&[(name, &[value])]), &Runtimes::default()).is_err(),
                "{name}={value}"
            );
        }
        for (name, given) in
            [("ip", &["here"][..]), ("host-gateway-ip", &["10.0.0.1", "::1"]), ("ip", &["10.0.0.0/8"])]
        {
            assert!(of_engine(&values(&[(name, given)])).is_err(), "{name}={given:?}");
        }
        for (name, value, is_fine) in [
            ("exec-opt", "native.cgroupdriver=cgroupfs", true),
            ("exec-opt", "native.cgroupdriver=systemd", false),
            ("exec-opt", "isolation=process", false),
        ] {
            assert_eq!(check_words(&values(&[(name, &[value])])).is_ok(), is_fine, "{name}={value}");
        }
    }

    #[test]
    fn a_profile_is_read_and_checked_at_once() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("profile.json");
        let read =
            || of_engine(&values(&[("seccomp-profile", &[path.to_str().unwrap()])])).map(|d| d.seccomp);
        assert!(matches!(read(), Err(Error::File { .. })));
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(read(), Err(Error::File { .. })));
        let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}"#;
        std::fs::write(&path, text).unwrap();
        assert_eq!(read().unwrap(), DefaultFilter::Profile { path: path.clone(), text: text.to_owned() });
        std::fs::write(&path, " ".repeat(2 << 20)).unwrap();
        assert!(matches!(read(), Err(Error::File { .. })));
    }
}
