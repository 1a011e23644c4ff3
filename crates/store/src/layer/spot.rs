//! Where the entries of a layer go: directories below the layer's root, held by descriptor.
//!
//! Parents are opened beneath the root without following links. Where the archive itself put a link on the way, it is
//! followed as in a chroot, as Docker does. The last component is never followed: what is there is replaced.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use coracle_sys::error::Context;
use coracle_sys::rooted::Root;
use coracle_sys::{Result, tree, xattr};
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

/// The directories of one layer while it is unpacked.
pub(super) struct Spots {
    root: Root,
    /// The directory of the last entry: archives list siblings together.
    last: Option<(Place, Arc<OwnedFd>)>,
    /// Whether anything was replaced.
    pub(super) replaced: bool,
}

impl Spots {
    pub(super) fn new(root: Root) -> Self {
        Self { root, last: None, replaced: false }
    }

    pub(super) fn root(&self) -> &Root {
        &self.root
    }

    /// Where `place` is; `None` for the root itself. Its directory is made where the archive did not describe it.
    pub(super) fn locate(&mut self, place: &Place) -> Result<Option<Spot>> {
        let Some((parent, name)) = place.split() else { return Ok(None) };
        let name = CString::new(name).expect("a place holds no NUL");
        Ok(Some(Spot { parent: self.directory(&parent)?, name }))
    }

    /// Where something is that must exist already; `None` when its directory does not.
    pub(super) fn existing(&self, place: &Place) -> Result<Option<Spot>> {
        match self.root.resolve_parent(path(place)) {
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
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let opened = match self.root.open_beneath_no_symlinks(path(place), flags, Mode::empty()) {
            Err(error) if is_absence(&error) => {
                self.uncover(place)?;
                self.root.create_dir_all(path(place), IMPLIED)?
            }
            result => result?,
        };
        let fd = Arc::new(opened);
        self.last = Some((place.clone(), fd.clone()));
        Ok(fd)
    }

    /// Makes something at `spot`, removing what an earlier entry left there.
    pub(super) fn replace<T>(&mut self, spot: &Spot, make: impl Fn() -> rustix::io::Result<T>) -> Result<T> {
        match make() {
            Err(Errno::EXIST) => {
                self.replaced = true;
                // The directory that is remembered is the one that holds `spot`, so it stays.
                tree::remove(spot.parent(), spot.name())?;
                make().context("create", spot.name.to_string_lossy())
            }
            result => result.context("create", spot.name.to_string_lossy()),
        }
    }

    /// Turns whiteouts on the way to `place` into directories that hide what is below them.
    fn uncover(&mut self, place: &Place) -> Result<()> {
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

/// The path of a place below its root.
pub(super) fn path(place: &Place) -> &Path {
    Path::new(OsStr::from_bytes(place.as_bytes()))
}

/// Whether something else than a directory, or nothing, was found on the way.
pub(super) fn is_absence(error: &coracle_sys::Error) -> bool {
    matches!(error.errno(), Some(Errno::NOENT | Errno::LOOP | Errno::NOTDIR))
}

/// Whether overlayfs takes it for a whiteout.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}
