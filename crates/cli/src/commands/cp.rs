//! `cp`.

use std::fs::File as StdFile;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use coracle_client::{Body, Client, UploadedOwner};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;

use super::{App, say};
use crate::archive::{self, Top};
use crate::args::container::CopyArgs;
use crate::error::{Error, Result};
use crate::resolve::Invalid;
use crate::resolve::copy::{Arrival, Existing, Side, Source, arrival, split, without_dot};
use crate::terminal::raw;
use crate::terminal::session::stdio;

/// Bits of Go's `os.FileMode` in a path's attributes.
const GO_DIRECTORY: u32 = 1 << 31;
const GO_SYMLINK: u32 = 1 << 27;

pub(super) async fn cp(app: &App, args: CopyArgs) -> Result<()> {
    let sides = (Side::parse(&args.source), Side::parse(&args.destination));
    let client = app.client().await?;
    match sides {
        (Side::Container { name, path }, Side::Stream) => {
            let path = followed(&client, &args, &name, &path).await?;
            to_stdout(&client, &name, &path).await
        }
        (Side::Stream, Side::Container { name, path }) => {
            Ok(client.upload_archive(&name, &path, owner(&args), stdio(std::io::stdin())?).await?)
        }
        (Side::Container { name, path }, Side::Local(local)) => {
            let followed = followed(&client, &args, &name, &path).await?;
            download(&client, &name, (&path, &followed), &local).await?;
            report(&args, &local);
            Ok(())
        }
        (Side::Local(local), Side::Container { name, path }) => {
            upload(&client, &args, &local, &name, &path).await?;
            report(&args, &format!("{name}:{path}"));
            Ok(())
        }
        (Side::Container { .. }, Side::Container { .. }) => {
            Err(Invalid("copying between containers is not supported".into()).into())
        }
        _ => Err(Invalid("must specify at least one container source".into()).into()),
    }
}

fn owner(args: &CopyArgs) -> UploadedOwner {
    if args.archive { UploadedOwner::ContainerUser } else { UploadedOwner::Archive }
}

/// Where a link at a path of a container leads, if that is wanted.
async fn followed(client: &Client, args: &CopyArgs, container: &str, path: &str) -> Result<String> {
    if !args.follow_link {
        return Ok(path.to_owned());
    }
    let attributes = client.stat_archive(container, path).await?;
    let link = attributes.filter(|link| link.mode & GO_SYMLINK != 0 && !link.link_target.is_empty());
    Ok(link.map_or_else(|| path.to_owned(), |link| link.link_target))
}

fn report(args: &CopyArgs, destination: &str) {
    if !args.quiet && raw::stderr_is_terminal() {
        say(format!("Successfully copied to {destination}"));
    }
}

async fn to_stdout(client: &Client, name: &str, path: &str) -> Result<()> {
    let mut body = client.download_archive(name, path).await?;
    let mut stdout = stdio(std::io::stdout())?;
    while let Some(piece) = body.chunk().await? {
        stdout.write_all(&piece).await.map_err(Error::io("write to stdout"))?;
    }
    stdout.flush().await.map_err(Error::io("write to stdout"))
}

/// Copies what is at a path of a container, under the name that it was called by where a link was followed.
async fn download(client: &Client, container: &str, (called, path): (&str, &str), local: &str) -> Result<()> {
    let top = Top::of(path);
    let (called, content) = without_dot(called);
    let (path, _) = without_dot(path);
    let attributes = client.stat_archive(container, &path).await?;
    let is_directory = attributes.as_ref().is_some_and(|attributes| attributes.mode & GO_DIRECTORY != 0);
    let source = Source { name: split(&called).1, is_directory, content };
    let existing = match std::fs::metadata(local) {
        Ok(metadata) if metadata.is_dir() => Existing::Directory,
        Ok(_) => Existing::File,
        Err(_) => Existing::Nothing,
    };
    // The request says whether the container or the path is missing, before anything is made here.
    let body = client.download_archive(container, &path).await?;
    unpack(body, top, arrival(&source, local, existing)?).await
}

/// Unpacks what comes, where it is to arrive.
pub(super) async fn unpack(body: Body, top: Top, arrival: Arrival) -> Result<()> {
    let Arrival { directory, name } = arrival;
    let (reader, writer) = pipe()?;
    let unpacking = blocking(format!("unpack into {directory}"), move || {
        archive::unpack(StdFile::from(reader), top, &name, Path::new(&directory))
    });
    let fed = feed(body, writer).await;
    joined(unpacking).await?;
    fed
}

/// Writes a body into a pipe; a reader that left says why by itself.
async fn feed(mut body: Body, writer: OwnedFd) -> Result<()> {
    let mut pipe = File::from_std(writer.into());
    while let Some(piece) = body.chunk().await? {
        if pipe.write_all(&piece).await.is_err() {
            return Ok(());
        }
    }
    // As above.
    let _ = pipe.flush().await;
    Ok(())
}

async fn upload(client: &Client, args: &CopyArgs, local: &str, container: &str, path: &str) -> Result<()> {
    let (local, content) = without_dot(local);
    let name = local_name(&local)?;
    let reading = || Error::io(format!("read {local}"));
    let place = if args.follow_link {
        std::fs::canonicalize(&local).map_err(reading())?
    } else {
        PathBuf::from(&local)
    };
    let metadata = std::fs::symlink_metadata(&place).map_err(reading())?;
    let source = Source { name, is_directory: metadata.is_dir(), content };
    let (path, existing) = existing_in(client, container, path).await?;
    let Arrival { directory, name } = arrival(&source, &path, existing)?;
    let (reader, writer) = pipe()?;
    let packing = blocking(format!("pack {local}"), move || {
        let mut out = StdFile::from(writer);
        archive::pack(&place, &name, &mut out)?;
        out.flush()
    });
    let sent = client.upload_archive(container, &directory, owner(args), File::from_std(reader.into())).await;
    let packed = joined(packing).await;
    // A daemon that refuses stops reading, which fails the packing too: its refusal is the cause.
    sent?;
    packed
}

/// The last component of a local path, which may be `.` or `..`.
fn local_name(local: &str) -> Result<String> {
    let path = std::fs::canonicalize(local).or_else(|_| std::path::absolute(local));
    let path = path.map_err(Error::io(format!("resolve {local}")))?;
    // A symbolic link is copied as itself, under its own name.
    let own = Path::new(local).file_name().map(std::ffi::OsStr::to_os_string);
    Ok(own.or_else(|| path.file_name().map(Into::into)).unwrap_or_default().to_string_lossy().into_owned())
}

/// What is at a path of a container; a symbolic link is followed once, as Docker does.
async fn existing_in(client: &Client, container: &str, path: &str) -> Result<(String, Existing)> {
    let attributes = client.stat_archive(container, path).await?;
    let (path, attributes) = match attributes {
        Some(link) if link.mode & GO_SYMLINK != 0 && !link.link_target.is_empty() => {
            let target = link.link_target;
            let target = if target.starts_with('/') { target } else { format!("{}/{target}", split(path).0) };
            (target.clone(), client.stat_archive(container, &target).await?)
        }
        other => (path.to_owned(), other),
    };
    let existing = match attributes {
        None => Existing::Nothing,
        Some(attributes) if attributes.mode & GO_DIRECTORY != 0 => Existing::Directory,
        Some(_) => Existing::File,
    };
    Ok((path, existing))
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = std::io::pipe().map_err(Error::io("make a pipe"))?;
    Ok((reader.into(), writer.into()))
}

fn blocking(
    attempt: String,
    work: impl FnOnce() -> std::io::Result<()> + Send + 'static,
) -> JoinHandle<Result<()>> {
    tokio::task::spawn_blocking(move || work().map_err(Error::io(attempt)))
}

async fn joined(task: JoinHandle<Result<()>>) -> Result<()> {
    task.await.expect("archives do not panic")
}
