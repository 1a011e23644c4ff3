//! What a mount of a command is attached to where the image has nothing: empty files and directories, which are no part of
//! what the command has made.
//!
//! They are removed from what was written once the command has ended, through descriptors and without following a link:
//! the command may have put links there that lead elsewhere (CVE-2024-23652). What the command has filled stays.

use crate::error::{Attempt, Result};
use coracle_store::Tree;
use coracle_sys::rooted::{Root, reopen};
use coracle_sys::xattr;
use rustix::fs::{AtFlags, FileType, OFlags, Stat};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What will be made for mounts, by paths without links. Parents sort before what is in them.
#[derive(Debug, Default)]
pub(super) struct Stubs {
    made: BTreeMap<PathBuf, ()>,
    /// Directories above those, as they were.
    above: BTreeMap<PathBuf, Described>,
}

/// What overlayfs copies of a directory in which something is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Described(u32, u32, u32);

impl Described {
    fn of(stat: &Stat) -> Self {
        Self(stat.st_mode, stat.st_uid, stat.st_gid)
    }
}

impl Stubs {
    /// Finds out what is missing in `tree` for `targets`. Blocks.
    pub(super) fn find<'a>(tree: &Tree, targets: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut stubs = Self::default();
        for target in targets {
            let looking = || format!("look for {target}");
            let path = tree.root().evaluate(target).attempt(looking)?;
            for part in path.ancestors().filter(|part| part.parent().is_some()) {
                match tree.find(part).attempt(looking)? {
                    Some(found) => drop(stubs.above.insert(part.to_owned(), Described::of(&found.stat))),
                    None => drop(stubs.made.insert(part.to_owned(), ())),
                }
            }
        }
        Ok(stubs)
    }

    /// Removes them from the directory of what was written, where nothing is mounted any more. Blocks.
    pub(super) fn clean(&self, written: &Path) -> Result<()> {
        let cleaning = || "remove what mounts of a step were attached to".to_owned();
        let root = Root::open(written).attempt(cleaning)?;
        for path in self.made.keys().rev() {
            if let Some((parent, name)) = place(&root, path) {
                remove_if_empty(&parent, &name);
            }
        }
        for (path, before) in self.above.iter().rev() {
            if let Some((parent, name)) = place(&root, path)
                && is_copy(&parent, &name, *before)
            {
                remove_if_empty(&parent, &name);
            }
        }
        Ok(())
    }
}

/// The directory that a path is in, where no link is on the way, and its name there.
fn place(root: &Root, path: &Path) -> Option<(OwnedFd, CString)> {
    let name = CString::new(path.file_name()?.as_bytes()).ok()?;
    let parent = path.parent()?.strip_prefix("/").ok()?;
    let parent = if parent.as_os_str().is_empty() { Path::new(OsStr::new(".")) } else { parent };
    Some((root.open_directory_without_links(parent).ok()?, name))
}

fn lstat(parent: &OwnedFd, name: &CString) -> Option<Stat> {
    rustix::fs::statat(parent, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW).ok()
}

/// Removes an empty file or directory; anything else is not what was made for a mount.
fn remove_if_empty(parent: &OwnedFd, name: &CString) {
    let Some(stat) = lstat(parent, name) else { return };
    let how = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => AtFlags::REMOVEDIR,
        FileType::RegularFile if stat.st_size == 0 => AtFlags::empty(),
        _ => return,
    };
    // A directory that the command has filled stays, and so does what cannot be removed: it is a file of the layer then.
    let _ = rustix::fs::unlinkat(parent, name.as_c_str(), how);
}

/// Whether a directory is there only because something was made in it: it is what it was, and hides nothing below.
fn is_copy(parent: &OwnedFd, name: &CString, before: Described) -> bool {
    let Some(stat) = lstat(parent, name).filter(|stat| Described::of(stat) == before) else { return false };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(parent, name.as_c_str(), flags, rustix::fs::Mode::empty());
    let names = opened.ok().and_then(|handle| {
        let directory = reopen(&handle, OFlags::RDONLY | OFlags::DIRECTORY).ok()?;
        xattr::names(&directory).ok()
    });
    let is_overlays = |name: &CString| {
        let name = name.to_bytes();
        name.starts_with(b"trusted.overlay.") && name != b"trusted.overlay.opaque"
    };
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
        && names.is_some_and(|names| names.iter().all(is_overlays))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// An image's files, what a command wrote, and a file of the host that neither may reach.
    struct Field {
        directory: tempfile::TempDir,
        stubs: Stubs,
    }

    impl Field {
        fn new(targets: &[&str]) -> Self {
            let directory = tempfile::tempdir().unwrap();
            for path in ["image/etc", "image/real", "written", "host/x"] {
                fs::create_dir_all(directory.path().join(path)).unwrap();
            }
            fs::write(directory.path().join("host/canary"), "").unwrap();
            symlink("real", directory.path().join("image/link")).unwrap();
            let root = Root::open(directory.path().join("image")).unwrap();
            let tree = Tree::new(root, &[]).unwrap();
            let stubs = Stubs::find(&tree, targets.iter().copied()).unwrap();
            Self { directory, stubs }
        }

        fn written(&self, path: &str) -> PathBuf {
            self.directory.path().join("written").join(path)
        }

        fn left(&self) -> Vec<String> {
            self.stubs.clean(&self.written("")).unwrap();
            let output =
                std::process::Command::new("find").arg(".").current_dir(self.written("")).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let mut all: Vec<String> = text.lines().skip(1).map(str::to_owned).collect();
            all.sort();
            all
        }
    }

    #[test]
    fn what_mounts_were_attached_to_goes_and_what_the_command_made_stays() {
        let field = Field::new(&["/run/secrets/a", "/etc/b", "/link/c/d", "/new"]);
        for directory in ["run/secrets", "etc", "real/c/d", "new"] {
            fs::create_dir_all(field.written(directory)).unwrap();
        }
        for file in ["run/secrets/a", "etc/b"] {
            fs::write(field.written(file), "").unwrap();
        }
        fs::write(field.written("new/made"), "").unwrap();
        assert_eq!(field.left(), ["./new", "./new/made"]);
    }

    #[test]
    fn a_directory_that_the_command_changed_stays() {
        let field = Field::new(&["/etc/b"]);
        fs::create_dir(field.written("etc")).unwrap();
        fs::write(field.written("etc/b"), "").unwrap();
        rustix::fs::chmod(field.written("etc"), rustix::fs::Mode::RWXU).unwrap();
        assert_eq!(field.left(), ["./etc"]);
    }

    #[test]
    fn no_link_is_followed_and_no_other_file_removed() {
        let field = Field::new(&["/run/canary", "/x/canary", "/file"]);
        let host = field.directory.path().join("host");
        symlink(&host, field.written("run")).unwrap();
        fs::create_dir(field.written("x")).unwrap();
        symlink(host.join("canary"), field.written("x/canary")).unwrap();
        fs::write(field.written("file"), "content").unwrap();
        assert_eq!(field.left(), ["./file", "./run", "./x", "./x/canary"]);
        assert!(host.join("canary").exists() && host.join("x").exists());
    }
}
