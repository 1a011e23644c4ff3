//! `ps`.

use coracle_api::container::{ContainerSummary, MountPoint, PortSummary};

use super::{App, print};
use crate::args::container::PsArgs;
use crate::error::Result;
use crate::render::listing::{Layout, Row, ellipsis, short_id};
use crate::render::units;
use crate::resolve::pairs;
use crate::template::Value;

const LAYOUT: Layout = Layout {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
    headers: HEADERS,
};

const LAYOUT_WITH_SIZE: Layout = Layout {
    table: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}",
    headers: HEADERS,
};

const HEADERS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Names", "NAMES"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
];

pub(super) async fn ps(app: &App, args: PsArgs) -> Result<()> {
    let filters = pairs::filters(&args.list.filter)?;
    let last = if args.latest { Some(1) } else { args.last.filter(|last| *last > 0) };
    let format = app.format(args.list.format.as_deref(), "psFormat");
    let layout = if args.size { &LAYOUT_WITH_SIZE } else { &LAYOUT };
    let format = if args.list.quiet { Some("{{.ID}}") } else { format };
    let fields = layout.fields(format)?;
    // They take time to find out; `json` shows what comes without them, as Docker's does.
    let needs_size = args.size || format != Some("json") && fields.have("Size");
    let client = app.client().await?;
    let containers = client.containers(args.all, last, needs_size, &filters).await?;
    let rows = containers.iter().map(|container| row(Row::of(&fields), container, !args.list.no_trunc));
    print(layout.render(format, rows)?)
}

/// Adds the fields of one container to a row; `short` cuts ids, commands and mounts.
pub(super) fn row<E>(row: Row, container: &ContainerSummary<E>, short: bool) -> Row {
    row.with_late("ID", || if short { short_id(&container.id) } else { &container.id })
        .with_late("Names", || names(container, short))
        .with_late("Image", || image(container, short))
        .with_late("Command", || match short {
            true => quoted(&ellipsis(&container.command, 20)),
            false => quoted(&container.command),
        })
        .with_late("CreatedAt", || units::timestamp(container.created))
        .with_late("RunningFor", || units::ago(container.created))
        .with_late("Ports", || ports(&container.ports))
        .with_late("State", || container.state.as_str())
        .with_late("Status", || container.status.as_str())
        .with_late("Size", || size(container))
        .with_labels(&container.labels)
        .with_late("Mounts", || mounts(&container.mounts, short))
        .with_late("LocalVolumes", || {
            container.mounts.iter().filter(|mount| mount.driver == "local").count().to_string()
        })
        .with_late("Networks", || {
            let networks = container.network_settings.networks.keys();
            networks.map(String::as_str).collect::<Vec<_>>().join(",")
        })
        // The engine does not say yet.
        .with("Platform", Value::Null)
}

/// As Go quotes.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if letter.is_control() => out.extend(letter.escape_default()),
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

/// Links give a container more names, with slashes in them.
fn names<E>(container: &ContainerSummary<E>, short: bool) -> String {
    let names = container.names.iter().map(|name| name.strip_prefix('/').unwrap_or(name));
    names.filter(|name| !short || !name.contains('/')).collect::<Vec<_>>().join(",")
}

fn image<E>(container: &ContainerSummary<E>, short: bool) -> String {
    if container.image.is_empty() {
        return "<no image>".into();
    }
    let id = short_id(&container.image_id);
    if short && !id.is_empty() && short_id(&container.image) == id {
        return id.to_owned();
    }
    match container.image.split_once('@') {
        Some((name, _)) if short => name.to_owned(),
        _ => container.image.clone(),
    }
}

fn size<E>(container: &ContainerSummary<E>) -> String {
    let own = units::short_size(container.size_rw);
    match container.size_root_fs {
        0 => own,
        all => format!("{own} (virtual {})", units::short_size(all)),
    }
}

fn mounts(mounts: &[MountPoint], short: bool) -> String {
    let name = |mount: &MountPoint| {
        let name = if mount.name.is_empty() { &mount.source } else { &mount.name };
        if short { ellipsis(name, 15) } else { name.clone() }
    };
    mounts.iter().map(name).collect::<Vec<_>>().join(",")
}

/// Ports as Docker shows them: equal ports in ranges first, mapped ones after.
pub(super) fn ports(ports: &[PortSummary]) -> String {
    let mut sorted: Vec<&PortSummary> = ports.iter().collect();
    sorted.sort_by_key(|port| (port.private_port, &port.ip, port.public_port, &port.protocol));
    let mut groups: Vec<Group<'_>> = Vec::new();
    let mut mapped = Vec::new();
    for port in sorted {
        if !port.ip.is_empty() && port.public_port != port.private_port {
            let host = host_port(&port.ip, &port.public_port.to_string());
            mapped.push(format!("{host}->{}/{}", port.private_port, port.protocol));
            continue;
        }
        let same = |group: &&mut Group<'_>| group.ip == port.ip && group.protocol == port.protocol;
        match groups.iter_mut().rev().find(same) {
            Some(group) if group.last.checked_add(1) == Some(port.private_port) => {
                group.last = port.private_port;
            }
            _ => groups.push(Group {
                ip: &port.ip,
                protocol: &port.protocol,
                first: port.private_port,
                last: port.private_port,
            }),
        }
    }
    groups.iter().map(Group::text).chain(mapped).collect::<Vec<_>>().join(", ")
}

struct Group<'a> {
    ip: &'a str,
    protocol: &'a str,
    first: u16,
    last: u16,
}

impl Group<'_> {
    fn text(&self) -> String {
        let range = if self.first == self.last {
            self.first.to_string()
        } else {
            format!("{}-{}", self.first, self.last)
        };
        match self.ip {
            "" => format!("{range}/{}", self.protocol),
            ip => format!("{}->{range}/{}", host_port(ip, &range), self.protocol),
        }
    }
}

/// An address with a port; IPv6 in brackets.
pub(super) fn host_port(ip: &str, port: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, public_port: u16, private_port: u16, protocol: &str) -> PortSummary {
        PortSummary { ip: ip.into(), private_port, public_port, protocol: protocol.into() }
    }

    #[test]
    fn ports_are_shown_as_docker_shows_them() {
        let cases = [
            (vec![], ""),
            (vec![port("", 0, 80, "tcp")], "80/tcp"),
            (vec![port("", 0, 81, "tcp"), port("", 0, 80, "tcp")], "80-81/tcp"),
            (
                vec![port("0.0.0.0", 8081, 80, "tcp"), port("::", 8081, 80, "tcp")],
                "0.0.0.0:8081->80/tcp, [::]:8081->80/tcp",
            ),
            (
                vec![port("127.0.0.1", 80, 80, "tcp"), port("127.0.0.1", 81, 81, "tcp")],
                "127.0.0.1:80-81->80-81/tcp",
            ),
        ];
        for (list, expected) in cases {
            assert_eq!(ports(&list), expected);
        }
    }
}
