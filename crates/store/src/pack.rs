//! A tree becomes an archive: what a container wrote becomes a layer, a whole root becomes an export.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle_spec::{ModeChange, Owners};
use coracle_sys::error::Context;
use coracle_sys::{rooted, xattr};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::archive::name::{OPAQUE as OPAQUE_NAME, WHITEOUT};
use crate::archive::writer::Writer;
use crate::archive::{Entry, Kind, Time};
use crate::error::{Error, Result};
use crate::layer::attributes::{OPAQUE, is_content};
use crate::layer::spot::is_whiteout;
use crate::outside;
use crate::walk::{Mounts, Node, walk, walk_across};

/// Attributes by which overlayfs refers to another place; the content here is not whole then. Coracle mounts with both
/// features off.
const REFERENCES: [&CStr; 2] = [c"trusted.overlay.redirect", c"trusted.overlay.metacopy"];

/// What a tree is.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Form {
    /// An upper directory: overlayfs' whiteouts and opaque directories become those of the image specification.
    Layer,
    /// A whole root.
    Root,
    /// As [`Form::Layer`], without the times of directories: an archive need not describe them, and then they tell when
    /// it was unpacked. Two trees that give the same bytes are the same layer.
    Likeness,
}

impl Form {
    fn is_layer(self) -> bool {
        matches!(self, Self::Layer | Self::Likeness)
    }
}

/// Packs what is below `top`, a container's root with these users outside.
pub(crate) fn pack_root(top: BorrowedFd<'_>, owners: Option<&Owners>, output: impl Write) -> Result<()> {
    let mut packer = Packer::new(Writer::new(output), Form::Root, Vec::new()).shown_by(owners);
    packer.root(top)?;
    walk(top, &mut |node| packer.node(node))?;
    packer.writer.finish().map_err(write).map(drop)
}

/// Packs what is below `top`; returns the size of the archive, in bytes.
pub(crate) fn pack(top: BorrowedFd<'_>, form: Form, output: impl Write) -> Result<u64> {
    let mut packer = Packer::new(Writer::new(output), form, Vec::new());
    packer.root(top)?;
    walk(top, &mut |node| packer.node(node))?;
    packer.writer.finish().map_err(write)
}

/// Packs what is below each of several directories under its name; an empty name stands for none.
pub(crate) fn pack_each(tops: &[(&[u8], BorrowedFd<'_>)], output: impl Write) -> Result<()> {
    let mut writer = Writer::new(output);
    for (name, top) in tops {
        let mut packer = Packer::new(writer, Form::Root, name.to_vec());
        if name.is_empty() {
            packer.root(*top)?;
        } else {
            packer.top(*top)?;
        }
        walk(*top, &mut |node| packer.node(node))?;
        writer = packer.writer;
    }
    writer.finish().map_err(write).map(drop)
}

/// Packs the directory `top` and what is below it, also on other mounts, under the name `name`.
pub(crate) fn pack_directory(
    top: BorrowedFd<'_>,
    name: &[u8],
    (hidden, owners): (&[u64], Option<&Owners>),
    output: impl Write,
) -> Result<()> {
    let mut packer = Packer::new(Writer::new(output), Form::Root, name.to_vec()).shown_by(owners);
    packer.top(top)?;
    walk_across(top, Mounts::AllBut(hidden), &mut |node| packer.node(node))?;
    packer.writer.finish().map_err(write).map(drop)
}

/// Packs the directory `top` alone under the name `name`.
pub(crate) fn pack_empty(
    top: BorrowedFd<'_>,
    name: &[u8],
    owners: Option<&Owners>,
    output: impl Write,
) -> Result<()> {
    let mut packer = Packer::new(Writer::new(output), Form::Root, name.to_vec()).shown_by(owners);
    packer.top(top)?;
    packer.writer.finish().map_err(write).map(drop)
}

/// Packs the one file, link or device `name` of the directory `parent`.
pub(crate) fn pack_file(
    parent: BorrowedFd<'_>,
    name: &CStr,
    owners: Option<&Owners>,
    output: impl Write,
) -> Result<()> {
    let mut packer = Packer::new(Writer::new(output), Form::Root, Vec::new()).shown_by(owners);
    if let Some(stat) = crate::walk::stat(parent, name)? {
        packer.node(&Node { parent, name, path: name.to_bytes(), depth: 0, stat, directory: None })?;
    }
    packer.writer.finish().map_err(write).map(drop)
}

/// How what is packed differs from what is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Altered {
    /// Whose everything becomes.
    pub owner: Option<(u32, u32)>,
    /// What becomes of the modes of everything but symbolic links, which have none.
    pub mode: Option<ModeChange>,
    /// Whether all times are left out: what is the same but for its times gives the same archive then.
    pub timeless: bool,
    /// What is newer becomes as old as this, in seconds since 1970.
    pub latest: Option<i64>,
}

impl Altered {
    fn apply(self, entry: &mut Entry) {
        if let Some((uid, gid)) = self.owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
        if let Some(change) = self.mode.filter(|_| !matches!(entry.kind, Kind::Symlink { .. })) {
            entry.mode = change.apply(entry.mode, entry.kind == Kind::Directory);
        }
        if self.timeless {
            entry.mtime = Time::default();
        }
        if let Some(latest) = self.latest.filter(|latest| entry.mtime.seconds > *latest) {
            entry.mtime = Time { seconds: latest, nanoseconds: 0 };
        }
    }
}

/// Which of the nodes are packed: where the same is packed in parts, that is done at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) number: u64,
    /// How many there are.
    pub(crate) of: u64,
}

impl Part {
    /// Everything.
    const WHOLE: Self = Self { number: 0, of: 1 };

    /// All names of a file are in one part, so that it is seen that they are one file's.
    fn covers(self, node: &Node<'_>) -> bool {
        let has_names = node.kind() != FileType::Directory && node.stat.st_nlink > 1;
        let sum =
            || node.path.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
        let part = if has_names { 0 } else { sum() % self.of };
        part == self.number
    }
}

pub(crate) struct Packer<W> {
    writer: Writer<W>,
    part: Part,
    form: Form,
    altered: Altered,
    /// Who the users of what is packed are where it is, if they are others.
    owners: Option<Owners>,
    /// Stands before every name.
    prefix: Vec<u8>,
    /// Where each file with several names was packed first, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Packer<W> {
    fn new(writer: Writer<W>, form: Form, prefix: Vec<u8>) -> Self {
        let (altered, part) = (Altered::default(), Part::WHOLE);
        Self { writer, part, form, altered, owners: None, prefix, links: HashMap::new() }
    }

    /// Packs what layers hold.
    pub(crate) fn of_layer(output: W) -> Self {
        Self::new(Writer::new(output), Form::Layer, Vec::new())
    }

    /// Packs files of whom others stand for where they are.
    fn shown_by(self, owners: Option<&Owners>) -> Self {
        Self { owners: owners.cloned(), ..self }
    }

    /// Packs only that much of the nodes.
    pub(crate) fn only(self, part: Part) -> Self {
        Self { part, ..self }
    }

    /// Packs whole trees and single files one after the other.
    pub(crate) fn altering(output: W, altered: Altered) -> Self {
        Self { altered, ..Self::new(Writer::new(output), Form::Root, Vec::new()) }
    }

    /// Alters what comes next so.
    pub(crate) fn alter(&mut self, altered: Altered) {
        self.altered = altered;
    }

    /// Packs what comes next under names that begin so. No link leads to what was packed before: something else may have
    /// taken its name since.
    pub(crate) fn under(&mut self, prefix: &[u8]) {
        self.prefix = prefix.to_vec();
        self.links.clear();
    }

    /// Packs the directory that everything below has its prefix from.
    pub(crate) fn directory_itself(&mut self, top: BorrowedFd<'_>) -> Result<()> {
        self.top(top)
    }

    /// Packs a directory of root's, made now.
    pub(crate) fn empty_directory(&mut self, name: &[u8]) -> Result<()> {
        let path = [name, b"/"].concat();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let mtime = Time { seconds: now.as_secs().try_into().unwrap_or_default(), nanoseconds: 0 };
        let (kind, xattrs) = (Kind::Directory, Vec::new());
        self.entry(&Entry { path, kind, mode: 0o755, uid: 0, gid: 0, mtime, xattrs })
    }

    /// Packs a file of root's with this content.
    pub(crate) fn text(&mut self, name: &[u8], content: &[u8]) -> Result<()> {
        let size = content.len() as u64;
        let kind = Kind::File { size, segments: None };
        let (path, mtime, xattrs) = (name.to_vec(), Time::default(), Vec::new());
        self.entry(&Entry { path, kind, mode: 0o644, uid: 0, gid: 0, mtime, xattrs })?;
        self.writer.content(&mut io::Cursor::new(content), size).map_err(write)
    }

    pub(crate) fn finish(self) -> Result<u64> {
        self.writer.finish().map_err(write)
    }

    /// The root itself is an entry only where it is not what a root is by default.
    pub(crate) fn root(&mut self, top: BorrowedFd<'_>) -> Result<()> {
        let stat = rustix::fs::fstat(top).context("fstat", "tree")?;
        let default = (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid) == (0o755, 0, 0);
        if default || self.form == Form::Root {
            return Ok(());
        }
        let mut entry = describe(&stat, b"./", Kind::Directory);
        self.forget_time(&mut entry);
        self.entry(&entry)
    }

    /// The directory that gives everything its prefix.
    fn top(&mut self, top: BorrowedFd<'_>) -> Result<()> {
        if !self.prefix.ends_with(b"/") {
            self.prefix.push(b'/');
        }
        let stat = rustix::fs::fstat(top).context("fstat", "directory")?;
        let mut entry = describe(&stat, &self.prefix, Kind::Directory);
        entry.xattrs = self.xattrs(top, &entry.path)?;
        self.entry(&entry)
    }

    pub(crate) fn node(&mut self, node: &Node<'_>) -> Result<()> {
        if !self.part.covers(node) {
            return Ok(());
        }
        if self.form.is_layer() {
            if is_whiteout(&node.stat) {
                return self.marker(parent_of(node.path), &[WHITEOUT, node.name.to_bytes()].concat());
            }
            if node.name.to_bytes().starts_with(WHITEOUT) {
                return Err(Error::archive(node.path, "a layer cannot hold a file of that name"));
            }
        }
        match node.kind() {
            FileType::Directory => self.directory(node),
            FileType::RegularFile => self.file(node),
            FileType::Symlink => {
                let target = match rustix::fs::readlinkat(node.parent, node.name, Vec::new()) {
                    Err(Errno::NOENT | Errno::INVAL) => return Ok(()),
                    result => result.context("readlinkat", crate::error::shown(node.path))?,
                };
                self.linked_or(node, Kind::Symlink { target: target.into_bytes() })
            }
            FileType::Fifo => self.linked_or(node, Kind::Fifo),
            FileType::CharacterDevice => {
                let (major, minor) = device(&node.stat);
                self.linked_or(node, Kind::CharDevice { major, minor })
            }
            FileType::BlockDevice => {
                let (major, minor) = device(&node.stat);
                self.linked_or(node, Kind::BlockDevice { major, minor })
            }
            // A socket is nothing without the process that listens, and tar has no type for it.
            _ => Ok(()),
        }
    }

    fn directory(&mut self, node: &Node<'_>) -> Result<()> {
        self.directory_alone(node)?;
        let Some(directory) = node.directory.filter(|_| self.form.is_layer()) else { return Ok(()) };
        if xattr::get(directory, OPAQUE)?.is_some_and(|value| value == b"y") {
            self.opaque(&self.name(node))?;
        }
        Ok(())
    }

    /// Packs a directory, whether it hides what is below it or not.
    pub(crate) fn directory_alone(&mut self, node: &Node<'_>) -> Result<()> {
        let mut entry = describe(&node.stat, &[self.name(node), b"/".to_vec()].concat(), Kind::Directory);
        let Some(directory) = node.directory else { return self.entry(&entry) };
        entry.xattrs = self.xattrs(directory, node.path)?;
        self.forget_time(&mut entry);
        self.entry(&entry)
    }

    /// Packs that a directory hides what is below it.
    pub(crate) fn opaque(&mut self, directory: &[u8]) -> Result<()> {
        self.marker(&[directory, b"/"].concat(), OPAQUE_NAME)
    }

    /// Packs that a name of the root is gone.
    pub(crate) fn whiteout(&mut self, name: &[u8]) -> Result<()> {
        self.marker(b"", &[WHITEOUT, name].concat())
    }

    fn forget_time(&self, directory: &mut Entry) {
        if self.form == Form::Likeness {
            directory.mtime = Time::default();
        }
    }

    fn file(&mut self, node: &Node<'_>) -> Result<()> {
        if let Some(first) = self.first_name(node) {
            return self.entry(&describe(&node.stat, &self.name(node), Kind::HardLink { target: first }));
        }
        let Some((file, stat)) = open(node)? else { return Ok(()) };
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mut entry = describe(&stat, &self.name(node), Kind::File { size, segments: None });
        entry.xattrs = self.xattrs(file.as_fd(), node.path)?;
        self.entry(&entry)?;
        self.writer.content(&mut File::from(file), size).map_err(write)
    }

    /// Packs what has no content, or a link to its first name.
    fn linked_or(&mut self, node: &Node<'_>, kind: Kind) -> Result<()> {
        let kind = self.first_name(node).map_or(kind, |target| Kind::HardLink { target });
        self.entry(&describe(&node.stat, &self.name(node), kind))
    }

    fn name(&self, node: &Node<'_>) -> Vec<u8> {
        [&self.prefix, node.path].concat()
    }

    /// The name under which this file was packed before; remembers this one if it is the first of several.
    fn first_name(&mut self, node: &Node<'_>) -> Option<Vec<u8>> {
        if node.stat.st_nlink < 2 {
            return None;
        }
        let key = (node.stat.st_dev, node.stat.st_ino);
        if let Some(first) = self.links.get(&key) {
            return Some(first.clone());
        }
        self.links.insert(key, self.name(node));
        None
    }

    fn xattrs(&self, fd: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut kept = Vec::new();
        for name in xattr::names(fd)? {
            if self.form.is_layer() && REFERENCES.contains(&name.as_c_str()) {
                return Err(Error::archive(
                    path,
                    "overlayfs keeps its content elsewhere (redirect or metacopy)",
                ));
            }
            if is_content(name.to_bytes())
                && let Some(value) = xattr::get(fd, &name)?
            {
                kept.push((name.into_bytes(), value));
            }
        }
        Ok(kept)
    }

    /// An empty file whose name is its meaning.
    fn marker(&mut self, directory: &[u8], name: &[u8]) -> Result<()> {
        self.entry(&Entry {
            path: [directory, name].concat(),
            kind: Kind::File { size: 0, segments: None },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Time::default(),
            xattrs: Vec::new(),
        })
    }

    fn entry(&mut self, entry: &Entry) -> Result<()> {
        if self.altered == Altered::default() && self.owners.is_none() {
            return self.writer.entry(entry).map_err(write);
        }
        let mut entry = entry.clone();
        if let Some(owners) = &self.owners {
            outside::bring_in(owners, &mut entry);
        }
        self.altered.apply(&mut entry);
        self.writer.entry(&entry).map_err(write)
    }
}

/// Opens a regular file by way of a handle, so that nothing else is ever opened, and looks at it again.
fn open(node: &Node<'_>) -> Result<Option<(OwnedFd, Stat)>> {
    let subject = || crate::error::shown(node.path);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = match rustix::fs::openat(node.parent, node.name, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        result => result.context("openat", subject())?,
    };
    let stat = rustix::fs::fstat(&handle).context("fstat", subject())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    Ok(Some((rooted::reopen(&handle, OFlags::RDONLY | OFlags::NONBLOCK)?, stat)))
}

/// An entry for what `stat` describes. Times are whole seconds, as in Docker's layers.
fn describe(stat: &Stat, path: &[u8], kind: Kind) -> Entry {
    Entry {
        path: path.to_vec(),
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Time { seconds: stat.st_mtime, nanoseconds: 0 },
        xattrs: Vec::new(),
    }
}

fn device(stat: &Stat) -> (u32, u32) {
    (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
}

/// The directory part with its slash.
fn parent_of(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1)]
}

fn write(source: io::Error) -> Error {
    Error::Write { what: "the archive", source }
}
