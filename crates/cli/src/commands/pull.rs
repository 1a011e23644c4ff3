//! `pull`, also on behalf of `run`.

use std::io::Write as _;

use coracle_client::Client;

use super::{App, print_line, registries};
use crate::args::image::PullArgs;
use crate::error::{Error, Result};
use crate::render::progress::Display;
use crate::resolve::Invalid;
use crate::resolve::image_name::{ImageName, with_tag};
use crate::terminal::raw;

pub(super) async fn pull(app: &App, args: PullArgs) -> Result<()> {
    let client = app.client().await?;
    let name = ImageName::parse(&args.name);
    let terminal = raw::stdout_is_terminal();
    let display = Display::new(std::io::stdout(), terminal, args.quiet);
    if args.all_tags {
        if name.tag.is_some() || name.digest.is_some() {
            return Err(Invalid("tag can't be used with --all-tags/-a".to_owned()).into());
        }
        fetch(&client, &name, "", &args.platform, display).await?;
        return print_line(&args.name);
    }
    if name.tag.is_none() && name.digest.is_none() && !args.quiet {
        print_line("Using default tag: latest")?;
    }
    fetch(&client, &name, name.reference(), &args.platform, display).await?;
    print_line(with_tag(&args.name))
}

/// Pulls what `run` is missing: its progress is talk, not data.
pub(super) async fn quietly_or_not(client: &Client, image: &str, platform: &str, quiet: bool) -> Result<()> {
    let display = Display::new(std::io::stderr(), raw::stderr_is_terminal(), quiet);
    let name = ImageName::parse(image);
    fetch(client, &name, name.reference(), platform, display).await
}

async fn fetch<W: std::io::Write>(
    client: &Client,
    name: &ImageName,
    tag: &str,
    platform: &str,
    mut display: Display<W>,
) -> Result<()> {
    let auth = registries::auth_header(&name.repository)?;
    let mut lines = client.pull_image(&name.repository, tag, platform, auth.as_deref()).await?;
    while let Some(line) = lines.next().await? {
        if let Some(failure) = line.failure_text() {
            return Err(Error::Progress(failure.to_owned()));
        }
        display.show(&line).map_err(Error::io("show progress"))?;
    }
    std::io::stdout().flush().map_err(Error::io("write to stdout"))
}
