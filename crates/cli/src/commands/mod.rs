//! Commands: arguments → requests → output.

mod build;
mod build_output;
mod check;
mod commit;
mod containers;
mod contexts;
mod cp;
mod dial;
mod disk_usage;
mod exec;
mod images;
mod info;
mod inspect;
mod lifecycle;
mod logs;
mod manifest;
mod moving;
mod networks;
mod prune;
mod ps;
mod pull;
mod reclaim;
mod registries;
mod run;
mod stats;
mod system;
mod transfer;
mod tree;
mod volume_copies;
mod volumes;

use std::io::Write as _;

use coracle_client::{Client, Endpoint, Watcher};
use futures_util::StreamExt as _;

use crate::args::build::BuilderCommand;
use crate::args::registry::TopLevelCommand;
use crate::args::{Arguments, Commands, Globals, LogLevel};
use crate::configuration::{self, Configuration};
use crate::contexts::{Store, current, endpoint_of};
use crate::engine_start;
use crate::error::{Error, Result};
use crate::resolve::Invalid;
use crate::resolve::container::Surroundings;
use coracle_spec::full_text;

/// How many things are done at once when a command names many.
const AT_ONCE: usize = 50;

/// The engine that commands talk to.
pub(crate) struct App {
    endpoint: Endpoint,
    /// The name of the context it comes from.
    context: String,
    watcher: Option<Watcher>,
    configuration: Configuration,
}

impl App {
    fn of(globals: &Globals) -> Result<Self> {
        let directory = configuration::directory();
        let configuration = Configuration::read(&directory)?;
        let choice = current(globals, variable, &configuration)?;
        let endpoint = endpoint_of(&choice, globals, variable, &Store::below(&directory))?;
        let watcher: Watcher = |line| say(format!("debug: {line}"));
        let watcher = (globals.debug || globals.log_level == LogLevel::Debug).then_some(watcher);
        Ok(Self { endpoint, context: choice.name, watcher, configuration })
    }

    /// `--format`, or what the configuration has for this kind of list.
    fn format<'a>(&'a self, given: Option<&'a str>, setting: &str) -> Option<&'a str> {
        given.or_else(|| self.configuration.text(setting))
    }

    /// `--detach-keys`, or what the configuration has.
    fn detach_keys<'a>(&'a self, given: &'a str) -> &'a str {
        if given.is_empty() { self.configuration.text("detachKeys").unwrap_or_default() } else { given }
    }

    /// Starts the engine when it is this machine's and does not run.
    async fn ensure(&self) -> Result<()> {
        let endpoint = self.endpoint.clone();
        let started = tokio::task::spawn_blocking(move || engine_start::ensure(&endpoint)).await;
        Ok(started.expect("starting the engine does not panic")?)
    }

    /// A client of the engine, which is started first when it is this machine's and does not run.
    async fn client(&self) -> Result<Client> {
        self.ensure().await?;
        match variable("DOCKER_API_VERSION").filter(|text| !text.is_empty()) {
            None => Ok(Client::connect(self.endpoint.clone(), self.watcher).await?),
            Some(text) => {
                let version =
                    text.parse().map_err(|error| Invalid(format!("DOCKER_API_VERSION: {error}")))?;
                Ok(Client::with_version(self.endpoint.clone(), version).watched(self.watcher))
            }
        }
    }
}

/// Runs a command; answers with its exit code.
pub(crate) async fn dispatch(Arguments { globals, command }: Arguments) -> Result<u8> {
    let command = match command {
        Commands::Context(command) => {
            return contexts::dispatch(globals, command).map(|code| code.unwrap_or(0));
        }
        command => command,
    };
    let app = App::of(&globals)?;
    match command {
        Commands::Builder(BuilderCommand::Build(args)) => build::build(&app, *args).await.map(done),
        Commands::Builder(BuilderCommand::Prune(args)) => prune::builds(&app, args).await.map(done),
        Commands::Container(command) => containers::dispatch(&app, *command).await,
        Commands::Containers(group) => containers::dispatch_group(&app, group).await,
        Commands::TopLevelImage(command) => images::dispatch_top_level(&app, command).await,
        Commands::Images(command) => images::dispatch(&app, command).await,
        Commands::Registry(TopLevelCommand::Login(args)) => registries::login(&app, args).await.map(done),
        Commands::Registry(TopLevelCommand::Logout(args)) => registries::logout(args).map(done),
        Commands::Registry(TopLevelCommand::Search(args)) => registries::search(&app, args).await.map(done),
        Commands::Manifest(command) => manifest::dispatch(&app, command).await,
        Commands::Volume(command) => volumes::dispatch(&app, command).await,
        Commands::Network(command) => networks::dispatch(&app, command).await,
        Commands::System(command) => system::dispatch(&app, command).await,
        Commands::TopLevelSystem(command) => system::dispatch_top_level(&app, command).await,
        Commands::Context(_)
        | Commands::Completion { .. }
        | Commands::Daemon { .. }
        | Commands::EngineChild => {
            unreachable!("these need no engine")
        }
    }
    .map(|code| code.unwrap_or(0))
}

/// What a command answers: nothing, or an exit code.
type Code = Result<Option<u8>>;

/// Turns a finished command into its code.
fn done<T>(_: T) -> Option<u8> {
    None
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Writes data.
fn print(text: impl AsRef<str>) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_ref().as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(Error::io("write to stdout"))
}

fn print_line(text: impl AsRef<str>) -> Result<()> {
    print(format!("{}\n", text.as_ref()))
}

/// Says something to the person; nobody listening is no failure.
pub(crate) fn say(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr(), "{}", text.as_ref());
}

/// Does something to each name, many at once, and prints the answers in order. All are tried, each failure is said.
async fn for_each<F, T>(names: &[String], operation: F) -> Result<()>
where
    F: Fn(String) -> T,
    T: Future<Output = Result<String>>,
{
    try_each(names, operation, |_| true).await
}

/// As [`for_each`], for `--force`: what does not exist is said and is no failure.
async fn for_each_that_exists<F, T>(names: &[String], operation: F) -> Result<()>
where
    F: Fn(String) -> T,
    T: Future<Output = Result<String>>,
{
    try_each(names, operation, |error| !matches!(error, Error::Client(error) if error.is_not_found())).await
}

async fn try_each<F, T>(names: &[String], operation: F, is_failure: fn(&Error) -> bool) -> Result<()>
where
    F: Fn(String) -> T,
    T: Future<Output = Result<String>>,
{
    let failed = failures(names, operation, is_failure).await?;
    if failed.is_empty() { Ok(()) } else { Err(Error::Reported) }
}

/// The same; answers with the names of what failed.
async fn failures<F, T>(names: &[String], operation: F, is_failure: fn(&Error) -> bool) -> Result<Vec<&str>>
where
    F: Fn(String) -> T,
    T: Future<Output = Result<String>>,
{
    let mut answers = futures_util::stream::iter(names.iter().cloned().map(operation)).buffered(AT_ONCE);
    let (mut failed, mut asked) = (Vec::new(), names.iter());
    while let Some(answer) = answers.next().await {
        let name = asked.next().expect("one answer for each name");
        match answer {
            Ok(text) => print_line(text)?,
            Err(error) => {
                failed.extend(is_failure(&error).then_some(name.as_str()));
                say(full_text(&error));
            }
        }
    }
    Ok(failed)
}

/// Asks before something is removed. Without a terminal the answer is read from stdin all the same, as Docker does.
fn confirmed(warning: &str) -> Result<bool> {
    print(format!("{warning}\nAre you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(Error::io("read the answer"))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// What arguments mean depends on where they are typed.
fn with_surroundings<T>(resolve: impl FnOnce(&Surroundings<'_>) -> Result<T, Invalid>) -> Result<T> {
    let directory = std::env::current_dir().map_err(Error::io("find the working directory"))?;
    let home = variable("HOME").map(std::path::PathBuf::from);
    let surroundings = Surroundings {
        directory: &directory,
        home: home.as_deref(),
        variable: &variable,
        read: &read_argument_file,
    };
    Ok(resolve(&surroundings)?)
}

/// Largest file that a flag may name, in bytes.
const ARGUMENT_FILE: u64 = 4 << 20;

fn read_argument_file(path: &str) -> Result<String, Invalid> {
    use std::io::Read as _;
    let refused = |error: std::io::Error| Invalid(format!("open {path}: {error}"));
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(refused)?;
    file.take(ARGUMENT_FILE).read_to_string(&mut text).map_err(refused)?;
    Ok(text)
}
