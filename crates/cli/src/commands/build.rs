//! `build`. A context on the engine's machine is read by the engine where it is; elsewhere it is sent.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use coracle_api::base64;
use coracle_api::build::{BuildOptions, BuildProgress, NamedContext, Place};
use coracle_client::{Client, JsonLines};
use time::OffsetDateTime;
use tokio::io::AsyncRead;

use super::build_output::Wanted;
use super::{App, print_line, registries, variable};
use crate::args::build::{BuildArgs, Progress};
use crate::error::{Error, Result};
use crate::render::build::Display;
use crate::resolve::Invalid;
use crate::resolve::build::{ContextSource, SecretSource, agent, context, options, secret};
use crate::terminal::raw;
use crate::terminal::session::stdio;

/// Largest Dockerfile and secret, in bytes.
const FILE: u64 = 1 << 20;
/// How often a terminal shows how long what runs has run.
const TICK: Duration = Duration::from_millis(100);

pub(super) async fn build(app: &App, args: BuildArgs) -> Result<()> {
    let mut wanted = Wanted::of(&args)?;
    let mut options = options(&args, variable)?;
    options.secrets = secrets(&args.secret)?;
    options.contexts = contexts(&args.build_context)?;
    options.ssh = agents(&args.ssh)?;
    options.credentials = registries::all_credentials()?;
    let client = app.client().await?;
    wanted.look(&client).await?;
    let lines = if args.context == "-" {
        let (text, rest) = from_stdin(&args)?;
        options.text = text;
        options.dockerfile = args.file.clone().unwrap_or_default();
        client.build(&options, rest).await?
    } else {
        of_directory(&client, options, Path::new(&args.context), args.file.as_deref()).await?
    };
    let image = show(lines, &args).await?;
    if let Some(path) = &args.iidfile {
        std::fs::write(path, &image).map_err(Error::io(format!("write {}", path.display())))?;
    }
    let quiet = args.quiet || args.progress == Progress::Quiet;
    wanted.put(app, &client, &image, quiet).await?;
    if quiet && wanted.is_image() { print_line(&image) } else { Ok(()) }
}

/// A context on stdin: an archive, or a Dockerfile alone.
fn from_stdin(args: &BuildArgs) -> Result<(Option<String>, Box<dyn AsyncRead + Send + Unpin>)> {
    if args.file.as_deref() == Some("-") {
        return Err(Invalid("the context and the Dockerfile cannot both come from stdin".to_owned()).into());
    }
    let reading = || Error::io("read stdin");
    // Unbuffered: what is not read here is read by others.
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().map_err(reading())?;
    let mut stdin = std::fs::File::from(stdin);
    let mut start = Vec::new();
    (&mut stdin).take(512).read_to_end(&mut start).map_err(reading())?;
    if is_archive(&start) {
        let rest = stdio(std::io::stdin())?;
        return Ok((None, Box::new(tokio::io::AsyncReadExt::chain(std::io::Cursor::new(start), rest))));
    }
    stdin.take(FILE).read_to_end(&mut start).map_err(reading())?;
    let text = String::from_utf8(start)
        .map_err(|_| Invalid("stdin is neither an archive nor a Dockerfile".into()))?;
    // Of a Dockerfile alone the context is empty.
    let mut empty = tar::Builder::new(Vec::new());
    empty.finish().map_err(Error::io("make an empty context"))?;
    let empty = empty.into_inner().map_err(Error::io("make an empty context"))?;
    Ok((Some(text), Box::new(std::io::Cursor::new(empty))))
}

/// Whether this begins a tar archive, compressed or not.
fn is_archive(start: &[u8]) -> bool {
    let magics: [&[u8]; 4] =
        [&[0x1f, 0x8b], b"BZh", &[0xfd, b'7', b'z', b'X', b'Z'], &[0x28, 0xb5, 0x2f, 0xfd]];
    magics.iter().any(|magic| start.starts_with(magic)) || start.get(257..262) == Some(b"ustar")
}

async fn of_directory(
    client: &Client,
    mut options: BuildOptions,
    context: &Path,
    file: Option<&str>,
) -> Result<JsonLines<BuildProgress>> {
    let unreachable = |error| match error {
        error if context.to_string_lossy().contains("://") => {
            drop::<std::io::Error>(error);
            Error::Invalid(Invalid("a context at an address is not supported yet: fetch it first".to_owned()))
        }
        error => Error::io(format!("open the context {}", context.display()))(error),
    };
    let root = context.canonicalize().map_err(unreachable)?;
    options.directory = Some(directory(&root)?);
    (options.dockerfile, options.text) = recipe(&root, file)?;
    match client.build(&options, tokio::io::empty()).await {
        // Somewhere else.
        Err(error) if error.is_precondition_failed() => {}
        answered => return Ok(answered?),
    }
    let is_directory = |context: &NamedContext| matches!(context, NamedContext::Directory { .. });
    if let Some((name, _)) = options.contexts.iter().find(|(_, context)| is_directory(context)) {
        let text = format!(
            "the engine does not share the directory of the context {name}: only the main context is sent to another \
             machine; docker buildx build sends them all"
        );
        return Err(Invalid(text).into());
    }
    if let Some(id) = options.ssh.keys().next() {
        let text = format!(
            "the engine does not share the socket of the SSH agent {id}: docker buildx build forwards agents to another machine"
        );
        return Err(Invalid(text).into());
    }
    options.directory = None;
    Ok(client.build(&options, packed(root)?).await?)
}

/// A directory, as the engine makes sure that it finds the same.
fn directory(root: &Path) -> Result<Place> {
    let stat = root.metadata().map_err(Error::io(format!("look at {}", root.display())))?;
    if !stat.is_dir() {
        return Err(Invalid(format!("the context {} is no directory", root.display())).into());
    }
    Ok(place(root, &stat))
}

fn place(path: &Path, stat: &std::fs::Metadata) -> Place {
    Place { path: path.to_string_lossy().into_owned(), device: stat.dev(), inode: stat.ino() }
}

/// The sockets of SSH agents, by id.
fn agents(texts: &[String]) -> Result<BTreeMap<String, Place>> {
    let mut agents = BTreeMap::new();
    for text in texts {
        let (id, path) = agent(text, variable)?;
        let looking = || Error::io(format!("find the SSH agent {id} at {path}"));
        let socket = Path::new(&path).canonicalize().map_err(looking())?;
        let stat = socket.metadata().map_err(looking())?;
        if !stat.file_type().is_socket() {
            let text = format!(
                "{path} is no socket: give the keys to an agent with ssh-add, and name its socket as --ssh {id}=SOCKET"
            );
            return Err(Invalid(text).into());
        }
        agents.insert(id, place(&socket, &stat));
    }
    Ok(agents)
}

fn contexts(texts: &[String]) -> Result<BTreeMap<String, NamedContext>> {
    let mut contexts = BTreeMap::new();
    for text in texts {
        let (name, source) = context(text)?;
        let context = match source {
            ContextSource::Elsewhere(context) => context,
            ContextSource::Directory(path) => {
                let opening = Error::io(format!("open the directory {path} of the context {name}"));
                let root = Path::new(&path).canonicalize().map_err(opening)?;
                NamedContext::Directory { directory: directory(&root)? }
            }
        };
        contexts.insert(name, context);
    }
    Ok(contexts)
}

/// Where the Dockerfile is in the context, or its text where it is elsewhere.
fn recipe(root: &Path, file: Option<&str>) -> Result<(String, Option<String>)> {
    match file {
        None => Ok((String::new(), None)),
        Some("-") => {
            let mut text = String::new();
            std::io::stdin().lock().take(FILE).read_to_string(&mut text).map_err(Error::io("read stdin"))?;
            Ok((String::new(), Some(text)))
        }
        Some(path) => {
            let opening = || Error::io(format!("open {path}"));
            let real = PathBuf::from(path).canonicalize().map_err(opening())?;
            if let Ok(inside) = real.strip_prefix(root) {
                return Ok((inside.to_string_lossy().into_owned(), None));
            }
            let mut text = String::new();
            let file = std::fs::File::open(&real).map_err(opening())?;
            file.take(FILE).read_to_string(&mut text).map_err(Error::io(format!("read {path}")))?;
            Ok((String::new(), Some(text)))
        }
    }
}

/// The directory as an archive, packed while it is read.
fn packed(root: PathBuf) -> Result<impl AsyncRead + Send + Unpin> {
    let (reader, writer) = std::io::pipe().map_err(Error::io("make a pipe"))?;
    // Whoever reads the archive sees where it breaks off.
    std::thread::spawn(move || crate::archive::pack(&root, "", writer));
    tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into()).map_err(Error::io("read a pipe"))
}

fn secrets(texts: &[String]) -> Result<BTreeMap<String, String>> {
    let mut secrets = BTreeMap::new();
    for text in texts {
        let (id, source) = secret(text, variable)?;
        let value = match source {
            SecretSource::Variable(name) => {
                let missing = || Invalid(format!("the variable {name} of secret {id} is not set"));
                variable(&name).ok_or_else(missing)?.into_bytes()
            }
            SecretSource::File(path) => {
                let mut value = Vec::new();
                let file =
                    std::fs::File::open(&path).map_err(Error::io(format!("open {path} of secret {id}")))?;
                file.take(FILE).read_to_end(&mut value).map_err(Error::io(format!("read {path}")))?;
                value
            }
        };
        secrets.insert(id, base64::encode(&value));
    }
    Ok(secrets)
}

/// Shows how the build goes; the id of the image.
async fn show(mut lines: JsonLines<BuildProgress>, args: &BuildArgs) -> Result<String> {
    let is_terminal = match args.progress {
        Progress::Auto => std::io::stderr().is_terminal(),
        Progress::Tty => true,
        Progress::Plain | Progress::Quiet => false,
    };
    let columns = is_terminal.then(|| raw::size().map_or(80, |(_, columns)| usize::from(columns)));
    let quiet = args.quiet || args.progress == Progress::Quiet;
    let mut display = Display::new(std::io::stderr(), columns, quiet, args.explain_cache);
    let mut ticks = tokio::time::interval(TICK);
    let mut image = None;
    loop {
        let message = tokio::select! {
            message = lines.next() => message?,
            _ = ticks.tick() => {
                display.tick(now()).map_err(Error::io("show progress"))?;
                continue;
            }
        };
        let Some(message) = message else { break };
        display.show(&message, now()).map_err(Error::io("show progress"))?;
        match message {
            BuildProgress::Failed { message, code, lines } => {
                let place = lines.map_or_else(String::new, |(first, last)| match first == last {
                    true => format!("Dockerfile, line {first}: "),
                    false => format!("Dockerfile, lines {first} to {last}: "),
                });
                let source = Box::new(Error::Progress(format!("{place}{message}")));
                return Err(Error::NotStarted { code: u8::try_from(code).unwrap_or(1), help: None, source });
            }
            BuildProgress::Built { image: id, .. } => image = Some(id),
            _ => {}
        }
    }
    std::io::stderr().flush().map_err(Error::io("show progress"))?;
    image.ok_or_else(|| Error::Progress("the engine ended before the build did".to_owned()))
}

fn now() -> i64 {
    i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos()).unwrap_or(0)
}
