//! `run`, `create`, `start` and `attach`: a container from an image to its exit code.

use std::fs::OpenOptions;
use std::io::Write as _;

use coracle_api::container::{ContainerInspect, CreateRequest, WaitResponse};
use coracle_client::{AttachOptions, Client, Hijacked, PendingExit, WaitCondition};

use super::{App, failures, print_line, pull, say, with_surroundings};
use crate::args::container::{AttachArgs, RunArgs, StartArgs};
use crate::args::create::CreateArgs;
use crate::error::{Error, Result, start_failure};
use crate::resolve::container::{Streams, request};
use crate::resolve::{Invalid, invalid};
use crate::terminal::detach::DetachKeys;
use crate::terminal::raw;
use crate::terminal::session::{End, Session, Target};
use crate::terminal::signals::Signals;

pub(super) async fn create(app: &App, args: CreateArgs) -> Result<()> {
    let streams = Streams::chosen(&args, false)?;
    let request = with_surroundings(|surroundings| request(&args, streams, surroundings))?;
    let client = app.client().await?;
    print_line(create_container(&client, &args, request).await?)
}

pub(super) async fn run(app: &App, args: RunArgs) -> Result<u8> {
    let streams = Streams::chosen(&args.create, args.detach);
    check_terminal(args.create.tty, streams.is_ok_and(|streams| streams.stdin))?;
    run_container(app, args).await.map_err(|error| match error {
        Error::NotStarted { code, source, .. } => Error::NotStarted { code, help: Some("run"), source },
        other => Error::NotStarted { code: 125, help: Some("run"), source: Box::new(other) },
    })
}

async fn run_container(app: &App, args: RunArgs) -> Result<u8> {
    let keys = DetachKeys::parse(app.detach_keys(&args.detach_keys))?;
    let streams = Streams::chosen(&args.create, args.detach)?;
    let mut request = with_surroundings(|surroundings| request(&args.create, streams, surroundings))?;
    if let (Some(host), Some((rows, columns))) =
        (&mut request.host_config, raw::size().filter(|_| args.create.tty))
    {
        host.console_size = [rows.into(), columns.into()];
    }
    let client = app.client().await?;
    let id = create_container(&client, &args.create, request).await?;
    if !streams.any() {
        client.start_container(&id, "").await.map_err(start_failure)?;
        print_line(&id)?;
        return Ok(0);
    }
    let session = Session {
        target: Target::Container(id.clone()),
        tty: args.create.tty,
        stdin: streams.stdin,
        keys,
        proxy: args.sig_proxy,
    };
    let condition = if args.create.rm { WaitCondition::Removed } else { WaitCondition::NextExit };
    // Before the start, so that neither a signal, nor output, nor the end is lost.
    let mut signals = Signals::catch()?;
    let hijacked =
        client.attach_container(&id, &attach_options(streams, app.detach_keys(&args.detach_keys))).await?;
    let exit = client.wait_container(&id, condition).await?;
    if let Err(error) = client.start_container(&id, "").await {
        if args.create.rm {
            // The daemon removes what could not start; the name is free when this command ends. How that went
            // matters less than why the start failed.
            let _ = exit.exit().await;
        }
        return Err(start_failure(error));
    }
    finish(&client, session, hijacked, exit, &mut signals).await
}

/// Runs the session that has just begun and answers with the exit code.
async fn finish(
    client: &Client,
    session: Session,
    hijacked: Hijacked,
    exit: PendingExit,
    signals: &mut Signals,
) -> Result<u8> {
    session.resize(client).await;
    match session.run(client, hijacked, signals).await? {
        End::Detached => Ok(0),
        End::Signal(number) => Ok(128 + number),
        End::Output => exit_code(exit.exit().await?),
    }
}

fn exit_code(end: WaitResponse) -> Result<u8> {
    match end.error.filter(|error| !error.message.is_empty()) {
        Some(error) => Err(Error::Progress(error.message)),
        // Exit codes are 0 to 255; anything else is a failure without a code of its own.
        None => Ok(u8::try_from(end.status_code).unwrap_or(125)),
    }
}

/// Docker's check: a terminal for the container needs one here when its input comes from here.
fn check_terminal(tty: bool, stdin: bool) -> Result<(), Invalid> {
    if tty && stdin && !raw::stdin_is_terminal() {
        return invalid("the input device is not a TTY");
    }
    Ok(())
}

fn attach_options(streams: Streams, detach_keys: &str) -> AttachOptions {
    AttachOptions {
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
        logs: false,
        detach_keys: detach_keys.to_owned(),
    }
}

/// Creates the container, pulling its image first when `--pull` says so or it is missing.
async fn create_container(client: &Client, args: &CreateArgs, request: CreateRequest) -> Result<String> {
    let id_file = args.cidfile.as_deref().map(IdFile::reserve).transpose()?;
    let image = &request.config.image;
    match args.pull.as_str() {
        "always" => pull::quietly_or_not(client, image, &args.platform, args.quiet).await?,
        "missing" | "never" => {}
        other => {
            return Err(Invalid(format!(
                "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
            ))
            .into());
        }
    }
    let name = args.name.as_deref().unwrap_or_default();
    let created = match client.create_container(name, &args.platform, &request).await {
        Err(error) if error.is_not_found() && args.pull == "missing" && names_image(&error) => {
            if !args.quiet {
                say(format!(
                    "Unable to find image '{}' locally",
                    crate::resolve::image_name::with_tag(image)
                ));
            }
            pull::quietly_or_not(client, image, &args.platform, args.quiet).await?;
            client.create_container(name, &args.platform, &request).await?
        }
        other => other?,
    };
    created.warnings.iter().for_each(|warning| say(format!("WARNING: {warning}")));
    if let Some(file) = id_file {
        file.write(&created.id)?;
    }
    Ok(created.id)
}

/// 404 also means a missing network or container of `--network container:`.
fn names_image(error: &coracle_client::Error) -> bool {
    let text = error.to_string().to_lowercase();
    text.contains("no such image") || text.contains("image not known") || text.contains("manifest unknown")
}

/// The file of `--cidfile`: it must not exist before, and does not stay when there is no container.
struct IdFile {
    path: String,
    file: std::fs::File,
    written: bool,
}

impl IdFile {
    fn reserve(path: &str) -> Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        match file {
            Ok(file) => Ok(Self { path: path.to_owned(), file, written: false }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Invalid(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            ))
            .into()),
            Err(source) => Err(Error::io(format!("create the container ID file {path}"))(source)),
        }
    }

    fn write(mut self, id: &str) -> Result<()> {
        self.file.write_all(id.as_bytes()).map_err(Error::io(format!("write {}", self.path)))?;
        self.written = true;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.written {
            // The failure that left it empty is the one to report.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

pub(super) async fn start(app: &App, args: StartArgs) -> Result<u8> {
    let client = &app.client().await?;
    if !args.attach && !args.interactive {
        let start = async |name: String| {
            client.start_container(&name, "").await?;
            Ok(name)
        };
        return match failures(&args.names, start, |_| true).await?.as_slice() {
            [] => Ok(0),
            failed => {
                say(format!("Error: failed to start containers: {}", failed.join(", ")));
                Err(Error::Reported)
            }
        };
    }
    let [name] = args.names.as_slice() else {
        return Err(Invalid("you cannot start and attach multiple containers at once".into()).into());
    };
    let container = client.inspect_container(name).await?;
    let streams =
        Streams { stdin: args.interactive && container.config.open_stdin, stdout: true, stderr: true };
    let session = session(&container, streams.stdin, app.detach_keys(&args.detach_keys), true)?;
    let mut signals = Signals::catch()?;
    let hijacked = client
        .attach_container(&container.id, &attach_options(streams, app.detach_keys(&args.detach_keys)))
        .await?;
    let condition =
        if container.host_config.auto_remove { WaitCondition::Removed } else { WaitCondition::NextExit };
    let exit = client.wait_container(&container.id, condition).await?;
    client.start_container(&container.id, "").await.map_err(start_failure)?;
    finish(client, session, hijacked, exit, &mut signals).await
}

pub(super) async fn attach(app: &App, args: AttachArgs) -> Result<u8> {
    let client = app.client().await?;
    let container = client.inspect_container(&args.name).await?;
    match (container.state.running, container.state.paused, container.state.restarting) {
        (false, ..) => {
            return Err(Invalid("You cannot attach to a stopped container, start it first".into()).into());
        }
        (_, true, _) => {
            return Err(Invalid("You cannot attach to a paused container, unpause it first".into()).into());
        }
        (.., true) => {
            return Err(Invalid(
                "You cannot attach to a restarting container, wait until it is running".into(),
            )
            .into());
        }
        _ => {}
    }
    let streams =
        Streams { stdin: !args.no_stdin && container.config.open_stdin, stdout: true, stderr: true };
    check_terminal(container.config.tty, streams.stdin)?;
    let session = session(&container, streams.stdin, app.detach_keys(&args.detach_keys), args.sig_proxy)?;
    let mut signals = Signals::catch()?;
    let exit = client.wait_container(&container.id, WaitCondition::NotRunning).await?;
    let hijacked = client
        .attach_container(&container.id, &attach_options(streams, app.detach_keys(&args.detach_keys)))
        .await?;
    redraw(&client, &container).await;
    finish(&client, session, hijacked, exit, &mut signals).await
}

fn session(container: &ContainerInspect, stdin: bool, detach_keys: &str, proxy: bool) -> Result<Session> {
    Ok(Session {
        target: Target::Container(container.id.clone()),
        tty: container.config.tty,
        stdin,
        keys: DetachKeys::parse(detach_keys)?,
        proxy,
    })
}

/// A size that changes makes a full-screen program draw its screen for the newcomer.
async fn redraw(client: &Client, container: &ContainerInspect) {
    if let Some((rows, columns)) = raw::size().filter(|_| container.config.tty) {
        // As with every size: a courtesy.
        let _ =
            client.resize_container(&container.id, rows.saturating_add(1), columns.saturating_add(1)).await;
    }
}
