//! What `docker diff` says: the upper directory compared with the layers as overlayfs merges them.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use coracle_sys::xattr;
use rustix::fs::{FileType, Stat};

use crate::error::Result;
use crate::layer::attributes::OPAQUE;
use crate::layer::spot::is_whiteout;
use crate::walk::{self, Node, Opened};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Absolute, as seen in the container. May be any bytes but NUL.
    pub path: Vec<u8>,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// What happened to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// The image does not have it.
    Added,
    /// The image has it, with other content or attributes; also a directory in which something changed.
    Modified,
    /// Only the image has it.
    Deleted,
}

/// The differences between the image, whose layers are `lowers`, the topmost first, and what is in `upper` on top.
pub(super) fn between(upper: BorrowedFd<'_>, lowers: &[PathBuf]) -> Result<Vec<Change>> {
    let mut opened = Vec::new();
    for lower in lowers {
        opened.push(OwnedFd::from(crate::export::open(lower)?));
    }
    let mut comparison = Comparison { below: vec![opened], found: BTreeMap::new() };
    walk::walk(upper, &mut |node| comparison.node(node))?;
    let changes = comparison.found.into_iter().map(|(path, kind)| Change { path, kind });
    Ok(changes.collect())
}

struct Comparison {
    /// For the directory being walked and each above it: the same directory in the layers, the topmost first.
    below: Vec<Vec<OwnedFd>>,
    found: BTreeMap<Vec<u8>, ChangeKind>,
}

impl Comparison {
    fn node(&mut self, node: &Node<'_>) -> Result<()> {
        self.below.truncate(node.depth + 1);
        let before = find(&self.below[node.depth], node.name)?;
        let path = [b"/", node.path].concat();
        if is_whiteout(&node.stat) {
            if before.is_some() {
                self.record(path, ChangeKind::Deleted);
            }
            return Ok(());
        }
        let Some(before) = before else {
            self.record(path, ChangeKind::Added);
            self.below.push(Vec::new());
            return Ok(());
        };
        let merged = node.directory.filter(|_| is_directory(&before));
        // A directory that was only copied up changed nothing by itself.
        if merged.is_none() || !same(&before, &node.stat) {
            self.record(path.clone(), ChangeKind::Modified);
        }
        let children = match merged {
            Some(_) => descend(&self.below[node.depth], node.name)?,
            None => Vec::new(),
        };
        if let Some(directory) = merged
            && is_opaque(directory)?
        {
            // Made anew in place of a deleted one: what it had and has no more is deleted.
            self.record(path.clone(), ChangeKind::Modified);
            self.deleted(&path, directory, &children)?;
        }
        self.below.push(children);
        Ok(())
    }

    /// Records what `lowers` have in a directory and `upper` does not.
    fn deleted(&mut self, path: &[u8], upper: BorrowedFd<'_>, lowers: &[OwnedFd]) -> Result<()> {
        for lower in lowers {
            for name in coracle_sys::tree::names(lower.as_fd())? {
                if walk::stat(upper, &name)?.is_none() && find(lowers, &name)?.is_some() {
                    self.record([path, b"/", name.to_bytes()].concat(), ChangeKind::Deleted);
                }
            }
        }
        Ok(())
    }

    /// Notes a change, and that the directories above it changed with it.
    fn record(&mut self, path: Vec<u8>, kind: ChangeKind) {
        let slashes = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
        for (at, _) in slashes {
            self.found.entry(path[..at].to_vec()).or_insert(ChangeKind::Modified);
        }
        self.found.insert(path, kind);
    }
}

/// What the merged layers have under `name`.
fn find(lowers: &[OwnedFd], name: &CStr) -> Result<Option<Stat>> {
    for lower in lowers {
        if let Some(stat) = walk::stat(lower.as_fd(), name)? {
            return Ok(Some(stat).filter(|stat| !is_whiteout(stat)));
        }
    }
    Ok(None)
}

/// The directory `name` in each layer that takes part in the merged one.
fn descend(lowers: &[OwnedFd], name: &CStr) -> Result<Vec<OwnedFd>> {
    let mut children = Vec::new();
    for lower in lowers {
        let Some(stat) = walk::stat(lower.as_fd(), name)? else { continue };
        if !is_directory(&stat) {
            break;
        }
        let Opened::Here(child) = walk::open_directory(lower.as_fd(), name)? else { break };
        let opaque = is_opaque(child.as_fd())?;
        children.push(child);
        if opaque {
            break;
        }
    }
    Ok(children)
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn is_opaque(directory: BorrowedFd<'_>) -> Result<bool> {
    Ok(xattr::get(directory, OPAQUE)?.is_some_and(|value| value == b"y"))
}

fn same(a: &Stat, b: &Stat) -> bool {
    let of = |stat: &Stat| (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_mtime, stat.st_mtime_nsec);
    of(a) == of(b)
}
