//! Files of a tree under other names: what a build copies from its context, from a stage or from an image.
//!
//! The tree is foreign: every path is resolved inside its root, a link at the end of a chosen path too.

use std::ffi::OsStr;
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coracle_sys::rooted::reopen;
use rustix::fs::{FileType, OFlags};

use crate::error::{Error, Result};
use crate::pack::{Altered, Packer};
use crate::walk::{Node, walk};
use crate::{Tree, limits};

/// What is chosen, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Where it is in the tree.
    pub path: PathBuf,
    /// What it is called in the archive; a directory's content is called so with its own names behind a slash. Empty for the
    /// content of a directory that goes to the top.
    pub name: Vec<u8>,
    /// Whether a directory is packed itself, besides its content.
    pub with_directory: bool,
}

impl Tree {
    /// Visits every path of the tree, relative to its root, without following links. Says whether something is a directory;
    /// one for which `false` is returned is not looked into.
    ///
    /// # Errors
    /// The kernel's.
    pub fn paths(&self, visit: &mut dyn FnMut(&Path, bool) -> bool) -> Result<()> {
        let top = reopen(self.root().as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut closed: Option<Vec<u8>> = None;
        walk(top.as_fd(), &mut |node| {
            if closed.as_ref().is_some_and(|above| is_below(node.path, above)) {
                return Ok(());
            }
            let is_directory = node.kind() == FileType::Directory;
            if !visit(Path::new(OsStr::from_bytes(node.path)), is_directory) && is_directory {
                closed = Some(node.path.to_vec());
            }
            Ok(())
        })
    }

    /// Writes an archive of what was chosen, in that order. `left_out` says of paths of the tree, relative to its root, that
    /// they stay out.
    ///
    /// # Errors
    /// [`Error::NotThere`] for a path that leads nowhere, [`Error::Write`], and the kernel's.
    pub fn pack_chosen(
        &self,
        chosen: &[Chosen],
        left_out: &dyn Fn(&[u8]) -> bool,
        altered: Altered,
        output: impl Write,
    ) -> Result<()> {
        let mut packer = Packer::altering(BufWriter::with_capacity(limits::CHUNK, output), altered);
        for one in chosen {
            self.pack_one(one, left_out, &mut packer)?;
        }
        packer.finish().map(drop)
    }

    fn pack_one<W: Write>(
        &self,
        chosen: &Chosen,
        left_out: &dyn Fn(&[u8]) -> bool,
        packer: &mut Packer<W>,
    ) -> Result<()> {
        let missing = || Error::NotThere { path: chosen.path.display().to_string() };
        // A link that is chosen itself stands for what it leads to.
        let path = self.root().evaluate(&chosen.path).map_err(|error| of_missing(error, missing))?;
        let found = match self.find(&path) {
            Err(Error::Kernel(error)) => return Err(of_missing(error, missing)),
            result => result?.ok_or_else(missing)?,
        };
        let base = relative(&path);
        match found.directory() {
            Some(directory) => {
                let directory = reopen(directory, OFlags::RDONLY | OFlags::DIRECTORY)?;
                pack_content(&directory, &base, chosen, left_out, packer)
            }
            None => {
                let (parent, name) = found.place();
                let Some(stat) = crate::walk::stat(parent, name)? else { return Err(missing()) };
                packer.under(b"");
                packer.node(&Node { parent, name, path: &chosen.name, depth: 0, stat, directory: None })
            }
        }
    }
}

fn pack_content<W: Write>(
    directory: &OwnedFd,
    base: &[u8],
    chosen: &Chosen,
    left_out: &dyn Fn(&[u8]) -> bool,
    packer: &mut Packer<W>,
) -> Result<()> {
    let mut prefix = chosen.name.clone();
    if !prefix.is_empty() && !prefix.ends_with(b"/") {
        prefix.push(b'/');
    }
    packer.under(&prefix);
    if chosen.with_directory && !prefix.is_empty() {
        packer.directory_itself(directory.as_fd())?;
    }
    walk(directory.as_fd(), &mut |node: &Node<'_>| {
        let whole = if base.is_empty() { node.path.to_vec() } else { [base, b"/", node.path].concat() };
        if left_out(&whole) { Ok(()) } else { packer.node(node) }
    })
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}

/// A path of the tree without the slash at its beginning.
fn relative(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    let start = bytes.iter().position(|byte| *byte != b'/').unwrap_or(bytes.len());
    bytes[start..].strip_suffix(b"/").unwrap_or(&bytes[start..]).to_vec()
}

fn of_missing(error: coracle_sys::Error, missing: impl FnOnce() -> Error) -> Error {
    use rustix::io::Errno;
    match error.errno() {
        Some(Errno::NOENT | Errno::NOTDIR) => missing(),
        _ => error.into(),
    }
}
