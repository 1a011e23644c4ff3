//! What becomes of the result of `build` besides an image here: its files, and its way to registries.

use std::path::Path;

use coracle_api::Filters;
use coracle_api::container::{Config, CreateRequest};
use coracle_client::Client;

use super::transfer::Destination;
use super::{App, cp, registries};
use crate::archive::Top;
use crate::args::build::BuildArgs;
use crate::args::image::PushArgs;
use crate::error::{Error, Result};
use crate::resolve::Invalid;
use crate::resolve::build::{Output, output};
use crate::resolve::copy::Arrival;
use crate::terminal::signals::{Caught, Signals};

/// What is to become of the result.
pub(super) struct Wanted {
    files: Vec<Output>,
    push: bool,
    platform: String,
    names: Vec<String>,
    /// Whether the image is wanted as well: somebody will call it by a name or by its id.
    image: bool,
    /// Images without a name that were here before: they are not ours to remove.
    nameless: Vec<String>,
}

impl Wanted {
    /// # Errors
    /// For what contradicts itself, before anything is built.
    pub(super) fn of(args: &BuildArgs) -> Result<Self> {
        let files = args.output.iter().map(|text| output(text)).collect::<Result<Vec<_>, _>>()?;
        let refuse = |text: &str| Err(Invalid(text.to_owned()).into());
        if args.push && args.tag.is_empty() {
            return refuse("--push needs a name to push the image by: --tag NAME");
        }
        if !files.is_empty() && args.platform.contains(',') {
            return refuse(
                "--output takes the files of one platform: docker buildx build writes those of several",
            );
        }
        match files.iter().filter(|output| output.is_stdout()).count() {
            0 => {}
            1 => {
                Destination::choose(None, "files")?;
            }
            _ => return refuse("--output writes one archive to stdout, and no more"),
        }
        let (push, platform, names) = (args.push, args.platform.clone(), args.tag.clone());
        let image = files.is_empty() || !names.is_empty() || args.iidfile.is_some();
        Ok(Self { files, push, platform, names, image, nameless: Vec::new() })
    }

    /// Looks which images are here, before anything is built.
    pub(super) async fn look(&mut self, client: &Client) -> Result<()> {
        if !self.image {
            let mut filters = Filters::default();
            filters.add("dangling", "true");
            let images = client.images(false, false, &filters).await?;
            self.nameless = images.into_iter().map(|image| image.id).collect();
        }
        Ok(())
    }

    /// Brings the image where it is wanted. One that was built for its files alone does not stay.
    pub(super) async fn put(&self, app: &App, client: &Client, image: &str, quiet: bool) -> Result<()> {
        if self.files.is_empty() && !self.push {
            return Ok(());
        }
        let mut signals = Signals::catch_ending()?;
        if !self.files.is_empty() {
            let written = write(client, image, &self.platform, &self.files, &mut signals).await;
            let forgotten = self.forget(client, image).await;
            written.and(forgotten)?;
        }
        // What goes to stdout is an archive and nothing else.
        let quiet = quiet || self.files.iter().any(Output::is_stdout);
        for name in self.names.iter().filter(|_| self.push) {
            let args = PushArgs {
                all_tags: false,
                quiet,
                platform: None,
                disable_content_trust: None,
                name: name.clone(),
            };
            unless_interrupted(registries::send(app, &args), &mut signals).await?;
        }
        Ok(())
    }

    /// Whether the id of the image is all there is to tell.
    pub(super) fn is_image(&self) -> bool {
        self.files.is_empty()
    }

    /// Removes an image that was built for its files alone.
    async fn forget(&self, client: &Client, image: &str) -> Result<()> {
        if self.image || self.nameless.iter().any(|other| other == image) {
            return Ok(());
        }
        if !client.inspect_image(image).await?.repo_tags.is_empty() {
            return Ok(());
        }
        match client.remove_image(image, false, false, &[]).await {
            // Somebody else, who has built the same, has removed it or made a container of it.
            Err(error) if matches!(error.status(), Some(404 | 409)) => Ok(()),
            removed => Ok(removed.map(drop)?),
        }
    }
}

async fn unless_interrupted(work: impl Future<Output = Result<()>>, signals: &mut Signals) -> Result<()> {
    tokio::select! {
        done = work => done,
        Caught { number, name } = signals.next() => Err(Error::Interrupted { signal: name, number }),
    }
}

/// Writes the files of an image, by a container that is never started.
async fn write(
    client: &Client,
    image: &str,
    platform: &str,
    outputs: &[Output],
    signals: &mut Signals,
) -> Result<()> {
    let config = Config {
        image: image.to_owned(),
        // One without a command cannot be made.
        cmd: Some(vec!["none".to_owned()]),
        ..Config::default()
    };
    let request = CreateRequest { config, ..CreateRequest::default() };
    let container = client.create_container("", platform, &request).await?.id;
    let writing = async {
        for output in outputs {
            one(client, &container, output).await?;
        }
        Ok(())
    };
    let written = unless_interrupted(writing, signals).await;
    let removed = client.remove_container(&container, true, true, false).await;
    written.and(removed.map_err(Into::into))
}

async fn one(client: &Client, container: &str, output: &Output) -> Result<()> {
    match output {
        Output::Archive(path) => {
            let destination = Destination::choose(path.as_deref(), "files")?;
            destination.receive(client.export_container(container).await?).await
        }
        Output::Directory(path) => {
            std::fs::create_dir_all(Path::new(path)).map_err(Error::io(format!("create {path}")))?;
            let arrival = Arrival { directory: path.clone(), name: String::new() };
            cp::unpack(client.export_container(container).await?, Top::Root, arrival).await
        }
    }
}
