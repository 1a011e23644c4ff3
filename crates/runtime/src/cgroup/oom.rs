//! Hearing of it when the kernel has no more memory for a group.

use super::{Group, Layout, kills_in};
use crate::error::{Error, Result};
use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Becomes ready when a group has no more memory.
#[derive(Debug)]
pub struct OomWatch {
    source: Source,
    /// How many kills were told of.
    kills: u64,
}

#[derive(Debug)]
enum Source {
    /// v1: counts what `cgroup.event_control` was asked to tell. Documentation/admin-guide/cgroup-v1/memory.rst, section 10.
    Eventfd { counter: OwnedFd },
    /// v2: `memory.events`, which poll(2) has something urgent for when it has changed.
    Events(OwnedFd),
}

impl Group {
    /// Begins to watch; `None` where the group's memory is not counted.
    ///
    /// # Errors
    /// When the group is gone, or descriptors run out.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>> {
        let source = match &self.layout {
            Layout::V1 { .. } => match self.controller("memory") {
                Some(directory) => Source::Eventfd { counter: register(&directory)? },
                None => return Ok(None),
            },
            Layout::V2 { .. } => match self.unified() {
                Some(directory) => Source::Events(open(directory.join("memory.events"), OFlags::RDONLY)?),
                None => return Ok(None),
            },
        };
        Ok(Some(OomWatch { source, kills: 0 }))
    }
}

/// Has the kernel count in an eventfd how often a v1 group has no more memory.
fn register(directory: &Path) -> Result<OwnedFd> {
    let control = open(directory.join("memory.oom_control"), OFlags::RDONLY)?;
    let counter = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|error| failed(directory.to_owned(), error))?;
    let path = directory.join("cgroup.event_control");
    super::write(&path, &format!("{} {}", counter.as_raw_fd(), control.as_raw_fd()))?;
    Ok(counter)
}

fn open(path: PathBuf, flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(|error| failed(path, error))
}

fn failed(path: PathBuf, error: rustix::io::Errno) -> Error {
    Error::Cgroup { path, value: String::new(), source: error.into() }
}

impl OomWatch {
    /// What to wait for.
    pub fn flags(&self) -> PollFlags {
        match &self.source {
            Source::Eventfd { .. } => PollFlags::IN,
            Source::Events(_) => PollFlags::PRI,
        }
    }

    /// Whether there is something to tell, once it is ready: a kill, or on v1 that there is going to be one.
    pub fn take(&mut self) -> bool {
        match &self.source {
            Source::Eventfd { counter } => {
                let mut count = [0; 8];
                rustix::io::read(counter, &mut count).is_ok()
            }
            Source::Events(file) => {
                let mut text = [0; 512];
                // Reading it also waits for the next change.
                let length = rustix::io::pread(file, &mut text, 0).unwrap_or(0);
                let kills = kills_in(&String::from_utf8_lossy(&text[..length]));
                let more = kills > self.kills;
                self.kills = self.kills.max(kills);
                more
            }
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::Eventfd { counter } => counter.as_fd(),
            Source::Events(file) => file.as_fd(),
        }
    }
}
