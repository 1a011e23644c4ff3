//! Builds: a Dockerfile and its context become an image.
//!
//! ```text
//! context.rs   archive, directory or client → files     coracle-build: Dockerfile → outline → plan of each stage
//! platforms.rs  a build for each platform, all at once
//!  stages.rs   all stages at once, each as far as what it needs is there
//!    late.rs   stages that only a base image turns out to need
//!    step.rs   a step: found in the cache, or done ─► a layer       cache/    what was done before
//!     run.rs   a command    files.rs  COPY and ADD    bases.rs  images that stages begin with
//!             origins.rs, named.rs  what `--from` means
//!                sources.rs  what is taken  destination.rs  where it goes  remote.rs, git.rs, agent.rs  from addresses
//!    allowed.rs  what commands may have  devices.rs  RUN --device
//!              mounts.rs  RUN --mount  caches.rs  what stays  memory.rs  secrets  stubs.rs  what mounts are attached to
//! product.rs, several.rs  what was made, for one platform or several    reading.rs  a look into it
//! questions.rs  what is asked of a Dockerfile before it is built
//! leftovers.rs what a killed engine has left          told.rs, inputs.rs  what is told to and asked of the client
//!    history/  which builds there were    provenance/  where a result comes from
//! ```
//!
//! What a step leaves is one layer; a step that changes nothing leaves none. Nothing is an image before the last step: a
//! build that fails, or whose client goes, leaves nothing but what the next one need not do again.

mod agent;
mod allowed;
mod bases;
mod cache;
mod caches;
mod context;
mod destination;
mod devices;
mod files;
mod git;
mod history;
mod inputs;
mod late;
pub(crate) mod leftovers;
mod memory;
mod mounts;
mod named;
mod origins;
mod platforms;
mod product;
mod provenance;
mod questions;
mod reading;
mod remote;
mod room;
mod run;
mod several;
mod sources;
mod stages;
mod step;
mod stubs;
mod told;
mod workshop;

use crate::containers::settings::HostSettings;
use crate::error::{Error, Result};
pub use allowed::Allowed;
pub use cache::{CACHE_MOUNT, CacheMode, CacheSource, CachedStep, ExportedCache, PrunedSteps, StepFilter};
pub(crate) use cache::{Cache, stay_within_budget};
pub use caches::CacheMount;
pub(crate) use caches::CacheMounts;
use coracle_build::{CheckOptions, Dockerfile, Outline, Surroundings, check, outline};
pub use coracle_build::{Lines, Loan, Parameter, Parameters, Target, Wanted, Warning, context_name};
pub(crate) use history::History;
pub use history::{BuildRecord, Counting, Counts, End, HistoryEvent, Listening, RecordedOutput, Recording};
pub use inputs::{Client, Recipe, Selection, Silent, Source, Stream};
pub use named::NamedContext;
pub use product::Product;
pub use provenance::{Attested, Ingredients, Material, ProvenanceMode, ProvenanceRequest};
pub use questions::{Answer, Checked};
pub use reading::{FileInfo, Part};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
pub use told::{Listener, StepInfo, Told};

/// What is to be built.
pub struct BuildRequest {
    /// Where the context is.
    pub source: Source,
    /// Where the Dockerfile is.
    pub recipe: Recipe,
    /// What is in the place of images and stages, by [`context_name`].
    pub contexts: BTreeMap<String, NamedContext>,
    /// Whoever asked.
    pub client: Arc<dyn Client>,
    /// The stage that is the result, arguments and platforms.
    pub wanted: Wanted,
    /// Labels that it gets besides its own.
    pub labels: BTreeMap<String, String>,
    /// Whether base images are pulled although they are here.
    pub pull: bool,
    /// Which stages are done although they were done before.
    pub anew: Anew,
    /// What containers of commands have of the host: the network, limits.
    pub host: HostSettings,
    /// Caches of others that are looked into.
    pub caches: Vec<CacheSource>,
    /// Whether the image is to be a cache as well.
    pub inline_cache: bool,
    /// Whether what the steps of the result have left becomes one layer on its base image's.
    pub squash: bool,
    /// What commands may have that ask for it.
    pub allowed: Allowed,
}

/// Which stages are done although they were done before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Anew {
    /// None.
    #[default]
    Nothing,
    /// All.
    Everything,
    /// Those with these names.
    Stages(Vec<String>),
}

impl Anew {
    fn covers(&self, stage: Option<&str>) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Stages(names) => {
                stage.is_some_and(|stage| names.iter().any(|name| name.eq_ignore_ascii_case(stage)))
            }
        }
    }
}

/// Why a build ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A command ended so.
    #[error("The command '{}' returned a non-zero code: {code}", words.join(" "))]
    Command {
        /// Program and arguments.
        words: Vec<String>,
        /// Its exit code.
        code: i64,
        /// First and last line in the Dockerfile, from 1.
        lines: (usize, usize),
    },
    /// A statement cannot be carried out.
    #[error("{source}")]
    Statement {
        /// Why.
        source: Error,
        /// First and last line in the Dockerfile, from 1.
        lines: (usize, usize),
    },
    /// Anything else.
    #[error(transparent)]
    Engine(#[from] Error),
}

impl BuildError {
    /// The text with all its causes.
    pub fn chain(&self) -> String {
        match self {
            Self::Command { .. } => self.to_string(),
            Self::Statement { source: error, .. } | Self::Engine(error) => error.chain(),
        }
    }

    /// The lines of the Dockerfile that are to blame, the first and the last, from 1.
    pub fn lines(&self) -> Option<(usize, usize)> {
        match self {
            Self::Command { lines, .. } | Self::Statement { lines, .. } => Some(*lines),
            Self::Engine(_) => None,
        }
    }

    /// The same, with the lines of the statement whose work failed so.
    fn at(self, lines: Lines) -> Self {
        match self {
            Self::Engine(source) => Self::Statement { source, lines: (lines.first, lines.last) },
            placed => placed,
        }
    }
}

type BuildResult<T> = std::result::Result<T, BuildError>;

/// Reads a Dockerfile, and says what in it is likely wrong. What images bring with them is not known yet.
fn read(text: &str, wanted: &Wanted) -> Result<((Dockerfile, Outline), Vec<Warning>)> {
    let file = Dockerfile::parse(text).map_err(invalid)?;
    let outline = outline(&file, wanted).map_err(invalid)?;
    let around = Surroundings { wanted, ignored: None, environment: &|_| None };
    let warnings = check(text, &file, &around).map_err(invalid)?;
    if !warnings.is_empty() && CheckOptions::of(&file.directives).map_err(invalid)?.is_error {
        let named: BTreeSet<String> = warnings.iter().map(|warning| warning.rule.name()).collect();
        let named = Vec::from_iter(named).join(", ");
        return Err(Error::Invalid(format!("lint violation found for rules: {named}")));
    }
    Ok(((file, outline), warnings))
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in `map_err`")]
fn invalid(error: coracle_build::Error) -> Error {
    Error::Invalid(error.to_string())
}
