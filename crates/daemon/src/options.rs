//! Every option of dockerd, and those of our own, in one table: what becomes of it here. The parser, the configuration file and the
//! documentation are all made of it.

/// What an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// A value, once.
    Value,
    /// A value each time it is given.
    List,
    /// Nothing, or `=true` or `=false`.
    Switch,
}

/// What becomes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It does what it says.
    Honoured,
    /// It is so anyway, or has nothing to act on; the text says why.
    AlreadyTrue(&'static str),
    /// The engine does not start with it; the text says why, or what to do instead.
    Refused(&'static str),
}

/// One option of dockerd.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opt {
    /// Its long name.
    pub(crate) name: &'static str,
    /// Its letter.
    pub(crate) short: Option<char>,
    /// What it takes.
    pub(crate) takes: Takes,
    /// What becomes of it.
    pub(crate) verdict: Verdict,
}

impl Opt {
    /// Its name in the configuration file.
    pub(crate) fn key(&self) -> &'static str {
        match self.name {
            "host" => "hosts",
            "label" => "labels",
            "registry-mirror" => "registry-mirrors",
            "insecure-registry" => "insecure-registries",
            "authorization-plugin" => "authorization-plugins",
            "add-runtime" => "runtimes",
            "log-opt" => "log-opts",
            "dns-opt" => "dns-opts",
            "exec-opt" => "exec-opts",
            "storage-opt" => "storage-opts",
            "default-ulimit" => "default-ulimits",
            "default-address-pool" => "default-address-pools",
            "default-network-opt" => "default-network-opts",
            "node-generic-resource" => "node-generic-resources",
            "host-gateway-ip" => "host-gateway-ips",
            "cdi-spec-dir" => "cdi-spec-dirs",
            "feature" => "features",
            name => name,
        }
    }
}

const fn option(name: &'static str, short: Option<char>, takes: Takes, verdict: Verdict) -> Opt {
    Opt { name, short, takes, verdict }
}

use Takes::{List, Switch, Value};
use Verdict::{AlreadyTrue, Honoured, Refused};

/// The table, in the order of dockerd's own help.
pub(crate) const TABLE: &[Opt] = &[
    option("add-runtime", None, List, Honoured),
    option(
        "allow-direct-routing",
        None,
        Switch,
        Refused("unpublished ports stay unreachable from other machines; publish the port"),
    ),
    option(
        "authorization-plugin",
        None,
        List,
        Refused("plugins are not supported; guard the socket's group"),
    ),
    option("bip", None, Value, Honoured),
    option("bip6", None, Value, Honoured),
    option("bridge", Some('b'), Value, Honoured),
    option("bridge-accept-fwmark", None, Value, Refused("packets are told apart by interface")),
    option("build-cache-budget", None, Value, Honoured),
    option("build-entitlement", None, List, Honoured),
    option("build-parallelism", None, Value, Honoured),
    option("cdi-spec-dir", None, List, Honoured),
    option("cgroup-parent", None, Value, Honoured),
    option("config-file", None, Value, Honoured),
    option("containerd", None, Value, AlreadyTrue("there is no containerd")),
    option("containerd-namespace", None, Value, AlreadyTrue("there is no containerd")),
    option("containerd-plugins-namespace", None, Value, AlreadyTrue("there is no containerd")),
    option("cpu-rt-period", None, Value, Refused("set --cpu-rt-period on the container")),
    option("cpu-rt-runtime", None, Value, Refused("set --cpu-rt-runtime on the container")),
    option("cri-containerd", None, Switch, Refused("the CRI comes later")),
    option("data-root", None, Value, Honoured),
    option("debug", Some('D'), Switch, Honoured),
    option("default-address-pool", None, List, Honoured),
    option("default-cgroupns-mode", None, Value, Honoured),
    option("default-gateway", None, Value, Refused("the bridge's address is the gateway; use --bip")),
    option("default-gateway-v6", None, Value, Refused("the bridge's address is the gateway; use --bip6")),
    option("default-ipc-mode", None, Value, Honoured),
    option("default-network-opt", None, List, Honoured),
    option("default-runtime", None, Value, Honoured),
    option("default-shm-size", None, Value, Honoured),
    option("default-ulimit", None, List, Honoured),
    option("dns", None, List, Honoured),
    option("dns-opt", None, List, Honoured),
    option("dns-search", None, List, Honoured),
    option("docker-socket", None, Value, Honoured),
    option(
        "exec-opt",
        None,
        List,
        AlreadyTrue("native.cgroupdriver=cgroupfs: cgroups are managed as files; systemd is refused"),
    ),
    option("exec-root", None, Value, Honoured),
    option("experimental", None, Switch, Honoured),
    option("feature", None, List, AlreadyTrue("no feature is behind a switch, but for cdi=false")),
    option("firewall-backend", None, Value, AlreadyTrue("nftables, over netlink")),
    option("fixed-cidr", None, Value, Honoured),
    option("fixed-cidr-v6", None, Value, Honoured),
    option("group", Some('G'), Value, Honoured),
    option("host", Some('H'), List, Honoured),
    option("host-gateway-ip", None, List, Honoured),
    option("http-proxy", None, Value, Honoured),
    option("https-proxy", None, Value, Honoured),
    option("icc", None, Switch, Honoured),
    option("init", None, Switch, Honoured),
    option("init-path", None, Value, AlreadyTrue("the runtime is the init; nothing is mounted for it")),
    option("insecure-registry", None, List, Honoured),
    option("ip", None, Value, Honoured),
    option("ip-forward", None, Switch, AlreadyTrue("packets of containers are forwarded")),
    option("ip-forward-no-drop", None, Switch, AlreadyTrue("the policy of other tables is never changed")),
    option("ip-masq", None, Switch, Honoured),
    option("ip6tables", None, Switch, AlreadyTrue("no table but the engine's own is written")),
    option(
        "iptables",
        None,
        Switch,
        AlreadyTrue(
            "no table but the engine's own is written, and two rules where Docker's would drop our traffic",
        ),
    ),
    option("ipv6", None, Switch, Honoured),
    option("label", None, List, Honoured),
    option("live-restore", None, Switch, AlreadyTrue("containers never notice their engine's end")),
    option("log-driver", None, Value, Honoured),
    option("log-format", None, Value, Honoured),
    option("log-level", Some('l'), Value, Honoured),
    option("log-opt", None, List, Honoured),
    option("max-concurrent-downloads", None, Value, Honoured),
    option("max-concurrent-uploads", None, Value, Honoured),
    option("max-download-attempts", None, Value, Honoured),
    option("metrics-addr", None, Value, Honoured),
    option("mtu", None, Value, Honoured),
    option(
        "network-control-plane-mtu",
        None,
        Value,
        AlreadyTrue("there is no control plane between machines"),
    ),
    option("no-new-privileges", None, Switch, Honoured),
    option("no-proxy", None, Value, Honoured),
    option("node-generic-resource", None, List, Refused("there is no swarm")),
    option("pidfile", Some('p'), Value, Honoured),
    option("raw-logs", None, Switch, AlreadyTrue("the log has no colours")),
    option("registry-mirror", None, List, Honoured),
    option("rootless", None, Switch, Refused("rootless containers come later")),
    option("seccomp-profile", None, Value, Honoured),
    option("selinux-enabled", None, Switch, Refused("SELinux labels come later")),
    option("shutdown-timeout", None, Value, AlreadyTrue("containers are not stopped when the engine ends")),
    option("storage-budget", None, Value, Honoured),
    option("storage-driver", Some('s'), Value, AlreadyTrue("overlay is the only one")),
    option("storage-keep-recent", None, Value, Honoured),
    option("storage-opt", None, List, Honoured),
    option("swarm-default-advertise-addr", None, Value, Refused("there is no swarm")),
    option("tls", None, Switch, Honoured),
    option("tlscacert", None, Value, Honoured),
    option("tlscert", None, Value, Honoured),
    option("tlskey", None, Value, Honoured),
    option("tlsverify", None, Switch, Honoured),
    option(
        "userland-proxy",
        None,
        Switch,
        AlreadyTrue(
            "ports are translated by the kernel; what it does not translate, the container's shim relays",
        ),
    ),
    option("userland-proxy-path", None, Value, AlreadyTrue("there is no proxy")),
    option("userns-remap", None, Value, Honoured),
    option("validate", None, Switch, Honoured),
];

/// What stands in the configuration file alone.
pub(crate) const FILE_ONLY: &[(&str, Verdict)] = &[
    (
        "builder",
        AlreadyTrue(
            "its gc.defaultKeepStorage is --build-cache-budget, gc.enabled=false is a budget of 0, and its \
             entitlements are --build-entitlement",
        ),
    ),
    (
        "builder.entitlements.network-host",
        Refused("whoever may talk to the engine may have containers on the host's network"),
    ),
    (
        "builder.gc.policy",
        Refused(
            "what was not used for the longest time goes first; bound all of it with --build-cache-budget",
        ),
    ),
];

/// The options as a page for people: `docs/user/daemon-options.md`, which a test keeps equal.
#[cfg(test)]
fn page() -> String {
    let mut text = String::from(
        "# Options of the daemon\n\nEvery option of dockerd is honoured, already true, or refused with a reason; \
         `--storage-budget` and `--storage-keep-recent` are our own, see [Reclaiming disk](reclaiming-disk.md), and so is \
         `--build-cache-budget`, `--build-parallelism` and `--build-entitlement`, see [Building images](building-images.md), and \
         `--docker-socket`, see [Installation](installation.md). [Other OCI runtimes](runtimes.md) have a page of their own. The same \
         names (some of them in the plural, as Docker has them) stand in the configuration file, \
         `/etc/coracle/daemon.json` or `--config-file`, and in the environment: `CORACLE_DAEMON_DATA_ROOT` is \
         `--data-root`, and commas separate what can be given several times. The command line counts more than the \
         environment, and both more than the file; dockerd refuses what stands in the file and on the command line, and so \
         does this engine. An empty value is none.\n\nSIGHUP has the configuration read again: labels, the log level, mirrors, \
         insecure registries, other runtimes, how many transfers and attempts there may be, and what containers get by default (the options \
         that begin with `default`) change then; the rest needs a restart, which containers do not notice. SIGUSR1 has the state of the \
         engine written to a file below the exec root, and the log says to which. `--ip` holds for ports on all networks, not \
         on the default one alone as in Docker. `--storage-opt` is \
         `overlay2.size=SIZE`, see [Sizes of containers and volumes](sizes.md). Called `dockerd`, the program is the engine.\n\n| option | key in the file | what becomes of it |\n|---|---|---|\n",
    );
    for option in TABLE {
        let verdict = told(option.verdict);
        let short = option.short.map(|letter| format!("`-{letter}`, ")).unwrap_or_default();
        text.push_str(&format!("| {short}`--{}` | `{}` | {verdict} |\n", option.name, option.key()));
    }
    for (key, verdict) in FILE_ONLY {
        text.push_str(&format!("| | `{key}` | {} |\n", told(*verdict)));
    }
    text
}

#[cfg(test)]
fn told(verdict: Verdict) -> String {
    match verdict {
        Honoured => "honoured".to_owned(),
        AlreadyTrue(why) => format!("already true: {why}"),
        Refused(why) => format!("refused: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_the_documentation_is_made_of_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/user/daemon-options.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), page(), "UPDATE=1 cargo test writes it anew");
    }

    #[test]
    fn names_and_keys_are_unique() {
        let names: std::collections::BTreeSet<_> = TABLE.iter().map(|option| option.name).collect();
        let keys: std::collections::BTreeSet<_> = TABLE.iter().map(Opt::key).collect();
        assert_eq!((names.len(), keys.len()), (TABLE.len(), TABLE.len()));
    }
}
