//! A container as `ps` shows it, and which ones it shows.

use super::container::{mount, networks};
use super::time;
use crate::error::Failure;
use ::time::OffsetDateTime;
use coracle_api::Filters;
use coracle_api::container as api;
use coracle_engine::containers::state::Status;
use coracle_engine::containers::{Description, health};
use std::sync::Arc;

/// The filters that there are.
const KNOWN: [&str; 14] = [
    "id", "name", "label", "status", "exited", "ancestor", "before", "since", "volume", "network", "health",
    "is-task", "publish", "expose",
];

/// A row of the list.
pub(crate) fn summary(container: &Description, now: OffsetDateTime) -> api::ContainerSummary {
    let settings = &container.settings;
    let words: Vec<&String> =
        settings.entrypoint.iter().flatten().chain(settings.cmd.iter().flatten()).collect();
    let command: Vec<String> = words.iter().map(|word| shown_word(word)).collect();
    api::ContainerSummary {
        id: container.id.to_string(),
        names: vec![format!("/{}", container.name)],
        image: settings.image.clone(),
        image_id: container.image.to_string(),
        command: command.join(" "),
        created: container.created.unix_timestamp(),
        ports: ports(container),
        labels: settings.labels.clone(),
        state: container.state.status.to_string(),
        status: status(container, now),
        host_config: api::HostConfigSummary {
            network_mode: settings.host.network.to_string(),
            ..api::HostConfigSummary::default()
        },
        network_settings: api::NetworkSettingsSummary {
            networks: networks(container).into_iter().map(|(name, it)| (name, Box::new(it))).collect(),
        },
        mounts: container.mounts.iter().map(mount).collect(),
        ..api::ContainerSummary::default()
    }
}

/// What the health check says, in short.
pub(crate) fn health_summary(container: &Description) -> api::HealthSummary {
    match &container.state.health {
        None => api::HealthSummary { status: "none".to_owned(), failing_streak: 0 },
        Some(health) => api::HealthSummary {
            status: health.status.to_string(),
            failing_streak: i64::from(health.failing_streak),
        },
    }
}

fn shown_word(word: &str) -> String {
    if word.contains(' ') { format!("'{word}'") } else { word.to_owned() }
}

fn ports(container: &Description) -> Vec<api::PortSummary> {
    let published = container.endpoints().flat_map(|endpoint| &endpoint.ports);
    let mut ports: Vec<api::PortSummary> = published
        .map(|port| api::PortSummary {
            ip: port.host_ip.to_string(),
            private_port: port.container_port,
            public_port: port.host_port,
            protocol: port.protocol.to_string(),
        })
        .collect();
    if container.state.status.is_up() {
        for exposed in &container.settings.exposed_ports {
            let Ok((port, protocol)) = coracle_engine::containers::parse_port(exposed) else { continue };
            let protocol = protocol.to_string();
            if !ports.iter().any(|known| known.private_port == port && known.protocol == protocol) {
                ports.push(api::PortSummary { private_port: port, protocol, ..api::PortSummary::default() });
            }
        }
    }
    ports
}

/// How the container is, in words.
fn status(container: &Description, now: OffsetDateTime) -> String {
    let state = &container.state;
    let since = |moment: Option<OffsetDateTime>| time::ago(now - moment.unwrap_or(now));
    match state.status {
        Status::Created => "Created".to_owned(),
        Status::Running => match state.health.as_deref().map(|health| health.status) {
            None => format!("Up {}", since(state.started_at)),
            Some(health::Status::Starting) => format!("Up {} (health: starting)", since(state.started_at)),
            Some(known) => format!("Up {} ({known})", since(state.started_at)),
        },
        Status::Paused => format!("Up {} (Paused)", since(state.started_at)),
        Status::Restarting => format!("Restarting ({}) {} ago", state.exit_code, since(state.finished_at)),
        Status::Exited => format!("Exited ({}) {} ago", state.exit_code, since(state.finished_at)),
        Status::Dead => "Dead".to_owned(),
    }
}

/// Leaves those containers that all filters want.
///
/// # Errors
/// 400 for a filter that is none, or a value that makes no sense.
pub(crate) fn select(
    mut containers: Vec<Arc<Description>>,
    filters: &Filters,
    is_of_image: &dyn Fn(&Description, &str) -> bool,
) -> Result<Vec<Arc<Description>>, Failure> {
    if let Some(unknown) = filters.unknown(&KNOWN) {
        return Err(Failure::invalid(format!("invalid filter '{unknown}'")));
    }
    check(filters)?;
    let moment = |name: &str| -> Result<Option<OffsetDateTime>, Failure> {
        let Some(wanted) = filters.values(name).next() else { return Ok(None) };
        let found =
            containers.iter().find(|c| c.id.as_str().starts_with(wanted) || c.name.as_str() == wanted);
        let missing = || Failure::from(coracle_engine::Error::no_container(wanted));
        found.map(|c| Some(c.created)).ok_or_else(missing)
    };
    let (before, since) = (moment("before")?, moment("since")?);
    containers.retain(|container| {
        before.is_none_or(|moment| container.created < moment)
            && since.is_none_or(|moment| container.created > moment)
            && matches(container, filters, is_of_image)
    });
    Ok(containers)
}

fn check(filters: &Filters) -> Result<(), Failure> {
    const STATES: [&str; 7] = ["created", "restarting", "running", "removing", "paused", "exited", "dead"];
    if let Some(state) = filters.values("status").find(|state| !STATES.contains(state)) {
        return Err(Failure::invalid(format!("invalid filter 'status={state}'")));
    }
    const HEALTH: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];
    if let Some(health) = filters.values("health").find(|health| !HEALTH.contains(health)) {
        return Err(Failure::invalid(format!("unrecognized filter value for health: {health}")));
    }
    match filters.values("exited").find(|code| code.parse::<i32>().is_err()) {
        Some(code) => Err(Failure::invalid(format!("invalid filter 'exited={code}'"))),
        None => Ok(()),
    }
}

fn matches(
    container: &Description,
    filters: &Filters,
    is_of_image: &dyn Fn(&Description, &str) -> bool,
) -> bool {
    // Any value of a name will do; every name must be met. Labels must all be there.
    let any = |name: &str, test: &dyn Fn(&str) -> bool| !filters.has(name) || filters.values(name).any(test);
    let settings = &container.settings;
    any("id", &|id| container.id.as_str().starts_with(id))
        && any("name", &|name| name_matches(container.name.as_str(), name))
        && filters.values("label").all(|wanted| has_label(&settings.labels, wanted))
        && any("status", &|status| container.state.status.to_string() == status)
        && any("exited", &|code| {
            container.state.status == Status::Exited && container.state.exit_code.to_string() == code
        })
        && any("ancestor", &|image| is_of_image(container, image))
        && any("volume", &|volume| {
            container.mounts.iter().any(|mount| {
                // A bind mount has no name.
                let name = if mount.name.is_empty() { &mount.source } else { &mount.name };
                name == volume || mount.destination == volume
            })
        })
        && any("network", &|network| {
            let is_it = |id: &str| !network.is_empty() && id.starts_with(network);
            networks(container).iter().any(|(name, endpoint)| name == network || is_it(&endpoint.network_id))
        })
        && any("health", &|health| health == health_summary(container).status)
        // None belongs to a swarm.
        && any("is-task", &|wanted| matches!(wanted, "false" | "0"))
        && any("publish", &|port| has_port(container, port, Published::Yes))
        && any("expose", &|port| has_port(container, port, Published::Either))
}

/// Whether a port must be published to count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Published {
    Yes,
    Either,
}

/// `PORT[-PORT][/PROTOCOL]`.
fn has_port(container: &Description, wanted: &str, published: Published) -> bool {
    let (range, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { return false };
    ports(container).iter().any(|port| {
        let number = if published == Published::Yes { port.public_port } else { port.private_port };
        port.protocol == protocol && (first..=last).contains(&number)
    })
}

/// Docker takes the filter for a regular expression; what people type is part of a name, with `^` and `$` at its ends.
fn name_matches(name: &str, wanted: &str) -> bool {
    let wanted = wanted.strip_prefix('/').unwrap_or(wanted);
    let (start, rest) = wanted.strip_prefix('^').map_or((false, wanted), |rest| (true, rest));
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    let (end, rest) = rest.strip_suffix('$').map_or((false, rest), |rest| (true, rest));
    match (start, end) {
        (true, true) => name == rest,
        (true, false) => name.starts_with(rest),
        (false, true) => name.ends_with(rest),
        (false, false) => name.contains(rest),
    }
}

/// `NAME` or `NAME=VALUE`.
pub(crate) fn has_label(labels: &std::collections::BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((name, value)) => labels.get(name).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_in_part_or_at_their_ends() {
        for (name, wanted, found) in [
            ("web1", "web", true),
            ("web1", "^web$", false),
            ("web", "^/web$", true),
            ("my-web", "web$", true),
            ("my-web", "^web", false),
        ] {
            assert_eq!(name_matches(name, wanted), found, "{name} {wanted}");
        }
    }

    #[test]
    fn filters_that_are_none_are_refused() {
        for text in
            [r#"{"nothing":["x"]}"#, r#"{"status":["flying"]}"#, r#"{"exited":["x"]}"#, r#"{"health":["x"]}"#]
        {
            let filters = Filters::parse(text).unwrap();
            assert!(select(Vec::new(), &filters, &|_, _| false).is_err(), "{text}");
        }
    }
}
