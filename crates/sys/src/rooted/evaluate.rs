//! Where a path leads inside a root, as text.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::Root;
use crate::error::{Context, Result};
use crate::limits;

/// Longest path that a link may lead to, in bytes (`PATH_MAX`).
const LONGEST: usize = 4096;

pub(super) fn evaluate(root: &Root, path: &Path) -> Result<PathBuf> {
    let mut reached = PathBuf::from("/");
    let mut todo: VecDeque<OsString> = components(path.as_os_str());
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            reached.pop();
            continue;
        }
        let next = reached.join(&name);
        let Some(target) = link_at(root, &next)? else {
            reached = next;
            continue;
        };
        links += 1;
        if links > limits::SYMLINKS {
            return Err(Errno::LOOP).context("readlinkat", path.display());
        }
        if target.as_bytes().starts_with(b"/") {
            reached = PathBuf::from("/");
        }
        for name in components(&target).into_iter().rev() {
            todo.push_front(name);
        }
        if todo.len() + reached.as_os_str().len() > LONGEST {
            return Err(Errno::NAMETOOLONG).context("readlinkat", path.display());
        }
    }
    Ok(reached)
}

fn components(path: &OsStr) -> VecDeque<OsString> {
    let names = path.as_bytes().split(|byte| *byte == b'/');
    names.filter(|name| !matches!(*name, b"" | b".")).map(|name| OsStr::from_bytes(name).to_owned()).collect()
}

/// The target of the link at `path`; `None` when there is none, or nothing.
fn link_at(root: &Root, path: &Path) -> Result<Option<OsString>> {
    let handle = match root.open_link(path) {
        Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR)) => return Ok(None),
        result => result?,
    };
    match rustix::fs::readlinkat(&handle, c"", Vec::new()) {
        Ok(target) => Ok(Some(OsString::from_vec(target.into_bytes()))),
        // An empty path works for links alone (readlinkat(2)).
        Err(Errno::NOENT | Errno::INVAL) => Ok(None),
        Err(errno) => Err(errno).context("readlinkat", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_inside_the_root_as_far_as_there_is_something() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(at("a/b")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        for (link, target) in [
            ("absolute", "/a/b"),
            ("relative", "a/b"),
            ("up", "../../../../a"),
            ("a/b/back", "../../file"),
            ("chain", "up/b/back"),
            ("dangling", "/no/such"),
            ("loop", "loop"),
        ] {
            symlink(target, at(link)).unwrap();
        }
        let root = Root::open(directory.path()).unwrap();
        for (path, expected) in [
            ("", "/"),
            ("/", "/"),
            ("../..", "/"),
            ("a/./b/", "/a/b"),
            ("absolute", "/a/b"),
            ("relative/..", "/a"),
            ("up/b", "/a/b"),
            ("chain", "/file"),
            ("dangling", "/no/such"),
            ("dangling/more/../x", "/no/such/x"),
            ("file/below", "/file/below"),
        ] {
            assert_eq!(root.evaluate(path).unwrap(), Path::new(expected), "{path}");
        }
        assert_eq!(root.evaluate("loop").unwrap_err().errno(), Some(Errno::LOOP));
    }
}
