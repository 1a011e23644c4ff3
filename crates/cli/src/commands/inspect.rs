//! `inspect` in its forms, and the small commands that show one thing of a container.

use coracle_client::Client;
use serde_json::value::RawValue;

use super::ps::host_port;
use super::{App, print, print_line, say};
use crate::args::InspectArgs;
use crate::args::container::{ContainerInspectArgs, NameArgs, PortArgs, TopArgs};
use crate::args::image::{AnyInspectArgs, ImageInspectArgs};
use crate::error::{Error, Result};
use crate::render::{json, table};
use crate::resolve::{Invalid, platform};
use crate::template::{Template, Value};
use coracle_spec::full_text;

/// What can be inspected, in the order in which a name is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Container { size: bool },
    Image { platform: Option<String> },
    Network,
    Volume,
}

impl Kind {
    async fn fetch(&self, client: &Client, name: &str) -> Result<Box<RawValue>> {
        Ok(match self {
            Self::Container { size } => client.inspect_container_raw(name, *size).await?,
            Self::Image { platform } => client.inspect_image_raw(name, platform.as_deref()).await?,
            Self::Network => client.inspect_network_raw(name).await?,
            Self::Volume => client.inspect_volume_raw(name).await?,
        })
    }
}

pub(super) async fn containers(app: &App, args: ContainerInspectArgs) -> Result<()> {
    show(app, &args.inspect, &[Kind::Container { size: args.size }]).await
}

pub(super) async fn of_kind(app: &App, args: InspectArgs, kind: Kind) -> Result<()> {
    show(app, &args, &[kind]).await
}

pub(super) async fn images(app: &App, args: ImageInspectArgs) -> Result<()> {
    let platform = args.platform.as_ref().map(platform::document);
    show(app, &args.inspect, &[Kind::Image { platform }]).await
}

pub(super) async fn any(app: &App, args: AnyInspectArgs) -> Result<()> {
    let container = Kind::Container { size: args.size };
    let image = Kind::Image { platform: None };
    let kinds = match args.kind.as_deref() {
        None | Some("") => vec![container, image, Kind::Network, Kind::Volume],
        Some("container") => vec![container],
        Some("image") => vec![image],
        Some("network") => vec![Kind::Network],
        Some("volume") => vec![Kind::Volume],
        Some(other) => {
            let text = format!(
                "unknown type: {other:?}: must be one of \"container\", \"image\", \"network\", \"volume\""
            );
            return Err(Invalid(text).into());
        }
    };
    show(app, &args.inspect, &kinds).await
}

async fn show(app: &App, args: &InspectArgs, kinds: &[Kind]) -> Result<()> {
    let template = match args.format.as_deref() {
        None | Some("") | Some("json") => None,
        Some(format) => Some(Template::parse(format)?),
    };
    let client = app.client().await?;
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for name in &args.names {
        match look_for(&client, name, kinds).await {
            Ok(value) => found.push(value),
            Err(error) => failures.push(full_text(&error)),
        }
    }
    match template {
        Some(template) => print_each(&template, &found)?,
        None => print_all(&found, args.format.as_deref() == Some("json"))?,
    }
    failures.iter().for_each(say);
    if failures.is_empty() { Ok(()) } else { Err(Error::Reported) }
}

/// The first kind of thing that has this name.
async fn look_for(client: &Client, name: &str, kinds: &[Kind]) -> Result<Box<RawValue>> {
    for kind in kinds {
        match kind.fetch(client, name).await {
            Err(Error::Client(error)) if error.is_not_found() && kinds.len() > 1 => {}
            other => return other,
        }
    }
    Err(Invalid(format!("Error: No such object: {name}")).into())
}

fn print_each(template: &Template, found: &[Box<RawValue>]) -> Result<()> {
    for value in found {
        let value: Value = serde_json::from_str(value.get()).expect("it was parsed when it came");
        print_line(template.render(&value)?)?;
    }
    Ok(())
}

fn print_all(found: &[Box<RawValue>], compact: bool) -> Result<()> {
    let list = format!("[{}]", found.iter().map(|value| value.get()).collect::<Vec<_>>().join(","));
    print_line(if compact { list } else { json::indent(&list) })
}

pub(super) async fn top(app: &App, args: TopArgs) -> Result<()> {
    let (name, options) = args.container_and_options.split_first().expect("clap asks for one");
    let top = app.client().await?.top_container(name, &options.join(" ")).await?;
    let rows = std::iter::once(&top.titles).chain(&top.processes);
    let text = rows.map(|cells| cells.join("\t") + "\n").collect::<String>();
    print(table::align(&text, 20, 3))
}

pub(super) async fn diff(app: &App, args: NameArgs) -> Result<()> {
    let changes = app.client().await?.container_changes(&args.name).await?;
    let letter = |kind| match kind {
        coracle_api::container::ChangeKind::Modified => 'C',
        coracle_api::container::ChangeKind::Added => 'A',
        coracle_api::container::ChangeKind::Deleted => 'D',
    };
    let lines = changes.iter().map(|change| format!("{} {}\n", letter(change.kind), change.path));
    print(lines.collect::<String>())
}

pub(super) async fn port(app: &App, args: PortArgs) -> Result<()> {
    let container = app.client().await?.inspect_container(&args.name).await?;
    let mut ports: Vec<_> = container.network_settings.ports.into_iter().collect();
    ports.sort_by_key(|(port, _)| port.split('/').next().and_then(|number| number.parse::<u16>().ok()));
    let Some(wanted) = &args.port else {
        let lines = ports.iter().flat_map(|(port, bindings)| {
            bindings.iter().flatten().map(move |binding| {
                format!("{port} -> {}\n", host_port(&binding.host_ip, &binding.host_port))
            })
        });
        return print(lines.collect::<String>());
    };
    let key = if wanted.contains('/') { wanted.to_lowercase() } else { format!("{wanted}/tcp") };
    match ports.into_iter().find(|(port, bindings)| *port == key && bindings.is_some()) {
        Some((_, bindings)) => {
            let lines = bindings.iter().flatten();
            print(
                lines
                    .map(|binding| host_port(&binding.host_ip, &binding.host_port) + "\n")
                    .collect::<String>(),
            )
        }
        None => Err(Invalid(format!("Error: No public port '{wanted}' published for {}", args.name)).into()),
    }
}
