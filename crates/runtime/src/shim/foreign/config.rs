//! The engine's configuration as another runtime reads it: whatever the shim holds by descriptor has a path there. Pure.

use crate::sandbox::Joins;
use coracle_spec::runtime::{Mount, Namespace, NamespaceKind, RootFs, Spec};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where the container sees its reaper: on a file system of its own in memory, so that its root keeps nothing of it.
const INIT: &str = "/dev/init";
/// The same where `/dev` is somebody else's: an empty file stays in the container's own layer.
const INIT_IN_ROOT: &str = "/.coracle-init";

/// The version of the specification that has all that is used here; crun before 1.9 refuses configurations of 1.1.
const VERSION: &str = "1.0.2";

/// Where the runtime finds what the configuration leaves open.
pub(super) struct Places {
    pub(super) root: PathBuf,
    /// For each mount of the configuration the tree that it shows, if it shows one.
    pub(super) mounts: Vec<Option<PathBuf>>,
    /// Namespaces to join.
    pub(super) joins: Vec<(NamespaceKind, PathBuf)>,
    /// The reaper, if the container has one.
    pub(super) init: Option<PathBuf>,
}

/// Paths of the namespaces, as this process holds them.
pub(super) fn places_of(joins: &Joins) -> Vec<(NamespaceKind, PathBuf)> {
    let own = rustix::process::getpid().as_raw_nonzero();
    let place = |fd: &OwnedFd| PathBuf::from(format!("/proc/{own}/fd/{}", fd.as_raw_fd()));
    [
        (NamespaceKind::Network, &joins.network),
        (NamespaceKind::Pid, &joins.pid),
        (NamespaceKind::Ipc, &joins.ipc),
        (NamespaceKind::Uts, &joins.uts),
    ]
    .into_iter()
    .filter_map(|(kind, fd)| Some((kind, place(fd.as_ref()?))))
    .collect()
}

/// The configuration with everything at its place.
pub(super) fn adapt(spec: &Spec, places: &Places) -> Spec {
    let mut spec = Spec { oci_version: VERSION.to_owned(), ..spec.clone() };
    let readonly = spec.root.take().is_some_and(|root| root.readonly);
    spec.root = Some(RootFs { path: text(&places.root), readonly });
    for (mount, tree) in spec.mounts.iter_mut().zip(&places.mounts) {
        if let Some(tree) = tree {
            mount.source = text(tree);
        }
    }
    let linux = spec.linux.get_or_insert_default();
    linux.rootfs_propagation = propagation(&spec.mounts).to_owned();
    join(&mut linux.namespaces, &places.joins);
    let own_names = |space: &Namespace| space.kind == NamespaceKind::Uts && space.path.is_empty();
    if !linux.namespaces.iter().any(own_names) {
        // Whose namespace it is has named it.
        spec.hostname.clear();
        spec.domainname.clear();
    }
    if !spec.domainname.is_empty() {
        // The specification has it since 1.1 only, and runtimes that are older ignore it.
        linux.sysctl.insert("kernel.domainname".to_owned(), std::mem::take(&mut spec.domainname));
    }
    if let Some(init) = &places.init {
        put_before(&mut spec, init);
    }
    spec
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn join(namespaces: &mut [Namespace], joins: &[(NamespaceKind, PathBuf)]) {
    for namespace in namespaces.iter_mut().filter(|namespace| !namespace.path.is_empty()) {
        let found = joins.iter().find(|(kind, _)| *kind == namespace.kind);
        if let Some((_, place)) = found {
            namespace.path = text(place);
        }
    }
}

/// How the root must be for what its mounts ask for: mounts get nothing from the host, or give it nothing, unless the
/// root does.
fn propagation(mounts: &[Mount]) -> &'static str {
    let any = |names: [&str; 2]| {
        mounts.iter().flat_map(|mount| &mount.options).any(|o| names.contains(&o.as_str()))
    };
    if any(["shared", "rshared"]) {
        "shared"
    } else if any(["slave", "rslave"]) {
        "rslave"
    } else {
        ""
    }
}

/// Makes the reaper at `init` the first process, and the program its child.
fn put_before(spec: &mut Spec, init: &Path) {
    let is_in_memory = |mount: &Mount| mount.destination == "/dev" && mount.kind == "tmpfs";
    let place = if spec.mounts.iter().any(is_in_memory) { INIT } else { INIT_IN_ROOT };
    spec.mounts.push(Mount {
        destination: place.to_owned(),
        kind: "bind".to_owned(),
        source: text(init),
        options: ["bind", "ro"].map(str::to_owned).to_vec(),
    });
    let process = spec.process.get_or_insert_default();
    process.args.splice(..0, [place, "init", "--"].map(str::to_owned));
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_spec::runtime::{Linux, Process};

    fn namespace(kind: NamespaceKind, path: &str) -> Namespace {
        Namespace { kind, path: path.into() }
    }

    fn mount(source: &str, options: &[&str]) -> Mount {
        Mount {
            source: source.into(),
            options: options.iter().map(ToString::to_string).collect(),
            ..Mount::default()
        }
    }

    fn adapted(namespaces: Vec<Namespace>, mounts: Vec<Mount>, init: Option<&str>) -> Spec {
        let spec = Spec {
            hostname: "host".into(),
            domainname: "domain".into(),
            process: Some(Process { args: vec!["sh".into()], ..Process::default() }),
            root: Some(RootFs { path: String::new(), readonly: true }),
            linux: Some(Linux { namespaces, ..Linux::default() }),
            mounts,
            ..Spec::default()
        };
        let places = Places {
            root: "/b/rootfs".into(),
            mounts: vec![None, Some("/b/mount-1".into())],
            joins: vec![
                (NamespaceKind::Network, "/proc/1/fd/5".into()),
                (NamespaceKind::Uts, "/proc/1/fd/6".into()),
            ],
            init: init.map(PathBuf::from),
        };
        adapt(&spec, &places)
    }

    #[test]
    fn root_mounts_and_namespaces_have_paths() {
        let namespaces =
            vec![namespace(NamespaceKind::Network, "descriptor"), namespace(NamespaceKind::Uts, "")];
        let spec =
            adapted(namespaces, vec![mount("proc", &[]), mount("/host", &["rbind", "rprivate"])], None);
        assert_eq!(spec.root, Some(RootFs { path: "/b/rootfs".into(), readonly: true }));
        assert_eq!((spec.mounts[0].source.as_str(), spec.mounts[1].source.as_str()), ("proc", "/b/mount-1"));
        let linux = spec.linux.unwrap();
        assert_eq!(linux.namespaces[0].path, "/proc/1/fd/5");
        assert_eq!((linux.namespaces[1].path.as_str(), spec.hostname.as_str()), ("", "host"));
        assert_eq!((linux.sysctl["kernel.domainname"].as_str(), spec.domainname.as_str()), ("domain", ""));
        assert_eq!(linux.rootfs_propagation, "");
    }

    #[test]
    fn who_joins_names_keeps_them() {
        let spec = adapted(vec![namespace(NamespaceKind::Uts, "descriptor")], Vec::new(), None);
        assert!(spec.hostname.is_empty() && spec.linux.unwrap().sysctl.is_empty());
    }

    #[test]
    fn the_root_passes_on_what_a_mount_asks_for() {
        for (options, expected) in [(&["rbind", "rshared"][..], "shared"), (&["bind", "slave"], "rslave")] {
            let spec = adapted(Vec::new(), vec![mount("proc", &[]), mount("/host", options)], None);
            assert_eq!(spec.linux.unwrap().rootfs_propagation, expected);
        }
    }

    #[test]
    fn a_reaper_comes_before_the_program_and_lies_on_nothing_of_the_host() {
        let dev = |kind: &str| Mount { destination: "/dev".into(), kind: kind.into(), ..mount("dev", &[]) };
        for (mounts, place) in [
            (vec![dev("tmpfs")], "/dev/init"),
            (vec![dev("bind")], "/.coracle-init"),
            (vec![mount("proc", &[])], "/.coracle-init"),
        ] {
            let spec = adapted(Vec::new(), mounts, Some("/b/init"));
            assert_eq!(spec.process.unwrap().args, [place, "init", "--", "sh"]);
            let last = spec.mounts.last().unwrap();
            assert_eq!((last.destination.as_str(), last.source.as_str()), (place, "/b/init"));
        }
    }
}
