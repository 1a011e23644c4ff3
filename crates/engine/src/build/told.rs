//! What a build tells of its way, for those who show it.

use super::history::Counting;
use bytes::Bytes;
use coracle_build::Warning;
use coracle_spec::Digest;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use time::OffsetDateTime;
use tokio::sync::mpsc;

/// A step of a build: a `FROM` line, or an instruction below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepInfo {
    /// Its number in the build, from 0. Steps of one stage follow each other.
    pub number: usize,
    /// The stage: its name, or its number.
    pub stage: String,
    /// Whether there are other stages in the build.
    pub one_of_stages: bool,
    /// As written.
    pub text: String,
    /// Its place among the steps of the stage that make files, from 1, and how many there are; `None` for one that only
    /// changes the configuration.
    pub place: Option<(usize, usize)>,
    /// The steps whose files it needs.
    pub inputs: Vec<usize>,
    /// First and last line in the Dockerfile, from 1.
    pub lines: (usize, usize),
}

/// Something that a build tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The steps that will be done, before the first of them begins. More may follow, for what a base image turns out to
    /// need.
    Steps(Vec<StepInfo>),
    /// A step begins.
    Begun(usize, OffsetDateTime),
    /// Nothing has to be done for it: this was done before.
    Cached(usize),
    /// Why it has to be done although something like it was: the inputs that changed.
    Changed(usize, Vec<String>),
    /// What a command writes.
    Output {
        /// The step.
        step: usize,
        /// Whether on its standard error.
        is_error: bool,
        /// As it comes.
        bytes: Bytes,
    },
    /// A step ends; with a reason where it failed.
    Ended(usize, OffsetDateTime, Option<String>),
    /// A cache of others is being read, by its name.
    Reading(String, OffsetDateTime),
    /// It was, or could not be for a reason; the build goes on.
    Read(String, OffsetDateTime, Option<String>),
    /// A cache of others has a step that it does not give: the step is done, and the cache is not asked again.
    NotUsed {
        /// The step.
        step: usize,
        /// The cache.
        from: String,
        /// What is wrong.
        reason: String,
    },
    /// Something in the Dockerfile that works and is still a mistake.
    Warning(Warning),
    /// The image.
    Built(Digest),
}

/// Where a build tells of its way. A client that is gone is told nothing more.
#[derive(Debug)]
pub struct Listener {
    sender: mpsc::Sender<Told>,
    is_gone: AtomicBool,
    counting: Arc<Counting>,
}

impl Listener {
    /// A new pair of ends. Whoever tells waits while the other end is full; steps are counted on the way.
    pub fn channel(counting: Arc<Counting>) -> (Self, mpsc::Receiver<Told>) {
        let (sender, receiver) = mpsc::channel(crate::limits::STEPS);
        (Self { sender, is_gone: AtomicBool::new(false), counting }, receiver)
    }

    /// Tells.
    pub async fn tell(&self, told: Told) {
        self.counting.take(&told);
        if !self.is_gone.load(Ordering::Relaxed) && self.sender.send(told).await.is_err() {
            self.is_gone.store(true, Ordering::Relaxed);
        }
    }

    pub(super) async fn begun(&self, step: usize) {
        self.tell(Told::Begun(step, OffsetDateTime::now_utc())).await;
    }

    pub(super) async fn ended(&self, step: usize, error: Option<String>) {
        self.tell(Told::Ended(step, OffsetDateTime::now_utc(), error)).await;
    }
}
