//! The container's cgroup: made, limited, entered, read and removed.
//!
//! Two worlds exist, chosen by what is mounted: v1 with one hierarchy per controller (perhaps with a v2 mount
//! beside it, "hybrid"), and pure v2. [`Group`] is the same for both; [`v1`] and [`v2`] say which files
//! carry a limit.
//!
//! A v1 hierarchy is entered by the process itself, which writes `0` into `tasks` through a descriptor that its
//! parent opened: that takes no global lock, where a parent that writes a pid into `cgroup.procs` waits for a
//! grace period of several milliseconds. A v2 group is entered at birth, by clone3(2).

mod devices;
mod layout;
mod oom;
mod v1;
mod v2;

pub use layout::{Hierarchy, Layout};
pub use oom::OomWatch;

use crate::error::{Error, Result};
use crate::limits;
use coracle_spec::runtime::Resources;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The cgroup of one container, in every hierarchy of the machine.
#[derive(Clone, Debug)]
pub struct Group {
    layout: Layout,
    path: PathBuf,
}

/// How a process gets into a group: descriptors that its parent opened.
#[derive(Debug)]
pub struct Entry {
    /// `tasks` of every v1 hierarchy: the process writes `0` into each.
    pub tasks: Vec<OwnedFd>,
    /// The v2 directory to be born into.
    pub birth: Option<OwnedFd>,
}

impl Entry {
    /// Moves the calling process, which must have one thread, into the v1 hierarchies.
    ///
    /// # Errors
    /// `EAGAIN` where a limit of tasks is reached; `ENOSPC` where a cpuset is empty.
    pub fn enter(&self) -> Result<()> {
        for tasks in &self.tasks {
            rustix::io::write(tasks, b"0").map_err(|error| Error::Cgroup {
                path: "tasks".into(),
                value: "0".into(),
                source: error.into(),
            })?;
        }
        Ok(())
    }
}

impl Group {
    /// Makes the group `path` (relative to each hierarchy's root) in every hierarchy.
    ///
    /// # Errors
    /// When a hierarchy is read-only or full; the group is in none then.
    pub fn create(layout: &Layout, path: &Path) -> Result<Self> {
        let group = Self::existing(layout, path);
        match group.make_directories() {
            Ok(()) => Ok(group),
            Err(error) => {
                // Why it could not be made says more than why a part of it could not be removed.
                let _ = group.remove();
                Err(error)
            }
        }
    }

    /// Makes what of the group is not there.
    ///
    /// # Errors
    /// When a hierarchy is read-only or full.
    pub fn make_again(&self) -> Result<()> {
        self.make_directories()
    }

    fn make_directories(&self) -> Result<()> {
        for directory in self.directories() {
            make_directory(&directory)?;
        }
        if let Layout::V2 { mountpoint } = &self.layout {
            v2::pass_controllers_on(mountpoint, &mountpoint.join(&self.path))?;
        }
        self.controller("cpuset").map_or(Ok(()), |directory| v1::inherit_cpuset(&directory))
    }

    /// The group `path`, which was made before.
    pub fn existing(layout: &Layout, path: &Path) -> Self {
        Self { layout: layout.clone(), path: path.strip_prefix("/").unwrap_or(path).to_owned() }
    }

    /// The machine's hierarchies.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Writes limits; those that are absent stay as they are.
    ///
    /// # Errors
    /// [`Error::Cgroup`] names the file and the value that the kernel refused.
    pub fn apply(&self, resources: &Resources) -> Result<()> {
        match &self.layout {
            Layout::V1 { .. } => v1::apply(self, resources),
            Layout::V2 { .. } => v2::apply(self, resources),
        }
    }

    /// Opens what a process needs to enter the group.
    ///
    /// # Errors
    /// When the group is gone.
    pub fn entry(&self) -> Result<Entry> {
        let open =
            |path: PathBuf, flags: OFlags| {
                rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty())
                    .map_err(|error| Error::Cgroup { path, value: String::new(), source: error.into() })
            };
        let tasks = match &self.layout {
            Layout::V1 { hierarchies, .. } => hierarchies
                .iter()
                .map(|h| open(h.mountpoint.join(&self.path).join("tasks"), OFlags::WRONLY))
                .collect::<Result<_>>()?,
            Layout::V2 { .. } => Vec::new(),
        };
        let birth = self.unified().map(|path| open(path, OFlags::PATH | OFlags::DIRECTORY)).transpose()?;
        Ok(Entry { tasks, birth })
    }

    /// Stops or resumes every task of the group.
    ///
    /// # Errors
    /// When the freezer is not there.
    pub fn set_frozen(&self, state: Frozen) -> Result<()> {
        match &self.layout {
            Layout::V1 { .. } => v1::set_frozen(self, state),
            Layout::V2 { .. } => v2::set_frozen(self, state),
        }
    }

    /// How many tasks of the group the kernel has killed for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let path = match &self.layout {
            Layout::V1 { .. } => self.controller("memory").map(|d| d.join("memory.oom_control")),
            Layout::V2 { .. } => self.unified().map(|d| d.join("memory.events")),
        };
        kills_in(&path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default())
    }

    /// The ids of the group's processes, in the caller's pid namespace.
    ///
    /// # Errors
    /// When the group is gone.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let directory = self.controller("pids").or_else(|| self.directories().into_iter().next());
        let path = directory.unwrap_or_default().join("cgroup.procs");
        let text = fs::read_to_string(&path).map_err(|source| Error::Cgroup {
            path,
            value: String::new(),
            source,
        })?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Kills every task of the group, frozen ones too.
    ///
    /// # Errors
    /// When the group is gone.
    pub fn kill(&self) -> Result<()> {
        if let Some(directory) = self.unified() {
            match write(&directory.join("cgroup.kill"), "1") {
                Ok(()) => return Ok(()),
                // Linux before 5.14 has no such file.
                Err(Error::Cgroup { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        for id in self.processes()? {
            if let Some(pid) = rustix::process::Pid::from_raw(id) {
                // A process that is gone by now is what was asked for.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        Ok(())
    }

    /// Kills every task of the group, those that are started meanwhile too, and waits until they have ended, but not longer
    /// than `patience`. A group that is not there has none.
    pub fn end(&self, patience: Duration) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        use rustix::process::{Pid, PidfdFlags, pidfd_open};
        let until = Instant::now() + patience;
        while let Ok(processes) = self.processes()
            && !processes.is_empty()
            && Instant::now() < until
        {
            let open = |id| pidfd_open(Pid::from_raw(id)?, PidfdFlags::empty()).ok();
            let handles: Vec<OwnedFd> = processes.into_iter().filter_map(open).collect();
            // What could not be killed is waited for in vain.
            let _ = self.kill();
            for handle in &handles {
                let left = Timespec::try_from(until.saturating_duration_since(Instant::now()));
                let _ = poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&left.unwrap_or_default()));
            }
        }
    }

    /// Removes the group from every hierarchy. What is gone already is no failure.
    ///
    /// # Errors
    /// `EBUSY` while a task is left.
    pub fn remove(&self) -> Result<()> {
        let mut failure = None;
        for path in self.directories() {
            match remove_emptied(&path) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => {
                    failure = Some(Error::Cgroup { path, value: "rmdir".into(), source: error.into() });
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// The group's directory in the v2 hierarchy, if one is mounted.
    pub fn unified(&self) -> Option<PathBuf> {
        match &self.layout {
            Layout::V1 { unified, .. } => unified.as_ref().map(|mount| mount.join(&self.path)),
            Layout::V2 { mountpoint } => Some(mountpoint.join(&self.path)),
        }
    }

    /// The group's directory in the v1 hierarchy that carries `controller`.
    pub fn controller(&self, controller: &str) -> Option<PathBuf> {
        let Layout::V1 { hierarchies, .. } = &self.layout else { return None };
        let hierarchy = hierarchies.iter().find(|h| h.controllers.iter().any(|c| c == controller))?;
        Some(hierarchy.mountpoint.join(&self.path))
    }

    fn directories(&self) -> Vec<PathBuf> {
        let Layout::V1 { hierarchies, .. } = &self.layout else {
            return self.unified().into_iter().collect();
        };
        hierarchies.iter().map(|h| h.mountpoint.join(&self.path)).chain(self.unified()).collect()
    }
}

/// Removes a group whose tasks have ended. A task that was just collected may still be counted for a moment, as the
/// kernel unlinks it after its last switch; no event tells of that on v1, so it is tried again for a while.
fn remove_emptied(path: &Path) -> rustix::io::Result<()> {
    let has_tasks = || fs::read_to_string(path.join("cgroup.procs")).is_ok_and(|tasks| !tasks.is_empty());
    for _ in 0..limits::REMOVAL_TRIES {
        match rustix::fs::rmdir(path) {
            Err(Errno::BUSY) if !has_tasks() => std::thread::sleep(Duration::from_millis(1)),
            done => return done,
        }
    }
    Err(Errno::BUSY)
}

/// Whether tasks are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frozen {
    /// They are.
    Stopped,
    /// They run.
    Running,
}

/// Makes a directory and those above it. Whoever has the last container in a parent may remove the parent just before
/// this one is made in it, so that it is made again.
fn make_directory(path: &Path) -> Result<()> {
    let refused = |error| Error::Cgroup { path: path.to_owned(), value: "mkdir".into(), source: error };
    for _ in 0..limits::CREATION_TRIES {
        match fs::DirBuilder::new().recursive(true).mode(0o755).create(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done.map_err(refused),
        }
    }
    Err(refused(Errno::NOENT.into()))
}

/// The count of kills that a file of either world has, in lines of a name and a number.
fn kills_in(text: &str) -> u64 {
    let mut counts = text.lines().filter_map(|line| line.split_once(' '));
    let count = counts.find(|(name, _)| *name == "oom_kill");
    count.and_then(|(_, count)| count.trim().parse().ok()).unwrap_or(0)
}

/// Writes `value` into an existing file with one call, as cgroup files want it.
fn write(path: &Path, value: &str) -> Result<()> {
    ControlFile::open(path, value)?.write(value)
}

/// A control file that takes one value or several.
struct ControlFile {
    path: PathBuf,
    file: OwnedFd,
}

impl ControlFile {
    /// Opens the file at `path`; `value` is what it is for, which an error tells.
    fn open(path: &Path, value: &str) -> Result<Self> {
        let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| refused(path, value, error))?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn write(&self, value: &str) -> Result<()> {
        rustix::io::write(&self.file, value.as_bytes())
            .map(drop)
            .map_err(|error| refused(&self.path, value, error))
    }
}

fn refused(path: &Path, value: &str, error: Errno) -> Error {
    Error::Cgroup { path: path.to_owned(), value: value.into(), source: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_spec::runtime::{Cpu, Memory, Pids};
    use coracle_sys::process::{Clone, Cloned, clone, exit_now, fork, reap};
    use rustix::process::{Pid, WaitOptions, waitpid};
    use std::os::fd::AsFd;

    fn group(name: &str) -> Group {
        let path = format!("coracle-test-{}-{name}", std::process::id());
        Group::create(&Layout::detect().unwrap(), Path::new(&path)).unwrap()
    }

    /// Runs `act` in a process inside the group. The harness has several threads, so a fork stands between.
    pub(super) fn inside(group: &Group, act: impl FnOnce() -> i32) -> Pid {
        let entry = group.entry().unwrap();
        let Some(pid) = fork().unwrap() else {
            let how = Clone { cgroup: entry.birth.as_ref().map(AsFd::as_fd), ..Clone::default() };
            match clone(how) {
                Ok(Cloned::Child) => exit_now(if entry.enter().is_ok() { act() } else { 99 }),
                Ok(Cloned::Parent(child)) => exit_now(reap(child.pidfd.as_fd()).unwrap_or(98)),
                Err(_) => exit_now(97),
            }
        };
        pid
    }

    pub(super) fn code(pid: Pid) -> i32 {
        waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap().1.exit_status().unwrap()
    }

    #[test]
    fn limits_read_back_and_the_child_that_entered_is_inside() {
        let group = group("limits");
        let resources = Resources {
            memory: Some(Memory { limit: Some(64 << 20), swap: Some(64 << 20), ..Memory::default() }),
            cpu: Some(Cpu { quota: Some(50_000), period: Some(100_000), ..Cpu::default() }),
            pids: Some(Pids { limit: 7 }),
            ..Resources::default()
        };
        group.apply(&resources).unwrap();
        if let Some(memory) = group.controller("memory") {
            let limit = fs::read_to_string(memory.join("memory.limit_in_bytes")).unwrap();
            assert_eq!(limit.trim(), (64 << 20).to_string());
        }
        let path = group.path.display().to_string();
        let pid = inside(&group, || {
            let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
            i32::from(!text.lines().all(|line| line.ends_with(&path)))
        });
        assert_eq!(code(pid), 0);
        group.remove().unwrap();
    }

    #[test]
    fn a_killed_group_has_no_process_left() {
        let group = group("kill");
        let (read, write) = rustix::pipe::pipe().unwrap();
        let pid = inside(&group, || {
            let _ = rustix::io::write(&write, b"in");
            loop {
                rustix::event::pause();
            }
        });
        rustix::io::read(&read, &mut [0; 2]).unwrap();
        group.kill().unwrap();
        assert_eq!(code(pid), 137);
        group.remove().unwrap();
    }

    #[test]
    fn a_group_is_made_although_others_keep_removing_its_parent() {
        let layout = Layout::detect().unwrap();
        let parent = Group::existing(&layout, format!("coracle-test-{}-parent", std::process::id()).as_ref());
        let ended = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                    for directory in parent.directories() {
                        // Most often it is not there, or in use.
                        let _ = fs::remove_dir(directory);
                    }
                }
            });
            for _ in 0..100 {
                let made = Group::create(&layout, &parent.path.join("child"));
                let removed = made.and_then(|group| group.remove());
                if removed.is_err() {
                    ended.store(true, std::sync::atomic::Ordering::Relaxed);
                }
                removed.unwrap();
            }
            ended.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        parent.remove().unwrap();
    }

    #[test]
    fn a_group_that_one_hierarchy_refuses_is_in_none() {
        let layout = Layout::detect().unwrap();
        let parent = group("refused");
        // The parent has a file of this name in one hierarchy.
        let path = parent.path.join("memory.limit_in_bytes");
        if parent.controller("memory").is_some() {
            Group::create(&layout, &path).unwrap_err();
            let left: Vec<PathBuf> =
                Group::existing(&layout, &path).directories().into_iter().filter(|d| d.is_dir()).collect();
            assert_eq!(left, Vec::<PathBuf>::new());
        }
        parent.remove().unwrap();
    }
}
