//! A container's OCI configuration, made of what was asked for. Pure: what has to be looked up on the host comes in as
//! [`Host`].

use super::confinement::{self, MASKED_PATHS, READONLY_PATHS, SecurityOptions};
use super::limits;
use super::modes::{CgroupMode, IpcMode, NetworkMode, PidMode, UtsMode};
use super::settings::{DEFAULT_SHM_SIZE, Settings, Ulimit};
use crate::error::{Error, Result};
use coracle_runtime::protocol::SHARED_MEMORY;
use coracle_spec::runtime::{
    Capabilities, Device, DeviceRule, Linux, Mount, Namespace, NamespaceKind, Process, Rlimit, RootFs,
    Seccomp, Spec, User, VERSION,
};
use coracle_spec::{ContainerId, Owners};

/// What the host contributes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    /// The host's own name, for containers in its uts namespace.
    pub(crate) hostname: String,
    /// The cgroup of all containers of this engine.
    pub(crate) cgroup_parent: String,
    /// Devices that the container gets besides the default ones, with the rules that open them.
    pub(crate) devices: Vec<(Device, Option<DeviceRule>)>,
    /// Variables that tell of linked containers, and count less than the container's.
    pub(crate) links: Vec<String>,
    /// Variables that come with devices, and count more than the container's.
    pub(crate) env: Vec<String>,
    /// Groups that come with devices, besides those that the client names.
    pub(crate) groups: Vec<u32>,
    /// Mounts that the client asked for, and the container's own `/etc/hosts` and the like.
    pub(crate) mounts: Vec<Mount>,
    /// Block devices by the paths that limits name, as major and minor numbers.
    pub(crate) block_devices: std::collections::BTreeMap<String, (i64, i64)>,
    /// Whether the host has message queues mounted, which containers in its ipc namespace then share.
    pub(crate) has_mqueue: bool,
    /// The capabilities that the engine can hand on.
    pub(crate) available: confinement::Available,
    /// The system call filter.
    pub(crate) seccomp: Option<Seccomp>,
    /// Whether programs get no privileges by being executed unless the client says otherwise.
    pub(crate) no_new_privileges: bool,
    /// Whether a reaper is the first process unless the client says otherwise.
    pub(crate) init: bool,
    /// Who the container's users are outside, if it has a user namespace.
    pub(crate) owners: Option<Owners>,
}

/// Builds the configuration of the container `id`.
///
/// # Errors
/// [`Error::Invalid`] for what cannot be, with Docker's words where clients know them.
pub(crate) fn build(id: &ContainerId, settings: &Settings, host: &Host) -> Result<Spec> {
    let options = SecurityOptions::parse(&settings.host.security_opt)?;
    let unmasked = settings.host.privileged || options.unmask;
    let paths = |own: &Option<Vec<String>>, default: &[&str]| match own {
        Some(paths) => paths.clone(),
        None if unmasked => Vec::new(),
        None => default.iter().map(ToString::to_string).collect(),
    };
    let mut resources = limits::resources(&settings.host.resources, &host.block_devices)?;
    resources.devices = confinement::device_rules(&settings.host)?;
    resources.devices.extend(host.devices.iter().filter_map(|(_, rule)| rule.clone()));
    let owners = host.owners.clone().unwrap_or_default();
    let linux = Linux {
        namespaces: namespaces(settings, host.owners.is_some()),
        uid_mappings: owners.uids,
        gid_mappings: owners.gids,
        devices: host.devices.iter().map(|(device, _)| device.clone()).collect(),
        cgroups_path: cgroup(id, settings, &host.cgroup_parent)?,
        resources: Some(resources),
        seccomp: host.seccomp.clone().filter(|_| !settings.host.privileged),
        sysctl: sysctls(settings, host.owners.as_ref())?,
        masked_paths: paths(&settings.host.masked_paths, &MASKED_PATHS),
        readonly_paths: paths(&settings.host.readonly_paths, &READONLY_PATHS),
        ..Linux::default()
    };
    Ok(Spec {
        oci_version: VERSION.to_owned(),
        process: Some(process(
            id,
            settings,
            host,
            options.no_new_privileges.unwrap_or(host.no_new_privileges),
        )?),
        root: Some(RootFs { path: String::new(), readonly: settings.host.readonly_root }),
        hostname: hostname(id, settings, host),
        domainname: settings.domainname.clone(),
        mounts: mounts(settings, host),
        linux: Some(linux),
        annotations: settings.host.annotations.clone(),
    })
}

/// The container's host name.
pub(crate) fn hostname(id: &ContainerId, settings: &Settings, host: &Host) -> String {
    if !settings.hostname.is_empty() {
        return settings.hostname.clone();
    }
    let shared = settings.host.uts == UtsMode::Host || settings.host.network == NetworkMode::Host;
    if shared { host.hostname.clone() } else { id.short().to_owned() }
}

/// What every process of a container has in its environment unless somebody says otherwise.
pub(super) fn base_environment(id: &ContainerId, settings: &Settings, terminal: bool) -> Vec<String> {
    let mut base = vec![
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        format!("HOSTNAME={}", if settings.hostname.is_empty() { id.short() } else { &settings.hostname }),
    ];
    if terminal {
        base.push("TERM=xterm".to_owned());
    }
    base
}

fn process(id: &ContainerId, settings: &Settings, host: &Host, no_new_privileges: bool) -> Result<Process> {
    let mut args = settings.entrypoint.clone().unwrap_or_default();
    args.extend(settings.cmd.clone().unwrap_or_default());
    if args.is_empty() {
        return Err(Error::Invalid("no command specified".to_owned()));
    }
    let base = base_environment(id, settings, settings.tty);
    let allowed = confinement::capabilities(&settings.host, &host.available)?;
    let own = [&host.links, &settings.env, &host.env, &settings.secret_env.0];
    Ok(Process {
        terminal: settings.tty,
        console_size: settings.console_size,
        args,
        env: own.into_iter().fold(base, |base, own| super::merge::merge_env(&base, own)),
        cwd: if settings.working_dir.is_empty() { "/".to_owned() } else { settings.working_dir.clone() },
        user: User { additional_gids: host.groups.clone(), ..User::default() },
        capabilities: Some(Capabilities {
            bounding: allowed.clone(),
            effective: allowed.clone(),
            permitted: allowed,
            ..Capabilities::default()
        }),
        rlimits: rlimits(settings)?,
        no_new_privileges,
        oom_score_adj: Some(settings.host.oom_score_adj),
    })
}

/// The resource limits of the container's processes.
pub(crate) fn rlimits(settings: &Settings) -> Result<Vec<Rlimit>> {
    let mut limits = settings.host.ulimits.iter().map(rlimit).collect::<Result<Vec<_>>>()?;
    crate::descriptors::complete(&mut limits);
    Ok(limits)
}

fn rlimit(ulimit: &Ulimit) -> Result<Rlimit> {
    const KNOWN: [&str; 15] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    if !KNOWN.contains(&ulimit.name.as_str()) {
        return Err(Error::Invalid(format!("invalid ulimit type: {}", ulimit.name)));
    }
    let value = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
    let (soft, hard) = (value(ulimit.soft), value(ulimit.hard));
    if soft > hard {
        return Err(Error::Invalid(format!(
            "ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
        )));
    }
    Ok(Rlimit { kind: format!("RLIMIT_{}", ulimit.name.to_ascii_uppercase()), soft, hard })
}

fn namespaces(settings: &Settings, is_remapped: bool) -> Vec<Namespace> {
    let own = |kind| Namespace { kind, path: String::new() };
    // The descriptor of a namespace that is joined travels beside the configuration.
    let joined = |kind| Namespace { kind, path: "descriptor".to_owned() };
    let mut namespaces = vec![own(NamespaceKind::Mount)];
    // All others belong to it, so it is there first.
    namespaces.extend(is_remapped.then(|| joined(NamespaceKind::User)));
    let host = &settings.host;
    match &host.pid {
        PidMode::Private => namespaces.push(own(NamespaceKind::Pid)),
        PidMode::Container(_) => namespaces.push(joined(NamespaceKind::Pid)),
        PidMode::Host => {}
    }
    match &host.ipc {
        IpcMode::Private | IpcMode::Shareable | IpcMode::None => namespaces.push(own(NamespaceKind::Ipc)),
        IpcMode::Container(_) => namespaces.push(joined(NamespaceKind::Ipc)),
        IpcMode::Host => {}
    }
    if host.network != NetworkMode::Host {
        namespaces.push(joined(NamespaceKind::Network));
    }
    match (host.uts, &host.network) {
        (UtsMode::Host, _) => {}
        // Who shares another's network shares its name, unless it has one of its own.
        (UtsMode::Private, NetworkMode::Container(_)) if settings.hostname.is_empty() => {
            namespaces.push(joined(NamespaceKind::Uts));
        }
        (UtsMode::Private, _) => namespaces.push(own(NamespaceKind::Uts)),
    }
    if host.cgroupns == CgroupMode::Private {
        namespaces.push(own(NamespaceKind::Cgroup));
    }
    namespaces
}

/// The cgroup of a container, below `engine`'s unless it has asked for another.
pub(super) fn cgroup(id: &ContainerId, settings: &Settings, engine: &str) -> Result<String> {
    let own = settings.host.cgroup_parent.as_str();
    let parent = if own.is_empty() { engine } else { own };
    if parent.split('/').any(|part| part == "..") || parent.contains(['\0', '\n']) {
        return Err(Error::Invalid(format!("invalid cgroup parent {parent:?}")));
    }
    Ok(format!("/{}/{id}", parent.trim_matches('/')))
}

/// The last of the groups from 0 on that are somebody in the container: the kernel takes no other in its parameters.
fn last_group(owners: Option<&Owners>) -> u32 {
    let first =
        |owners: &Owners| owners.gids.iter().find(|map| map.container_id == 0).map_or(0, |map| map.size);
    owners.map_or(i32::MAX.cast_unsigned(), |owners| first(owners).saturating_sub(1))
}

fn sysctls(
    settings: &Settings,
    owners: Option<&Owners>,
) -> Result<std::collections::BTreeMap<String, String>> {
    let network = &settings.host.network;
    for name in settings.host.sysctls.keys() {
        if name.starts_with("net.") && *network == NetworkMode::Host {
            return Err(Error::Invalid(format!("sysctl '{name}' not allowed in host network namespace")));
        }
    }
    let mut sysctls = settings.host.sysctls.clone();
    if matches!(
        network,
        NetworkMode::Default | NetworkMode::Bridge | NetworkMode::None | NetworkMode::Named(_)
    ) {
        // Docker lets everybody bind low ports and ping in a network of the container's own.
        let groups = format!("0 {}", last_group(owners));
        for (name, value) in
            [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", &groups)]
        {
            sysctls.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
    }
    Ok(sysctls)
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.to_owned(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: options.iter().map(ToString::to_string).collect(),
    }
}

fn mounts(settings: &Settings, host: &Host) -> Vec<Mount> {
    let privileged = settings.host.privileged;
    let access = if privileged { "rw" } else { "ro" };
    // What is below /dev comes right after it: nothing else can lie there by then, so it costs no look.
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
    ];
    if settings.host.ipc == IpcMode::Host {
        if host.has_mqueue {
            mounts.push(mount("/dev/mqueue", "bind", "/dev/mqueue", &["rbind", "nosuid", "noexec", "nodev"]));
        }
        mounts.push(mount("/dev/shm", "bind", "/dev/shm", &["rbind", "nosuid", "noexec", "nodev"]));
    } else {
        // In the namespace that is joined, these are the other container's queues.
        mounts.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
        if let IpcMode::Container(_) = settings.host.ipc {
            let options = ["bind", "nosuid", "noexec", "nodev"];
            mounts.push(mount("/dev/shm", "bind", SHARED_MEMORY, &options));
        } else if settings.host.ipc != IpcMode::None {
            let size = if settings.host.shm_size > 0 { settings.host.shm_size } else { DEFAULT_SHM_SIZE };
            let size = format!("size={size}");
            mounts.push(mount(
                "/dev/shm",
                "tmpfs",
                "shm",
                &["nosuid", "noexec", "nodev", "mode=1777", &size],
            ));
        }
    }
    mounts.push(mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", access]));
    mounts.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &[access, "nosuid", "noexec", "nodev"]));
    // What the client mounts takes the place of what is there by default.
    mounts.retain(|default| !host.mounts.iter().any(|own| own.destination == default.destination));
    let mut own = host.mounts.clone();
    own.sort_by_key(|mount| mount.destination.matches('/').count());
    mounts.extend(own);
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::settings::HostSettings;

    fn built(settings: &Settings) -> Spec {
        let id: ContainerId = "ab".repeat(32).parse().unwrap();
        let host = Host { cgroup_parent: "coracle".into(), ..Host::default() };
        build(&id, settings, &host).unwrap()
    }

    fn plain() -> Settings {
        Settings { cmd: Some(vec!["sh".into()]), ..Settings::default() }
    }

    #[test]
    fn a_plain_container_has_every_namespace_and_dockers_confinement() {
        let spec = built(&plain());
        let linux = spec.linux.unwrap();
        assert_eq!(linux.namespaces.len(), 6);
        assert_eq!(linux.masked_paths, MASKED_PATHS);
        assert_eq!(linux.readonly_paths, READONLY_PATHS);
        assert_eq!(linux.cgroups_path, format!("/coracle/{}", "ab".repeat(32)));
        let process = spec.process.unwrap();
        let capabilities = process.capabilities.unwrap();
        assert_eq!(capabilities.bounding.len(), 14);
        assert!(capabilities.inheritable.is_empty() && capabilities.ambient.is_empty(), "CVE-2022-24769");
        assert_eq!(process.env[1], "HOSTNAME=abababababab");
        assert_eq!(spec.hostname, "abababababab");
    }

    #[test]
    fn labels_annotations_and_environment_of_an_image_change_nothing_else() {
        let plain_spec = built(&plain());
        let mut labelled = plain();
        labelled.labels.insert("io.podman.annotations.privileged".into(), "true".into());
        labelled.labels.insert("org.systemd.property.ExecStart".into(), "/bin/evil".into());
        assert_eq!(built(&labelled), plain_spec);
    }

    #[test]
    fn privileged_lifts_masks_filter_and_device_rules() {
        let host = HostSettings { privileged: true, ..HostSettings::default() };
        let linux = built(&Settings { host, ..plain() }).linux.unwrap();
        assert!(linux.masked_paths.is_empty() && linux.readonly_paths.is_empty() && linux.seccomp.is_none());
        assert_eq!(linux.resources.unwrap().devices.len(), 1);
    }

    #[test]
    fn a_mount_of_the_clients_replaces_the_default_one_and_deeper_ones_come_later() {
        let id = ContainerId::random();
        let mounts = vec![mount("/data/a/b", "bind", "/x", &[]), mount("/dev/shm", "bind", "/y", &[])];
        let host = Host { cgroup_parent: "c".into(), mounts, ..Host::default() };
        let spec = build(&id, &plain(), &host).unwrap();
        let shm: Vec<_> = spec.mounts.iter().filter(|m| m.destination == "/dev/shm").collect();
        assert_eq!(shm.len(), 1);
        assert_eq!(shm[0].source, "/y");
        assert_eq!(spec.mounts.last().unwrap().destination, "/data/a/b");
    }

    #[test]
    fn what_cannot_be_is_refused_with_words() {
        let id = ContainerId::random();
        let refused = |settings: Settings| build(&id, &settings, &Host::default()).unwrap_err().to_string();
        assert_eq!(refused(Settings::default()), "no command specified");
        let ulimits = vec![Ulimit { name: "nofile".into(), soft: 5, hard: 4 }];
        let host = HostSettings { ulimits, ..HostSettings::default() };
        assert!(refused(Settings { host, ..plain() }).contains("less than or equal"));
        let host = HostSettings { cgroup_parent: "a/../..".into(), ..HostSettings::default() };
        assert!(refused(Settings { host, ..plain() }).contains("cgroup parent"));
    }
}
