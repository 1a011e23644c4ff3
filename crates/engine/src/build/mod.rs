//! Builds: a Dockerfile and its context become an image.
//!
//! ```text
//! context.rs  archive → directory    coracle-build: Dockerfile → outline → plan of each stage
//!   stage.rs  step after step: each that changes files runs in a container on the layers so far ─► a layer
//!     run.rs  a command    files.rs  COPY and ADD    leftovers.rs  what a killed engine has left
//! ```
//!
//! What a step leaves is one layer; a step that changes nothing leaves none. Nothing is an image before the last step: a
//! build that fails, or whose client goes, leaves nothing but garbage.

mod context;
mod files;
pub(crate) mod leftovers;
mod run;
mod stage;

use crate::containers::refuse_artifact;
use crate::containers::settings::HostSettings;
use crate::engine::{Engine, Shared};
use crate::error::{Error, Result, blocking};
use crate::images::{BodyReader, Image, PullRequest, Teller};
pub use coracle_build::Wanted;
use coracle_build::{Arguments, Base, Dockerfile, Outline, Plan, outline, plan};
use coracle_spec::image::{History, ImageConfig, RunConfig};
use coracle_spec::{Digest, Platform, Reference};
use stage::{Built, Site};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use time::OffsetDateTime;
use tokio::sync::mpsc;

/// What is to be built.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// Where the Dockerfile is in the context.
    pub dockerfile: String,
    /// The stage that is the result, arguments and platforms.
    pub wanted: Wanted,
    /// What the image is called.
    pub references: Vec<Reference>,
    /// Labels that it gets besides its own.
    pub labels: BTreeMap<String, String>,
    /// Whether base images are pulled although they are here.
    pub pull: bool,
    /// What containers of commands have of the host: the network, limits.
    pub host: HostSettings,
    /// Credentials by registry, for base images.
    pub credentials: HashMap<String, coracle_registry::Credentials>,
}

/// What a build tells of its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Text for people, as it is to be shown.
    Text(String),
    /// What a command writes.
    Output(bytes::Bytes),
    /// The image.
    Built(Digest),
}

/// Why a build ended without an image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A command ended so.
    #[error("{text}")]
    Command {
        /// What Docker says then.
        text: String,
        /// Its exit code.
        code: i64,
    },
    /// Anything else.
    #[error(transparent)]
    Engine(#[from] Error),
}

/// Where a build tells of its way. A client that is gone is told nothing more.
#[derive(Clone, Debug)]
pub struct Listener(mpsc::Sender<Told>);

impl Listener {
    /// A new pair of ends. Whoever tells waits while the other end is full.
    pub fn channel() -> (Self, mpsc::Receiver<Told>) {
        let (sender, receiver) = mpsc::channel(crate::limits::STEPS);
        (Self(sender), receiver)
    }

    async fn tell(&self, told: Told) {
        // See above.
        let _ = self.0.send(told).await;
    }

    async fn text(&self, text: impl Into<String>) {
        self.tell(Told::Text(text.into())).await;
    }
}

type BuildResult<T> = std::result::Result<T, BuildError>;

impl Engine {
    /// Builds an image of a context, which is an archive. Durable on return; the id.
    ///
    /// # Errors
    /// [`BuildError::Command`] for a command that fails, [`Error::Invalid`] for a Dockerfile or a context that cannot be used.
    pub async fn build(
        &self,
        context: BodyReader,
        request: BuildRequest,
        listener: &Listener,
    ) -> BuildResult<Digest> {
        let shared = &self.shared;
        let _hold = shared.images.hold_arrivals();
        let context = Arc::new(context::unpack(shared, context, &request.dockerfile).await?);
        let (text, wanted) = (context.dockerfile.clone(), request.wanted.clone());
        let read = move || {
            let file = Dockerfile::parse(&text)?;
            let outline = outline(&file, &wanted)?;
            Ok((Arc::new(file), Arc::new(outline)))
        };
        // A hostile file may take a while.
        let (file, outline) = blocking(read).await?.map_err(invalid)?;
        let mut build = Build {
            engine: self,
            request: &request,
            context: Arc::clone(&context),
            file,
            outline,
            listener,
            built: HashMap::new(),
            number: 0,
        };
        let built = build.all().await?;
        let image = build.finish(&built).await?;
        listener.tell(Told::Built(image)).await;
        listener.text(format!("Successfully built {}\n", image.short())).await;
        for reference in &request.references {
            listener.text(format!("Successfully tagged {}\n", reference.familiar())).await;
        }
        Ok(image)
    }
}

/// A build under way.
struct Build<'a> {
    engine: &'a Engine,
    request: &'a BuildRequest,
    context: Arc<context::Context>,
    file: Arc<Dockerfile>,
    outline: Arc<Outline>,
    listener: &'a Listener,
    built: HashMap<usize, Built>,
    /// Steps so far.
    number: usize,
}

impl Build<'_> {
    fn shared(&self) -> &Arc<Shared> {
        &self.engine.shared
    }

    /// Builds every stage that is needed, and returns the last one.
    async fn all(&mut self) -> BuildResult<Built> {
        for stage in self.outline.order.clone() {
            let built = self.stage(stage).await?;
            self.built.insert(stage, built);
        }
        let target = self.built.remove(&self.outline.target);
        Ok(target.expect("the target is among the stages in order"))
    }

    fn steps_in_all(&self) -> usize {
        self.outline.order.iter().map(|stage| self.file.stages[*stage].steps.len() + 1).sum()
    }

    async fn announce(&mut self, text: &str) {
        self.number += 1;
        let text = format!("Step {}/{} : {text}\n", self.number, self.steps_in_all());
        self.listener.text(text).await;
    }

    async fn stage(&mut self, number: usize) -> BuildResult<Built> {
        let (file, outline) = (Arc::clone(&self.file), Arc::clone(&self.outline));
        let stage = &file.stages[number];
        self.announce(&stage.text).await;
        let (mut built, config, inherited) = self.base(number).await?;
        let wanted = self.request.wanted.clone();
        let planning = {
            let file = Arc::clone(&file);
            move || plan(&file, &outline, &wanted, number, &config, inherited)
        };
        let plan = blocking(planning).await?.map_err(invalid)?;
        let triggers = plan.steps.len() - stage.steps.len();
        for (at, step) in plan.steps.iter().enumerate() {
            if at >= triggers {
                self.announce(&step.text).await;
            }
            let site = Site { build: self, layers: built.layers.clone() };
            let layer = match &step.operation {
                Some(operation) => site.carry_out(operation).await?,
                None => None,
            };
            built.add(step, layer);
        }
        built.arguments = plan.arguments.clone();
        built.finish(plan);
        Ok(built)
    }

    /// What a stage begins with: layers and history, the configuration, and arguments of the stage below.
    async fn base(&self, number: usize) -> BuildResult<(Built, RunConfig, Arguments)> {
        match &self.outline.bases[number] {
            Base::Scratch => {
                let built = Built::scratch(self.request.wanted.platform.clone());
                Ok((built, RunConfig::default(), Arguments::new()))
            }
            Base::Stage(earlier) => {
                let built = self.built.get(earlier).expect("stages come after those that they need").clone();
                let config = built.config.config.clone();
                let arguments = built.arguments.clone();
                Ok((built, config, arguments))
            }
            Base::Image(name, platform) => {
                let image = self.image(name, platform).await?;
                let config = image.config.config.clone();
                Ok((Built::on(&image), config, Arguments::new()))
            }
        }
    }

    /// An image by its name, pulled where it is not here for the platform or a newer one is wanted.
    async fn image(&self, name: &str, platform: &Platform) -> Result<Image> {
        let images = &self.shared().images;
        let here = if self.request.pull { None } else { self.image_here(name, platform).await? };
        let image = match here {
            Some(image) => image,
            // Its name may be that of another platform, which runs better here.
            None => images.resolve(&self.pull(name, platform).await?.to_string()).await?,
        };
        refuse_artifact(&image, name)?;
        images.note_use(&image.id, OffsetDateTime::now_utc());
        Ok(image)
    }

    async fn image_here(&self, name: &str, platform: &Platform) -> Result<Option<Image>> {
        match self.shared().images.resolve_for(name, Some(platform)).await {
            Ok(image) => Ok(Some(image)),
            Err(Error::NotFound { .. } | Error::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn pull(&self, name: &str, platform: &Platform) -> Result<Digest> {
        let reference: Reference = name
            .parse::<Reference>()
            .map_err(|error| Error::Invalid(format!("failed to parse {name}: {error}")))?
            .or_latest();
        let credentials = self.request.credentials.get(reference.domain()).cloned();
        let request = PullRequest {
            reference,
            platform: Some(platform.clone()),
            credentials: credentials.unwrap_or(coracle_registry::Credentials::Anonymous),
        };
        let (told, mut steps) = Teller::channel();
        let quiet = async { while steps.recv().await.is_some() {} };
        let pulling = async {
            let pulled = self.shared().images.pull(request, &told).await;
            drop(told);
            pulled
        };
        let (pulled, ()) = futures_util::future::join(pulling, quiet).await;
        pulled.map(|pulled| pulled.id)
    }

    async fn finish(&self, built: &Built) -> Result<Digest> {
        let mut config = built.config.clone();
        config.config.labels.extend(self.request.labels.clone());
        let references = self.request.references.clone();
        self.shared().images.adopt_built(config, references).await
    }
}

impl Built {
    fn scratch(platform: Platform) -> Self {
        Self {
            layers: Vec::new(),
            config: ImageConfig { platform, ..ImageConfig::default() },
            arguments: Arguments::new(),
        }
    }

    fn on(image: &Image) -> Self {
        let mut config = image.config.as_ref().clone();
        // They were the base's: what it was built in, and by what.
        config.other.clear();
        Self { layers: image.layers.clone(), config, arguments: Arguments::new() }
    }

    /// Notes what a step has left.
    fn add(&mut self, step: &coracle_build::Planned, layer: Option<Digest>) {
        if let Some(layer) = layer {
            self.layers.push(layer);
            self.config.rootfs.diff_ids.push(layer);
        }
        self.config.history.push(History {
            created: Some(crate::images::now()),
            created_by: step.history.clone(),
            comment: "buildkit.dockerfile.v0".to_owned(),
            empty_layer: layer.is_none(),
            ..History::default()
        });
    }

    fn finish(&mut self, plan: Plan) {
        self.config.config = plan.config;
        self.config.created = Some(crate::images::now());
        if let Some(author) = plan.author {
            self.config.author = author;
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn invalid(error: coracle_build::Error) -> Error {
    Error::Invalid(error.to_string())
}
