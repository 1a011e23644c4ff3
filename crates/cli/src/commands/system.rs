//! Commands on the engine: `events`, and where the others are.

use coracle_api::system::Event;

use super::logs::instant;
use super::{App, Code, check, dial, disk_usage, done, info, print, prune, reclaim};
use crate::args::system::{EventsArgs, SystemCommand, TopLevelCommand};
use crate::error::Result;
use crate::render::units;
use crate::resolve::pairs;
use crate::template::{Template, Value};

pub(super) async fn dispatch_top_level(app: &App, command: TopLevelCommand) -> Code {
    match command {
        TopLevelCommand::Version(args) => info::version(app, args).await.map(done),
        TopLevelCommand::Info(args) => info::info(app, args).await.map(done),
        TopLevelCommand::Events(args) => events(app, args).await.map(done),
    }
}

pub(super) async fn dispatch(app: &App, command: SystemCommand) -> Code {
    match command {
        SystemCommand::Check(args) => check::check(app, args).await,
        SystemCommand::DialStdio => dial::dial(app).await.map(done),
        SystemCommand::Df(args) => disk_usage::disk_usage(app, args).await.map(done),
        SystemCommand::Events(args) => events(app, args).await.map(done),
        SystemCommand::Info(args) => info::info(app, args).await.map(done),
        SystemCommand::Prune(args) => prune::system(app, args).await.map(done),
        SystemCommand::Reclaim(args) => reclaim::reclaim(app, args).await.map(done),
        SystemCommand::Shutdown => app.client().await?.stop_for_the_end().await.map(done).map_err(Into::into),
    }
}

async fn events(app: &App, args: EventsArgs) -> Result<()> {
    let format = EventFormat::parse(args.format.as_deref())?;
    let filters = pairs::filters(&args.filter)?;
    let since = args.since.as_deref().map(|text| instant(Some(text), "since")).transpose()?;
    let until = args.until.as_deref().map(|text| instant(Some(text), "until")).transpose()?;
    let mut events = app.client().await?.events(since.as_deref(), until.as_deref(), &filters).await?;
    while let Some(event) = events.next().await? {
        print(format.line(&event)?)?;
    }
    Ok(())
}

enum EventFormat {
    People,
    Json,
    Template(Template),
}

impl EventFormat {
    fn parse(format: Option<&str>) -> Result<Self> {
        Ok(match format {
            None | Some("") => Self::People,
            Some("json") => Self::Json,
            Some(template) => Self::Template(Template::parse(template)?),
        })
    }

    fn line(&self, event: &Event) -> Result<String> {
        Ok(match self {
            Self::People => sentence(event),
            Self::Json => Value::of(event).to_json() + "\n",
            Self::Template(template) => template.render(&for_template(event))? + "\n",
        })
    }
}

/// `TIME TYPE ACTION ID (attribute=value, …)`
fn sentence(event: &Event) -> String {
    let attributes = event.actor.attributes.iter().map(|(key, value)| format!("{key}={value}"));
    let attributes = attributes.collect::<Vec<_>>().join(", ");
    let attributes = if attributes.is_empty() { attributes } else { format!(" ({attributes})") };
    let at = units::nanosecond_timestamp(event.time_nano);
    format!("{at} {} {} {}{attributes}\n", event.kind, event.action, event.actor.id)
}

/// Templates name the fields as Go's structure does.
fn for_template(event: &Event) -> Value {
    let mut fields = Value::of(event).into_object();
    for (alias, name) in [
        ("Status", "status"),
        ("ID", "id"),
        ("From", "from"),
        ("Scope", "scope"),
        ("Time", "time"),
        ("TimeNano", "timeNano"),
    ] {
        fields.alias(alias, name);
    }
    fields.into()
}
