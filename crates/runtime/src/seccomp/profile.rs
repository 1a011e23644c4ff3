//! Docker's profiles: an OCI configuration whose rules and architectures depend on where, and with which rights, a
//! container runs.

use super::abi::Machine;
use crate::error::{Error, Result};
use crate::limits;
use coracle_spec::runtime::{Seccomp, SyscallArg, SyscallRule};
use serde::Deserialize;
use std::str::FromStr;

/// A version of Linux, as far as profiles tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    /// The first number.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl KernelVersion {
    /// The version of the running kernel.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the kernel's release does not begin with two numbers.
    pub fn running() -> Result<Self> {
        rustix::system::uname().release().to_string_lossy().parse()
    }
}

impl FromStr for KernelVersion {
    type Err = Error;

    /// Parses `4.8`, `6.18.44-fc` and the like.
    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (major, rest) = text.split_once('.')?;
            let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
        };
        parse().ok_or_else(|| Error::Invalid(format!("seccomp: {text:?} is no version of a kernel")))
    }
}

/// Decides everything in a profile that is conditional, for a container whose bounding set is `capabilities`
/// (`CAP_CHOWN`, …) on `machine` under `kernel`. Pure, so that the result can be kept.
///
/// # Errors
/// [`Error::Invalid`] for a document that is too large, is no profile, or contradicts itself.
pub fn resolve(
    profile: &str,
    capabilities: &[String],
    machine: Machine,
    kernel: KernelVersion,
) -> Result<Seccomp> {
    if profile.len() > limits::SECCOMP_PROFILE {
        return Err(invalid("is too large"));
    }
    let document: Document =
        serde_json::from_str(profile).map_err(|error| invalid(&format!("cannot be read: {error}")))?;
    if document.listener_path.is_some_and(|path| !path.is_empty()) {
        return Err(invalid("asks for a listener, which is not supported"));
    }
    let place = Place { capabilities, machine: machine.docker_name(), kernel };
    let rules = document.syscalls.unwrap_or_default().into_iter();
    let rules = rules.filter_map(|rule| place.applies(&rule).map(|yes| yes.then_some(rule)).transpose());
    let architectures = architectures(
        document.architectures.unwrap_or_default(),
        document.arch_map.unwrap_or_default(),
        machine,
    )?;
    Ok(Seccomp {
        default_action: document.default_action,
        default_errno_ret: document.default_errno_ret,
        architectures,
        flags: document.flags.unwrap_or_default(),
        syscalls: rules.map(|rule| rule.and_then(Rule::into_spec)).collect::<Result<_>>()?,
    })
}

fn invalid(text: &str) -> Error {
    Error::Invalid(format!("the seccomp profile {text}"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: String,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchitectureMap>>,
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    syscalls: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchitectureMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    /// Before Docker 1.12 a rule was about one call.
    name: Option<String>,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<SyscallArg>>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

/// Where a rule applies, or does not.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl Rule {
    fn into_spec(self) -> Result<SyscallRule> {
        let names = match (self.name.filter(|name| !name.is_empty()), self.names.unwrap_or_default()) {
            (None, names) => names,
            (Some(name), names) if names.is_empty() => vec![name],
            _ => return Err(invalid("has a rule with both 'name' and 'names'")),
        };
        let args = self.args.unwrap_or_default();
        Ok(SyscallRule { names, action: self.action, errno_ret: self.errno_ret, args })
    }
}

/// What the conditions of rules are about.
struct Place<'a> {
    capabilities: &'a [String],
    machine: &'static str,
    kernel: KernelVersion,
}

impl Place<'_> {
    /// A rule applies where everything is that it includes, and nothing is that it excludes.
    fn applies(&self, rule: &Rule) -> Result<bool> {
        let (none, other) = (Filter::default(), Filter::default());
        let (includes, excludes) =
            (rule.includes.as_ref().unwrap_or(&none), rule.excludes.as_ref().unwrap_or(&other));
        let has = |capability: &String| self.capabilities.contains(capability);
        let is = |machine: &String| machine == self.machine;
        let included = includes.caps.iter().flatten().all(has)
            && includes.arches.as_ref().is_none_or(|arches| arches.is_empty() || arches.iter().any(is))
            && self.reaches(includes.min_kernel.as_deref())?.unwrap_or(true);
        let excluded = excludes.caps.iter().flatten().any(has)
            || excludes.arches.iter().flatten().any(is)
            || self.reaches(excludes.min_kernel.as_deref())?.unwrap_or(false);
        Ok(included && !excluded)
    }

    fn reaches(&self, version: Option<&str>) -> Result<Option<bool>> {
        let version = version.filter(|version| !version.is_empty());
        version.map(|version| Ok(self.kernel >= version.parse()?)).transpose()
    }
}

fn architectures(listed: Vec<String>, map: Vec<ArchitectureMap>, machine: Machine) -> Result<Vec<String>> {
    if !listed.is_empty() && !map.is_empty() {
        return Err(invalid("has both 'architectures' and 'archMap'"));
    }
    let native = match machine {
        Machine::X86_64 => "SCMP_ARCH_X86_64",
        Machine::Aarch64 => "SCMP_ARCH_AARCH64",
    };
    let Some(entry) = map.into_iter().find(|entry| entry.architecture == native) else { return Ok(listed) };
    Ok([entry.architecture].into_iter().chain(entry.sub_architectures.unwrap_or_default()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(rule: &str, capabilities: &[&str], machine: Machine) -> Result<bool> {
        let profile = format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["read"],"action":"SCMP_ACT_ALLOW",{rule}}}]}}"#
        );
        let capabilities: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
        let kernel = KernelVersion { major: 5, minor: 15 };
        resolve(&profile, &capabilities, machine, kernel).map(|seccomp| !seccomp.syscalls.is_empty())
    }

    #[test]
    fn a_rule_applies_where_all_is_included_and_nothing_excluded() {
        use Machine::{Aarch64, X86_64};
        for (rule, capabilities, machine, expected) in [
            (r#""includes":null,"excludes":{}"#, &[][..], X86_64, true),
            (r#""includes":{"caps":["CAP_A","CAP_B"]}"#, &["CAP_A"], X86_64, false),
            (r#""includes":{"caps":["CAP_A","CAP_B"]}"#, &["CAP_B", "CAP_A"], X86_64, true),
            (r#""excludes":{"caps":["CAP_A","CAP_B"]}"#, &["CAP_B"], X86_64, false),
            (r#""includes":{"arches":["amd64","x32"]}"#, &[], X86_64, true),
            (r#""includes":{"arches":["amd64","x32"]}"#, &[], Aarch64, false),
            (r#""excludes":{"arches":["arm64"]}"#, &[], Aarch64, false),
            (r#""includes":{"minKernel":"4.8"}"#, &[], X86_64, true),
            (r#""includes":{"minKernel":"5.15"}"#, &[], X86_64, true),
            (r#""includes":{"minKernel":"5.16"}"#, &[], X86_64, false),
            (r#""includes":{"minKernel":"10.1"}"#, &[], X86_64, false),
            (r#""excludes":{"minKernel":"4.8"}"#, &[], X86_64, false),
            (r#""excludes":{"minKernel":"6.0"}"#, &[], X86_64, true),
        ] {
            assert_eq!(resolved(rule, capabilities, machine).unwrap(), expected, "{rule}");
        }
        assert!(resolved(r#""includes":{"minKernel":"six"}"#, &[], X86_64).is_err());
    }

    #[test]
    fn architectures_are_those_of_the_machine() {
        let map = r#""archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]},
            {"architecture":"SCMP_ARCH_AARCH64","subArchitectures":null}]"#;
        let resolve = |extra: &str, machine| {
            let profile = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW",{extra}}}"#);
            resolve(&profile, &[], machine, KernelVersion { major: 6, minor: 1 }).map(|s| s.architectures)
        };
        assert_eq!(resolve(map, Machine::X86_64).unwrap(), ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]);
        assert_eq!(resolve(map, Machine::Aarch64).unwrap(), ["SCMP_ARCH_AARCH64"]);
        let listed = r#""architectures":["SCMP_ARCH_X32"]"#;
        assert_eq!(resolve(listed, Machine::X86_64).unwrap(), ["SCMP_ARCH_X32"]);
        assert!(resolve(&format!("{map},{listed}"), Machine::X86_64).is_err());
    }

    #[test]
    fn rules_of_the_oldest_profiles_are_understood_and_nonsense_is_refused() {
        let resolve = |text: &str| resolve(text, &[], Machine::X86_64, KernelVersion { major: 6, minor: 1 });
        let old = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"name":"read","action":"SCMP_ACT_ALLOW","args":null}]}"#;
        assert_eq!(resolve(old).unwrap().syscalls[0].names, ["read"]);
        for text in [
            "",
            "[]",
            "{}",
            r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/agent"}"#,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_ALLOW"}]}"#,
        ] {
            assert!(resolve(text).is_err(), "{text}");
        }
        let long = format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","comment":"{}"}}"#, " ".repeat(2 << 20));
        assert!(resolve(&long).unwrap_err().to_string().contains("too large"));
        assert!(KernelVersion::running().unwrap() >= KernelVersion { major: 5, minor: 0 });
    }
}
