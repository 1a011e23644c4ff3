//! Files of what a build has made, for a client that looks into it before it is an image.

use super::product::Product;
use super::workshop::Bench;
use crate::engine::Engine;
use crate::error::{Attempt, Error, Result, blocking};
use crate::limits;
use coracle_build::matches_name;
use coracle_store::Tree;
use coracle_sys::{tree, xattr};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file, as lstat(2) sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its name in its directory.
    pub name: String,
    /// Kind and permissions, `st_mode`.
    pub mode: u32,
    /// Whose it is.
    pub owner: (u32, u32),
    /// In bytes.
    pub size: u64,
    /// When it was changed last, in nanoseconds since 1970.
    pub modified: i64,
    /// What it leads to, where it is a link; what is no text is replaced.
    pub link: Option<String>,
    /// Which device it is, major and minor.
    pub device: (u32, u32),
    /// Extended attributes.
    pub attributes: BTreeMap<String, Vec<u8>>,
}

/// A part of a file: where it begins and how long it is at most, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// From the beginning.
    pub offset: u64,
    /// To the end where it is absent.
    pub length: Option<u64>,
}

/// # Errors
/// Every method fails with [`Error::Missing`] where nothing is at the path, and [`Error::Invalid`] where something else or
/// more is than can be read.
impl Engine {
    /// A part of a regular file; links are followed inside the result.
    pub async fn read_product_file(
        &self,
        product: Arc<Product>,
        path: PathBuf,
        part: Part,
    ) -> Result<Vec<u8>> {
        self.look_into(product, move |tree| {
            let reading = || format!("read {}", path.display());
            let mut file = tree.open(&path).map_err(|error| missing(error, "open", &path))?;
            file.seek(SeekFrom::Start(part.offset)).attempt(reading)?;
            let limit = limits::READ;
            let length = part.length.unwrap_or(u64::MAX).min(limit + 1);
            let mut content = Vec::new();
            file.take(length).read_to_end(&mut content).attempt(reading)?;
            if content.len() as u64 > limit {
                let text =
                    format!("{} has more than the {limit} bytes that are read at once", path.display());
                return Err(Error::Invalid(text));
            }
            Ok(content)
        })
        .await
    }

    /// What is in a directory, in the order of names; only what a pattern of names matches, where there is one.
    pub async fn read_product_directory(
        &self,
        product: Arc<Product>,
        path: PathBuf,
        pattern: Option<String>,
    ) -> Result<Vec<FileInfo>> {
        self.look_into(product, move |tree| {
            let reading = || format!("read {}", path.display());
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let opened = tree.root().open_file(&path, flags, Mode::empty());
            let directory = opened.map_err(|error| missing(error.into(), "open", &path))?;
            let mut names = tree::names(directory.as_fd()).attempt(reading)?;
            names.sort_unstable();
            let is_wanted = |name: &CStr| {
                pattern.as_ref().is_none_or(|pattern| matches_name(pattern, &name.to_string_lossy()))
            };
            names.retain(|name| is_wanted(name));
            if names.len() > limits::LISTED {
                let text =
                    format!("{} has more than the {} files that are told", path.display(), limits::LISTED);
                return Err(Error::Invalid(text));
            }
            names.iter().map(|name| info(directory.as_fd(), name)).collect()
        })
        .await
    }

    /// What is at a path; links are followed inside the result.
    pub async fn stat_product_file(&self, product: Arc<Product>, path: PathBuf) -> Result<FileInfo> {
        self.look_into(product, move |tree| {
            let end = tree.follow(&path).map_err(|error| missing(error, "lstat", &path))?;
            let found = if end == Path::new("/") {
                info(tree.root().as_fd(), c".")?
            } else {
                let found = tree.root().resolve_parent(&end);
                let (parent, name) = found.map_err(|error| missing(error.into(), "lstat", &path))?;
                info(parent.as_fd(), &name)?
            };
            Ok(FileInfo {
                name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                ..found
            })
        })
        .await
    }

    async fn look_into<T: Send + 'static>(
        &self,
        product: Arc<Product>,
        look: impl FnOnce(&Tree) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        let looked = blocking(move || look(Bench::open(&shared, product.layers())?.tree())).await?;
        // What it was looked at through is to be deleted.
        self.tidy_soon();
        looked
    }
}

/// What is at a name in a directory.
fn info(directory: BorrowedFd<'_>, name: &CStr) -> Result<FileInfo> {
    let text = name.to_string_lossy().into_owned();
    let looking = || format!("look at {text}");
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty()).attempt(looking)?;
    let stat: Stat = rustix::fs::statat(&file, c"", AtFlags::EMPTY_PATH).attempt(looking)?;
    let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
    let link =
        is_link.then(|| rustix::fs::readlinkat(&file, c"", Vec::new())).transpose().attempt(looking)?;
    let mut attributes = BTreeMap::new();
    for attribute in xattr::names(&file).attempt(looking)? {
        if let Some(value) = xattr::get(&file, &attribute).attempt(looking)? {
            attributes.insert(attribute.to_string_lossy().into_owned(), value);
        }
    }
    Ok(FileInfo {
        mode: stat.st_mode,
        owner: (stat.st_uid, stat.st_gid),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified: stat
            .st_mtime
            .saturating_mul(1_000_000_000)
            .saturating_add(stat.st_mtime_nsec.cast_signed()),
        link: link.map(|link| link.to_string_lossy().into_owned()),
        device: (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
        attributes,
        name: text,
    })
}

/// In the words of the kernel, which clients look for.
fn missing(error: coracle_store::Error, call: &str, path: &Path) -> Error {
    let text = |reason: &str| format!("{call} {}: {reason}", path.display());
    let errno = match &error {
        coracle_store::Error::NotThere { .. } => Some(Errno::NOENT),
        coracle_store::Error::Kernel(error) => error.errno(),
        _ => None,
    };
    match errno {
        Some(Errno::NOENT) => Error::Missing(text("no such file or directory")),
        Some(Errno::NOTDIR) => Error::Missing(text("not a directory")),
        Some(Errno::LOOP) => Error::Invalid(text("too many levels of symbolic links")),
        _ => Error::Failed { action: text("it cannot be read"), source: Box::new(error) },
    }
}
