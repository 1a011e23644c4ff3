//! Images and file systems as files: `import`, `load`, `save`, `export`.

use std::path::Path;

use coracle_api::{ProgressMessage, Query};
use coracle_client::{Body, JsonLines};
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use super::App;
use crate::args::container::ExportArgs;
use crate::args::image::{ImportArgs, LoadArgs, SaveArgs};
use crate::error::{Error, Result};
use crate::render::progress::Display;
use crate::resolve::Invalid;
use crate::resolve::image_name::ImageName;
use crate::resolve::platform;
use crate::terminal::raw;
use crate::terminal::session::stdio;

pub(super) async fn import(app: &App, args: ImportArgs) -> Result<()> {
    let mut query = Query::new();
    if let Some(image) = args.image.as_deref().map(ImageName::parse) {
        query = query.with("repo", &image.repository).with_some("tag", image.tag);
    }
    query = query.with("message", &args.message);
    query = args.change.iter().fold(query, |query, change| query.with("changes", change));
    if !args.platform.is_empty() {
        query = query.with("platform", &args.platform);
    }
    let client = app.client().await?;
    let source = args.source.as_str();
    let is_url = source.starts_with("http://") || source.starts_with("https://");
    let lines = match source {
        "-" => client.import_image(query, stdio(std::io::stdin())?).await?,
        url if is_url => client.import_image_from(query, url).await?,
        path => client.import_image(query, open(path).await?).await?,
    };
    show(lines, false).await
}

pub(super) async fn load(app: &App, args: LoadArgs) -> Result<()> {
    let archive = archive_of(args.input.as_deref()).await?;
    let client = app.client().await?;
    let quiet = args.quiet || !raw::stdout_is_terminal();
    show(client.load_images(quiet, &platform::documents(&args.platform), archive).await?, false).await
}

/// The archive that is to be loaded: a file, or what somebody sends.
pub(super) async fn archive_of(input: Option<&str>) -> Result<File> {
    match input {
        Some(path) => open(path).await,
        None if raw::stdin_is_terminal() => {
            Err(Invalid("requested load from stdin, but stdin is empty".into()).into())
        }
        None => Ok(stdio(std::io::stdin())?),
    }
}

async fn open(path: &str) -> Result<File> {
    File::open(path).await.map_err(Error::io(format!("open {path}")))
}

async fn show(mut lines: JsonLines<ProgressMessage>, quiet: bool) -> Result<()> {
    let mut display = Display::new(std::io::stdout(), raw::stdout_is_terminal(), quiet);
    while let Some(line) = lines.next().await? {
        if let Some(failure) = line.failure_text() {
            return Err(Error::Progress(failure.to_owned()));
        }
        display.show(&line).map_err(Error::io("show progress"))?;
    }
    Ok(())
}

pub(super) async fn save(app: &App, args: SaveArgs) -> Result<()> {
    let destination = Destination::choose(args.output.as_deref(), "image")?;
    let client = app.client().await?;
    if !args.since.is_empty() && client.server_version().await?.platform.name != "Coracle" {
        // It would give everything, and whoever carries it away would not know.
        return Err(Invalid("this engine saves whole images alone: --since is for Coracle".to_owned()).into());
    }
    let platforms = platform::documents(&args.platform);
    let body = client.save_images(&args.names, &platforms, &args.since).await?;
    destination.receive(body).await
}

pub(super) async fn export(app: &App, args: ExportArgs) -> Result<()> {
    let destination = Destination::choose(args.output.as_deref(), "container")?;
    let body = app.client().await?.export_container(&args.name).await?;
    destination.receive(body).await
}

/// Where an archive goes. A file appears under its name when it is whole.
pub(super) enum Destination<'a> {
    Stdout,
    File(&'a Path),
}

impl<'a> Destination<'a> {
    pub(super) fn choose(output: Option<&'a str>, what: &str) -> Result<Self, Invalid> {
        match output.filter(|path| !path.is_empty()) {
            Some(path) => Ok(Self::File(Path::new(path))),
            None if raw::stdout_is_terminal() => Err(Invalid(format!(
                "cowardly refusing to save the {what} to a terminal; use the -o flag or redirect"
            ))),
            None => Ok(Self::Stdout),
        }
    }

    pub(super) async fn receive(self, body: Body) -> Result<()> {
        let path = match self {
            Self::Stdout => return write(body, stdio(std::io::stdout())?, "stdout").await,
            // Devices and pipes cannot be replaced.
            Self::File(path) if path.exists() && !path.is_file() => {
                let file = File::options().write(true).open(path).await;
                let name = path.display().to_string();
                return write(body, file.map_err(Error::io(format!("open {name}")))?, &name).await;
            }
            Self::File(path) => path,
        };
        let unfinished = unfinished_name(path);
        let name = unfinished.display().to_string();
        let file = File::create(&unfinished).await.map_err(Error::io(format!("create {name}")))?;
        let written = match write(body, file, &name).await {
            Ok(()) => {
                let renamed = std::fs::rename(&unfinished, path);
                renamed.map_err(Error::io(format!("rename {name} to {}", path.display())))
            }
            Err(error) => Err(error),
        };
        if written.is_err() {
            // The failure before is the one to report.
            let _ = std::fs::remove_file(&unfinished);
        }
        written
    }
}

fn unfinished_name(path: &Path) -> std::path::PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.part", std::process::id()));
    path.with_file_name(name)
}

async fn write(mut body: Body, mut file: File, name: &str) -> Result<()> {
    while let Some(piece) = body.chunk().await? {
        file.write_all(&piece).await.map_err(Error::io(format!("write {name}")))?;
    }
    file.flush().await.map_err(Error::io(format!("write {name}")))
}
