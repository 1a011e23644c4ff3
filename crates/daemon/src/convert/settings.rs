//! A request to make a container, as the engine's settings. What the engine does not do is refused here, by name.

use super::host_config;
use crate::error::Failure;
use coracle_api::container::{Config, CreateRequest, HealthConfig};
use coracle_api::network::EndpointSettings;
use coracle_engine::containers::modes::NetworkMode;
use coracle_engine::containers::settings::Settings;
use coracle_engine::network::BRIDGE;
use coracle_spec::image::Healthcheck;
use coracle_spec::runtime::ConsoleSize;

/// The engine's settings.
///
/// # Errors
/// 400 for what makes no sense, 501 for what is not supported.
pub(crate) fn settings(request: CreateRequest) -> Result<Settings, Failure> {
    let host = request.host_config.unwrap_or_default();
    let size = host.console_size;
    let mac_address = request.config.mac_address.clone();
    let mut settings = config(request.config);
    settings.console_size = console_size(size);
    settings.host = host_config::host_settings(host)?;
    settings.host.mac_address = mac_address;
    let endpoints = request.networking_config.and_then(|config| config.endpoints_config).unwrap_or_default();
    for (name, endpoint) in endpoints {
        apply_endpoint(&mut settings, &name, endpoint.unwrap_or_default())?;
    }
    if settings.network_disabled {
        // Whatever else was asked for, as with Docker.
        settings.host.network = NetworkMode::None;
        settings.host.joins.clear();
        settings.host.mac_address.clear();
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
        network_disabled: config.network_disabled,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        env: config.env.unwrap_or_default(),
        secret_env: Default::default(),
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

pub(super) fn health(config: HealthConfig) -> Healthcheck {
    Healthcheck {
        test: config.test.unwrap_or_default(),
        interval: config.interval,
        timeout: config.timeout,
        start_period: config.start_period,
        start_interval: config.start_interval,
        retries: config.retries,
        ..Healthcheck::default()
    }
}

fn apply_endpoint(settings: &mut Settings, name: &str, endpoint: EndpointSettings) -> Result<(), Failure> {
    let join = super::network::join(endpoint)?;
    let host = &mut settings.host;
    let own =
        name == host.network.to_string() || (host.network.is_bridge() && matches!(name, "default" | BRIDGE));
    if !own && matches!(host.network, NetworkMode::Default) {
        host.network = NetworkMode::parse(name);
    } else if !own {
        host.joins.insert(name.to_owned(), join);
        return Ok(());
    }
    host.aliases.extend(join.aliases);
    host.endpoint_links.extend(join.links);
    if !join.mac_address.is_empty() {
        host.mac_address = join.mac_address;
    }
    host.addresses.v4 = join.addresses.v4.or(host.addresses.v4);
    host.addresses.v6 = join.addresses.v6.or(host.addresses.v6);
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
    fn a_named_network_becomes_the_mode_and_further_ones_are_joined() {
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
        let named = settings(request("backend")).unwrap().host;
        assert_eq!((named.network, named.joins.len()), (NetworkMode::Named("backend".into()), 0));
        let both = settings(request("frontend")).unwrap().host;
        assert_eq!(both.network, NetworkMode::Named("frontend".into()));
        assert_eq!(both.joins.keys().collect::<Vec<_>>(), ["backend"]);
    }

    #[test]
    fn every_field_of_the_configuration_is_kept_or_refused() {
        use serde_json::json;
        // Those that `config` takes are named by the compiler where they are shown again; these are not among them.
        let elsewhere = ["ArgsEscaped", "MacAddress"];
        let kept = [
            "Hostname",
            "Domainname",
            "User",
            "AttachStdin",
            "AttachStdout",
            "AttachStderr",
            "ExposedPorts",
            "Tty",
            "OpenStdin",
            "StdinOnce",
            "Env",
            "Cmd",
            "Healthcheck",
            "Image",
            "Volumes",
            "WorkingDir",
            "Entrypoint",
            "OnBuild",
            "Labels",
            "StopSignal",
            "StopTimeout",
            "Shell",
            "NetworkDisabled",
        ];
        let mut fields = crate::convert::fields::of::<Config>();
        fields.retain(|field| !elsewhere.contains(&field.as_str()));
        let mut named = kept.map(str::to_owned).to_vec();
        named.sort();
        fields.sort();
        assert_eq!(named, fields);
        for field in kept {
            // One of these is of the field's type.
            let values = [
                json!("x"),
                json!(true),
                json!({"x": {}}),
                json!(["x"]),
                json!({"x": "y"}),
                json!(7),
                json!({"Retries": 7}),
            ];
            let changed = values.iter().any(|value| {
                let config_of = coracle_api::go::from_value::<Config>(&json!({field: value}));
                config_of
                    .is_ok_and(|given| given != Config::default() && config(given) != Settings::default())
            });
            assert!(changed, "{field} changes nothing");
        }
        let request = |config: serde_json::Value| settings(coracle_api::go::from_value(&config).unwrap());
        assert_eq!(
            request(json!({"MacAddress": "02:00:00:00:00:01"})).unwrap().host.mac_address,
            "02:00:00:00:00:01"
        );
        let disabled = json!({"NetworkDisabled": true, "HostConfig": {"NetworkMode": "backend"},
            "NetworkingConfig": {"EndpointsConfig": {"frontend": null}}});
        let host = request(disabled).unwrap().host;
        assert_eq!((host.network, host.joins.len()), (NetworkMode::None, 0));
    }

    #[test]
    fn every_field_of_an_endpoint_that_can_be_asked_for_is_kept_or_refused() {
        use serde_json::json;
        let request = |endpoint: serde_json::Value| {
            let body = json!({"NetworkingConfig": {"EndpointsConfig": {"bridge": endpoint}}});
            settings(coracle_api::go::from_value(&body).unwrap())
        };
        for endpoint in [
            json!({"Links": ["a:"]}),
            json!({"DriverOpts": {"a": "b"}}),
            json!({"GwPriority": 1}),
            json!({"IPAMConfig": {"IPv6Address": "10.0.0.9"}}),
            json!({"IPAMConfig": {"LinkLocalIPs": ["169.254.1.1"]}}),
            json!({"IPAMConfig": {"IPv4Address": "nowhere"}}),
        ] {
            assert!(request(endpoint.clone()).is_err(), "{endpoint}");
        }
        let endpoint = json!({"Aliases": ["a"], "MacAddress": "02:00:00:00:00:01", "IPAMConfig": {"IPv4Address": "10.0.0.9", "IPv6Address": "fd00::9"}});
        let host = request(endpoint).unwrap().host;
        let addresses: Vec<_> = host.addresses.all().map(|address| address.to_string()).collect();
        assert_eq!(addresses, ["10.0.0.9", "fd00::9"]);
        assert_eq!(
            (&host.aliases[..], host.mac_address.as_str()),
            (&["a".to_owned()][..], "02:00:00:00:00:01")
        );
    }
}
