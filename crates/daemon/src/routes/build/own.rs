//! `POST /coracle/build`, an endpoint of our own: a context that is on this machine is read where it is, and every step
//! is told of as it goes.

use super::lines::take_text;
use super::running::{CacheTarget, Running};
use super::{caches, failed, host_config};
use crate::answer::{self, Answer};
use crate::convert::{platform, transfer};
use crate::error::Failure;
use crate::input;
use crate::routes::images::references;
use crate::routes::json_line;
use crate::server::Call;
use coracle_api::build::{
    BuildOptions, BuildProgress, BuildStep, CacheTarget as GivenTarget, NamedContext as Given, Place,
};
use coracle_engine::build::{
    Allowed, Anew, BuildError, BuildRequest, CacheMode, Client, NamedContext, Recipe, Selection, Silent,
    Source, StepInfo, Stream, Told, Wanted, context_name,
};
use coracle_engine::config::BuildSettings;
use coracle_engine::images::BodyReader;
use coracle_engine::{Credentials, Error, Result as EngineResult};
use coracle_spec::{Platform, Reference};
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use rustix::fs::{Mode, OFlags};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use tokio::net::UnixStream;

/// Largest document in front of a context, in bytes: it holds secrets, too.
const OPTIONS: usize = 4 << 20;
/// Most contexts and agents of a build: each may be a descriptor of the engine.
const PLACES: usize = 256;

pub(in crate::routes) async fn build(call: Call) -> Answer {
    let (body, builds) = (input::reader(call.request), call.context.engine.config().builds);
    let asked = tokio::task::spawn_blocking(move || read(body, builds)).await.map_err(stopped)?;
    let Asked { request, platforms, references, targets } = asked?;
    let names = references.iter().map(Reference::familiar).collect();
    let running = Running::begin(call.context, call.client, request, platforms, references, targets);
    let mut messages = Messages { running, names, cut: HashMap::new(), ready: VecDeque::new() };
    // What fails before anything is told is an answer of its own.
    let first = messages.next().await.map_err(failed)?;
    messages.ready.extend(first);
    let parts = futures_util::stream::unfold(messages, |mut messages| async {
        let message = match messages.next().await {
            Ok(message) => message?,
            Err(error) => failure(&error),
        };
        Some((Ok::<_, io::Error>(json_line(&message)), messages))
    });
    Ok(answer::stream("application/json", parts))
}

/// What a client asks for.
struct Asked {
    request: BuildRequest,
    platforms: Vec<Platform>,
    references: Vec<Reference>,
    targets: Vec<CacheTarget>,
}

/// Reads what is asked for, and opens what it names of this machine. Blocks, as long as the client or a file system does.
fn read(mut body: BodyReader, builds: BuildSettings) -> Result<Asked, Failure> {
    let options = read_options(&mut body)?;
    check_places(&options)?;
    let references = references(options.tags.iter().map(String::as_str))?;
    let platforms = platform::list(&options.platform)?;
    let targets = options.cache_to.iter().map(cache_target).collect::<Result<_, _>>()?;
    let request = request(options, &platforms, builds, body)?;
    Ok(Asked { request, platforms, references, targets })
}

/// Reads the document in front of the context.
fn read_options(body: &mut BodyReader) -> Result<BuildOptions, Failure> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match body.read(&mut byte) {
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) if line.len() >= OPTIONS => {
                let message = format!("the options of the build are larger than {OPTIONS} bytes");
                return Err(Failure::new(StatusCode::PAYLOAD_TOO_LARGE, message));
            }
            Ok(_) => line.push(byte[0]),
            Err(error) => return Err(Failure::invalid(format!("cannot read the request body: {error}"))),
        }
    }
    coracle_api::from_slice(&line).map_err(|error| Failure::invalid(format!("invalid JSON: {error}")))
}

fn check_places(options: &BuildOptions) -> Result<(), Failure> {
    if options.contexts.len() + options.ssh.len() <= PLACES {
        return Ok(());
    }
    Err(Failure::invalid(format!("the build has more than {PLACES} contexts and SSH agents")))
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn stopped(error: tokio::task::JoinError) -> Failure {
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

fn request(
    options: BuildOptions,
    platforms: &[Platform],
    builds: BuildSettings,
    body: BodyReader,
) -> Result<BuildRequest, Failure> {
    let contexts = options.contexts.iter().map(context).collect::<Result<_, _>>()?;
    let source = match &options.directory {
        Some(directory) => Source::Directory(open_directory(directory)?),
        None => Source::Archive(body),
    };
    let anew = match (options.no_cache, options.no_cache_filter) {
        (true, _) => Anew::Everything,
        (false, stages) if stages.is_empty() => Anew::Nothing,
        (false, stages) => Anew::Stages(stages),
    };
    let credentials = options.credentials.iter();
    let credentials = credentials.map(|(domain, auth)| (domain.clone(), transfer::of_auth(auth))).collect();
    Ok(BuildRequest {
        source,
        recipe: match options.text {
            Some(text) => Recipe::Text(text),
            None => Recipe::InContext(options.dockerfile),
        },
        contexts,
        client: Arc::new(Lender {
            silent: Silent { credentials },
            secrets: secrets(&options.secrets)?,
            agents: agents(&options.ssh)?,
        }),
        wanted: Wanted {
            target: Some(options.target).filter(|target| !target.is_empty()),
            arguments: options.arguments,
            platform: platforms[0].clone(),
            build_platform: Platform::host(),
            ..Wanted::default()
        },
        labels: options.labels,
        pull: options.pull,
        anew,
        host: host_config::host_settings(options.host_config)?,
        caches: caches(&options.cache_from)?,
        inline_cache: options.inline_cache,
        squash: options.squash,
        allowed: Allowed::of(&options.allow, builds)?,
    })
}

fn cache_target(given: &GivenTarget) -> Result<CacheTarget, Failure> {
    let reference: Reference = given
        .name
        .parse()
        .map_err(|error| Failure::invalid(format!("invalid name of a cache {}: {error}", given.name)))?;
    let mode = if given.all_stages { CacheMode::Max } else { CacheMode::Min };
    Ok(CacheTarget { reference: reference.or_latest(), mode })
}

fn context((name, given): (&String, &Given)) -> Result<(String, NamedContext), Failure> {
    let name = context_name(name).map_err(|error| Failure::invalid(error.to_string()))?;
    let context = match given {
        Given::Image { name } => NamedContext::Image(name.clone()),
        Given::Address { address } => NamedContext::Address(address.clone()),
        Given::Directory { directory } => NamedContext::Directory(open_directory(directory)?),
    };
    Ok((name, context))
}

/// Opens a directory of this machine.
fn open_directory(place: &Place) -> Result<OwnedFd, Failure> {
    open(place, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Opens what must be the same here as where the client sees it.
fn open(place: &Place, flags: OFlags) -> Result<OwnedFd, Failure> {
    let elsewhere = || {
        let message = format!("the engine does not find the client's {}", place.path);
        Failure::new(StatusCode::PRECONDITION_FAILED, message)
    };
    let found = rustix::fs::open(&place.path, flags | OFlags::CLOEXEC, Mode::empty());
    let found = found.map_err(|_| elsewhere())?;
    let stat = rustix::fs::fstat(&found).map_err(|_| elsewhere())?;
    if (stat.st_dev, stat.st_ino) == (place.device, place.inode) { Ok(found) } else { Err(elsewhere()) }
}

fn secrets(encoded: &BTreeMap<String, String>) -> Result<HashMap<String, Vec<u8>>, Failure> {
    let decode = |(id, text): (&String, &String)| {
        let bytes = coracle_api::base64::decode(text);
        Ok((id.clone(), bytes.ok_or_else(|| Failure::invalid(format!("the secret {id} is no base64")))?))
    };
    encoded.iter().map(decode).collect()
}

/// The sockets of agents. Opened so, they are there, and nobody is connected.
fn agents(places: &BTreeMap<String, Place>) -> Result<HashMap<String, OwnedFd>, Failure> {
    places.iter().map(|(id, place)| Ok((id.clone(), open(place, OFlags::PATH)?))).collect()
}

/// A client that gave its secrets with the request, and shares the sockets of its agents.
struct Lender {
    silent: Silent,
    secrets: HashMap<String, Vec<u8>>,
    agents: HashMap<String, OwnedFd>,
}

impl Client for Lender {
    fn directory<'a>(
        &'a self,
        name: &'a str,
        wanted: &'a Selection,
    ) -> BoxFuture<'a, EngineResult<BodyReader>> {
        self.silent.directory(name, wanted)
    }

    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, EngineResult<Option<Vec<u8>>>> {
        let secret = self.secrets.get(id).cloned();
        Box::pin(async { Ok(secret) })
    }

    fn ssh<'a>(&'a self, id: &'a str) -> BoxFuture<'a, EngineResult<Option<Box<dyn Stream>>>> {
        Box::pin(async move {
            let Some(socket) = self.agents.get(id) else { return Ok(None) };
            // The socket that was opened, whatever its path leads to by now.
            let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
            let stream = UnixStream::connect(path).await.map_err(|error| Error::Failed {
                action: format!("connect to the SSH agent {id}"),
                source: Box::new(error),
            })?;
            Ok(Some(Box::new(stream) as Box<dyn Stream>))
        })
    }

    fn credentials<'a>(&'a self, domain: &'a str) -> BoxFuture<'a, EngineResult<Credentials>> {
        self.silent.credentials(domain)
    }
}

/// What a build tells, as documents.
struct Messages {
    running: Running,
    names: Vec<String>,
    /// Of each step, the beginning of a character whose end has not come.
    cut: HashMap<usize, Vec<u8>>,
    ready: VecDeque<BuildProgress>,
}

impl Messages {
    /// The next document; `None` at the end.
    async fn next(&mut self) -> Result<Option<BuildProgress>, BuildError> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Ok(Some(message));
            }
            let Some(told) = self.running.next().await? else { return Ok(None) };
            let message = self.message(told);
            self.ready.extend(message);
        }
    }

    fn message(&mut self, told: Told) -> Option<BuildProgress> {
        let time = |moment: ::time::OffsetDateTime| i64::try_from(moment.unix_timestamp_nanos()).unwrap_or(0);
        Some(match told {
            Told::Steps(steps) => BuildProgress::Steps { steps: steps.into_iter().map(step).collect() },
            Told::Begun(step, at) => BuildProgress::Begun { step, time: time(at) },
            Told::Cached(step) => BuildProgress::Cached { step },
            Told::Changed(step, inputs) => BuildProgress::Changed { step, inputs },
            Told::Output { step, is_error, bytes } => {
                let cut = self.cut.entry(step).or_default();
                cut.extend_from_slice(&bytes);
                let text = take_text(cut);
                return (!text.is_empty()).then_some(BuildProgress::Output { step, error: is_error, text });
            }
            Told::Ended(step, at, failure) => {
                BuildProgress::Ended { step, time: time(at), failure: failure.unwrap_or_default() }
            }
            Told::Reading(..) | Told::Read(_, _, None) => return None,
            Told::Read(cache, _, Some(reason)) => {
                BuildProgress::Note { text: format!("the cache {cache} is not used: {reason}") }
            }
            Told::NotUsed { from, reason, .. } => {
                BuildProgress::Note { text: format!("the cache {from} is not used any more: {reason}") }
            }
            Told::Warning(warning) => BuildProgress::Warning {
                rule: warning.rule.name(),
                text: warning.text,
                lines: (warning.lines.first, warning.lines.last),
            },
            Told::Built(image) => {
                BuildProgress::Built { image: image.to_string(), names: std::mem::take(&mut self.names) }
            }
        })
    }
}

fn step(info: StepInfo) -> BuildStep {
    let stage = if info.one_of_stages { info.stage } else { String::new() };
    BuildStep { number: info.number, stage, text: info.text, place: info.place }
}

fn failure(error: &BuildError) -> BuildProgress {
    let code = match error {
        BuildError::Command { code, .. } => *code,
        _ => 1,
    };
    BuildProgress::Failed { message: error.chain(), code, lines: error.lines() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_build_may_hold_open_is_bounded() {
        let mut options = BuildOptions::default();
        options.ssh.extend((0..PLACES).map(|number| (number.to_string(), Place::default())));
        assert!(check_places(&options).is_ok());
        options.contexts.insert("one".to_owned(), Given::Image { name: "more".to_owned() });
        assert_eq!(check_places(&options).unwrap_err().status, StatusCode::BAD_REQUEST);
    }
}
