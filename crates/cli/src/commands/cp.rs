//! `cp`.

use std::fs::File as StdFile;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use coracle_client::{Body, Client};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;

use super::{App, say};
use crate::archive;
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
        (Side::Container { name, path }, Side::Stream) => to_stdout(&client, &name, &path).await,
        (Side::Stream, Side::Container { name, path }) => {
            Ok(client.upload_archive(&name, &path, stdio(std::io::stdin())?).await?)
        }
        (Side::Container { name, path }, Side::Local(local)) => {
            download(&client, &name, &path, &local).await?;
            report(&args, &local);
            Ok(())
        }
        (Side::Local(local), Side::Container { name, path }) => {
            upload(&client, &local, &name, &path).await?;
            report(&args, &format!("{name}:{path}"));
            Ok(())
        }
        (Side::Container { .. }, Side::Container { .. }) => {
            Err(Invalid("copying between containers is not supported".into()).into())
        }
        _ => Err(Invalid("must specify at least one container source".into()).into()),
    }
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

async fn download(client: &Client, container: &str, path: &str, local: &str) -> Result<()> {
    let (path, content) = without_dot(path);
    let attributes = client.stat_archive(container, &path).await?;
    let is_directory = attributes.as_ref().is_some_and(|attributes| attributes.mode & GO_DIRECTORY != 0);
    let source = Source { name: split(&path).1, is_directory, content };
    let existing = match std::fs::metadata(local) {
        Ok(metadata) if metadata.is_dir() => Existing::Directory,
        Ok(_) => Existing::File,
        Err(_) => Existing::Nothing,
    };
    // The request says whether the container or the path is missing, before anything is made here.
    let body = client.download_archive(container, &path).await?;
    let Arrival { directory, name } = arrival(&source, local, existing)?;
    let (reader, writer) = pipe()?;
    let unpacking = blocking(format!("unpack into {directory}"), move || {
        archive::unpack(StdFile::from(reader), &name, Path::new(&directory))
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

async fn upload(client: &Client, local: &str, container: &str, path: &str) -> Result<()> {
    let (local, content) = without_dot(local);
    let metadata = std::fs::symlink_metadata(&local).map_err(Error::io(format!("read {local}")))?;
    let source = Source { name: local_name(&local)?, is_directory: metadata.is_dir(), content };
    let (path, existing) = existing_in(client, container, path).await?;
    let Arrival { directory, name } = arrival(&source, &path, existing)?;
    let (reader, writer) = pipe()?;
    let packing = blocking(format!("pack {local}"), move || {
        let mut out = StdFile::from(writer);
        archive::pack(Path::new(&local), &name, &mut out)?;
        out.flush()
    });
    let sent = client.upload_archive(container, &directory, File::from_std(reader.into())).await;
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
