//! Files of a tree under other names: what a build copies from its context, from a stage or from an image.
//!
//! The tree is foreign: every path is resolved inside its root, a link at the end of a chosen path too.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coracle_sys::error::Context;
use coracle_sys::rooted::reopen;
use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use crate::archive::{BLOCK, is_header};
use crate::compression::decoder;
use crate::error::{Error, Result};
use crate::pack::{Altered, Packer};
use crate::walk::{Node, walk};
use crate::{Found, Store, Tree, limits};

/// What is chosen, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Where it is in the tree.
    pub path: PathBuf,
    /// What it is called in the archive; a directory's content is called so with its own names behind a slash. Empty for the
    /// content of a directory that goes to the top.
    pub name: Vec<u8>,
    /// Which part of it.
    pub taken: Taken,
}

/// See [`Chosen::taken`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// What a file, or a directory, holds. A link stands for what it leads to.
    Content,
    /// What it is: a link as a link, a directory without what is in it.
    Itself,
}

/// See [`Tree::pack_chosen`].
pub type Filter<'a> = &'a (dyn Fn(&[u8], &[u8]) -> bool + Sync);

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

    /// Whether a path leads to a directory.
    ///
    /// # Errors
    /// The kernel's, other than that nothing is there.
    pub fn is_directory(&self, path: &Path) -> Result<bool> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.root().open_file(path, flags, rustix::fs::Mode::empty()) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a regular file to be read.
    ///
    /// # Errors
    /// [`Error::NotThere`] where there is none, and the kernel's.
    pub fn open(&self, path: &Path) -> Result<File> {
        let missing = || Error::NotThere { path: path.display().to_string() };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let opened = self.root().open_file(path, flags, rustix::fs::Mode::empty());
        let file = File::from(opened.map_err(|error| of_missing(error, missing))?);
        let stat = rustix::fs::fstat(&file).context("fstat", path.display())?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile { Ok(file) } else { Err(missing()) }
    }

    /// Whether a path leads to a tar archive, compressed or not.
    ///
    /// # Errors
    /// The kernel's.
    pub fn is_archive(&self, path: &Path) -> Result<bool> {
        let file = match self.open(path) {
            Err(Error::NotThere { .. }) => return Ok(false),
            file => file?,
        };
        let mut start = Vec::new();
        // What cannot be decompressed is no archive.
        let read = decoder(file).and_then(|(_, decoded)| decoded.take(BLOCK as u64).read_to_end(&mut start));
        // Zeros end an archive, and begin many a file that is none.
        let begins = start.iter().any(|byte| *byte != 0);
        Ok(read.is_ok() && begins && <&[u8; BLOCK]>::try_from(&start[..]).is_ok_and(is_header))
    }

    /// Writes an archive of what was chosen, in that order. `left_out` says of paths that they stay out: it is given the
    /// path relative to the tree's root, and relative to the chosen directory or, of a file, its name.
    ///
    /// # Errors
    /// [`Error::NotThere`] for a path that leads nowhere, [`Error::Write`], and the kernel's.
    pub fn pack_chosen(
        &self,
        chosen: &[Chosen],
        left_out: Filter<'_>,
        altered: Altered,
        output: impl Write,
    ) -> Result<()> {
        let output = BufWriter::with_capacity(limits::CHUNK, output);
        self.pack_all(chosen, left_out, Packer::altering(output, altered))
    }

    pub(crate) fn pack_all<W: Write>(
        &self,
        chosen: &[Chosen],
        left_out: Filter<'_>,
        mut packer: Packer<W>,
    ) -> Result<()> {
        for one in chosen {
            self.pack_one(one, left_out, &mut packer)?;
        }
        packer.finish().map(drop)
    }

    fn pack_one<W: Write>(
        &self,
        chosen: &Chosen,
        left_out: Filter<'_>,
        packer: &mut Packer<W>,
    ) -> Result<()> {
        let (path, found) = self.locate_chosen(chosen)?;
        match (found.directory(), chosen.taken) {
            (Some(directory), Taken::Content) => {
                let directory = reopen(directory, OFlags::RDONLY | OFlags::DIRECTORY)?;
                pack_content(&directory, &relative(&path), chosen, left_out, packer)
            }
            (Some(directory), Taken::Itself) => {
                packer.under(&chosen.name);
                packer.directory_itself(reopen(directory, OFlags::RDONLY | OFlags::DIRECTORY)?.as_fd())
            }
            // A link to what is left out leads nowhere.
            (None, Taken::Content) if left_out(&relative(&path), name_of(&relative(&chosen.path))) => {
                Err(not_there(&path))
            }
            (None, _) => {
                let (parent, name) = found.place();
                let Some(stat) = crate::walk::stat(parent, name)? else { return Err(not_there(&path)) };
                packer.under(b"");
                packer.node(&Node { parent, name, path: &chosen.name, depth: 0, stat, directory: None })
            }
        }
    }

    /// Where a chosen path leads, and what is there.
    pub(crate) fn locate_chosen(&self, chosen: &Chosen) -> Result<(PathBuf, Found)> {
        let path = match chosen.taken {
            Taken::Content => self.follow(&chosen.path)?,
            Taken::Itself => chosen.path.clone(),
        };
        match self.find(&path) {
            Err(Error::Kernel(error)) => Err(of_missing(error, || not_there(&path))),
            found => found?.ok_or_else(|| not_there(&path)).map(|found| (path, found)),
        }
    }

    /// Where a path leads, links followed inside the root.
    ///
    /// # Errors
    /// [`Error::NotThere`] with the place that it leads to, where nothing is; the kernel's.
    pub fn follow(&self, path: &Path) -> Result<PathBuf> {
        let missing = |path: &Path| Error::NotThere { path: Path::new("/").join(path).display().to_string() };
        let end = self.root().evaluate(path).map_err(|error| of_missing(error, || missing(path)))?;
        match self.find(&end) {
            Ok(Some(_)) => Ok(end),
            Ok(None) => Err(missing(&end)),
            Err(Error::Kernel(error)) => Err(of_missing(error, || missing(&end))),
            Err(error) => Err(error),
        }
    }
}

fn not_there(path: &Path) -> Error {
    Error::NotThere { path: path.display().to_string() }
}

fn pack_content<W: Write>(
    directory: &OwnedFd,
    base: &[u8],
    chosen: &Chosen,
    left_out: Filter<'_>,
    packer: &mut Packer<W>,
) -> Result<()> {
    let mut prefix = chosen.name.clone();
    if !prefix.is_empty() && !prefix.ends_with(b"/") {
        prefix.push(b'/');
    }
    packer.under(&prefix);
    walk_chosen(directory, base, left_out, &mut |node| packer.node(node))
}

/// Visits everything below a directory of the tree that is at `base`, but what is left out. A directory that is left out
/// comes along where something in it is not: no file of an archive stands in a directory that is not there.
pub(crate) fn walk_chosen(
    directory: &OwnedFd,
    base: &[u8],
    left_out: Filter<'_>,
    visit: &mut dyn FnMut(&Node<'_>) -> Result<()>,
) -> Result<()> {
    let mut passed: Vec<Passed> = Vec::new();
    walk(directory.as_fd(), &mut |node: &Node<'_>| {
        while passed.last().is_some_and(|above| !is_below(node.path, &above.path)) {
            passed.pop();
        }
        let whole = if base.is_empty() { node.path.to_vec() } else { [base, b"/", node.path].concat() };
        if !left_out(&whole, node.path) {
            passed.drain(..).try_for_each(|above| visit(&above.node()))?;
            return visit(node);
        }
        if let Some(directory) = node.directory {
            passed.push(Passed::new(node, directory)?);
        }
        Ok(())
    })
}

/// A directory that is left out, as long as it is above what is visited.
struct Passed {
    parent: OwnedFd,
    name: CString,
    path: Vec<u8>,
    depth: usize,
    stat: Stat,
    directory: OwnedFd,
}

impl Passed {
    fn new(node: &Node<'_>, directory: BorrowedFd<'_>) -> Result<Self> {
        let hold = |descriptor| {
            rustix::io::fcntl_dupfd_cloexec(descriptor, 0)
                .context("fcntl", OsStr::from_bytes(node.path).display())
        };
        Ok(Self {
            parent: hold(node.parent)?,
            name: node.name.to_owned(),
            path: node.path.to_vec(),
            depth: node.depth,
            stat: node.stat,
            directory: hold(directory)?,
        })
    }

    fn node(&self) -> Node<'_> {
        Node {
            parent: self.parent.as_fd(),
            name: &self.name,
            path: &self.path,
            depth: self.depth,
            stat: self.stat,
            directory: Some(self.directory.as_fd()),
        }
    }
}

/// Writes an archive of empty directories of root's, of mode 0755, in that order.
///
/// # Errors
/// [`Error::Write`].
pub fn pack_directories(names: &[PathBuf], altered: Altered, output: impl Write) -> Result<()> {
    let mut packer = Packer::altering(output, altered);
    for name in names {
        packer.empty_directory(&relative(name))?;
    }
    packer.finish().map(drop)
}

/// Writes an archive of files of root's with these names and contents.
///
/// # Errors
/// [`Error::Write`].
pub fn pack_texts(files: &[(Vec<u8>, &[u8])], altered: Altered, output: impl Write) -> Result<()> {
    let mut packer = Packer::altering(output, altered);
    for (name, content) in files {
        packer.text(name, content)?;
    }
    packer.finish().map(drop)
}

/// Bytes in the files below a directory; a file with several names counts once.
///
/// # Errors
/// The kernel's.
pub fn size_of(directory: &Path) -> Result<u64> {
    crate::walk::size(crate::export::open(directory)?.as_fd())
}

/// A directory for work that is no content yet. It goes into the trash with the value.
#[derive(Debug)]
pub struct Workspace {
    path: PathBuf,
    trash: PathBuf,
}

impl Workspace {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // What stays behind is found when the store is opened next.
        let _ = coracle_sys::atomic::discard(&self.path, &self.trash);
    }
}

impl Store {
    /// An empty directory for work.
    ///
    /// # Errors
    /// The kernel's.
    pub fn workspace(&self) -> Result<Workspace> {
        let path = self.layout.temporary()?;
        coracle_sys::atomic::create_dir(&path, crate::layout::PRIVATE)?;
        Ok(Workspace { path, trash: self.layout.trash() })
    }
}

/// The last component.
fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}

/// A path of the tree without the slash at its beginning.
pub(crate) fn relative(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    let start = bytes.iter().position(|byte| *byte != b'/').unwrap_or(bytes.len());
    bytes[start..].strip_suffix(b"/").unwrap_or(&bytes[start..]).to_vec()
}

fn of_missing(error: coracle_sys::Error, missing: impl FnOnce() -> Error) -> Error {
    match error.errno() {
        Some(Errno::NOENT | Errno::NOTDIR) => missing(),
        _ => error.into(),
    }
}
