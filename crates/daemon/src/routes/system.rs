//! `/_ping`, `/version`, `/info`, `/system/df`

use crate::answer::{self, Answer, bytes};
use crate::convert::time;
use crate::server::Call;
use ::time::OffsetDateTime;
use coracle_api::ApiVersion;
use coracle_api::system as api;
use coracle_engine::ListedDevice;
use coracle_engine::config::DefaultFilter;
use coracle_engine::containers::state::Status;
use coracle_engine::images::ImageFilter;
use coracle_engine::runtimes::{OWN, Other};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, PRAGMA};
use hyper::{Response, StatusCode};
use std::collections::BTreeMap;
use std::fs;
use std::sync::PoisonError;
use tokio::runtime::Handle;

pub(super) fn ping(body: bool) -> Answer {
    let mut response = Response::new(bytes(if body { "OK" } else { "" }));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert("Swarm", HeaderValue::from_static("inactive"));
    // BuildKit's protocol; clients that do not know it use the classic door all the same.
    headers.insert("Builder-Version", HeaderValue::from_static("2"));
    Ok(response)
}

pub(super) fn version(call: &Call) -> Answer {
    let experimental = call.context.settings.experimental;
    let own = env!("CARGO_PKG_VERSION").to_owned();
    let details = [
        ("ApiVersion", ApiVersion::MAX.to_string()),
        ("MinAPIVersion", ApiVersion::MIN.to_string()),
        ("Arch", architecture()),
        ("Os", "linux".to_owned()),
        ("KernelVersion", kernel()),
        ("Experimental", experimental.to_string()),
    ];
    answer::ok(&api::Version {
        platform: api::PlatformName { name: "Coracle".to_owned() },
        components: vec![api::Component {
            name: "Engine".to_owned(),
            version: own.clone(),
            details: Some(details.map(|(key, value)| (key.to_owned(), value)).into()),
        }],
        version: own,
        api_version: ApiVersion::MAX.to_string(),
        min_api_version: ApiVersion::MIN.to_string(),
        os: "linux".to_owned(),
        arch: architecture(),
        kernel_version: kernel(),
        experimental,
        ..api::Version::default()
    })
}

/// `/coracle/system/shutdown`, an endpoint of our own: stops all containers for the end of the machine. The restart policies
/// that would start them are heeded by the next engine.
pub(super) async fn shutdown(call: &Call) -> Answer {
    call.engine().stop_for_the_end().await?;
    answer::empty(StatusCode::NO_CONTENT)
}

/// The architecture by Go's name for it.
fn architecture() -> String {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
    .to_owned()
}

fn kernel() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The machine that the engine runs on.
pub(crate) struct Machine {
    pub(crate) kernel: String,
    /// What its distribution calls itself.
    pub(crate) system: String,
    /// The version of that; empty where there is none.
    pub(crate) version: String,
    /// Processors.
    pub(crate) cpus: i64,
    /// Bytes.
    pub(crate) memory: i64,
}

impl Machine {
    pub(crate) fn read() -> Self {
        let memory = line_of("/proc/meminfo", "MemTotal:");
        let memory = memory.and_then(|text| text.split(' ').next()?.parse::<i64>().ok());
        let cpus = std::thread::available_parallelism();
        Self {
            kernel: kernel(),
            system: line_of("/etc/os-release", "PRETTY_NAME=").unwrap_or_else(|| "Linux".to_owned()),
            version: line_of("/etc/os-release", "VERSION_ID=").unwrap_or_default(),
            cpus: cpus.map_or(1, |count| i64::try_from(count.get()).unwrap_or(1)),
            memory: memory.unwrap_or(0).saturating_mul(1024),
        }
    }
}

fn line_of(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix(key))
        .map(|value| value.trim().trim_matches('"').to_owned())
}

pub(super) async fn info(call: &Call) -> Answer {
    let engine = call.engine();
    let (devices, problems) = engine.devices().await?;
    let config = engine.config();
    let reloadable = call.context.reloadable.read().unwrap_or_else(PoisonError::into_inner).clone();
    let containers = engine.list();
    let count = |test: &dyn Fn(Status) -> bool| {
        i64::try_from(containers.iter().filter(|container| test(container.state.status)).count()).unwrap_or(0)
    };
    let images = engine.images().list(&ImageFilter::default())?;
    let machine = Machine::read();
    let discovered =
        |device: ListedDevice| api::DiscoveredDevice { source: "cdi".to_owned(), id: device.name };
    let registries = engine.images().registry_settings();
    let has_bridge_filters = call.version < ApiVersion::new(1, 50);
    let shows_devices = call.version >= ApiVersion::new(1, 50);
    let warnings: Vec<String> = problems.iter().map(|problem| format!("CDI: {problem}")).collect();
    let directories = config.cdi_directories.iter().map(|directory| directory.display().to_string());
    answer::ok(&api::Info {
        cdi_spec_dirs: Some(directories.collect()),
        discovered_devices: devices.into_iter().map(discovered).filter(|_| shows_devices).collect(),
        warnings: (!warnings.is_empty()).then_some(warnings),
        id: config.engine_id(),
        containers: count(&|_| true),
        containers_running: count(&|status| status == Status::Running),
        containers_paused: count(&|status| status == Status::Paused),
        containers_stopped: count(&|status| !status.is_up()),
        experimental_build: call.context.settings.experimental,
        images: i64::try_from(images.len()).unwrap_or(0),
        driver: "overlay2".to_owned(),
        driver_status: vec![["Native Overlay Diff".to_owned(), "true".to_owned()]],
        plugins: api::Plugins {
            volume: vec!["local".to_owned()],
            network: ["bridge", "host", "null"].map(str::to_owned).to_vec(),
            authorization: None,
            log: ["json-file", "local"].map(str::to_owned).to_vec(),
        },
        memory_limit: true,
        swap_limit: true,
        cpu_cfs_period: true,
        cpu_cfs_quota: true,
        cpu_shares: true,
        cpu_set: true,
        pids_limit: true,
        ipv4_forwarding: true,
        bridge_nf_iptables: has_bridge_filters.then_some(false),
        bridge_nf_ip6tables: has_bridge_filters.then_some(false),
        debug: reloadable.debug,
        file_descriptors: i64::try_from(fs::read_dir("/proc/self/fd").map_or(0, Iterator::count))
            .unwrap_or(0),
        tasks: i64::try_from(Handle::current().metrics().num_alive_tasks()).unwrap_or(0),
        event_listeners: i64::try_from(engine.event_listeners()).unwrap_or(0),
        oom_kill_disable: engine.cgroup_version() == "1",
        system_time: time::write(Some(OffsetDateTime::now_utc())),
        logging_driver: "json-file".to_owned(),
        cgroup_driver: "cgroupfs".to_owned(),
        cgroup_version: engine.cgroup_version().to_owned(),
        kernel_version: machine.kernel,
        operating_system: machine.system,
        os_version: machine.version,
        os_type: "linux".to_owned(),
        architecture: std::env::consts::ARCH.to_owned(),
        index_server_address: "https://index.docker.io/v1/".to_owned(),
        registry_config: Some(api::RegistryConfig {
            insecure_registry_cidrs: vec!["127.0.0.0/8".to_owned()],
            index_configs: index_configs(&registries.hosts),
            mirrors: Some(registries.hosts.mirrors().to_vec()),
            nondistributable: (call.version < ApiVersion::new(1, 49)).then(api::Nondistributable::default),
        }),
        http_proxy: without_secrets(registries.proxies.http.as_deref()),
        https_proxy: without_secrets(registries.proxies.https.as_deref()),
        no_proxy: registries.proxies.no_proxy.clone().unwrap_or_default(),
        cpus: machine.cpus,
        mem_total: machine.memory,
        docker_root_dir: config.data_root.display().to_string(),
        name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        labels: reloadable.labels.clone(),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtimes: runtimes(engine),
        default_runtime: reloadable.requested.runtime().to_owned(),
        swarm: api::SwarmInfo { local_node_state: "inactive".to_owned(), ..api::SwarmInfo::default() },
        live_restore_enabled: true,
        init_binary: "coracle-runtime".to_owned(),
        security_options: security_options(config),
        ..api::Info::default()
    })
}

/// The runtimes by name: the engine's own under all of its names that no other is configured by.
fn runtimes(engine: &coracle_engine::Engine) -> BTreeMap<String, api::Runtime> {
    let own = api::Runtime { path: engine.config().runtime.display().to_string(), ..api::Runtime::default() };
    let other = |other: &Other| api::Runtime {
        path: other.path.display().to_string(),
        runtime_args: other.arguments.clone(),
        ..api::Runtime::default()
    };
    let mut runtimes = BTreeMap::from(OWN.map(|name| (name.to_owned(), own.clone())));
    runtimes.extend(engine.runtimes().iter().map(|(name, found)| (name.to_owned(), other(found))));
    runtimes
}

/// How containers are confined, as Docker says it.
fn security_options(config: &coracle_engine::Config) -> Vec<String> {
    let profile = match &config.defaults.seccomp {
        DefaultFilter::BuiltIn => "builtin".to_owned(),
        DefaultFilter::Unconfined => "unconfined".to_owned(),
        DefaultFilter::Profile { path, .. } => path.display().to_string(),
    };
    let mut options = vec![format!("name=seccomp,profile={profile}")];
    if config.remap.is_some() {
        options.push("name=userns".to_owned());
    }
    options.push("name=cgroupns".to_owned());
    if config.defaults.no_new_privileges {
        options.push("name=no-new-privileges".to_owned());
    }
    options
}

/// The registries that are known by name: the default one, and those without trusted TLS.
fn index_configs(hosts: &coracle_engine::Registries) -> BTreeMap<String, api::IndexInfo> {
    let default = api::IndexInfo {
        name: "docker.io".to_owned(),
        mirrors: hosts.mirrors().to_vec(),
        secure: true,
        official: true,
    };
    let insecure = hosts
        .insecure()
        .iter()
        .map(|name| (name.clone(), api::IndexInfo { name: name.clone(), ..api::IndexInfo::default() }));
    insecure.chain([(default.name.clone(), default)]).collect()
}

/// A proxy's address; an account in it is not shown.
fn without_secrets(proxy: Option<&str>) -> String {
    let Some(address) = proxy else { return String::new() };
    let (scheme, rest) = address.split_once("://").map_or(("", address), |(scheme, rest)| (scheme, rest));
    let Some((_, host)) = rest.rsplit_once('@') else { return address.to_owned() };
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}xxxxx:xxxxx@{host}")
}

#[cfg(test)]
mod tests {
    use super::without_secrets;

    #[test]
    fn a_proxys_account_is_not_shown() {
        for (address, shown) in [
            (None, ""),
            (Some("http://proxy.test:3128"), "http://proxy.test:3128"),
            (Some("http://me:p@ss@proxy.test:3128"), "http://xxxxx:xxxxx@proxy.test:3128"),
            (Some("me:secret@proxy.test"), "xxxxx:xxxxx@proxy.test"),
        ] {
            assert_eq!(without_secrets(address), shown);
        }
    }
}
