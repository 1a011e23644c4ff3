//! `POST /coracle/build`, an endpoint of our own: the body is one line with a [`BuildOptions`] document and then, unless
//! that names a directory, the context as an archive. The answer is a [`BuildProgress`] document per line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::auth::AuthConfig;
use crate::container::HostConfig;

/// What is to be built.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BuildOptions {
    /// The context, where client and engine share the machine: it is read where it is.
    pub directory: Option<Place>,
    /// Where the Dockerfile is in the context; one of its usual names where empty.
    pub dockerfile: String,
    /// The text of the Dockerfile, where it is not in the context.
    pub text: Option<String>,
    /// What is in the place of images and stages, by name.
    pub contexts: BTreeMap<String, NamedContext>,
    /// What the image is called.
    pub tags: Vec<String>,
    /// The stage that is wanted; the last one where empty.
    pub target: String,
    /// Arguments of the build.
    pub arguments: BTreeMap<String, String>,
    /// Labels that the image gets besides its own.
    pub labels: BTreeMap<String, String>,
    /// Whether nothing that was done before is used.
    pub no_cache: bool,
    /// Stages for which nothing is used.
    pub no_cache_filter: Vec<String>,
    /// Whether base images are pulled although they are here.
    pub pull: bool,
    /// Whether what the steps have left becomes one layer on the base image's.
    pub squash: bool,
    /// What the image runs on, or several with commas between them; this machine where empty.
    pub platform: String,
    /// What commands have of the host: network, limits, `/etc/hosts`.
    pub host_config: HostConfig,
    /// What commands may have that ask for it: `network.host`.
    pub allow: Vec<String>,
    /// Credentials by registry.
    pub credentials: BTreeMap<String, AuthConfig>,
    /// Secrets by id, in base64.
    pub secrets: BTreeMap<String, String>,
    /// Images and caches of others in which is looked for what was done.
    pub cache_from: Vec<String>,
    /// Whether the image is to be a cache for others.
    pub inline_cache: bool,
    /// Where what was done is to be found by others.
    pub cache_to: Vec<CacheTarget>,
    /// Sockets of SSH agents by id, where client and engine share the machine.
    pub ssh: BTreeMap<String, Place>,
}

/// A registry to which a cache goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CacheTarget {
    /// What it is called there.
    pub name: String,
    /// Whether it has the steps of all stages, and not only of those that the result stands on.
    pub all_stages: bool,
}

/// What is in the place of an image or a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "Type", rename_all_fields = "PascalCase")]
pub enum NamedContext {
    /// Another image.
    Image {
        /// Its name.
        name: String,
    },
    /// A Git repository, or a file of a web server.
    Address {
        /// Where it is.
        address: String,
    },
    /// A directory of the machine that client and engine share.
    Directory {
        /// Which.
        directory: Place,
    },
}

/// A directory or a socket of the machine, by its path and by what stat(2) says of it: the engine makes sure that it finds
/// the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Place {
    /// From the root.
    pub path: String,
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

/// What a build tells of its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "Type", rename_all_fields = "PascalCase")]
pub enum BuildProgress {
    /// What will be done, before the first begins.
    Steps {
        /// In order; stages that do not need each other are built at once.
        steps: Vec<BuildStep>,
    },
    /// A step begins.
    Begun {
        /// Its number.
        step: usize,
        /// Nanoseconds since 1970.
        time: i64,
    },
    /// It was done before.
    Cached {
        /// Its number.
        step: usize,
    },
    /// It was done before with something else.
    Changed {
        /// Its number.
        step: usize,
        /// What has changed.
        inputs: Vec<String>,
    },
    /// A command writes.
    Output {
        /// Its number.
        step: usize,
        /// Whether on its standard error.
        error: bool,
        /// What is no text is replaced.
        text: String,
    },
    /// A step ends.
    Ended {
        /// Its number.
        step: usize,
        /// Nanoseconds since 1970.
        time: i64,
        /// Why it failed; empty if it did not.
        failure: String,
    },
    /// Something in the Dockerfile works and is still a mistake.
    Warning {
        /// Which rule of Docker's build checks.
        rule: String,
        /// What is wrong.
        text: String,
        /// First and last line in the Dockerfile, from 1.
        lines: (usize, usize),
    },
    /// Something that a person should know.
    Note {
        /// What.
        text: String,
    },
    /// The image is there, or the index of several.
    Built {
        /// Its id, or the digest of the index.
        image: String,
        /// Its names, as people write them.
        names: Vec<String>,
    },
    /// There will be none.
    Failed {
        /// Why.
        message: String,
        /// The exit code of the command that failed; 1 where it was none.
        code: i64,
        /// First and last line in the Dockerfile, from 1; `null` where no instruction is to blame.
        lines: Option<(usize, usize)>,
    },
}

/// A step of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BuildStep {
    /// From 0.
    pub number: usize,
    /// The stage; empty where there is only one.
    pub stage: String,
    /// The instruction.
    pub text: String,
    /// Its place among the steps of the stage that make files, and how many there are; `null` for one that makes none.
    pub place: Option<(usize, usize)>,
}
