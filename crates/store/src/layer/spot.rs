//! Where the entries of an archive go: directories below a layer's root, or below a directory of a container, held by
//! descriptor.
//!
//! Parents are opened beneath the root without following links. Where there is a link on the way, the archive's own or
//! the container's, it is followed as in a chroot, as Docker does. The last component is never followed: what is there is
//! replaced, unless something is mounted there.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle_sys::error::Context;
use coracle_sys::rooted::Root;
use coracle_sys::{Result, mount, tree, xattr};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::attributes::OPAQUE;
use crate::archive::name::Place;

/// Mode of directories that the archive does not describe.
pub(super) const IMPLIED: Mode = Mode::from_raw_mode(0o755);

/// A name in a directory that is held open.
pub(super) struct Spot {
    parent: Arc<OwnedFd>,
    name: CString,
}

impl Spot {
    pub(super) fn parent(&self) -> BorrowedFd<'_> {
        self.parent.as_fd()
    }

    pub(super) fn name(&self) -> &CStr {
        &self.name
    }

    /// What is there, itself; `None` when nothing is.
    pub(super) fn stat(&self) -> Result<Option<Stat>> {
        match rustix::fs::statat(&self.parent, self.name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno).context("fstatat", self.name.to_string_lossy()),
        }
    }

    /// Opens the directory that is there.
    pub(super) fn open_directory(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.parent, self.name(), flags, Mode::empty())
            .context("openat", self.name.to_string_lossy())
    }

    /// Makes the directory that is there hide what lower layers have in it.
    pub(super) fn make_opaque(&self) -> Result<()> {
        xattr::set(self.open_directory()?, OPAQUE, b"y")
    }
}

/// A directory of a container that may change it meanwhile.
#[derive(Debug)]
pub(crate) struct Target {
    /// The container's root.
    pub(crate) root: Root,
    /// The directory, as it was opened.
    pub(crate) directory: Root,
    /// Its path, by which links out of it find their way back.
    pub(crate) path: PathBuf,
    /// File systems that nothing is copied into, by device number.
    pub(crate) hidden: Vec<u64>,
}

enum Base {
    Layer(Root),
    Copy(Target),
}

/// The directories below one root while an archive is unpacked.
pub(super) struct Spots {
    base: Base,
    /// The directory of the last entry: archives list siblings together.
    last: Option<(Place, Arc<OwnedFd>)>,
    /// Whether anything was replaced.
    pub(super) replaced: bool,
}

impl Spots {
    pub(super) fn of_layer(root: Root) -> Self {
        Self { base: Base::Layer(root), last: None, replaced: false }
    }

    pub(super) fn of_copy(target: Target) -> Self {
        Self { base: Base::Copy(target), last: None, replaced: false }
    }

    /// What places are below.
    pub(super) fn root(&self) -> &Root {
        match &self.base {
            Base::Layer(root) => root,
            Base::Copy(target) => &target.directory,
        }
    }

    /// Where `place` is; `None` for the root itself. Its directory is made where the archive did not describe it.
    pub(super) fn locate(&mut self, place: &Place) -> Result<Option<Spot>> {
        let Some((parent, name)) = place.split() else { return Ok(None) };
        let name = CString::new(name).expect("a place holds no NUL");
        Ok(Some(Spot { parent: self.directory(&parent)?, name }))
    }

    /// Where something is that must exist already; `None` when its directory does not.
    pub(super) fn existing(&self, place: &Place) -> Result<Option<Spot>> {
        let found = match &self.base {
            Base::Layer(root) => root.resolve_parent(path(place)),
            Base::Copy(target) => target.root.resolve_parent(target.path.join(path(place))),
        };
        match found {
            Ok((parent, name)) => Ok(Some(Spot { parent: Arc::new(parent), name })),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A handle (`O_PATH`) of a directory, making it and its parents where the archive did not describe them.
    pub(super) fn directory(&mut self, place: &Place) -> Result<Arc<OwnedFd>> {
        if let Some((known, fd)) = &self.last
            && known == place
        {
            return Ok(fd.clone());
        }
        let opened = match self.open(place) {
            Err(error) if is_absence(&error) => self.create(place)?,
            result => result?,
        };
        self.refuse_hidden(&opened, place)?;
        let fd = Arc::new(opened);
        self.last = Some((place.clone(), fd.clone()));
        Ok(fd)
    }

    /// A handle of a directory that is there, no link on the way.
    fn open(&self, place: &Place) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match &self.base {
            Base::Layer(root) => root.open_beneath_no_symlinks(path(place), flags, Mode::empty()),
            Base::Copy(target) => target.directory.open_directory_without_links(path(place)),
        }
    }

    /// A handle of a directory of which a part is missing, or a link.
    fn create(&mut self, place: &Place) -> Result<OwnedFd> {
        self.uncover(place)?;
        match &self.base {
            Base::Layer(root) => root.create_dir_all(path(place), IMPLIED),
            Base::Copy(target) => target.root.create_dir_all(target.path.join(path(place)), IMPLIED),
        }
    }

    /// A directory that was unpacked into, opened for reading; `None` when it is no more.
    pub(super) fn reopen(&self, place: &Place) -> Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let opened = match &self.base {
            Base::Layer(root) => root.open_file(path(place), flags, Mode::empty()),
            Base::Copy(target) => target.root.open_file(target.path.join(path(place)), flags, Mode::empty()),
        };
        match opened {
            Ok(directory) => Ok(Some(directory)),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps what is copied out of the kernel's own file systems, whatever leads there.
    fn refuse_hidden(&self, directory: &OwnedFd, place: &Place) -> Result<()> {
        if self.is_hidden(directory)? {
            return Err(Errno::ROFS).context("open", path(place).display());
        }
        Ok(())
    }

    /// Whether a directory belongs to a file system that nothing is copied into.
    pub(super) fn is_hidden(&self, directory: &OwnedFd) -> Result<bool> {
        let Base::Copy(target) = &self.base else { return Ok(false) };
        Ok(target.hidden.contains(&rustix::fs::fstat(directory).context("fstat", "directory")?.st_dev))
    }

    /// Makes something at `spot`, removing what an earlier entry left there.
    pub(super) fn replace<T>(&mut self, spot: &Spot, make: impl Fn() -> rustix::io::Result<T>) -> Result<T> {
        match make() {
            Err(Errno::EXIST) => {
                self.replaced = true;
                if let Base::Copy(_) = self.base {
                    refuse_mounts(spot)?;
                }
                // The directory that is remembered is the one that holds `spot`, so it stays.
                tree::remove(spot.parent(), spot.name())?;
                make().context("create", spot.name.to_string_lossy())
            }
            result => result.context("create", spot.name.to_string_lossy()),
        }
    }

    /// Turns whiteouts on the way to `place` into directories that hide what is below them.
    fn uncover(&mut self, place: &Place) -> Result<()> {
        if let Base::Copy(_) = self.base {
            return Ok(());
        }
        for prefix in place.prefixes() {
            let Some(spot) = self.existing(&prefix)? else { return Ok(()) };
            match spot.stat()? {
                Some(found) if is_whiteout(&found) => {
                    self.replace(&spot, || rustix::fs::mkdirat(spot.parent(), spot.name(), IMPLIED))?;
                    spot.make_opaque()?;
                }
                Some(_) => {}
                None => return Ok(()),
            }
        }
        Ok(())
    }
}

/// Refuses to remove what something is mounted on or below: from outside of the container's mount namespace the kernel
/// would let it go, mounts and all (unlink(2) looks at the caller's namespace only).
fn refuse_mounts(spot: &Spot) -> Result<()> {
    let busy = || Err(Errno::BUSY).context("unlinkat", spot.name.to_string_lossy());
    if mount::id(spot.parent(), c"")? != mount::id(spot.parent(), spot.name())? {
        return busy();
    }
    match spot.stat()? {
        Some(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {}
        _ => return Ok(()),
    }
    // Too deep a tree is not removed either.
    if crate::walk::holds_mount(spot.open_directory()?.as_fd()).unwrap_or(true) { busy() } else { Ok(()) }
}

/// The path of a place below its root.
fn path(place: &Place) -> &Path {
    Path::new(OsStr::from_bytes(place.as_bytes()))
}

/// Whether something else than a directory, or nothing, was found on the way.
fn is_absence(error: &coracle_sys::Error) -> bool {
    matches!(error.errno(), Some(Errno::NOENT | Errno::LOOP | Errno::NOTDIR))
}

/// Whether overlayfs takes it for a whiteout.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}
