//! What a sandbox will be, decided before anything is made: the configuration checked, bind sources opened, the
//! filter compiled.
//!
//! Everything that can be refused is refused here, in the parent, where an error can still be told in full.

use super::capability::Sets;
use super::options::Options;
use crate::error::{Error, Result};
use crate::seccomp::{self, Filter};
use coracle_spec::runtime::{Linux, Mount, Namespace, NamespaceKind, Process, Seccomp, Spec};
use coracle_sys::mount::{self, Depth, Propagation};
use coracle_sys::process::Namespaces;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// One mount, ready to be made.
#[derive(Debug)]
pub(super) struct PlannedMount {
    pub(super) destination: PathBuf,
    pub(super) kind: MountKind,
    pub(super) options: Options,
}

/// Where the content of a mount comes from.
#[derive(Debug)]
pub(super) enum MountKind {
    /// A copy of a tree of the host, made in the host's mount namespace so that it keeps its propagation.
    Tree { copy: OwnedFd },
    /// The container's own view of its cgroup.
    Cgroup,
    /// A new file system.
    New { kind: String, source: String },
}

/// The whole plan.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) program: Program,
    pub(super) linux: Linux,
    pub(super) namespaces: Namespaces,
    pub(super) hostname: String,
    pub(super) domainname: String,
    pub(super) readonly_root: bool,
    pub(super) mounts: Vec<PlannedMount>,
    pub(super) propagation: Propagation,
}

/// What runs, and with which rights: the same for a container's first process and for one that joins later.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) process: Process,
    pub(super) arguments: Vec<CString>,
    pub(super) environment: Vec<CString>,
    pub(super) capabilities: Sets,
    pub(super) filter: Option<Filter>,
}

impl Program {
    pub(super) fn new(process: &Process, filter: Option<&Seccomp>) -> Result<Self> {
        if process.args.is_empty() {
            return Err(invalid("no command specified"));
        }
        if !process.cwd.starts_with('/') {
            let text = format!("the working directory {:?} is not an absolute path", process.cwd);
            return Err(Error::Invalid(text));
        }
        Ok(Self {
            arguments: c_strings(&process.args)?,
            environment: c_strings(&process.env)?,
            capabilities: Sets::parse(process.capabilities.as_ref())?,
            filter: filter.map(seccomp::compile).transpose()?,
            process: process.clone(),
        })
    }
}

impl Plan {
    pub(super) fn new(spec: &Spec) -> Result<Self> {
        let process = spec.process.as_ref().ok_or_else(|| invalid("the configuration names no process"))?;
        let linux = spec.linux.clone().unwrap_or_default();
        check_kernel_parameters(&linux)?;
        Ok(Self {
            program: Program::new(process, linux.seccomp.as_ref())?,
            namespaces: namespaces(&linux.namespaces)?,
            hostname: spec.hostname.clone(),
            domainname: spec.domainname.clone(),
            readonly_root: spec.root.as_ref().is_some_and(|root| root.readonly),
            mounts: spec.mounts.iter().map(planned_mount).collect::<Result<_>>()?,
            propagation: root_propagation(&linux.rootfs_propagation)?,
            linux,
        })
    }

    /// Whether the namespace `kind` is the container's own.
    pub(super) fn owns(&self, kind: Namespaces) -> bool {
        self.namespaces.contains(kind)
    }
}

fn invalid(text: &str) -> Error {
    Error::Invalid(text.to_owned())
}

fn c_strings(strings: &[String]) -> Result<Vec<CString>> {
    strings
        .iter()
        .map(|text| {
            CString::new(text.as_str()).map_err(|_| Error::Invalid(format!("{text:?} contains a zero byte")))
        })
        .collect()
}

/// The namespaces to make. Those to join come as descriptors and have a path in the configuration.
fn namespaces(wanted: &[Namespace]) -> Result<Namespaces> {
    let mut flags = Namespaces::empty();
    for namespace in wanted.iter().filter(|namespace| namespace.path.is_empty()) {
        flags |= match namespace.kind {
            NamespaceKind::Pid => Namespaces::NEWPID,
            NamespaceKind::Network => Namespaces::NEWNET,
            NamespaceKind::Mount => Namespaces::NEWNS,
            NamespaceKind::Ipc => Namespaces::NEWIPC,
            NamespaceKind::Uts => Namespaces::NEWUTS,
            NamespaceKind::Cgroup => Namespaces::NEWCGROUP,
            NamespaceKind::User => return Err(invalid("user namespaces are not supported yet")),
            NamespaceKind::Time => return Err(invalid("time namespaces are not supported yet")),
        };
    }
    if flags.contains(Namespaces::NEWNS) {
        Ok(flags)
    } else {
        Err(invalid("a container needs a mount namespace of its own"))
    }
}

/// Only parameters of namespaces that are not the host's may be set; their names hold nothing but names
/// (CVE-2022-0811).
fn check_kernel_parameters(linux: &Linux) -> Result<()> {
    let separate = |kind| linux.namespaces.iter().any(|namespace| namespace.kind == kind);
    for (name, value) in &linux.sysctl {
        let plain = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'/'))
        };
        if !name.split('.').all(plain) || name.contains("..") || value.contains(['\0', '\n']) {
            return Err(Error::Invalid(format!("sysctl {name:?} is malformed")));
        }
        let ipc = [
            "kernel.msgmax",
            "kernel.msgmnb",
            "kernel.msgmni",
            "kernel.sem",
            "kernel.shmall",
            "kernel.shmmax",
            "kernel.shmmni",
            "kernel.shm_rmid_forced",
        ];
        let needed = if name.starts_with("net.") {
            NamespaceKind::Network
        } else if name.starts_with("fs.mqueue.") || ipc.contains(&name.as_str()) {
            NamespaceKind::Ipc
        } else {
            return Err(Error::Invalid(format!("sysctl {name:?} is not in a separate kernel namespace")));
        };
        if !separate(needed) {
            return Err(Error::Invalid(format!(
                "sysctl {name:?} is not allowed in the host's {needed:?} namespace"
            )));
        }
    }
    Ok(())
}

fn planned_mount(mount: &Mount) -> Result<PlannedMount> {
    let options = Options::parse(&mount.options)?;
    let destination = PathBuf::from(&mount.destination);
    if !destination.is_absolute() {
        return Err(Error::Invalid(format!(
            "mount destination {:?} is not an absolute path",
            mount.destination
        )));
    }
    let kind = match (options.bind, mount.kind.as_str()) {
        (Some(depth), _) => tree(Path::new(&mount.source), depth)?,
        (None, "bind") => tree(Path::new(&mount.source), Depth::One)?,
        (None, "cgroup" | "cgroup2") => MountKind::Cgroup,
        (None, kind) => MountKind::New { kind: kind.to_owned(), source: mount.source.clone() },
    };
    let planned = PlannedMount { destination, kind, options };
    planned.check_destination()?;
    Ok(planned)
}

/// What lxcfs puts over files of procfs.
const HARMLESS: [&str; 9] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
];

impl PlannedMount {
    /// Whether the mount may lie on procfs: lxcfs's may, and procfs itself. Whoever shadows `/proc/self/attr` decides
    /// what the runtime believes (CVE-2019-16884). The text decides nothing else, as links may lead to `/proc`; where
    /// a mount comes to lie is checked once it is known.
    pub(super) fn may_cover_procfs(&self) -> bool {
        matches!(&self.kind, MountKind::New { kind, .. } if kind == "proc")
            || HARMLESS.iter().any(|path| self.destination.components().eq(Path::new(path).components()))
    }

    /// Refuses what is going to lie on `/proc` as its destination says.
    fn check_destination(&self) -> Result<()> {
        let mut parts = self.destination.components();
        let climbs = parts.any(|part| part == std::path::Component::ParentDir);
        if (climbs || self.destination.starts_with("/proc")) && !self.may_cover_procfs() {
            return Err(Error::Invalid(format!(
                "{} cannot be mounted on: it is inside /proc",
                self.destination.display()
            )));
        }
        Ok(())
    }
}

fn tree(source: &Path, depth: Depth) -> Result<MountKind> {
    Ok(MountKind::Tree { copy: mount::copy_path(source, depth)? })
}

fn root_propagation(text: &str) -> Result<Propagation> {
    Ok(match text.trim_start_matches('r') {
        "" | "slave" => Propagation::Slave,
        "private" => Propagation::Private,
        "shared" => Propagation::Shared,
        "unbindable" => Propagation::Unbindable,
        _ => return Err(Error::Invalid(format!("unknown propagation {text:?} of the root"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_mounted_on_proc_but_procfs_and_what_is_harmless() {
        for (destination, kind, allowed) in [
            ("/proc", "proc", true),
            ("/proc", "tmpfs", false),
            ("//proc/", "tmpfs", false),
            ("/proc/uptime", "tmpfs", true),
            ("/proc/self", "tmpfs", false),
            ("/proc/self/attr", "tmpfs", false),
            ("/proc/../proc/self", "tmpfs", false),
            ("/a/../proc/self", "tmpfs", false),
            ("//proc//self", "tmpfs", false),
            ("/proc2", "tmpfs", true),
            ("/data", "tmpfs", true),
        ] {
            let mount = Mount { destination: destination.into(), kind: kind.into(), ..Mount::default() };
            assert_eq!(planned_mount(&mount).is_ok(), allowed, "{kind} on {destination}");
        }
    }

    #[test]
    fn a_configuration_without_process_command_or_mount_namespace_is_refused() {
        let process = |args: &[&str], cwd: &str| Process {
            args: args.iter().map(ToString::to_string).collect(),
            cwd: cwd.into(),
            ..Process::default()
        };
        let spec = |process: Option<Process>| Spec { process, ..Spec::default() };
        for (spec, expected) in [
            (spec(None), "names no process"),
            (spec(Some(process(&[], "/"))), "no command"),
            (spec(Some(process(&["sh"], "tmp"))), "not an absolute path"),
            (spec(Some(process(&["a\0b"], "/"))), "zero byte"),
            (spec(Some(process(&["sh"], "/"))), "mount namespace"),
        ] {
            let error = Plan::new(&spec).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
