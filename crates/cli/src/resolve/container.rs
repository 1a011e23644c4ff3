//! The flags of `run` and `create` into a create request.

use std::collections::BTreeMap;
use std::path::Path;

use coracle_api::Empty;
use coracle_api::container::{Config, CreateRequest, HostConfig, LogConfig, NetworkingConfig};

use super::network::{Attachment, ipam};
use super::volume::Volume;
use super::{
    Invalid, device, environment, health, invalid, mount, network, pairs, port, resources, size, volume,
};
use crate::args::create::CreateArgs;

/// What resolving needs of the process it runs in.
pub(crate) struct Surroundings<'a> {
    /// The working directory.
    pub(crate) directory: &'a Path,
    pub(crate) home: Option<&'a Path>,
    /// Variables of this process.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// Reads a file that a flag names.
    pub(crate) read: &'a dyn Fn(&str) -> Result<String, Invalid>,
}

/// Which streams the command attaches to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Streams {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

impl Streams {
    /// What `--attach` asks for. Without it everything, stdin only when kept open; nothing when detached.
    pub(crate) fn chosen(args: &CreateArgs, detach: bool) -> Result<Self, Invalid> {
        let mut streams = Self::default();
        for name in &args.attach {
            match name.to_lowercase().as_str() {
                "stdin" => streams.stdin = true,
                "stdout" => streams.stdout = true,
                "stderr" => streams.stderr = true,
                _ => return invalid("valid streams are STDIN, STDOUT and STDERR"),
            }
        }
        if detach && !args.attach.is_empty() {
            return invalid("conflicting options: cannot specify both --attach and --detach");
        }
        if !detach && args.attach.is_empty() {
            return Ok(Self { stdin: args.interactive, stdout: true, stderr: true });
        }
        Ok(streams)
    }

    pub(crate) fn any(self) -> bool {
        self.stdin || self.stdout || self.stderr
    }
}

/// The whole request.
pub(crate) fn request(
    args: &CreateArgs,
    streams: Streams,
    surroundings: &Surroundings<'_>,
) -> Result<CreateRequest, Invalid> {
    let ports = ports(args)?;
    let volumes = volumes(args, surroundings)?;
    let attachments = attachments(args)?;
    let mut host = host_config(args, surroundings)?;
    host.binds = list(volumes.binds);
    host.port_bindings = Some(ports.bindings);
    if let Some(first) = attachments.first() {
        host.network_mode.clone_from(&first.network);
    }
    let mut config = config(args, streams, surroundings)?;
    config.exposed_ports = (!ports.exposed.is_empty()).then_some(ports.exposed);
    config.volumes = (!volumes.anonymous.is_empty()).then_some(volumes.anonymous);
    let endpoints = attachments.into_iter().map(|attachment| (attachment.network, Some(attachment.endpoint)));
    let networking_config = Some(NetworkingConfig { endpoints_config: Some(endpoints.collect()) });
    Ok(CreateRequest { config, host_config: Some(host), networking_config })
}

fn config(args: &CreateArgs, streams: Streams, surroundings: &Surroundings<'_>) -> Result<Config, Invalid> {
    let (image, command) =
        args.image_and_command.split_first().ok_or_else(|| Invalid("an image is required".into()))?;
    Ok(Config {
        hostname: args.hostname.clone().unwrap_or_default(),
        domainname: args.domainname.clone(),
        user: args.user.clone(),
        attach_stdin: streams.stdin,
        attach_stdout: streams.stdout,
        attach_stderr: streams.stderr,
        tty: args.tty,
        open_stdin: args.interactive,
        // The first client that leaves ends a stdin that was meant for it alone.
        stdin_once: args.interactive && streams.stdin,
        env: list(variables(args, surroundings)?),
        cmd: list(command.to_vec()),
        healthcheck: health::check(&args.health)?,
        image: image.clone(),
        working_dir: args.workdir.clone(),
        // `--entrypoint ""` sends one empty word, which clears the image's entry point.
        entrypoint: args.entrypoint.clone().map(|word| vec![word]),
        mac_address: String::new(),
        labels: Some(labels(args, surroundings)?),
        stop_signal: args.stop_signal.clone(),
        stop_timeout: args.stop_timeout,
        ..Config::default()
    })
}

fn host_config(args: &CreateArgs, surroundings: &Surroundings<'_>) -> Result<HostConfig, Invalid> {
    let mut host = HostConfig {
        container_id_file: args.cidfile.clone().unwrap_or_default(),
        log_config: log_config(args)?,
        network_mode: "default".into(),
        restart_policy: resources::restart(&args.restart)?,
        auto_remove: args.rm,
        volume_driver: args.volume_driver.clone(),
        volumes_from: list(args.volumes_from.clone()),
        annotations: map(pairs::map(&args.annotation)),
        cap_add: list(args.cap_add.clone()),
        cap_drop: list(args.cap_drop.clone()),
        cgroupns_mode: args.cgroupns.clone(),
        dns: list(args.dns.clone()),
        dns_options: list(args.dns_option.clone()),
        dns_search: list(args.dns_search.clone()),
        extra_hosts: resources::each(&args.add_host, extra_host)?,
        group_add: list(args.group_add.clone()),
        ipc_mode: args.ipc.clone(),
        links: list(args.link.clone()),
        oom_score_adj: args.oom_score_adj,
        pid_mode: args.pid.clone(),
        privileged: args.privileged,
        publish_all_ports: args.publish_all,
        readonly_rootfs: args.read_only,
        storage_opt: map(pairs::strict_map(&args.storage_opt)?),
        tmpfs: map(tmpfs(&args.tmpfs)),
        uts_mode: args.uts.clone(),
        userns_mode: args.userns.clone(),
        shm_size: args.shm_size.as_deref().map_or(Ok(0), size::bytes)?,
        sysctls: map(pairs::strict_map(&args.sysctl)?),
        runtime: args.runtime.clone(),
        isolation: args.isolation.clone(),
        cgroup_parent: args.cgroup_parent.clone(),
        device_cgroup_rules: list(args.device_cgroup_rule.clone()),
        ulimits: resources::each(&args.ulimit, device::ulimit)?,
        oom_kill_disable: args.oom_kill_disable.then_some(true),
        init: args.init.then_some(true),
        ..HostConfig::default()
    };
    if args.rm && !matches!(host.restart_policy.name.as_str(), "" | "no") {
        return invalid("conflicting options: cannot specify both --restart and --rm");
    }
    resources::apply(&args.resources, &mut host)?;
    devices(args, &mut host)?;
    security(args, surroundings, &mut host)?;
    let mounts = args.mount.iter().map(|text| mount::parse(text, surroundings.directory));
    host.mounts = list(mounts.collect::<Result<_, _>>()?);
    Ok(host)
}

fn devices(args: &CreateArgs, host: &mut HostConfig) -> Result<(), Invalid> {
    let (names, paths): (Vec<String>, Vec<String>) =
        args.device.iter().cloned().partition(|text| coracle_spec::cdi::is_qualified(text));
    host.devices = resources::each(&paths, device::device)?;
    let mut requests: Vec<_> = args.gpus.as_deref().map(device::gpus).transpose()?.into_iter().collect();
    requests.extend((!names.is_empty()).then(|| device::cdi_request(names)));
    host.device_requests = list(requests);
    Ok(())
}

/// `systempaths=unconfined` becomes empty lists of paths; the file of `seccomp=FILE` is sent, not its name.
fn security(
    args: &CreateArgs,
    surroundings: &Surroundings<'_>,
    host: &mut HostConfig,
) -> Result<(), Invalid> {
    let mut options = Vec::new();
    for option in &args.security_opt {
        match option.split_once('=').or_else(|| option.split_once(':')) {
            Some(("systempaths", "unconfined")) => {
                host.masked_paths = Some(Vec::new());
                host.readonly_paths = Some(Vec::new());
            }
            Some(("seccomp", profile)) if !matches!(profile, "unconfined" | "builtin") => {
                options.push(format!("seccomp={}", (surroundings.read)(profile)?));
            }
            None if option != "no-new-privileges" => {
                return invalid(format!("invalid --security-opt: {option:?}"));
            }
            _ => options.push(option.clone()),
        }
    }
    host.security_opt = list(options);
    Ok(())
}

fn ports(args: &CreateArgs) -> Result<port::Ports, Invalid> {
    let mut ports = port::Ports::default();
    args.publish.iter().try_for_each(|text| ports.publish(text))?;
    args.expose.iter().try_for_each(|text| ports.expose(text))?;
    Ok(ports)
}

#[derive(Default)]
struct Volumes {
    anonymous: BTreeMap<String, Empty>,
    binds: Vec<String>,
}

fn volumes(args: &CreateArgs, surroundings: &Surroundings<'_>) -> Result<Volumes, Invalid> {
    let mut volumes = Volumes::default();
    for text in &args.volume {
        match volume::parse(text, surroundings.directory, surroundings.home)? {
            Volume::Anonymous(path) => {
                volumes.anonymous.insert(path, Empty {});
            }
            Volume::Bind(bind) => volumes.binds.push(bind),
        }
    }
    Ok(volumes)
}

/// The networks; the single-network flags belong to the first.
fn attachments(args: &CreateArgs) -> Result<Vec<Attachment>, Invalid> {
    let mut attachments =
        args.network.iter().map(|text| network::parse(text)).collect::<Result<Vec<_>, _>>()?;
    if attachments.is_empty() {
        attachments.push(Attachment { network: "default".into(), ..Attachment::default() });
    }
    let endpoint = &mut attachments[0].endpoint;
    if !args.network_alias.is_empty() {
        endpoint.aliases.get_or_insert_default().extend(args.network_alias.iter().cloned());
    }
    if let Some(address) = &args.ip {
        ipam(endpoint).ipv4_address.clone_from(address);
    }
    if let Some(address) = &args.ip6 {
        ipam(endpoint).ipv6_address.clone_from(address);
    }
    if !args.link_local_ip.is_empty() {
        ipam(endpoint).link_local_ips = Some(args.link_local_ip.clone());
    }
    if !args.link.is_empty() {
        endpoint.links = Some(args.link.clone());
    }
    if !args.mac_address.is_empty() {
        endpoint.mac_address.clone_from(&args.mac_address);
    }
    Ok(attachments)
}

fn variables(args: &CreateArgs, surroundings: &Surroundings<'_>) -> Result<Vec<String>, Invalid> {
    environment_of(&args.env, &args.env_file, surroundings)
}

/// Files first, so that flags override them.
pub(crate) fn environment_of(
    flags: &[String],
    files: &[String],
    surroundings: &Surroundings<'_>,
) -> Result<Vec<String>, Invalid> {
    let mut variables = Vec::new();
    for file in files {
        variables.extend(environment::file(&(surroundings.read)(file)?, surroundings.variable)?);
    }
    for text in flags {
        variables.extend(environment::variable(text, surroundings.variable)?);
    }
    Ok(variables)
}

fn labels(args: &CreateArgs, surroundings: &Surroundings<'_>) -> Result<BTreeMap<String, String>, Invalid> {
    let mut labels = BTreeMap::new();
    for file in &args.label_file {
        let lines: Vec<String> = pairs::lines(&(surroundings.read)(file)?).map(str::to_owned).collect();
        labels.extend(pairs::map(&lines));
    }
    labels.extend(pairs::map(&args.label));
    labels.extend(args.on_unhealthy.iter().map(|action| ("coracle.on-unhealthy".into(), action.clone())));
    Ok(labels)
}

fn log_config(args: &CreateArgs) -> Result<LogConfig, Invalid> {
    if args.log_driver == "none" && !args.log_opt.is_empty() {
        return invalid("invalid logging opts for driver none");
    }
    Ok(LogConfig { driver: args.log_driver.clone(), config: Some(pairs::map(&args.log_opt)) })
}

/// `host:ip` or `host=ip`, the address perhaps in brackets.
pub(crate) fn extra_host(text: &str) -> Result<String, Invalid> {
    let split = text.split_once('=').or_else(|| text.split_once(':'));
    let Some((name, address)) = split.filter(|(name, _)| !name.is_empty()) else {
        return invalid(format!("bad format for add-host: {text:?}"));
    };
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    if bare != "host-gateway" && bare.parse::<std::net::IpAddr>().is_err() {
        return invalid(format!("invalid IP address in add-host: {bare:?}"));
    }
    Ok(format!("{name}:{bare}"))
}

fn tmpfs(texts: &[String]) -> BTreeMap<String, String> {
    let split = |text: &String| {
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        (path.to_owned(), options.to_owned())
    };
    texts.iter().map(split).collect()
}

fn list<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn map(map: BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    (!map.is_empty()).then_some(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(line: &str) -> Result<serde_json::Value, Invalid> {
        let words: Vec<_> = format!("coracle create {line}").split_whitespace().map(Into::into).collect();
        let crate::args::Commands::Container(command) = crate::args::parse(&words).expect(line).command
        else {
            panic!("{line}")
        };
        let crate::args::container::ContainerCommand::Create(args) = *command else { panic!("{line}") };
        let surroundings = Surroundings {
            directory: Path::new("/work"),
            home: None,
            variable: &|name| (name == "HOME").then(|| "/root".into()),
            read: &|name| {
                if name == "file" { Ok("A=file\nB=file\n".into()) } else { invalid("no such file") }
            },
        };
        let request = request(&args, Streams::chosen(&args, false)?, &surroundings)?;
        Ok(serde_json::to_value(request).expect("serialises"))
    }

    #[test]
    fn flags_become_the_fields_docker_sends() {
        let value = resolve(
            "-it --rm -p 127.0.0.1:8080:80 -v vol:/data -v ./x:/y --tmpfs /run:size=1m -e A=b -e HOME -l x=y -m 64m \
             --cpus 1.5 --health-cmd true --network n --ip 10.0.0.2 --restart no --ulimit nofile=1:2 --init \
             --add-host a=[::1] --security-opt systempaths=unconfined --env-file file --entrypoint /e tiny echo -n hi",
        )
        .expect("resolves");
        let host = &value["HostConfig"];
        let expected = [
            (&value["Cmd"], serde_json::json!(["echo", "-n", "hi"])),
            (&value["Entrypoint"], serde_json::json!(["/e"])),
            (&value["Env"], serde_json::json!(["A=file", "B=file", "A=b", "HOME=/root"])),
            (&value["Labels"], serde_json::json!({"x": "y"})),
            (&value["ExposedPorts"], serde_json::json!({"80/tcp": {}})),
            (&value["StdinOnce"], serde_json::json!(true)),
            (&value["Healthcheck"]["Test"], serde_json::json!(["CMD-SHELL", "true"])),
            (&host["Binds"], serde_json::json!(["vol:/data", "/work/x:/y"])),
            (&host["Tmpfs"], serde_json::json!({"/run": "size=1m"})),
            (&host["Memory"], serde_json::json!(67_108_864)),
            (&host["NanoCpus"], serde_json::json!(1_500_000_000)),
            (&host["NetworkMode"], serde_json::json!("n")),
            (&host["ExtraHosts"], serde_json::json!(["a:::1"])),
            (&host["MaskedPaths"], serde_json::json!([])),
            (&host["SecurityOpt"], serde_json::json!(null)),
            (&host["Init"], serde_json::json!(true)),
            (&host["AutoRemove"], serde_json::json!(true)),
            (&host["PortBindings"]["80/tcp"][0]["HostPort"], serde_json::json!("8080")),
            (
                &value["NetworkingConfig"]["EndpointsConfig"]["n"]["IPAMConfig"],
                serde_json::json!({"IPv4Address": "10.0.0.2"}),
            ),
        ];
        for (index, (found, expected)) in expected.into_iter().enumerate() {
            assert_eq!(*found, expected, "number {index}");
        }
    }

    #[test]
    fn what_is_not_given_is_left_to_the_daemon() {
        let value = resolve("tiny").expect("resolves");
        for (field, expected) in [("Cmd", "null"), ("Entrypoint", "null"), ("Env", "null"), ("Tty", "false")]
        {
            assert_eq!(value[field].to_string(), expected, "{field}");
        }
        assert_eq!(value["HostConfig"]["NetworkMode"], "default");
        assert_eq!(value["AttachStdin"], false);
        assert_eq!(value["AttachStdout"], true);
        assert_eq!(resolve("--entrypoint= tiny").expect("resolves")["Entrypoint"], serde_json::json!([""]));
    }

    #[test]
    fn contradictions_and_nonsense_are_refused() {
        for line in [
            "--rm --restart always tiny",
            "--no-healthcheck --health-cmd x tiny",
            "-a nothing tiny",
            "-m lots tiny",
            "--env-file missing tiny",
            "--add-host a tiny",
            "--security-opt nonsense tiny",
            "--log-driver none --log-opt a=b tiny",
            "--sysctl x tiny",
        ] {
            assert!(resolve(line).is_err(), "{line}");
        }
    }
}
