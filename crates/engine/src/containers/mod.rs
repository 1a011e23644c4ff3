//! Containers: what they are, what can be done with them, and the task that does it.

mod admit;
mod attach;
mod changing;
mod commit;
mod confinement;
mod copy;
mod create;
mod ending;
pub mod exec;
mod exit;
pub mod health;
pub(crate) mod host;
pub(crate) mod isolation;
mod joining;
mod lifecycle;
mod limits;
mod links;
mod log_attributes;
mod logs;
mod memberships;
mod merge;
pub mod modes;
mod mount_mode;
mod mounts;
mod names;
mod network;
mod oci_spec;
mod partners;
mod paths;
pub(crate) mod prepare;
mod quota;
mod record;
pub(crate) mod recover;
pub(crate) mod registry;
mod remove;
mod republish;
pub mod settings;
mod signals;
pub(crate) mod sizes;
mod start;
pub mod state;
pub mod stats;
mod still;
pub(crate) mod task;
#[cfg(test)]
mod tests;
mod top;
mod trees;
mod usage;
mod view;
mod volume_copies;
mod volumes_from;

pub use attach::{AttachSettings, Attached};
pub(crate) use confinement::Available;
pub use confinement::{MASKED_PATHS, READONLY_PATHS};
pub use copy::{Archiving, Extraction, PathStat};
pub use create::Created;
pub(crate) use create::{create_of, refuse_artifact};
pub use lifecycle::{WaitCondition, Waiting, WholeRoot, export};
pub use logs::{LogDefaults, LogStream, log_defaults};
pub use memberships::Membership;
pub(crate) use merge::inherit_health;
pub use network::parse_port;
pub use paths::Paths;
pub(crate) use remove::remove_unasked;
pub use top::Top;
pub use trees::MountedImage;
pub(crate) use usage::image_users;
pub(crate) use view::{View, of_scratch as view_of_scratch};
pub use volume_copies::{SavingVolume, Writers};

use crate::volumes::Backing;
use coracle_spec::{ContainerId, Digest, Name};
use settings::Settings;
use state::State;
use std::sync::Arc;
use time::OffsetDateTime;

/// A container as it was at one moment.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its id.
    pub id: ContainerId,
    /// Its name, without a slash.
    pub name: Name,
    /// When it was made.
    pub created: OffsetDateTime,
    /// The id of its image.
    pub image: Digest,
    /// The layers of its image, the lowest first.
    pub layers: Vec<Digest>,
    /// What was asked for, with what the image added.
    pub settings: Arc<Settings>,
    /// Its volumes and bind mounts.
    pub mounts: Vec<MountPoint>,
    /// How it is.
    pub state: State,
    /// The networks it is on, the one of its network mode first.
    pub networks: Vec<Membership>,
}

impl Description {
    /// Its volumes.
    pub(crate) fn volumes(&self) -> impl Iterator<Item = &MountPoint> {
        self.mounts.iter().filter(|mount| mount.kind == "volume")
    }

    /// The images that it mounts.
    pub(crate) fn mounted_images(&self) -> impl Iterator<Item = &MountedImage> {
        self.mounts.iter().filter_map(|mount| mount.image.as_ref())
    }
}

/// A volume, bind mount or image of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountPoint {
    /// `bind`, `volume` or `image`.
    pub kind: String,
    /// The volume's name, or what the client called the image.
    pub name: String,
    /// The path on the host, or the image's id.
    pub source: String,
    /// What of the volume or image is mounted, a path in it; all of it if empty.
    pub subpath: String,
    /// The image.
    pub image: Option<MountedImage>,
    /// What becomes of that which is mounted below.
    pub below: Below,
    /// Where, inside the container.
    pub destination: String,
    /// The client's options, for instance `ro,z`.
    pub mode: String,
    /// Whether it can be written.
    pub writable: bool,
    /// Propagation of a bind mount.
    pub propagation: String,
    /// The volume's driver.
    pub driver: String,
    /// Whose the volume's files are, and where.
    pub backing: Backing,
    /// Whether the volume was made for this container alone.
    pub anonymous: bool,
    /// Whether what is bound is the engine's own; in no record.
    pub is_engines: bool,
}

impl MountPoint {
    /// Whether what is there belongs to users of containers, whoever they are outside. Other files are the host's, and their
    /// owners whoever they are there.
    pub(crate) fn is_of_containers(&self) -> bool {
        (self.kind == "volume" && self.backing != Backing::Shared) || self.is_engines
    }
}

/// What becomes in a container of that which is mounted below a bind mount's source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Below {
    /// It is there, and read-only where the mount is.
    #[default]
    Alike,
    /// It is there, and can be written to where the host can.
    Writable,
    /// It is not there.
    Absent,
}
