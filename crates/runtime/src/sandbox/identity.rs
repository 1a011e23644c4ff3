//! Who a process is and what it may do: limits, groups, user, capabilities, filter.

use super::plan::{Plan, Program};
use crate::error::{Error, Result};
use crate::seccomp::Filter;
use coracle_spec::runtime::{Process, Rlimit};
use coracle_sys::process::keep_until_exec;
use coracle_sys::rooted::Root;
use coracle_sys::seccomp;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{self, Gid, Pid, Resource, Uid, getrlimit, prlimit, setrlimit, umask};
use std::os::fd::{AsFd, BorrowedFd};

/// Changes the calling process, which is in its root and has lost what is outside its bounding set, into what the program
/// is to be. Afterwards it has no more rights than its program will.
pub(super) fn assume(program: &Program, filter: Option<&Filter>) -> Result<()> {
    let process = &program.process;
    // While descriptors can still be opened: a limit of them may be lower than their number is by now.
    let entered = enter_directory(&process.cwd);
    limit(&process.rlimits)?;
    umask(Mode::from_raw_mode(process.user.umask.unwrap_or(0o022)));
    if !process.no_new_privileges {
        // Loading a filter takes a privilege that is about to go.
        load_filter(filter)?;
    }
    change_user(process)?;
    program.capabilities.apply()?;
    if process.no_new_privileges {
        rustix::thread::set_no_new_privs(true).map_err(|e| failed("forbid new privileges", e))?;
        load_filter(filter)?;
    }
    // A directory that only the user may enter, on a file system that refuses root.
    if entered.is_err() {
        enter_directory(&process.cwd)?;
    }
    refuse_outside()
}

fn load_filter(filter: Option<&Filter>) -> Result<()> {
    match filter {
        Some(filter) => Ok(seccomp::load(&filter.instructions, filter.flags)?),
        None => Ok(()),
    }
}

fn change_user(process: &Process) -> Result<()> {
    let user = &process.user;
    if user.uid != 0 {
        // Until the program is executed: they are set to what they shall be in a moment.
        rustix::thread::set_keep_capabilities(true).map_err(|e| failed("keep capabilities", e))?;
    }
    let groups: Vec<Gid> = user.additional_gids.iter().map(|gid| Gid::from_raw(*gid)).collect();
    rustix::thread::set_thread_groups(&groups).map_err(|e| failed("set supplementary groups", e))?;
    let gid = Gid::from_raw(user.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(|e| failed("set the group", e))?;
    let uid = Uid::from_raw(user.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(|e| failed("set the user", e))
}

/// Enters the working directory, which is made when it is missing. The root is entered already.
fn enter_directory(path: &str) -> Result<()> {
    if path == "/" {
        return Ok(());
    }
    let refused =
        |error: Errno| Error::Child(format!("cannot enter the working directory {path:?}: {error}"));
    match rustix::process::chdir(path) {
        // Docker's words.
        Err(Errno::NOTDIR) => Err(Error::Child(format!("Cannot mkdir: {path} is not a directory"))),
        Err(Errno::NOENT) => {
            let root = Root::open("/")?;
            drop(root.create_dir_all(path, Mode::from_raw_mode(0o755))?);
            rustix::process::chdir(path).map_err(refused)
        }
        entered => entered.map_err(refused),
    }
}

/// Fails when the working directory lies outside the root, which only a leaked descriptor can bring about
/// (CVE-2024-21626).
fn refuse_outside() -> Result<()> {
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.to_bytes().starts_with(b"/") => Ok(()),
        _ => Err(Error::Child("the working directory is outside the container".to_owned())),
    }
}

fn limit(limits: &[Rlimit]) -> Result<()> {
    for limit in limits {
        let resource = resource(&limit.kind)
            .ok_or_else(|| Error::Child(format!("unknown resource limit {:?}", limit.kind)))?;
        let value = |number: u64| (number != u64::MAX).then_some(number);
        let pair = rustix::process::Rlimit { current: value(limit.soft), maximum: value(limit.hard) };
        setrlimit(resource, pair).map_err(|error| {
            Error::Child(format!(
                "cannot set {} to {} (hard {}): {error}; the engine itself may not raise its limits further",
                limit.kind, limit.soft, limit.hard
            ))
        })?;
    }
    Ok(())
}

/// Lets a process that has the caller's limits, itself if none is named, raise its own as far as `limits` say: once it is in a
/// user namespace it may not, setrlimit(2).
pub(super) fn allow(pid: Option<Pid>, limits: &[Rlimit]) -> Result<()> {
    for limit in limits {
        let Some(resource) = resource(&limit.kind) else { continue };
        let own = getrlimit(resource);
        let maximum = (limit.hard != u64::MAX).then_some(limit.hard);
        if own.maximum.is_some_and(|own| maximum.is_none_or(|maximum| maximum > own)) {
            prlimit(pid, resource, process::Rlimit { maximum, ..own })
                .map_err(|error| failed(&format!("allow {} of {}", limit.kind, limit.hard), error))?;
        }
    }
    Ok(())
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name.strip_prefix("RLIMIT_")? {
        "CPU" => Resource::Cpu,
        "FSIZE" => Resource::Fsize,
        "DATA" => Resource::Data,
        "STACK" => Resource::Stack,
        "CORE" => Resource::Core,
        "RSS" => Resource::Rss,
        "NPROC" => Resource::Nproc,
        "NOFILE" => Resource::Nofile,
        "MEMLOCK" => Resource::Memlock,
        "AS" => Resource::As,
        "LOCKS" => Resource::Locks,
        "SIGPENDING" => Resource::Sigpending,
        "MSGQUEUE" => Resource::Msgqueue,
        "NICE" => Resource::Nice,
        "RTPRIO" => Resource::Rtprio,
        "RTTIME" => Resource::Rttime,
        _ => return None,
    })
}

/// Sets how readily the kernel ends the calling process for want of memory.
///
/// `procfs` is a mount of procfs that is attached nowhere: what is written to the process's own files cannot be
/// redirected by what the container has on `/proc` (CVE-2025-52881).
pub(super) fn set_score(score: Option<i32>, procfs: &Root) -> Result<()> {
    let Some(score) = score else { return Ok(()) };
    let path = "self/oom_score_adj";
    let file = keep_until_exec(procfs.open_on_same_mount(path, OFlags::WRONLY)?);
    rustix::io::write(file, score.to_string().as_bytes())
        .map_err(|error| Error::Child(format!("cannot write {score} into {path}: {error}")))?;
    Ok(())
}

/// Sets the score of the process, and the kernel parameters of the container's own namespaces. `procfs` as for
/// [`set_score`].
pub(super) fn set_parameters(plan: &Plan, procfs: &Root) -> Result<()> {
    set_score(plan.oom_score_adj, procfs)?;
    for (name, value) in &plan.linux.sysctl {
        let path = format!("sys/{}", name.replace('.', "/"));
        let file = procfs.open_beneath_no_symlinks(&path, OFlags::WRONLY, Mode::empty())?;
        rustix::io::write(keep_until_exec(file), value.as_bytes())
            .map_err(|error| Error::Child(format!("cannot set sysctl {name} to {value:?}: {error}")))?;
    }
    Ok(())
}

/// Lets the user that the process becomes open its own standard streams again, through `/dev/stdout` and the like.
/// The null device is left alone: it is everybody's.
pub(super) fn own_stdio(process: &Process, descriptors: [BorrowedFd<'_>; 3]) -> Result<()> {
    if process.user.uid == 0 {
        return Ok(());
    }
    for descriptor in descriptors {
        if super::device::is_null(descriptor) {
            continue;
        }
        match rustix::fs::fchown(descriptor.as_fd(), Some(Uid::from_raw(process.user.uid)), None) {
            // Streams that a caller handed in may be on a file system that has no owners.
            Ok(()) | Err(Errno::PERM | Errno::INVAL | Errno::ROFS) => {}
            Err(error) => return Err(failed("give the streams to the user", error)),
        }
    }
    Ok(())
}

fn failed(action: &str, error: Errno) -> Error {
    Error::Child(format!("cannot {action}: {error}"))
}
