//! Several layers become one that does the same to what is below them.
//!
//! Their directories are walked side by side: of each name the topmost layer that has it decides, directories go on as deep
//! as nothing hides what is under them. Of what was removed only that is noted which is still there below.

use std::collections::{BTreeSet, btree_set};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use coracle_spec::Digest;
use coracle_sys::xattr;
use rustix::fs::{FileType, Stat};

use crate::error::{Error, Result};
use crate::export::open;
use crate::layer::attributes::OPAQUE;
use crate::layer::spot::is_whiteout;
use crate::pack::Packer;
use crate::walk::{Node, Opened, open_directory, stat};
use crate::{Layer, Store, limits};

impl Store {
    /// Makes one layer of `layers`, lowest first, that has the same effect on `below`; `None` where they have none. Durable
    /// on return.
    ///
    /// # Errors
    /// [`Error::LayerMissing`], [`Error::TooLarge`] for a tree deeper than [`limits::DEPTH`], and the kernel's.
    pub fn squash(&self, below: &[Digest], layers: &[Digest]) -> Result<Option<Layer>> {
        let mut hides = false;
        let mut root = None;
        for layer in layers {
            hides |= self.is_opaque(layer)?;
            if self.layer(layer)?.root_entry {
                root = Some(open(&self.layer_fs(layer))?);
            }
        }
        let above = self.opened(layers)?;
        let below = self.opened(below)?;
        let is_empty = AtomicBool::new(false);
        let layer = self.import_packed(|output| {
            let mut packer = Packer::of_layer(output);
            if let Some(root) = &root {
                packer.root(root.as_fd())?;
            }
            let mut top = Level::new(above, below, 0)?;
            if hides {
                top.hide()?;
            }
            let count = merge(top, &mut packer)?;
            is_empty.store(count == 0 && root.is_none(), Ordering::Relaxed);
            packer.finish()
        });
        if is_empty.into_inner() { Ok(None) } else { layer.map(Some) }
    }

    /// The directories of layers, the topmost first.
    fn opened(&self, layers: &[Digest]) -> Result<Vec<OwnedFd>> {
        let opened = self.lowers(layers)?.into_iter().map(|directory| open(&directory).map(File::into));
        opened.collect()
    }
}

/// One directory, in all layers that have it.
struct Level {
    /// In the layers that become one, the topmost first.
    above: Vec<OwnedFd>,
    /// In those that stay, as far as they are seen.
    below: Vec<OwnedFd>,
    names: btree_set::IntoIter<CString>,
    /// Whether those that stay are not seen any more: their names are noted as removed.
    hides: bool,
    /// Length of its path.
    path: usize,
}

impl Level {
    fn new(above: Vec<OwnedFd>, below: Vec<OwnedFd>, path: usize) -> Result<Self> {
        let names = names(&above)?.into_iter();
        Ok(Self { above, below, names, hides: false, path })
    }

    /// Removes what those that stay have.
    fn hide(&mut self) -> Result<()> {
        let mut all = names(&self.above)?;
        all.extend(names(&self.below)?);
        (self.names, self.hides) = (all.into_iter(), true);
        Ok(())
    }
}

fn names(directories: &[OwnedFd]) -> Result<BTreeSet<CString>> {
    let mut all = BTreeSet::new();
    for directory in directories {
        all.extend(coracle_sys::tree::names(directory.as_fd())?);
    }
    Ok(all)
}

/// Packs what the layers are together; how many entries that makes.
fn merge<W: Write>(top: Level, packer: &mut Packer<W>) -> Result<usize> {
    let mut path = Vec::new();
    let mut levels = vec![top];
    let mut count = 0;
    while let Some(level) = levels.last_mut() {
        path.truncate(level.path);
        let Some(name) = level.names.next() else {
            levels.pop();
            continue;
        };
        if level.path > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        let level = &levels[levels.len() - 1];
        let visible = topmost(&level.below, &name)?.filter(|(_, stat)| !is_whiteout(stat));
        let Some((at, stat)) = topmost(&level.above, &name)? else {
            if level.hides && visible.is_some() {
                count += 1;
                packer.whiteout(name.to_bytes())?;
            }
            continue;
        };
        let parent = level.above[at].as_fd();
        if is_whiteout(&stat) && visible.is_none() {
            continue;
        }
        count += 1;
        let depth = levels.len() - 1;
        let node = Node { parent, name: &name, path: &path, depth, stat, directory: None };
        if node.kind() != FileType::Directory {
            packer.node(&node)?;
            continue;
        }
        let (above, is_closed) = stack(&level.above[at..], &name)?;
        let is_closed = is_closed || level.hides;
        let Some(directory) = above.first() else { continue };
        packer.directory_alone(&Node { directory: Some(directory.as_fd()), ..node })?;
        let below = if is_closed { Vec::new() } else { stack(&level.below, &name)?.0 };
        if is_closed && visible.is_some_and(|(_, stat)| is_directory(&stat)) {
            packer.opaque(&path)?;
        }
        if levels.len() >= limits::DEPTH {
            return Err(Error::TooLarge { what: "depth of a tree", limit: limits::DEPTH as u64 });
        }
        levels.push(Level::new(above, below, path.len())?);
    }
    Ok(count)
}

/// What is at a name in the topmost directory that has it, and which one that is.
fn topmost(directories: &[OwnedFd], name: &CStr) -> Result<Option<(usize, Stat)>> {
    for (at, directory) in directories.iter().enumerate() {
        if let Some(stat) = stat(directory.as_fd(), name)? {
            return Ok(Some((at, stat)));
        }
    }
    Ok(None)
}

/// The directories of a name that are seen together, the topmost first, and whether they hide what is under them.
fn stack(directories: &[OwnedFd], name: &CStr) -> Result<(Vec<OwnedFd>, bool)> {
    let mut stack = Vec::new();
    for parent in directories {
        match stat(parent.as_fd(), name)? {
            None => continue,
            Some(stat) if !is_directory(&stat) => return Ok((stack, true)),
            Some(_) => {}
        }
        let Opened::Here(directory) = open_directory(parent.as_fd(), name)? else { return Ok((stack, true)) };
        let is_opaque = xattr::get(&directory, OPAQUE)?.is_some_and(|value| value == b"y");
        stack.push(directory);
        if is_opaque {
            return Ok((stack, true));
        }
    }
    Ok((stack, false))
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}
