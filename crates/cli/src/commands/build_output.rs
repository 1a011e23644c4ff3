//! What becomes of the result of `build` besides an image here: its files, and its way to registries.

use std::path::Path;

use coracle_api::container::{Config, CreateRequest};
use coracle_client::Client;

use super::{App, cp, registries, transfer};
use crate::archive::Top;
use crate::args::build::BuildArgs;
use crate::args::image::PushArgs;
use crate::error::{Error, Result};
use crate::resolve::Invalid;
use crate::resolve::build::{Output, output};
use crate::resolve::copy::Arrival;

/// What is to become of the result.
pub(super) struct Wanted {
    files: Vec<Output>,
    push: bool,
    platform: String,
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
        Ok(Self { files, push: args.push, platform: args.platform.clone() })
    }

    /// Brings the image, which has these names, where it is wanted. One without a name that was only built for its files
    /// does not stay.
    pub(super) async fn put(&self, app: &App, image: &str, names: &[String], quiet: bool) -> Result<()> {
        let client = app.client().await?;
        if !self.files.is_empty() {
            let written = write(&client, image, &self.platform, &self.files).await;
            if names.is_empty() {
                forget(&client, image).await?;
            }
            written?;
        }
        if self.push {
            for name in names {
                let args = PushArgs { all_tags: false, quiet, platform: None, name: name.clone() };
                registries::push(app, args).await?;
            }
        }
        Ok(())
    }

    /// Whether the id of the image is all there is to tell.
    pub(super) fn is_image(&self) -> bool {
        self.files.is_empty()
    }
}

/// Writes the files of an image, by a container that is never started.
async fn write(client: &Client, image: &str, platform: &str, outputs: &[Output]) -> Result<()> {
    let config = Config {
        image: image.to_owned(),
        // One without a command cannot be made.
        cmd: Some(vec!["none".to_owned()]),
        ..Config::default()
    };
    let request = CreateRequest { config, ..CreateRequest::default() };
    let container = client.create_container("", platform, &request).await?.id;
    let mut written = Ok(());
    for output in outputs {
        written = one(client, &container, output).await;
        if written.is_err() {
            break;
        }
    }
    client.remove_container(&container, true, true, false).await?;
    written
}

async fn one(client: &Client, container: &str, output: &Output) -> Result<()> {
    match output {
        Output::Archive(path) => {
            let destination = transfer::Destination::choose(path.as_deref(), "files")?;
            destination.receive(client.export_container(container).await?).await
        }
        Output::Directory(path) => {
            std::fs::create_dir_all(Path::new(path)).map_err(Error::io(format!("create {path}")))?;
            let arrival = Arrival { directory: path.clone(), name: String::new() };
            cp::unpack(client.export_container(container).await?, Top::Root, arrival).await
        }
    }
}

/// Removes an image that nothing else names.
async fn forget(client: &Client, image: &str) -> Result<()> {
    let found = client.inspect_image(image).await?;
    if found.repo_tags.is_empty() {
        client.remove_image(image, false, false, &[]).await?;
    }
    Ok(())
}
