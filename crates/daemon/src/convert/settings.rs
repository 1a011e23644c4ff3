//! A request to make a container, as the engine's settings. What the engine does not do is refused here, by name.

use super::host_config;
use crate::error::Failure;
use coracle_api::container::{Config, CreateRequest, HealthConfig};
use coracle_api::network::EndpointSettings;
use coracle_engine::containers::modes::NetworkMode;
use coracle_engine::containers::settings::{HealthCheck, Settings};
use coracle_spec::runtime::ConsoleSize;

/// The engine's settings.
///
/// # Errors
/// 400 for what makes no sense, 501 for what is not supported.
pub(crate) fn settings(request: CreateRequest) -> Result<Settings, Failure> {
    let host = request.host_config.unwrap_or_default();
    let size = host.console_size;
    let mut settings = config(request.config);
    settings.console_size = console_size(size);
    settings.host = host_config::host_settings(host)?;
    let endpoints = request.networking_config.and_then(|config| config.endpoints_config).unwrap_or_default();
    for (name, endpoint) in endpoints {
        apply_endpoint(&mut settings, &name, endpoint.unwrap_or_default())?;
    }
    Ok(settings)
}

/// Rows and columns, if both are given.
pub(crate) fn console_size([height, width]: [u32; 2]) -> Option<ConsoleSize> {
    let number = |value: u32| u16::try_from(value).ok().filter(|value| *value > 0);
    Some(ConsoleSize { height: number(height)?, width: number(width)? })
}

/// The part that images have as well.
pub(crate) fn config(config: Config) -> Settings {
    Settings {
        image: config.image,
        hostname: config.hostname,
        domainname: config.domainname,
        user: config.user,
        attach: [config.attach_stdin, config.attach_stdout, config.attach_stderr],
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        env: config.env.unwrap_or_default(),
        cmd: config.cmd,
        entrypoint: config.entrypoint,
        working_dir: config.working_dir,
        labels: config.labels.unwrap_or_default(),
        exposed_ports: config.exposed_ports.unwrap_or_default().into_keys().collect(),
        volumes: config.volumes.unwrap_or_default().into_keys().collect(),
        stop_signal: config.stop_signal,
        stop_timeout: config.stop_timeout,
        healthcheck: config.healthcheck.map(health),
        on_build: config.on_build.unwrap_or_default(),
        shell: config.shell,
        ..Settings::default()
    }
}

fn health(config: HealthConfig) -> HealthCheck {
    HealthCheck {
        test: config.test.unwrap_or_default(),
        interval: config.interval,
        timeout: config.timeout,
        start_period: config.start_period,
        start_interval: config.start_interval,
        retries: config.retries,
    }
}

fn apply_endpoint(settings: &mut Settings, name: &str, endpoint: EndpointSettings) -> Result<(), Failure> {
    let mode = settings.host.network.to_string();
    let own = name == mode || (settings.host.network.is_bridge() && matches!(name, "default" | "bridge"));
    if !own {
        if matches!(settings.host.network, NetworkMode::Default) {
            settings.host.network = NetworkMode::parse(name);
        } else {
            return Err(Failure::invalid(format!(
                "container cannot be connected to network {name} besides {mode}: several networks are not supported yet"
            )));
        }
    }
    settings.host.aliases.extend(endpoint.aliases.unwrap_or_default());
    if !endpoint.mac_address.is_empty() {
        settings.host.mac_address = endpoint.mac_address;
    }
    if let Some(ipam) = endpoint.ipam_config.filter(|ipam| !ipam.ipv4_address.is_empty()) {
        let invalid = || Failure::invalid(format!("invalid IPv4 address: {}", ipam.ipv4_address));
        settings.host.address = Some(ipam.ipv4_address.parse().map_err(|_| invalid())?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_docker_command_sends_becomes_settings() {
        let body = br#"{"Hostname":"h","Tty":true,"OpenStdin":true,"Env":["A=1"],"Cmd":["sh"],"Image":"debian",
            "HostConfig":{"NetworkMode":"default","PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]},"Memory":67108864,
            "RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3},"ConsoleSize":[24,80],"Init":true},
            "NetworkingConfig":{"EndpointsConfig":{"default":{"Aliases":["db"]}}}}"#;
        let request: CreateRequest = coracle_api::from_slice(body).unwrap();
        let settings = settings(request).unwrap();
        assert_eq!(settings.console_size, Some(ConsoleSize { height: 24, width: 80 }));
        assert_eq!(settings.host.aliases, ["db"]);
        assert_eq!(settings.host.ports.len(), 1);
        assert_eq!(settings.host.resources.memory, 64 << 20);
        assert_eq!(settings.host.init, Some(true));
    }

    #[test]
    fn a_second_network_is_refused_and_a_named_one_is_kept_for_the_engine_to_judge() {
        let request = |mode: &str| CreateRequest {
            host_config: Some(coracle_api::container::HostConfig {
                network_mode: mode.into(),
                ..Default::default()
            }),
            networking_config: Some(coracle_api::container::NetworkingConfig {
                endpoints_config: Some([("backend".to_owned(), None)].into()),
            }),
            ..CreateRequest::default()
        };
        assert_eq!(settings(request("backend")).unwrap().host.network, NetworkMode::Named("backend".into()));
        assert!(settings(request("host")).is_err());
    }
}
