//! Finding and starting the container's program, with the errors that a shell would give.

use crate::error::{Error, Result};
use crate::limits;
use coracle_sys::process::execve;
use rustix::fs::{Access, AtFlags, CWD, FileType, accessat};
use rustix::io::Errno;
use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where programs are looked for when the environment does not say.
const DEFAULT_SEARCH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Becomes the program `arguments[0]`, which is searched in the `PATH` of `environment` unless it has a slash.
/// Returns only when that fails.
pub(super) fn run(arguments: &[CString], environment: &[CString]) -> Result<Infallible> {
    let name = arguments.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let path = find(&name, environment)?;
    let path = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::Invalid("the program's path contains a zero byte".to_owned()))?;
    execve(&path, arguments, environment).map_err(|error| match error.errno() {
        Some(Errno::NOENT) => Error::NotFound { program: name, reason: "no such file or directory" },
        Some(errno) => Error::NotExecutable { program: name, reason: reason(errno) },
        None => error.into(),
    })
}

fn reason(errno: Errno) -> String {
    match errno {
        Errno::ACCESS => "permission denied".to_owned(),
        Errno::ISDIR => "is a directory".to_owned(),
        Errno::NOEXEC => "exec format error".to_owned(),
        other => other.to_string(),
    }
}

fn find(name: &str, environment: &[CString]) -> Result<PathBuf> {
    if name.contains('/') {
        return executable(Path::new(name)).map(|()| name.into()).map_err(|error| refused(name, error));
    }
    let search = environment
        .iter()
        .find_map(|entry| entry.to_bytes().strip_prefix(b"PATH="))
        .unwrap_or(DEFAULT_SEARCH.as_bytes());
    let mut denied = false;
    if !name.is_empty() {
        for directory in search.split(|byte| *byte == b':') {
            if directory.is_empty() || directory.len() > limits::SEARCH_PATH_ENTRY {
                continue;
            }
            let candidate = Path::new(OsStr::from_bytes(directory)).join(name);
            match executable(&candidate) {
                Ok(()) => return Ok(candidate),
                Err(Errno::ACCESS) => denied = true,
                Err(_) => {}
            }
        }
    }
    if denied {
        return Err(refused(name, Errno::ACCESS));
    }
    Err(Error::NotFound { program: name.to_owned(), reason: "executable file not found in $PATH" })
}

fn refused(name: &str, error: Errno) -> Error {
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => {
            Error::NotFound { program: name.to_owned(), reason: "no such file or directory" }
        }
        other => Error::NotExecutable { program: name.to_owned(), reason: reason(other) },
    }
}

fn executable(path: &Path) -> std::result::Result<(), Errno> {
    let stat = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn programs_are_found_or_refused_as_a_shell_does() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("program"), "").unwrap();
        fs::set_permissions(at("program"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(at("plain"), "").unwrap();
        fs::create_dir(at("directory")).unwrap();
        let environment = [CString::new(format!("PATH=:/nowhere:{}", dir.path().display())).unwrap()];
        assert_eq!(find("program", &environment).unwrap(), at("program"));
        let absolute = |name: &str| at(name).display().to_string();
        for (name, expected) in [
            ("missing".to_owned(), "executable file not found in $PATH"),
            (String::new(), "executable file not found in $PATH"),
            (absolute("missing"), "no such file or directory"),
            (absolute("plain/below"), "no such file or directory"),
            (absolute("directory"), "is a directory"),
            (absolute("plain"), "permission denied"),
            ("plain".to_owned(), "permission denied"),
        ] {
            let error = find(&name, &environment).unwrap_err();
            assert_eq!(error.to_string(), format!("exec: \"{name}\": {expected}"));
        }
    }
}
