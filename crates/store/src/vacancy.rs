//! A directory's content that goes where nothing is: it becomes a layer while it is read, since nothing below has a say in
//! it. Neither an overlay is written nor anything read twice.

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use coracle_sys::rooted::reopen;
use rustix::fs::OFlags;

use crate::archive::name::WHITEOUT;
use crate::error::{Error, Result};
use crate::pack::{Altered, Packer};
use crate::select::{relative, walk_chosen};
use crate::{Chosen, Filter, Layer, Store, Taken, Tree};

/// A place of a tree where nothing is, or an empty directory.
#[derive(Debug)]
pub struct Vacancy<'a> {
    tree: &'a Tree,
    path: PathBuf,
    /// Whether the directory is there.
    exists: bool,
}

impl Tree {
    /// The place at a path that leads through no link; `None` where something is there, or no directory on the way.
    ///
    /// # Errors
    /// The kernel's.
    pub fn vacancy(&self, path: &Path) -> Result<Option<Vacancy<'_>>> {
        for directory in path.ancestors() {
            if self.is_directory(directory)? {
                let exists = directory == path;
                let is_vacant = !exists || self.is_empty(directory)?;
                return Ok(is_vacant.then(|| Vacancy { tree: self, path: path.to_owned(), exists }));
            }
            if !matches!(self.find(directory), Ok(None)) {
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn is_empty(&self, directory: &Path) -> Result<bool> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = self.root().open_file(directory, flags, rustix::fs::Mode::empty())?;
        Ok(coracle_sys::tree::names(directory.as_fd())?.is_empty())
    }
}

/// The content of a directory.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// Where the directory is.
    pub tree: &'a Tree,
    /// Its path there. A link is followed.
    pub path: &'a Path,
    /// How it differs in the layer.
    pub altered: Altered,
    /// Whose directories become that are made on the way.
    pub owner: (u32, u32),
}

impl Store {
    /// Makes a layer of content that goes to `vacancy`; `None` where there is none, and the directory exists. What
    /// `left_out` says of is not part of it, see [`Tree::pack_chosen`]. Durable on return.
    ///
    /// # Errors
    /// [`Error::NotThere`] where there is no such directory, [`Error::Archive`] for a file that a layer cannot hold (a name
    /// that begins with `.wh.`, a device that stands for none), and the kernel's.
    pub fn keep_content(
        &self,
        content: &Content<'_>,
        left_out: Filter<'_>,
        vacancy: &Vacancy<'_>,
    ) -> Result<Option<Layer>> {
        let is_empty = AtomicBool::new(false);
        let layer = self.import_packed(|output| {
            let mut packer = Packer::altering(output, content.altered);
            let is_packed = pack_content(content, left_out, vacancy, &mut packer)?;
            is_empty.store(!is_packed, Ordering::Relaxed);
            packer.finish()
        });
        if is_empty.into_inner() { Ok(None) } else { layer.map(Some) }
    }
}

/// Whether anything was packed.
fn pack_content<W: Write>(
    content: &Content<'_>,
    left_out: Filter<'_>,
    vacancy: &Vacancy<'_>,
    packer: &mut Packer<W>,
) -> Result<bool> {
    let chosen = Chosen { path: content.path.to_owned(), name: Vec::new(), taken: Taken::Content };
    let (path, found) = content.tree.locate_chosen(&chosen)?;
    let missing = || Error::NotThere { path: content.path.display().to_string() };
    let directory = reopen(found.directory().ok_or_else(missing)?, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut is_begun = !vacancy.exists;
    if is_begun {
        vacancy.begin(content, packer)?;
    }
    walk_chosen(&directory, &relative(&path), left_out, &mut |node| {
        refuse_marker(node.path, node.name.to_bytes())?;
        if !std::mem::replace(&mut is_begun, true) {
            vacancy.begin(content, packer)?;
        }
        packer.node(node)
    })?;
    Ok(is_begun)
}

impl Vacancy<'_> {
    /// Packs the directories on the way, which stay what they are, and goes on with what they hold.
    fn begin<W: Write>(&self, content: &Content<'_>, packer: &mut Packer<W>) -> Result<()> {
        let latest = content.altered.latest;
        let mut name = Vec::new();
        for component in relative(&self.path).split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            name.extend_from_slice(component);
            refuse_marker(&name, component)?;
            let path = Path::new(OsStr::from_bytes(&name));
            let found = self.tree.find(path)?;
            if let Some(directory) = found.as_ref().and_then(|found| found.directory()) {
                packer.alter(Altered { latest, ..Altered::default() });
                packer.under(&name);
                let directory = reopen(directory, OFlags::RDONLY | OFlags::DIRECTORY)?;
                packer.directory_itself(directory.as_fd())?;
            } else {
                packer.alter(Altered { owner: Some(content.owner), latest, ..Altered::default() });
                packer.empty_directory(&name)?;
            }
            name.push(b'/');
        }
        packer.alter(content.altered);
        packer.under(&name);
        Ok(())
    }
}

/// In a layer such a name means that something is gone.
fn refuse_marker(path: &[u8], name: &[u8]) -> Result<()> {
    if name.starts_with(WHITEOUT) {
        return Err(Error::archive(path, "a layer cannot hold a file of that name"));
    }
    Ok(())
}
