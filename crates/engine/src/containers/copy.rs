//! `docker cp`: what is at a path of a container, archives of it, and archives unpacked into it.

use super::view::View;
use super::{Description, task::Command};
use crate::engine::Engine;
use crate::error::{Attempt, Error, Result, blocking};
use crate::images::{BodyReader, BodyWriter};
use coracle_store::{Copying, Found, Protection, Replace};
use rustix::fs::FileType;
use rustix::io::Errno;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use time::OffsetDateTime;

/// What is at a path of a container.
#[derive(Clone, Debug)]
pub struct PathStat {
    /// The last component of the path.
    pub name: String,
    /// Bytes.
    pub size: i64,
    /// Type and permissions, as stat(2) has them.
    pub mode: u32,
    /// When its content changed.
    pub modified: OffsetDateTime,
    /// Where a symbolic link leads inside the container; else empty.
    pub link_target: String,
}

/// How an archive is unpacked into a container.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extraction {
    /// Directories replace and are replaced by directories only.
    pub keep_kinds: bool,
    /// Everything becomes the property of the user that the container runs as.
    pub as_container_user: bool,
}

/// A path that is about to become an archive.
#[derive(Debug)]
pub struct Archiving {
    view: Arc<View>,
    found: Found,
    name: OsString,
    /// What is there.
    pub stat: PathStat,
}

impl Archiving {
    /// Writes the archive. Blocks.
    ///
    /// # Errors
    /// When something cannot be read, or `output` not be written.
    pub fn write(self, output: BodyWriter) -> Result<()> {
        let output = output.with_patience(self.view.patience.clone());
        self.view.tree.pack(&self.found, &self.name, output).attempt(|| "archive a path".to_owned())
    }
}

impl Engine {
    /// What is at `path` in a container, a link itself unless the path ends in a slash.
    ///
    /// # Errors
    /// [`Error::NotFound`] for the container, [`Error::NoFile`] for the path.
    pub async fn stat_path(&self, name: &str, path: &str) -> Result<PathStat> {
        let (view, _) = self.files(name).await?;
        let (name, path) = (name.to_owned(), path.to_owned());
        blocking(move || find(&view, &name, &path).map(|(_, _, stat)| stat)).await?
    }

    /// Prepares an archive of what is at `path` in a container.
    ///
    /// # Errors
    /// As [`Engine::stat_path`].
    pub async fn archive_path(&self, name: &str, path: &str) -> Result<Archiving> {
        let (view, description) = self.files(name).await?;
        let (name, path) = (name.to_owned(), path.to_owned());
        let archiving = blocking(move || {
            let (found, path, stat) = find(&view, &name, &path)?;
            Ok(Archiving { view, found, name: base(&path), stat })
        })
        .await??;
        self.shared.tell_of(&description, "archive-path", &[]);
        Ok(archiving)
    }

    /// Unpacks an archive, compressed or not, into the directory at `path` of a container. What was unpacked before a
    /// failure stays.
    ///
    /// # Errors
    /// As [`Engine::stat_path`]; [`Error::ReadOnly`] where nothing can be written, [`Error::Invalid`] for an archive that is
    /// malformed, hostile or in conflict with what is there.
    pub async fn extract_into(
        &self,
        name: &str,
        path: &str,
        extraction: Extraction,
        archive: BodyReader,
    ) -> Result<()> {
        let (view, description) = self.files(name).await?;
        let archive = archive.with_patience(view.patience.clone());
        let (name, path) = (name.to_owned(), path.to_owned());
        let told = Arc::clone(&description);
        blocking(move || extract(&view, &description, (&name, &path), extraction, archive)).await??;
        self.shared.tell_of(&told, "extract-to-dir", &[]);
        Ok(())
    }

    async fn files(&self, name: &str) -> Result<(Arc<View>, Arc<Description>)> {
        let container = self.shared.containers.find(name)?;
        let view = container.ask(|reply| Command::Files { reply }).await?;
        Ok((view, container.describe()))
    }
}

fn find(view: &View, container: &str, path: &str) -> Result<(Found, PathBuf, PathStat)> {
    let normal = normal(path);
    let found = view.tree.find(&normal).map_err(|error| refused(error, path))?;
    let missing = || Error::NoFile { path: path.to_owned(), container: container.to_owned() };
    let found = found.ok_or_else(missing)?;
    let link_target = if FileType::from_raw_mode(found.stat.st_mode) == FileType::Symlink {
        let target = view.tree.root().evaluate(&normal).map_err(|error| refused(error.into(), path))?;
        target.to_string_lossy().into_owned()
    } else {
        String::new()
    };
    let seconds =
        OffsetDateTime::from_unix_timestamp(found.stat.st_mtime).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let stat = PathStat {
        name: base(&normal).to_string_lossy().into_owned(),
        size: found.stat.st_size,
        mode: found.stat.st_mode,
        modified: seconds + time::Duration::nanoseconds(found.stat.st_mtime_nsec.cast_signed()),
        link_target,
    };
    Ok((found, normal, stat))
}

fn extract(
    view: &View,
    description: &Description,
    (container, path): (&str, &str),
    extraction: Extraction,
    archive: BodyReader,
) -> Result<()> {
    // The last component is followed too: an archive goes into the directory that a link leads to.
    let target = normal(path).join(".");
    let missing = || Error::NoFile { path: path.to_owned(), container: container.to_owned() };
    let not_a_directory = || Error::Invalid("extraction point is not a directory".to_owned());
    let found = match view.tree.find(&target) {
        Err(error) if errno(&error) == Some(Errno::NOTDIR) => return Err(not_a_directory()),
        found => found.map_err(|error| refused(error, path))?.ok_or_else(missing)?,
    };
    match view.tree.protection(&found).attempt(|| format!("look at {path}"))? {
        Some(Protection::Root) => {
            return Err(Error::ReadOnly("container rootfs is marked read-only".to_owned()));
        }
        Some(Protection::Mount) => {
            return Err(Error::ReadOnly("mounted volume is marked read-only".to_owned()));
        }
        None => {}
    }
    let copying = Copying {
        owner: owner(view, description, extraction)?,
        replace: if extraction.keep_kinds { Replace::SameKind } else { Replace::Anything },
        ..Copying::default()
    };
    view.tree.unpack(&target, archive, copying).map_err(|error| refused(error, path))
}

/// Whose the files become; `None` for whom the archive names.
fn owner(view: &View, description: &Description, extraction: Extraction) -> Result<Option<(u32, u32)>> {
    let user = &description.settings.user;
    if !extraction.as_container_user || user.is_empty() {
        return Ok(None);
    }
    let resolved = coracle_runtime::sandbox::users::resolve(view.tree.root(), user, &[])
        .map_err(|error| Error::Invalid(error.chain()))?;
    Ok(Some((resolved.user.uid, resolved.user.gid)))
}

/// Tells what the archive or the container's own files refuse from what fails here.
fn refused(error: coracle_store::Error, path: &str) -> Error {
    let files = [
        Errno::NOENT,
        Errno::LOOP,
        Errno::NAMETOOLONG,
        Errno::ROFS,
        Errno::BUSY,
        Errno::XDEV,
        Errno::PERM,
        Errno::OPNOTSUPP,
    ];
    if errno(&error) == Some(Errno::NOTDIR) {
        return Error::Invalid(format!("{path}: not a directory"));
    }
    if error.is_input() || errno(&error).is_some_and(|errno| files.contains(&errno)) {
        return Error::Invalid(coracle_spec::full_text(&error));
    }
    Error::Failed { action: format!("copy {path}"), source: Box::new(error) }
}

fn errno(error: &coracle_store::Error) -> Option<Errno> {
    match error {
        coracle_store::Error::Kernel(source) | coracle_store::Error::Unpack { source, .. } => source.errno(),
        _ => None,
    }
}

/// The path from the root, cleaned as text as Docker does, before any link is looked at; a slash or a dot at its end stays,
/// since it says that a link there is followed. Pure.
fn normal(path: &str) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    let last = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    match last {
        "." => clean.join("."),
        _ if path.ends_with('/') && clean != Path::new("/") => clean.join(""),
        _ => clean,
    }
}

/// The last component, `/` for the root and `.` where the path ends in one: what a directory is called in its archive.
fn base(normal: &Path) -> OsString {
    let text = normal.as_os_str().to_string_lossy();
    if text.ends_with("/.") {
        return OsString::from(".");
    }
    normal.file_name().map_or_else(|| OsString::from("/"), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_text_and_keep_what_follows_a_link() {
        for (path, expected, name) in [
            ("/", "/", "/"),
            ("/.", "/.", "."),
            ("..", "/", "/"),
            ("d/f", "/d/f", "f"),
            ("/d/", "/d/", "d"),
            ("/d/.", "/d/.", "."),
            ("//d//../e", "/e", "e"),
            ("/../../x/", "/x/", "x"),
            (".", "/.", "."),
            ("/./", "/.", "."),
            ("d/./", "/d/.", "."),
        ] {
            assert_eq!(normal(path).as_os_str(), expected, "{path}");
            assert_eq!(base(&normal(path)), name, "{path}");
        }
    }
}
