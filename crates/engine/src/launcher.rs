//! Starting shims: one sealed copy of `coracle-runtime` in memory for all of them.
//!
//! Nothing that runs in a container can reach a file of the host's through `/proc/PID/exe` (CVE-2019-5736), and all
//! shims share the copy's pages.

use crate::error::{Attempt, Error, Result};
use coracle_runtime::cgroup::{Entry, Group};
use coracle_sys::process::Child;
use coracle_sys::spawn::{Groups, Spawn, spawn};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::fcntl_dupfd_cloexec;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// Descriptors that a shim inherits are first moved above those it gets.
const ABOVE: i32 = 10;

/// Starts shims.
#[derive(Debug)]
pub(crate) struct Launcher {
    program: CString,
    arguments: [CString; 2],
    null: OwnedFd,
    /// Where shims are, if not with the engine.
    group: Option<Group>,
    _memory: OwnedFd,
}

impl Launcher {
    /// Copies the program at `path` into sealed memory. Shims are in `group`, or with the engine.
    pub(crate) fn new(path: &Path, group: Option<Group>) -> Result<Self> {
        let memory = copy_sealed(path).attempt(|| format!("copy {} into memory", path.display()))?;
        let program =
            CString::new(format!("/proc/self/fd/{}", memory.as_raw_fd())).attempt(|| "name it".into())?;
        let word = |text: &str| CString::new(text).attempt(|| "name it".into());
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .and_then(|null| fcntl_dupfd_cloexec(null, ABOVE))
            .attempt(|| "open /dev/null".into())?;
        Ok(Self {
            program,
            arguments: [word("coracle-runtime")?, word("shim")?],
            null,
            group,
            _memory: memory,
        })
    }

    /// Starts a shim that is controlled over `control` and complains into `log`. Blocks for about half a millisecond.
    pub(crate) fn start(&self, control: OwnedFd, log: &Path) -> Result<Child> {
        let log = File::create(log).attempt(|| format!("make {}", log.display()))?;
        let (log, control) = (above(log.into())?, above(control)?);
        let entry = self.group.as_ref().map(entry).transpose()?;
        let groups = entry
            .as_ref()
            .map(|entry| Groups { birth: entry.birth.as_ref().map(AsFd::as_fd), tasks: &entry.tasks });
        spawn(&Spawn {
            program: &self.program,
            arguments: &self.arguments,
            environment: &[],
            descriptors: &[self.null.as_fd(), log.as_fd(), log.as_fd(), control.as_fd()],
            groups,
        })
        .attempt(|| "start a shim".into())
    }
}

/// The way into the group of shims, which is made where it is not there: at first, and where its owner has cleared away.
fn entry(group: &Group) -> Result<Entry> {
    let found = group.entry().or_else(|_| group.make_again().and_then(|()| group.entry()));
    found.attempt(|| "open the cgroup of shims".into())
}

/// The descriptor itself where it is high enough, which it is in an engine that has been running for a moment.
fn above(descriptor: OwnedFd) -> Result<OwnedFd> {
    if descriptor.as_raw_fd() >= ABOVE {
        return Ok(descriptor);
    }
    fcntl_dupfd_cloexec(descriptor, ABOVE).attempt(|| "duplicate a descriptor".into())
}

fn copy_sealed(path: &Path) -> io::Result<OwnedFd> {
    let memory = memfd_create("coracle-runtime", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let memory = fcntl_dupfd_cloexec(memory, ABOVE)?;
    io::copy(&mut File::open(path)?, &mut File::from(memory.try_clone()?))?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&memory, seals)?;
    Ok(memory)
}

/// Where `coracle-runtime` is: beside the running program, or on the search path.
///
/// # Errors
/// [`Error::Invalid`] when it is in neither place.
pub fn find_runtime() -> Result<std::path::PathBuf> {
    let name = "coracle-runtime";
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(name)));
    let search = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(std::env::split_paths(&search).map(|directory| directory.join(name)))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            Error::Invalid(format!("{name} is neither beside this program nor on the search path"))
        })
}
