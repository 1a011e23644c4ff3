//! Images between here and registries: what pulls and pushes have in common, and what they tell of their way.
//!
//! ```text
//! pull:  choose.rs  name → manifest for a platform ─► downloads.rs  layers, each once for all who wait for it ─► adopt
//!                                                   ├► attestations.rs  statements about the image ────────────┤
//!                                                   └► artifact.rs   the blobs of what is no image, as they are ─┘
//! push:  push.rs    manifest as it came, or a new one ─► what the registry lacks ─► manifest
//! look:  look.rs    what becomes no image here: a manifest, and of its blobs what somebody asks for
//! ```
//!
//! The registry crate speaks to registries and the store keeps bytes; here is what to fetch, in which order, for whom.

mod artifact;
mod attestations;
mod choose;
mod downloads;
mod look;
mod pull;
mod push;

pub(crate) use look::{Looked, Remote};
pub use pull::{PullRequest, Pulled};
pub(crate) use push::Prepared;
pub use push::{PushRequest, Pushed};

pub(super) use downloads::Downloads;

use crate::error::{Error, Result};
use coracle_registry::Error as RegistryError;
use coracle_spec::image::Descriptor;
use coracle_spec::{Digest, Reference};
use tokio::sync::mpsc;

/// What a pull or a push tells of its way.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A pull knows what the name stands for.
    Pulling {
        /// The repository, as people call it.
        repository: String,
        /// The tag or the digest.
        what: String,
    },
    /// An archive comes from this address.
    Fetching(String),
    /// What was imported has this id.
    Imported(Digest),
    /// A push has begun.
    Pushing {
        /// The repository, in full.
        repository: String,
    },
    /// Something about a layer.
    Layer {
        /// What the layer is shown as: the beginning of a digest.
        id: String,
        /// How far it is.
        state: LayerStep,
    },
    /// Something did not come or go as it should have, and the rest did.
    Warning(String),
    /// What was pulled has this digest.
    Pulled(Digest),
    /// One tag is in the registry.
    Pushed(Pushed),
    /// Not the index went, of which one platform is here, but the manifest of that one.
    Reduced(Box<Reduced>),
    /// A manifest of an index is neither here nor in the registry.
    ContentMissing(Box<Descriptor>),
    /// An image is about to go to another engine.
    Sending {
        /// What it was called by whoever sends it.
        image: String,
    },
    /// An image is at another engine.
    Delivered {
        /// What it was called by whoever sent it.
        image: String,
        /// What it is.
        id: Digest,
        /// Bytes of layers that went.
        bytes: u64,
        /// Bytes of all its layers.
        total: u64,
        /// Names that another image had there, and its id.
        moved: Vec<(String, Digest)>,
    },
    /// The end of a pull: whether the name stands for something that it did not stand for before.
    Done {
        /// The name.
        reference: String,
        /// Whether it is new.
        newer: bool,
    },
}

/// A push of less than a name stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduced {
    /// What the name stands for here.
    pub index: Descriptor,
    /// What went.
    pub manifest: Descriptor,
}

/// How far a layer is. Numbers are bytes of its compressed form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerStep {
    /// It is to be fetched.
    Wanted,
    /// It is to be sent.
    Preparing,
    /// Others come first.
    Waiting,
    /// It is being fetched and unpacked at once.
    Downloading {
        /// So many are here.
        done: u64,
        /// Of so many.
        total: u64,
    },
    /// All of it came; the rest of it is being unpacked.
    Downloaded,
    /// It is here now.
    Complete,
    /// It was here before.
    Present,
    /// It is being sent.
    Sending {
        /// So many are there.
        done: u64,
        /// Of so many.
        total: u64,
    },
    /// It is there now.
    Sent,
    /// It was there before.
    PresentThere,
    /// The registry took it from another repository, of this name.
    Mounted(String),
}

/// Where steps are told. A client that is gone is told nothing more, which ends no transfer by itself.
#[derive(Clone, Debug)]
pub struct Teller(mpsc::Sender<Step>);

impl Teller {
    /// A new pair of ends. Whoever tells waits while the other end is full.
    pub fn channel() -> (Self, mpsc::Receiver<Step>) {
        let (sender, receiver) = mpsc::channel(crate::limits::STEPS);
        (Self(sender), receiver)
    }

    pub(super) async fn tell(&self, step: Step) {
        // See above.
        let _ = self.0.send(step).await;
    }

    pub(super) async fn layer(&self, id: &str, state: LayerStep) {
        self.tell(Step::Layer { id: id.to_owned(), state }).await;
    }
}

/// What a registry did not give, in the words that Docker's clients know.
pub(super) fn of_registry(error: RegistryError, reference: &Reference) -> Error {
    let action = match &error {
        RegistryError::ManifestUnknown { .. } => format!("manifest for {} not found", reference.familiar()),
        RegistryError::Denied { .. } => format!(
            "access to {} denied: the repository does not exist or may require 'docker login'",
            reference.familiar_name()
        ),
        RegistryError::BlobUnknown { .. } => format!("{} is not whole in its registry", reference.familiar()),
        // 500, as Docker has it: at 401, its command asks for a password on and on.
        RegistryError::Unauthorized { .. } => {
            let action = format!("{} needs other credentials, see 'docker login'", reference.familiar());
            return Error::Failed { action, source: error.into() };
        }
        RegistryError::Schema1 { .. } => return Error::Invalid(coracle_spec::full_text(&error)),
        _ => {
            return Error::Failed {
                action: format!("ask a registry for {}", reference.familiar()),
                source: error.into(),
            };
        }
    };
    Error::Missing(format!("{action}: {}", coracle_spec::full_text(&error)))
}

/// A failure of what a registry gave, which is the registry's.
fn refused(reference: &Reference, reason: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("cannot use {}: {reason}", reference.familiar()))
}

/// The result of a join, whose task panicked if there is none.
pub(super) fn joined<T>(result: std::result::Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    use crate::error::Attempt;
    result.attempt(|| "move image content".to_owned())?
}
