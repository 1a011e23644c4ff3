//! What of a sandbox can be made before its container is started: everything that the kernel makes and nobody's files
//! are needed for.

use coracle_spec::runtime::{Linux, Mount, Spec};
use std::path::{Component, Path};

/// The part of a configuration that [`super::prepare`] carries out. What was prepared fits a container if, and only if,
/// this part of the container's configuration is equal.
#[derive(Clone, Debug, PartialEq)]
pub struct Ground {
    pub(super) linux: Linux,
    pub(super) hostname: String,
    pub(super) domainname: String,
    pub(super) bounding: Vec<String>,
    pub(super) terminal: bool,
    pub(super) oom_score_adj: Option<i32>,
    /// File systems that the kernel makes, on `/proc`, `/dev`, `/sys` and below these.
    pub(super) mounts: Vec<Mount>,
    /// Paths that are hidden or protected once everything is mounted, as something of the container's own may come
    /// to lie there; the others lie on the file systems above.
    pub(super) late: Covered,
    /// The others.
    pub(super) early: Covered,
}

/// Paths that a container may not see, or not change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Covered {
    pub(super) masked: Vec<String>,
    pub(super) readonly: Vec<String>,
}

impl Ground {
    /// The mounts that are left to be made for the container's start.
    pub(super) fn left_of(spec: &Spec) -> &[Mount] {
        &spec.mounts[kernels_own(&spec.mounts)..]
    }

    /// The part of `spec`.
    pub fn of(spec: &Spec) -> Self {
        let process = spec.process.as_ref();
        let mut linux = spec.linux.clone().unwrap_or_default();
        let mounts = &spec.mounts[..kernels_own(&spec.mounts)];
        let disturbed = Self::left_of(spec).iter().any(|mount| may_lie_on_kernels(&mount.destination));
        let is_late = |path: &String| disturbed || !is_on_kernels(path);
        let (late_masked, masked) = std::mem::take(&mut linux.masked_paths).into_iter().partition(is_late);
        let (late_readonly, readonly) =
            std::mem::take(&mut linux.readonly_paths).into_iter().partition(is_late);
        Self {
            linux,
            hostname: spec.hostname.clone(),
            domainname: spec.domainname.clone(),
            bounding: process
                .and_then(|p| p.capabilities.as_ref())
                .map(|c| c.bounding.clone())
                .unwrap_or_default(),
            terminal: process.is_some_and(|process| process.terminal),
            oom_score_adj: process.and_then(|process| process.oom_score_adj),
            mounts: mounts.to_vec(),
            late: Covered { masked: late_masked, readonly: late_readonly },
            early: Covered { masked, readonly },
        }
    }
}

/// How many of the first mounts are file systems of the kernel's on places of the kernel's, each on its own or on one
/// before it: nothing of the container's files is needed to make them.
fn kernels_own(mounts: &[Mount]) -> usize {
    let is_own = |index: usize| {
        let mount = &mounts[index];
        let is_bind = mount.kind == "bind" || mount.options.iter().any(|o| o == "bind" || o == "rbind");
        let top = matches!(
            (mount.kind.as_str(), mount.destination.as_str()),
            ("proc", "/proc") | ("tmpfs", "/dev") | ("sysfs", "/sys")
        );
        let below = || {
            let on = |top: &Mount| is_below(&mount.destination, &top.destination);
            matches!(mount.kind.as_str(), "tmpfs" | "devpts" | "mqueue" | "cgroup" | "cgroup2")
                && mounts[..index].iter().any(on)
        };
        !is_bind && (top || below())
    };
    (0..mounts.len()).find(|index| !is_own(*index)).unwrap_or(mounts.len())
}

/// Whether `path` is below `top`, without a step that could lead out of it.
fn is_below(path: &str, top: &str) -> bool {
    path != top
        && Path::new(path).starts_with(top)
        && Path::new(path).components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

fn is_on_kernels(path: &str) -> bool {
    ["/proc", "/sys"].iter().any(|top| is_below(path, top))
}

/// Whether what is mounted there may come to lie over a path of `/proc` or `/sys`, as far as names tell. Where links of
/// the image lead is not for a mount that was asked for to be hidden.
fn may_lie_on_kernels(destination: &str) -> bool {
    let path = Path::new(destination);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    climbs || destination == "/" || path.starts_with("/proc") || path.starts_with("/sys")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, destination: &str, options: &[&str]) -> Mount {
        Mount {
            kind: kind.into(),
            destination: destination.into(),
            options: options.iter().map(ToString::to_string).collect(),
            ..Mount::default()
        }
    }

    fn own() -> Vec<Mount> {
        vec![
            mount("proc", "/proc", &[]),
            mount("tmpfs", "/dev", &[]),
            mount("devpts", "/dev/pts", &[]),
            mount("sysfs", "/sys", &["ro"]),
            mount("cgroup", "/sys/fs/cgroup", &["ro"]),
        ]
    }

    #[test]
    fn file_systems_of_the_kernel_are_the_ground_up_to_the_first_of_the_containers_own() {
        for (own_mount, expected) in [
            (mount("bind", "/etc/hosts", &["bind"]), 5),
            (mount("tmpfs", "/run", &[]), 5),
            (mount("tmpfs", "/dev/shm", &[]), 6),
            (mount("tmpfs", "/dev/shm", &["rbind"]), 5),
            (mount("tmpfs", "/dev/../etc", &[]), 5),
            (mount("ext4", "/dev/disk", &[]), 5),
            (mount("sysfs", "/other", &[]), 5),
        ] {
            let mut mounts = own();
            mounts.push(own_mount.clone());
            assert_eq!(kernels_own(&mounts), expected, "{own_mount:?}");
        }
        let without_sys: Vec<_> = own().into_iter().filter(|mount| mount.destination != "/sys").collect();
        assert_eq!(kernels_own(&without_sys), 3, "a view of cgroups that lies on no sysfs");
    }

    #[test]
    fn paths_are_hidden_late_where_something_of_the_containers_own_may_lie() {
        let linux = Linux {
            masked_paths: vec!["/proc/kcore".into(), "/etc/secret".into()],
            readonly_paths: vec!["/proc/sys".into()],
            ..Linux::default()
        };
        for (destination, early) in [
            ("/data", 1),
            ("/sys/firmware", 0),
            ("/proc/uptime", 0),
            ("/a/../sys", 0),
            ("/", 0),
            ("/system", 1),
        ] {
            let mut spec = Spec { linux: Some(linux.clone()), mounts: own(), ..Spec::default() };
            spec.mounts.push(mount("bind", destination, &["bind"]));
            let ground = Ground::of(&spec);
            assert_eq!(Ground::left_of(&spec).len(), 1);
            assert_eq!(
                (ground.early.masked.len(), ground.early.readonly.len()),
                (early, early),
                "{destination}"
            );
            assert!(ground.late.masked.contains(&"/etc/secret".to_owned()));
            assert_eq!(ground.late.masked.len() + early, 2);
        }
    }

    #[test]
    fn what_runs_is_no_part_of_the_ground_and_what_it_may_do_is() {
        let spec = |args: &str, capability: &str| {
            let process = coracle_spec::runtime::Process {
                args: vec![args.into()],
                capabilities: Some(coracle_spec::runtime::Capabilities {
                    bounding: vec![capability.into()],
                    ..Default::default()
                }),
                ..Default::default()
            };
            Spec { process: Some(process), mounts: own(), ..Spec::default() }
        };
        let ground = |args, capability| Ground::of(&spec(args, capability));
        assert_eq!(ground("a", "CAP_CHOWN"), ground("b", "CAP_CHOWN"));
        assert_ne!(ground("a", "CAP_CHOWN"), ground("a", "CAP_KILL"));
    }
}
