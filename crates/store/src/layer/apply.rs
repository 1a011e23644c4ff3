//! Unpacks the entries of an archive: a layer into a directory that nobody else sees, or what is copied into a container,
//! which may change its files meanwhile. The archive is hostile; [`super::spot`] keeps every name below the root.
//!
//! An entry replaces what an earlier one left in its place, unless both are directories. Whiteouts become what overlayfs
//! understands: a 0:0 character device for a name, an attribute for a directory. They hide lower layers only, so an entry
//! of the same layer wins over a whiteout whichever comes first. Outside of layers their names mean nothing.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use coracle_spec::Owners;
use coracle_sys::error::Context;
use coracle_sys::rooted::{Root, reopen};
use coracle_sys::xattr;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::attributes::{self, OPAQUE, Unsupported};
use super::spot::{IMPLIED, Spot, Spots, Target, is_whiteout};
use crate::archive::name::{Meaning, Place, meaning};
use crate::archive::{Entry, Kind, Reader, Segment, Time};
use crate::error::{Error, Result, shown};
use crate::{limits, outside};

/// What was unpacked.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    /// Bytes in files.
    pub(crate) size: u64,
    pub(crate) opaque_root: bool,
    pub(crate) root_entry: bool,
}

/// How entries are understood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rules {
    /// As a layer of an image.
    Layer,
    /// As files that are added to a container's.
    Copy(Copying),
}

/// How files are added to a container's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copying {
    /// Whose they become; the archive says it where this does not.
    pub owner: Option<(u32, u32)>,
    /// Whether a directory may be replaced by something else, and something else by a directory.
    pub replace: Replace,
    /// Whether what the archive says of its own top is said of the directory that it is unpacked into.
    pub describe_top: bool,
}

/// See [`Copying::replace`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replace {
    /// It may.
    #[default]
    Anything,
    /// It may not.
    SameKind,
}

/// Unpacks into one directory.
pub(crate) struct Unpacker {
    spots: Spots,
    rules: Rules,
    /// Who the users of the archive are where it is unpacked, if they are others.
    owners: Option<Owners>,
    result: Unpacked,
    /// Set last, since making entries in a directory changes its time and an ACL is inherited.
    directories: Vec<Directory>,
    buffer: Vec<u8>,
}

struct Directory {
    place: Place,
    time: Time,
    default_acl: Option<Vec<u8>>,
}

impl Unpacker {
    /// Unpacks a layer into the directory `root`.
    pub(crate) fn of_layer(root: Root) -> Self {
        Self::new(Spots::of_layer(root), Rules::Layer, None)
    }

    /// Unpacks into a directory of a container.
    pub(crate) fn of_copy(target: Target, copying: Copying, owners: Option<Owners>) -> Self {
        Self::new(Spots::of_copy(target), Rules::Copy(copying), owners)
    }

    fn new(spots: Spots, rules: Rules, owners: Option<Owners>) -> Self {
        Self {
            spots,
            rules,
            owners,
            result: Unpacked::default(),
            directories: Vec::new(),
            buffer: vec![0; limits::CHUNK],
        }
    }

    /// Unpacks every entry that `reader` has.
    pub(crate) fn run<R: Read>(mut self, reader: &mut Reader<R>) -> Result<Unpacked> {
        while let Some(mut entry) = reader.next_entry()? {
            if let Rules::Copy(Copying { owner: Some(owner), .. }) = self.rules {
                (entry.uid, entry.gid) = owner;
            }
            if let Some(owners) = &self.owners {
                outside::put_out(owners, &mut entry).map_err(|reason| Error::archive(&entry.path, reason))?;
            }
            self.entry(reader, &entry).map_err(|error| error.of(&entry.path))?;
        }
        for directory in &self.directories {
            self.complete(directory).map_err(|error| Failure::from(error).of(directory.place.as_bytes()))?;
        }
        if self.rules == Rules::Layer && self.spots.replaced {
            self.result.size = crate::walk::size(self.spots.root().as_fd())?;
        }
        Ok(self.result)
    }

    fn entry<R: Read>(&mut self, reader: &mut Reader<R>, entry: &Entry) -> Outcome<()> {
        let place = Place::parse(&entry.path)?;
        let meaning = if self.rules == Rules::Layer { meaning(place)? } else { Meaning::Make(place) };
        match meaning {
            Meaning::Ignore => Ok(()),
            Meaning::Make(place) => match self.spots.locate(&place)? {
                Some(spot) => self.make(reader, entry, &place, &spot),
                None => self.root(entry, &place),
            },
            // Old AUFS layers have hard links as whiteouts.
            _ if !matches!(entry.kind, Kind::File { .. } | Kind::HardLink { .. }) => {
                Err("a whiteout that is no file".into())
            }
            Meaning::Whiteout(place) => self.whiteout(&place),
            Meaning::Opaque(place) => self.opaque(&place),
        }
    }

    /// The root may be described, not replaced (CVE-2021-29136).
    fn root(&mut self, entry: &Entry, place: &Place) -> Outcome<()> {
        let Kind::Directory = entry.kind else { return Err("it would replace the root".into()) };
        if matches!(self.rules, Rules::Copy(copying) if !copying.describe_top) {
            // As Docker: the directory that is copied into stays what it is.
            return Ok(());
        }
        attributes::check(entry)?;
        self.result.root_entry = true;
        let root = reopen(self.spots.root(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        self.describe_directory(root.as_fd(), entry, place)
    }

    fn make<R: Read>(
        &mut self,
        reader: &mut Reader<R>,
        entry: &Entry,
        place: &Place,
        spot: &Spot,
    ) -> Outcome<()> {
        attributes::check(entry)?;
        if let Rules::Copy(copying) = self.rules {
            may_replace(copying.replace, &entry.kind, spot)?;
        }
        match &entry.kind {
            Kind::File { size, segments } => self.file(reader, entry, spot, *size, segments.as_deref()),
            Kind::Directory => self.directory(entry, place, spot),
            Kind::HardLink { target } => self.hard_link(target, spot),
            Kind::Symlink { target } => self.symlink(entry, target, spot),
            Kind::Fifo => self.node(entry, spot, FileType::Fifo, 0),
            // overlayfs would take it for a whiteout.
            Kind::CharDevice { major: 0, minor: 0 } => Err("a character device 0:0".into()),
            Kind::CharDevice { major, minor } => {
                self.node(entry, spot, FileType::CharacterDevice, rustix::fs::makedev(*major, *minor))
            }
            Kind::BlockDevice { major, minor } => {
                self.node(entry, spot, FileType::BlockDevice, rustix::fs::makedev(*major, *minor))
            }
        }
    }

    fn file<R: Read>(
        &mut self,
        reader: &mut Reader<R>,
        entry: &Entry,
        spot: &Spot,
        size: u64,
        segments: Option<&[Segment]>,
    ) -> Outcome<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(if self.rules == Rules::Layer { entry.mode & 0o777 } else { 0o600 });
        let create = || rustix::fs::openat(spot.parent(), spot.name(), flags, mode);
        let file = File::from(self.spots.replace(spot, create)?);
        let whole = [Segment { offset: 0, length: size }];
        let mut end = 0;
        for segment in segments.unwrap_or(&whole) {
            end = self.segment(reader, &file, *segment)?;
        }
        if end < size {
            rustix::fs::ftruncate(&file, size).context("ftruncate", "entry")?;
        }
        self.result.size = self.result.size.saturating_add(size);
        attributes::set_on_open(file.as_fd(), entry, self.unsupported())?;
        Ok(attributes::set_time(&file, entry.mtime)?)
    }

    fn unsupported(&self) -> Unsupported {
        if self.rules == Rules::Layer { Unsupported::Refused } else { Unsupported::LeftOut }
    }

    /// Writes one run of data, leaving long runs of zeros as holes; returns where the written part ends.
    fn segment<R: Read>(&mut self, reader: &mut Reader<R>, file: &File, segment: Segment) -> Outcome<u64> {
        let (mut offset, mut written) = (segment.offset, 0);
        let end = segment.offset + segment.length;
        while offset < end {
            let wanted = usize::try_from(end - offset).unwrap_or(usize::MAX).min(self.buffer.len());
            let mut filled = 0;
            while filled < wanted {
                match reader.read(&mut self.buffer[filled..wanted])? {
                    0 => return Err("the content is shorter than its size".into()),
                    count => filled += count,
                }
            }
            let chunk = &self.buffer[..wanted];
            offset += wanted as u64;
            if wanted < self.buffer.len() || chunk.iter().any(|byte| *byte != 0) {
                file.write_all_at(chunk, offset - wanted as u64).context("pwrite", "entry")?;
                written = offset;
            }
        }
        Ok(written)
    }

    fn directory(&mut self, entry: &Entry, place: &Place, spot: &Spot) -> Outcome<()> {
        let found = spot.stat()?;
        let make = || rustix::fs::mkdirat(spot.parent(), spot.name(), IMPLIED);
        match &found {
            Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
                if self.rules == Rules::Layer {
                    strip(spot)?;
                }
            }
            _ => self.spots.replace(spot, make)?,
        }
        if self.rules == Rules::Layer && found.is_some_and(|found| is_whiteout(&found)) {
            spot.make_opaque()?;
        }
        let directory = spot.open_directory()?;
        if self.spots.is_hidden(&directory)? {
            // The kernel's own stays as it is; what would be made in it is refused.
            return Ok(());
        }
        self.describe_directory(directory.as_fd(), entry, place)
    }

    /// Sets what can be set at once, and notes the rest for the end.
    fn describe_directory(&mut self, directory: BorrowedFd<'_>, entry: &Entry, place: &Place) -> Outcome<()> {
        attributes::set_on_open(directory, entry, self.unsupported())?;
        let default_acl = entry.xattrs.iter().find(|(name, _)| name == attributes::DEFAULT_ACL);
        let default_acl = default_acl.map(|(_, value)| value.clone());
        self.directories.push(Directory { place: place.clone(), time: entry.mtime, default_acl });
        Ok(())
    }

    fn symlink(&mut self, entry: &Entry, target: &[u8], spot: &Spot) -> Outcome<()> {
        if target.is_empty() || target.len() >= limits::PATH {
            return Err("the target of the link is empty or too long".into());
        }
        let target =
            CString::new(target).map_err(|_| Failure::Refused("the target of the link holds NUL"))?;
        self.spots.replace(spot, || rustix::fs::symlinkat(target.as_c_str(), spot.parent(), spot.name()))?;
        Ok(attributes::set_by_name(spot.parent(), spot.name(), entry)?)
    }

    /// Links to what an earlier entry made; a symbolic link there is linked itself, not followed.
    fn hard_link(&mut self, target: &[u8], spot: &Spot) -> Outcome<()> {
        let target =
            Place::parse(target).map_err(|_| Failure::Refused("the target of the link leads outside"))?;
        if target.is_root() {
            return Err("the target of the link is a directory".into());
        }
        let missing = Failure::Refused("the target of the link is not there");
        let Some(from) = self.spots.existing(&target)? else { return Err(missing) };
        let Some(found) = from.stat()? else { return Err(missing) };
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory || is_whiteout(&found) {
            return Err("the target of the link is a directory or a whiteout".into());
        }
        // A link to itself changes nothing; replacing it first would lose the file.
        if spot.stat()?.is_some_and(|own| (own.st_dev, own.st_ino) == (found.st_dev, found.st_ino)) {
            return Ok(());
        }
        let none = AtFlags::empty();
        let link = || rustix::fs::linkat(from.parent(), from.name(), spot.parent(), spot.name(), none);
        Ok(self.spots.replace(spot, link)?)
    }

    fn node(&mut self, entry: &Entry, spot: &Spot, kind: FileType, device: u64) -> Outcome<()> {
        let mode = Mode::from_raw_mode(0o600);
        self.spots.replace(spot, || rustix::fs::mknodat(spot.parent(), spot.name(), kind, mode, device))?;
        Ok(attributes::set_by_name(spot.parent(), spot.name(), entry)?)
    }

    /// Hides `place` of lower layers.
    fn whiteout(&mut self, place: &Place) -> Outcome<()> {
        let Some(spot) = self.spots.locate(place)? else { return Err("it would hide the root".into()) };
        match spot.stat()? {
            // This layer's own directory stays; what it would be merged with is hidden.
            Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
                Ok(spot.make_opaque()?)
            }
            // This layer's own file hides the lower one already.
            Some(_) => Ok(()),
            None => {
                let kind = FileType::CharacterDevice;
                rustix::fs::mknodat(spot.parent(), spot.name(), kind, Mode::empty(), 0)
                    .context("mknodat", "whiteout")?;
                Ok(())
            }
        }
    }

    /// Hides everything that lower layers have in the directory `place`.
    fn opaque(&mut self, place: &Place) -> Outcome<()> {
        if place.is_root() {
            // overlayfs does not look at the root of a layer; the snapshot leaves lower layers out.
            self.result.opaque_root = true;
            return Ok(());
        }
        let directory = self.spots.directory(place)?;
        Ok(xattr::set(reopen(&*directory, OFlags::RDONLY | OFlags::DIRECTORY)?, OPAQUE, b"y")?)
    }

    /// Sets what had to wait, unless a later entry replaced the directory.
    fn complete(&self, directory: &Directory) -> coracle_sys::Result<()> {
        let Some(fd) = self.spots.reopen(&directory.place)? else { return Ok(()) };
        if let Some(acl) = &directory.default_acl {
            let name = CString::new(attributes::DEFAULT_ACL).expect("a constant without NUL");
            xattr::set(&fd, &name, acl)?;
        }
        attributes::set_time(&fd, directory.time)
    }
}

/// Refuses what `docker cp` refuses: to turn directories into something else, or something else into directories.
fn may_replace(replace: Replace, kind: &Kind, spot: &Spot) -> Outcome<()> {
    if replace == Replace::Anything {
        return Ok(());
    }
    let Some(found) = spot.stat()? else { return Ok(()) };
    let is_directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
    match (is_directory, *kind == Kind::Directory) {
        (true, false) => Err("cannot overwrite directory with non-directory".into()),
        (false, true) => Err("cannot overwrite non-directory with directory".into()),
        _ => Ok(()),
    }
}

/// Takes away what an earlier entry of the same directory said.
fn strip(spot: &Spot) -> Outcome<()> {
    let directory = spot.open_directory()?;
    for name in xattr::names(&directory)? {
        if attributes::is_content(name.to_bytes()) {
            rustix::fs::fremovexattr(&directory, name.as_c_str()).context("fremovexattr", "entry")?;
        }
    }
    Ok(())
}

/// Why an entry was not unpacked, before its name is put to it.
enum Failure {
    Refused(&'static str),
    Kernel(coracle_sys::Error),
    Other(Error),
}

type Outcome<T> = std::result::Result<T, Failure>;

impl Failure {
    fn of(self, entry: &[u8]) -> Error {
        match self {
            Self::Refused(reason) => Error::archive(entry, reason),
            Self::Kernel(source) => Error::Unpack { entry: shown(entry), source },
            Self::Other(error) => error,
        }
    }
}

impl From<&'static str> for Failure {
    fn from(reason: &'static str) -> Self {
        Self::Refused(reason)
    }
}

impl From<coracle_sys::Error> for Failure {
    fn from(error: coracle_sys::Error) -> Self {
        Self::Kernel(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}
