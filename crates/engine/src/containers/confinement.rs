//! What a container may do by default, and how requests widen or narrow it. Values are Docker's.

use super::settings::HostSettings;
use crate::error::{Error, Result};
use coracle_runtime::sandbox::CAPABILITY_NAMES;
use coracle_spec::runtime::DeviceRule;

/// The capabilities of a container that asks for nothing.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Paths that leak or change what belongs to the host.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that a container reads and never writes.
pub const READONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The capabilities that the engine can hand on: a set of bits by number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Available(u64);

impl Default for Available {
    fn default() -> Self {
        Self(u64::MAX)
    }
}

impl Available {
    /// What this process has, by the text of its `/proc/self/status`.
    pub(crate) fn read(status: &str) -> Self {
        let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
        line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).map_or_else(Self::default, Self)
    }

    fn has(self, name: &str) -> bool {
        CAPABILITY_NAMES.iter().position(|known| *known == name).is_some_and(|bit| self.0 & (1 << bit) != 0)
    }
}

/// The capabilities of a container, each `CAP_…`, in the order of their numbers.
///
/// # Errors
/// [`Error::Invalid`] names a capability that does not exist, or that the engine has not got itself.
pub(crate) fn capabilities(host: &HostSettings, available: &Available) -> Result<Vec<String>> {
    let add = names(&host.cap_add)?;
    if let Some(missing) = add.iter().find(|name| *name != "ALL" && !available.has(name)) {
        return Err(Error::Invalid(format!(
            "capability {missing} cannot be added: the engine does not have it on this machine"
        )));
    }
    let drop = names(&host.cap_drop)?;
    let all = |list: &[String]| list.iter().any(|name| name == "ALL");
    let allowed = |name: &str| {
        let listed = |list: &[String]| list.iter().any(|entry| entry == name);
        if host.privileged {
            return true;
        }
        if all(&add) {
            return !listed(&drop);
        }
        let default = DEFAULT_CAPABILITIES.contains(&name) && !all(&drop);
        listed(&add) || (default && !listed(&drop))
    };
    let granted = |name: &&&str| allowed(name) && available.has(name);
    Ok(CAPABILITY_NAMES.iter().filter(granted).map(|name| format!("CAP_{name}")).collect())
}

fn names(list: &[String]) -> Result<Vec<String>> {
    list.iter()
        .map(|entry| {
            let upper = entry.to_ascii_uppercase();
            let name = upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned();
            if name == "ALL" || CAPABILITY_NAMES.contains(&name.as_str()) {
                Ok(name)
            } else {
                Err(Error::Invalid(format!(
                    "invalid capability: {entry:?}: see capabilities(7) for those there are"
                )))
            }
        })
        .collect()
}

/// The device rules of a container: nothing but the harmless devices, and making nodes of others.
pub(crate) fn device_rules(host: &HostSettings) -> Result<Vec<DeviceRule>> {
    if host.privileged {
        return Ok(vec![rule(true, "a", None, None, "rwm")]);
    }
    let mut rules = vec![
        rule(false, "a", None, None, "rwm"),
        rule(true, "c", None, None, "m"),
        rule(true, "b", None, None, "m"),
    ];
    for (major, minor) in [
        (1, Some(3)),
        (1, Some(5)),
        (1, Some(7)),
        (1, Some(8)),
        (1, Some(9)),
        (5, Some(0)),
        (5, Some(1)),
        (5, Some(2)),
        (136, None),
    ] {
        rules.push(rule(true, "c", Some(major), minor, "rwm"));
    }
    for text in &host.device_cgroup_rules {
        rules.push(parse_rule(text)?);
    }
    Ok(rules)
}

pub(crate) fn rule(
    allow: bool,
    kind: &str,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> DeviceRule {
    DeviceRule { allow, kind: Some(kind.to_owned()), major, minor, access: Some(access.to_owned()) }
}

/// Parses `TYPE MAJOR:MINOR ACCESS`, as `--device-cgroup-rule` has it.
fn parse_rule(text: &str) -> Result<DeviceRule> {
    let invalid = || Error::Invalid(format!("invalid device cgroup rule format: '{text}'"));
    let words: Vec<&str> = text.split(' ').collect();
    let [kind, numbers, access] = words[..] else { return Err(invalid()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
    let number = |text: &str| match text {
        "*" => Ok(None),
        digits => digits.parse::<u32>().map(|n| Some(i64::from(n))).map_err(|_| invalid()),
    };
    let letters = !access.is_empty() && access.len() <= 3 && access.bytes().all(|b| b"rwm".contains(&b));
    if !matches!(kind, "a" | "b" | "c") || !letters {
        return Err(invalid());
    }
    Ok(rule(true, kind, number(major)?, number(minor)?, access))
}

/// What `--security-opt` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SecurityOptions {
    /// Absent where nothing is said.
    pub(crate) no_new_privileges: Option<bool>,
    pub(crate) seccomp: SeccompChoice,
    pub(crate) unmask: bool,
}

/// Which system call filter applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum SeccompChoice {
    /// The engine's.
    #[default]
    Default,
    /// The one that the engine brings, whatever its default is.
    BuiltIn,
    /// None.
    Unconfined,
    /// This profile, a JSON document.
    Profile(String),
}

impl SecurityOptions {
    /// Parses the options.
    ///
    /// # Errors
    /// [`Error::Invalid`] for one that means nothing, [`Error::Unsupported`] for one that this machine cannot honour.
    pub(crate) fn parse(options: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options {
            let (key, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
            match (key, value) {
                ("no-new-privileges", "" | "true") => parsed.no_new_privileges = Some(true),
                ("no-new-privileges", "false") => parsed.no_new_privileges = Some(false),
                ("seccomp", "unconfined") => parsed.seccomp = SeccompChoice::Unconfined,
                ("seccomp", "builtin") => parsed.seccomp = SeccompChoice::BuiltIn,
                ("seccomp", "default") => parsed.seccomp = SeccompChoice::Default,
                ("seccomp", profile) if profile.trim_start().starts_with('{') => {
                    parsed.seccomp = SeccompChoice::Profile(profile.to_owned());
                }
                ("systempaths", "unconfined") => parsed.unmask = true,
                ("apparmor", "unconfined" | "") | ("label", "disable") => {}
                ("apparmor", profile) => {
                    return Err(Error::Unsupported(format!(
                        "AppArmor profile {profile:?}: AppArmor is not supported on this machine; use apparmor=unconfined"
                    )));
                }
                ("label", label) => {
                    return Err(Error::Unsupported(format!(
                        "SELinux label {label:?}: SELinux is not enforced by this engine; use label=disable"
                    )));
                }
                _ => return Err(Error::Invalid(format!("invalid --security-opt: {option:?}"))),
            }
        }
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn with(add: &[&str], drop: &[&str]) -> Vec<String> {
        let host = HostSettings { cap_add: list(add), cap_drop: list(drop), ..HostSettings::default() };
        capabilities(&host, &Available::default()).unwrap()
    }

    #[test]
    fn capabilities_are_added_and_dropped_as_docker_does() {
        assert_eq!(with(&[], &[]).len(), 14);
        assert_eq!(with(&["net_admin"], &["CAP_CHOWN"]).len(), 14);
        assert_eq!(with(&["ALL"], &["SYS_ADMIN"]).len(), 40);
        assert_eq!(with(&["KILL", "NET_ADMIN"], &["all"]), ["CAP_KILL", "CAP_NET_ADMIN"]);
        assert!(
            capabilities(
                &HostSettings { cap_add: list(&["FLY"]), ..HostSettings::default() },
                &Available::default()
            )
            .is_err()
        );
    }

    #[test]
    fn what_the_engine_has_not_got_is_left_out_and_refused_when_asked_for() {
        let available = Available::read("Name:\tx\nCapPrm:\t000001fffeffffff\n");
        let host = HostSettings { privileged: true, ..HostSettings::default() };
        assert_eq!(capabilities(&host, &available).unwrap().len(), 40);
        let host = HostSettings { cap_add: list(&["SYS_RESOURCE"]), ..HostSettings::default() };
        assert!(capabilities(&host, &available).unwrap_err().to_string().contains("SYS_RESOURCE"));
    }

    #[test]
    fn device_rules_are_read_or_refused() {
        assert_eq!(parse_rule("c 42:* rmw").unwrap(), rule(true, "c", Some(42), None, "rmw"));
        for text in ["", "c", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 rx", "c -1:3 r", "c 1:3 r extra", "c 1:3 "]
        {
            assert!(parse_rule(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn security_options_are_honoured_or_refused_never_ignored() {
        let parsed = SecurityOptions::parse(&list(&["no-new-privileges", "seccomp=unconfined"])).unwrap();
        assert!(parsed.no_new_privileges == Some(true) && parsed.seccomp == SeccompChoice::Unconfined);
        for option in ["apparmor=docker-default", "label=type:x", "nonsense", "no-new-privileges=maybe"] {
            assert!(SecurityOptions::parse(&list(&[option])).is_err(), "{option}");
        }
    }
}
