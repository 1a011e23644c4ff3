//! The file with the engine's process id, for as long as the engine runs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Longest content of such a file that is looked at, in bytes.
const LENGTH: u64 = 32;

/// Why the file was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Another engine has it.
    #[error("{} names process {pid}, which is an engine that runs: stop it, or choose another --pidfile", path.display())]
    Running {
        /// The file.
        path: PathBuf,
        /// Whose id is in it.
        pid: u32,
    },
    /// It cannot be written.
    #[error("cannot write the pid file {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The file; removed with this value if it is still ours.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// Writes our process id, unless the file names another engine that runs.
    pub(crate) fn write(path: &Path) -> Result<Self, Error> {
        let own = std::process::id();
        if let Some(pid) = named(path).filter(|pid| *pid != own && is_alike(*pid)) {
            return Err(Error::Running { path: path.to_owned(), pid });
        }
        let failed = |source| Error::Write { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        fs::write(path, own.to_string()).map_err(failed)?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if named(&self.path) == Some(std::process::id()) {
            // Whoever has removed it already has done our work.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The id in the file, if there is one.
fn named(path: &Path) -> Option<u32> {
    use std::io::Read;
    let mut text = String::new();
    fs::File::open(path).ok()?.take(LENGTH).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Whether a process with this id runs our program, an older version perhaps. After a boot the id may be anybody's.
fn is_alike(pid: u32) -> bool {
    let program = |process: &str| {
        let program = fs::read_link(format!("/proc/{process}/exe")).ok()?;
        let name = program.file_name()?.to_string_lossy().into_owned();
        Some(name.trim_end_matches(" (deleted)").to_owned())
    };
    program(&pid.to_string()).is_some_and(|other| Some(other) == program("self"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_our_id_until_it_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/pid");
        let file = PidFile::write(&path).unwrap();
        assert_eq!(named(&path), Some(std::process::id()));
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn only_a_running_engine_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        // A process of another name, one that is gone, and nonsense.
        for content in ["1", "4194304", "nothing"] {
            fs::write(&path, content).unwrap();
            drop(PidFile::write(&path).unwrap());
        }
        let own = std::env::current_exe().unwrap();
        let mut other = std::process::Command::new(own)
            .args(["pidfile::tests::waits_to_be_ended", "--exact", "--ignored"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        fs::write(&path, other.id().to_string()).unwrap();
        let refused = PidFile::write(&path);
        drop(other.stdin.take());
        other.wait().unwrap();
        assert!(matches!(refused, Err(Error::Running { pid, .. }) if pid == other.id()));
        drop(PidFile::write(&path).unwrap());
    }

    /// The other engine of the test above: ends with its input.
    #[test]
    #[ignore = "not a test: a process for another test"]
    fn waits_to_be_ended() {
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    }

    #[test]
    fn a_successor_keeps_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let file = PidFile::write(&path).unwrap();
        fs::write(&path, "7").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "7");
    }
}
