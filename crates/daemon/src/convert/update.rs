//! What a container is changed to: the parts of an update that say something.

use super::{host_config, settings};
use crate::error::Failure;
use coracle_api::container as api;
use coracle_engine::containers::settings::{Resources, RestartPolicy, Settings};
use coracle_engine::network::PublishRequest;
use coracle_spec::image::Healthcheck;
use std::collections::BTreeMap;

/// What `update` can change. What a request does not have stays as it is; a limit that is 0, too.
pub(crate) struct Update {
    pub(crate) resources: Resources,
    restart: Option<RestartPolicy>,
    /// All ports that are published from now on.
    ports: Option<Vec<PublishRequest>>,
    check: Option<Healthcheck>,
    log_driver: String,
    /// Options of the log; an empty one is taken away.
    log_options: BTreeMap<String, String>,
}

impl Update {
    /// # Errors
    /// For what makes no sense by itself.
    pub(crate) fn read(request: api::UpdateRequest) -> Result<Self, Failure> {
        let api::UpdateRequest { host, healthcheck } = request;
        let restart = (!host.restart_policy.name.is_empty()).then(|| host.restart_policy.clone());
        Ok(Self {
            resources: host_config::resources(&host),
            restart: restart.as_ref().map(host_config::restart).transpose()?,
            ports: host.port_bindings.map(host_config::ports).transpose()?,
            check: healthcheck.map(settings::health),
            log_driver: host.log_config.driver,
            log_options: host.log_config.config.unwrap_or_default(),
        })
    }

    pub(crate) fn apply(self, settings: &mut Settings) {
        if let Some(policy) = self.restart {
            settings.host.restart = policy;
        }
        apply_resources(&mut settings.host.resources, self.resources);
        if let Some(ports) = self.ports {
            let exposed = ports.iter().map(|port| format!("{}/{}", port.container_port, port.protocol));
            settings.exposed_ports.extend(exposed);
            settings.host.ports = ports;
            // These are all: an exposed one that is not among them was withdrawn.
            settings.host.publish_all = false;
        }
        if let Some(check) = self.check {
            settings.healthcheck = Some(changed(settings.healthcheck.take().unwrap_or_default(), check));
        }
        let log = &mut settings.host.log;
        if !self.log_driver.is_empty() {
            log.driver = self.log_driver;
        }
        log.options.extend(self.log_options);
        log.options.retain(|_, value| !value.is_empty());
    }
}

/// A health check of which only a part is new.
fn changed(own: Healthcheck, asked: Healthcheck) -> Healthcheck {
    let or = |asked, own| if asked == 0 { own } else { asked };
    Healthcheck {
        test: if asked.test.is_empty() { own.test } else { asked.test },
        interval: or(asked.interval, own.interval),
        timeout: or(asked.timeout, own.timeout),
        start_period: or(asked.start_period, own.start_period),
        start_interval: or(asked.start_interval, own.start_interval),
        retries: or(asked.retries, own.retries),
        ..own
    }
}

fn apply_resources(own: &mut Resources, asked: Resources) {
    let number = |own: &mut i64, asked: i64| {
        if asked != 0 {
            *own = asked;
        }
    };
    number(&mut own.memory, asked.memory);
    number(&mut own.memory_swap, asked.memory_swap);
    number(&mut own.memory_reservation, asked.memory_reservation);
    number(&mut own.cpu_shares, asked.cpu_shares);
    number(&mut own.cpu_period, asked.cpu_period);
    number(&mut own.cpu_quota, asked.cpu_quota);
    number(&mut own.nano_cpus, asked.nano_cpus);
    number(&mut own.cpu_realtime_period, asked.cpu_realtime_period);
    number(&mut own.cpu_realtime_runtime, asked.cpu_realtime_runtime);
    if asked.blkio_weight != 0 {
        own.blkio_weight = asked.blkio_weight;
    }
    // Unlike the others it can be taken away.
    own.pids = asked.pids.map(|limit| limit.max(0)).or(own.pids);
    for (own, asked) in [(&mut own.cpuset_cpus, asked.cpuset_cpus), (&mut own.cpuset_mems, asked.cpuset_mems)]
    {
        if !asked.is_empty() {
            *own = asked;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_does_not_have_stays() {
        let mut settings = Settings {
            healthcheck: Some(Healthcheck {
                test: vec!["CMD".into(), "true".into()],
                interval: 7,
                ..Healthcheck::default()
            }),
            ..Settings::default()
        };
        settings.host.log.options = [("max-size", "1m"), ("max-file", "3")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        settings.host.publish_all = true;
        let before = settings.clone();
        let apply = |text: &str, settings: &mut Settings| {
            let request = coracle_api::from_slice(text.as_bytes()).expect("it is a request");
            Update::read(request).unwrap_or_else(|_| panic!("{text}")).apply(settings);
        };
        apply("{}", &mut settings);
        apply(r#"{"PortBindings":null,"LogConfig":{"Type":"","Config":null}}"#, &mut settings);
        assert_eq!(settings, before);
        apply(
            r#"{"healthcheck":{"Retries":2},"LogConfig":{"Config":{"max-size":"2m","max-file":""}},
                "PortBindings":{"80/tcp":[{"HostPort":"8080"}]}}"#,
            &mut settings,
        );
        let check = settings.healthcheck.expect("it has one");
        assert_eq!((check.test.len(), check.interval, check.retries), (2, 7, 2));
        let options: Vec<_> = settings.host.log.options.into_iter().collect();
        assert_eq!(options, [("max-size".to_owned(), "2m".to_owned())]);
        assert_eq!((settings.host.ports.len(), settings.host.publish_all), (1, false));
        assert!(settings.exposed_ports.contains("80/tcp"));
    }
}
