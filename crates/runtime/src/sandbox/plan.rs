//! What a sandbox will be, decided before anything is made: the configuration checked, bind sources opened, the
//! filter compiled.
//!
//! Everything that can be refused is refused here, in the parent, where an error can still be told in full.

use super::capability::Sets;
use super::ground::{Covered, Ground};
use super::options::Options;
use crate::error::{Error, Result};
use crate::seccomp::{self, Filter};
use coracle_spec::Owners;
use coracle_spec::runtime::{Linux, Mount, Namespace, NamespaceKind, Process};
use coracle_sys::mount::{self, Depth, Propagation};
use coracle_sys::process::Namespaces;
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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

/// How the ground is laid.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) linux: Linux,
    pub(super) namespaces: Namespaces,
    pub(super) hostname: String,
    pub(super) domainname: String,
    pub(super) bounding: Sets,
    pub(super) terminal: bool,
    pub(super) oom_score_adj: Option<i32>,
    pub(super) mounts: Vec<PlannedMount>,
    pub(super) early: Covered,
    pub(super) late: Covered,
    pub(super) propagation: Propagation,
    pub(super) filter: Option<Filter>,
    /// Who the container's users are outside of its user namespace, if it has one.
    pub(super) owners: Option<Owners>,
    /// The directory of devices, where it had to be made before the user namespace was entered.
    pub(super) devices: Option<OwnedFd>,
}

/// What runs, and with which rights: the same for a container's first process and for one that joins later.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) process: Process,
    pub(super) arguments: Vec<CString>,
    pub(super) environment: Vec<CString>,
    pub(super) capabilities: Sets,
}

impl Program {
    pub(super) fn new(process: &Process) -> Result<Self> {
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
            process: process.clone(),
        })
    }
}

impl Plan {
    pub(super) fn new(ground: &Ground) -> Result<Self> {
        let linux = ground.linux.clone();
        check_kernel_parameters(&linux)?;
        Ok(Self {
            namespaces: namespaces(&linux.namespaces)?,
            hostname: ground.hostname.clone(),
            domainname: ground.domainname.clone(),
            bounding: Sets::bounding(&ground.bounding)?,
            terminal: ground.terminal,
            oom_score_adj: ground.oom_score_adj,
            mounts: ground.mounts.iter().map(PlannedMount::open).collect::<Result<_>>()?,
            early: ground.early.clone(),
            late: ground.late.clone(),
            propagation: root_propagation(&linux.rootfs_propagation)?,
            filter: linux.seccomp.as_ref().map(seccomp::compile).transpose()?,
            owners: linux.owners(),
            devices: None,
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
            NamespaceKind::User => {
                return Err(invalid(
                    "a user namespace has to come with the plan: it is never made on the way",
                ));
            }
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
    /// Checks a mount, and opens the tree that it shows.
    pub(super) fn open(mount: &Mount) -> Result<Self> {
        let options = Options::parse(&mount.options)?;
        let copy = shown(mount, &options).map(|depth| mount::copy_path(Path::new(&mount.source), depth));
        Self::new(mount, options, copy.transpose()?)
    }

    /// The same of a mount that was checked, with the tree that was opened if it shows one.
    pub(super) fn with(mount: &Mount, tree: impl FnOnce() -> Result<OwnedFd>) -> Result<Self> {
        let options = Options::parse(&mount.options)?;
        let copy = shown(mount, &options).map(|_| tree());
        Self::new(mount, options, copy.transpose()?)
    }

    /// Maps the owners of the tree that it shows through a user namespace, where its options say so.
    ///
    /// # Errors
    /// [`Error::Invalid`] without a namespace, OCI runtime-spec `config.md`; `EINVAL` for a file system that cannot.
    pub(super) fn map_owners(&self, user: Option<BorrowedFd<'_>>) -> Result<()> {
        let (Some(depth), Some(tree)) = (self.options.map, self.tree()) else { return Ok(()) };
        let place = self.destination.display();
        let user = user.ok_or_else(|| {
            Error::Invalid(format!("{place} shows mapped owners, and the container has no user namespace"))
        })?;
        mount::map_owners(tree, user, depth).map_err(|error| match error.errno() {
            Some(Errno::INVAL) => Error::Invalid(format!(
                "what is mounted on {place} is on a file system that shows nobody's files as others': run the container \
                 with --userns=host, or keep it elsewhere"
            )),
            _ => error.into(),
        })
    }

    /// The tree that it shows.
    pub(super) fn tree(&self) -> Option<BorrowedFd<'_>> {
        match &self.kind {
            MountKind::Tree { copy } => Some(copy.as_fd()),
            _ => None,
        }
    }

    /// The same, to be kept.
    pub(super) fn into_tree(self) -> Option<OwnedFd> {
        match self.kind {
            MountKind::Tree { copy } => Some(copy),
            _ => None,
        }
    }

    fn new(mount: &Mount, options: Options, copy: Option<OwnedFd>) -> Result<Self> {
        let destination = PathBuf::from(&mount.destination);
        if !destination.is_absolute() {
            return Err(Error::Invalid(format!(
                "mount destination {:?} is not an absolute path",
                mount.destination
            )));
        }
        let kind = match (copy, mount.kind.as_str()) {
            (Some(copy), _) => MountKind::Tree { copy },
            (None, "cgroup" | "cgroup2") => MountKind::Cgroup,
            (None, kind) => MountKind::New { kind: kind.to_owned(), source: mount.source.clone() },
        };
        let planned = Self { destination, kind, options };
        planned.check_destination()?;
        Ok(planned)
    }

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

/// How much of a tree of the host a mount shows, if it does.
fn shown(mount: &Mount, options: &Options) -> Option<Depth> {
    options.bind.or_else(|| (mount.kind == "bind").then_some(Depth::One))
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
    use coracle_spec::runtime::Spec;

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
            assert_eq!(PlannedMount::open(&mount).is_ok(), allowed, "{kind} on {destination}");
        }
    }

    #[test]
    fn a_process_without_a_command_and_a_container_without_a_mount_namespace_are_refused() {
        let process = |args: &[&str], cwd: &str| Process {
            args: args.iter().map(ToString::to_string).collect(),
            cwd: cwd.into(),
            ..Process::default()
        };
        for (process, expected) in [
            (process(&[], "/"), "no command"),
            (process(&["sh"], "tmp"), "not an absolute path"),
            (process(&["a\0b"], "/"), "zero byte"),
        ] {
            let error = Program::new(&process).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let ground = Ground::of(&Spec::default());
        let error = Plan::new(&ground).unwrap_err().to_string();
        assert!(error.contains("mount namespace"), "{error}");
    }
}
