//! `stats`: samples of many containers, shown together twice a second.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_api::Filters;
use coracle_api::container::Stats;
use coracle_api::system::Event;
use coracle_client::{Client, JsonLines};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{AT_ONCE, App, print};
use crate::args::container::StatsArgs;
use crate::error::Result;
use crate::render::listing::{Row, short_id};
use crate::render::stats::{LAYOUT, row};
use crate::terminal::raw;

/// How often the table is shown.
const TICK: Duration = Duration::from_millis(500);

pub(super) async fn stats(app: &App, args: StatsArgs) -> Result<()> {
    let args =
        StatsArgs { format: app.format(args.format.as_deref(), "statsFormat").map(str::to_owned), ..args };
    let client = app.client().await?;
    let named = !args.names.is_empty();
    let names = if named { args.names.clone() } else { listed(&client, args.all).await? };
    if args.no_stream {
        return once(&client, &args, names).await;
    }
    let mut live = Live::begin(client, args);
    // First: what starts while others are listed is not missed.
    let mut events = if named { None } else { Some(live.client.events(None, None, &of_containers()).await?) };
    names.iter().for_each(|name| live.watch(name));
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = tick.tick() => live.show()?,
            Some(news) = live.news.recv() => live.hear(news)?,
            event = next(&mut events) => match event? {
                Some(event) => live.follow(&event),
                None => return Ok(()),
            },
        }
        if named && live.containers.is_empty() {
            return Ok(());
        }
    }
}

async fn listed(client: &Client, all: bool) -> Result<Vec<String>> {
    let containers = client.containers(all, None, false, &Filters::default()).await?;
    Ok(containers.into_iter().map(|container| container.id).collect())
}

fn of_containers() -> Filters {
    let mut filters = Filters::default();
    filters.add("type", "container");
    filters
}

async fn next(events: &mut Option<JsonLines<Event>>) -> Result<Option<Event>> {
    match events {
        Some(events) => Ok(events.next().await?),
        None => std::future::pending().await,
    }
}

/// One sample of each, with the one of a second before.
async fn once(client: &Client, args: &StatsArgs, names: Vec<String>) -> Result<()> {
    use futures_util::StreamExt as _;
    let sample = async |name: String| (client.container_stats_once(&name).await, name);
    let samples: Vec<_> =
        futures_util::stream::iter(names.into_iter().map(sample)).buffered(AT_ONCE).collect().await;
    let mut rows = Vec::new();
    for (stats, name) in samples {
        match stats {
            Ok(stats) => rows.push(row(shown(&name, args), Some(&stats), !args.no_trunc)),
            // It ended between the list and the sample.
            Err(error) if error.is_not_found() && args.names.is_empty() => {}
            Err(error) => return Err(error.into()),
        }
    }
    print(LAYOUT.render(args.format.as_deref(), rows)?)
}

/// Names as they were typed, ids of a list shortened.
fn shown<'a>(name: &'a str, args: &StatsArgs) -> &'a str {
    if args.names.is_empty() { short_id(name) } else { name }
}

/// Something new about the container of this name.
enum News {
    Sample(String, Box<Stats>),
    Ended(String, Option<coracle_client::Error>),
}

/// What is shown and who finds it out.
struct Live {
    client: Client,
    args: StatsArgs,
    containers: BTreeMap<String, Option<Box<Stats>>>,
    /// In the order in which they are shown.
    order: Vec<String>,
    sender: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
    watchers: JoinSet<()>,
}

impl Live {
    fn begin(client: Client, args: StatsArgs) -> Self {
        let (sender, news) = mpsc::channel(AT_ONCE);
        let (containers, order) = (BTreeMap::new(), Vec::new());
        Self { client, args, containers, order, sender, news, watchers: JoinSet::new() }
    }

    fn watch(&mut self, name: &str) {
        if self.containers.insert(name.to_owned(), None).is_some() {
            return;
        }
        self.order.push(name.to_owned());
        let (client, sender, name) = (self.client.clone(), self.sender.clone(), name.to_owned());
        self.watchers.spawn(async move {
            let failed = watch(&client, &sender, &name).await.err();
            // Nobody hears it when the command ends.
            let _ = sender.send(News::Ended(name, failed)).await;
        });
    }

    fn hear(&mut self, news: News) -> Result<()> {
        match news {
            News::Sample(name, stats) => {
                if let Some(known) = self.containers.get_mut(&name) {
                    *known = Some(stats);
                }
            }
            News::Ended(name, failed) => {
                self.forget(&name);
                // One that was named and is not there is a mistake; one that came and went is not.
                if let Some(error) = failed.filter(|_| !self.args.names.is_empty()) {
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    fn follow(&mut self, event: &Event) {
        match event.action.as_str() {
            "create" if self.args.all => self.watch(&event.actor.id),
            "start" => self.watch(&event.actor.id),
            "die" if !self.args.all => self.forget(&event.actor.id),
            "destroy" => self.forget(&event.actor.id),
            _ => {}
        }
    }

    fn forget(&mut self, name: &str) {
        self.containers.remove(name);
        self.order.retain(|known| known != name);
    }

    fn show(&self) -> Result<()> {
        let of = |name: &String| self.containers.get(name).and_then(Option::as_deref);
        let row = |name: &String| row(shown(name, &self.args), of(name), !self.args.no_trunc);
        let rows: Vec<Row> = self.order.iter().map(row).collect();
        let text = LAYOUT.render(self.args.format.as_deref(), rows)?;
        if !raw::stdout_is_terminal() {
            return print(text);
        }
        // To the top; each line to its end, then the rest of the screen (ECMA-48: CUP, EL, ED).
        print(format!("\u{1b}[H{}\u{1b}[J", text.replace('\n', "\u{1b}[K\n")))
    }
}

async fn watch(
    client: &Client,
    sender: &mpsc::Sender<News>,
    name: &str,
) -> Result<(), coracle_client::Error> {
    let mut samples = client.container_stats(name).await?;
    while let Some(stats) = samples.next().await? {
        if sender.send(News::Sample(name.to_owned(), Box::new(stats))).await.is_err() {
            break;
        }
    }
    Ok(())
}
