//! Tar streams of `cp`: a local path packed under another name, and a container's path unpacked under another name.
//! Containers are not trusted: the unpacker refuses names that leave the directory, and makes no devices.

use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use tar::{Archive, Builder, EntryType, Header};

/// Packs `source` as `name`; an empty name packs a directory's content.
pub(crate) fn pack(source: &Path, name: &str, out: impl Write) -> io::Result<()> {
    let mut tar = Builder::new(out);
    tar.follow_symlinks(false);
    match (source.symlink_metadata()?.is_dir(), name) {
        (true, "") => tar.append_dir_all(".", source)?,
        (true, name) => tar.append_dir_all(name, source)?,
        (false, name) => tar.append_path_with_name(source, name)?,
    }
    tar.finish()
}

/// What the names of an archive's entries begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Top {
    /// The last component of the path that was packed.
    Named,
    /// Nothing: the root was packed, which has no name.
    Root,
}

impl Top {
    /// As archives of what is at this path of a container are.
    pub(crate) fn of(path: &str) -> Self {
        let mut depth = 0_usize;
        for component in Path::new(path).components() {
            match component {
                Component::Normal(_) => depth += 1,
                Component::ParentDir => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        if depth == 0 { Self::Root } else { Self::Named }
    }
}

/// Unpacks an archive into `directory`, with `name` in the place of what its entries share.
pub(crate) fn unpack(archive: impl Read + Send, top: Top, name: &str, directory: &Path) -> io::Result<()> {
    let (reader, writer) = io::pipe()?;
    std::thread::scope(|scope| {
        let renaming = scope.spawn(move || rename(archive, top, name, writer));
        let unpacked = unpack_into(reader, directory);
        let renamed = renaming.join().expect("renaming does not panic");
        // Without a reader the writer fails as well; the reader's failure is the cause.
        unpacked.and(renamed)
    })
}

fn unpack_into(reader: impl Read, directory: &Path) -> io::Result<()> {
    let mut archive = Archive::new(reader);
    archive.set_preserve_permissions(true);
    archive.set_preserve_mtime(true);
    archive.set_overwrite(true);
    archive.unpack(directory)?;
    // What follows the archive is padding; unread, it would fail the writer.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map(drop)
}

fn rename(archive: impl Read, top: Top, name: &str, out: impl Write) -> io::Result<()> {
    let mut tar = Builder::new(out);
    let mut archive = Archive::new(archive);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = renamed(&entry.path()?, top, name);
        if path.as_os_str().is_empty() {
            continue;
        }
        let mut header: Header = entry.header().clone();
        match header.entry_type() {
            EntryType::Symlink => {
                let target = entry.link_name()?.unwrap_or_default().into_owned();
                tar.append_link(&mut header, path, target)?;
            }
            EntryType::Link => {
                let target = renamed(&entry.link_name()?.unwrap_or_default(), top, name);
                tar.append_link(&mut header, path, target)?;
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(entry.size());
                tar.append_data(&mut header, path, &mut entry)?;
            }
            EntryType::Directory => tar.append_data(&mut header, path, io::empty())?,
            other => {
                let path = path.display();
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    format!("{path} is neither a file, a directory nor a link ({other:?})"),
                ));
            }
        }
    }
    tar.finish()
}

/// The path with what all share replaced, or dropped for an empty name.
fn renamed(path: &Path, top: Top, name: &str) -> PathBuf {
    let mut components =
        path.components().filter(|component| !matches!(component, Component::CurDir | Component::RootDir));
    if top == Top::Named {
        components.next();
    }
    Path::new(name).components().chain(components).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names = Vec::new();
        let mut left = vec![directory.to_owned()];
        while let Some(path) = left.pop() {
            for entry in fs::read_dir(path).expect("a directory") {
                let entry = entry.expect("readable").path();
                names.push(entry.strip_prefix(directory).expect("below").display().to_string());
                if entry.symlink_metadata().expect("there").is_dir() {
                    left.push(entry);
                }
            }
        }
        names.sort();
        names
    }

    fn sample(directory: &Path) -> Vec<u8> {
        let source = directory.join("source");
        fs::create_dir_all(source.join("sub")).expect("makes");
        fs::write(source.join("sub/file"), "content").expect("writes");
        std::os::unix::fs::symlink("sub/file", source.join("link")).expect("links");
        let mut archive = Vec::new();
        pack(&source, "original", &mut archive).expect("packs");
        archive
    }

    #[test]
    fn a_directory_arrives_under_its_new_name_or_as_its_content() {
        let directory = tempfile::tempdir().expect("a directory");
        let archive = sample(directory.path());
        for (name, prefix) in [("new", "new/"), ("", "")] {
            let target = tempfile::tempdir().expect("a directory");
            unpack(archive.as_slice(), Top::Named, name, target.path()).expect("unpacks");
            let mut expected: Vec<_> =
                ["link", "sub", "sub/file"].iter().map(|path| format!("{prefix}{path}")).collect();
            expected.extend((!name.is_empty()).then(|| name.to_owned()));
            expected.sort();
            assert_eq!(names(target.path()), expected);
            let file = target.path().join(format!("{prefix}sub/file"));
            assert_eq!(fs::read_to_string(file).expect("there"), "content");
        }
    }

    #[test]
    fn an_archive_cannot_leave_the_directory() {
        let outside = tempfile::tempdir().expect("a directory");
        let target = tempfile::tempdir().expect("a directory");
        let mut tar = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_entry_type(EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "top/out", outside.path()).expect("writes");
        header.set_entry_type(EntryType::Regular);
        header.set_size(1);
        tar.append_data(&mut header, "top/out/evil", &b"x"[..]).expect("writes");
        let archive = tar.into_inner().expect("finishes");
        let result = unpack(archive.as_slice(), Top::Named, "top", target.path());
        assert!(result.is_err());
        assert_eq!(names(outside.path()), Vec::<String>::new());
    }

    #[test]
    fn devices_are_refused() {
        let target = tempfile::tempdir().expect("a directory");
        let mut tar = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Block);
        header.set_size(0);
        tar.append_data(&mut header, "top/device", io::empty()).expect("writes");
        let archive = tar.into_inner().expect("finishes");
        assert!(unpack(archive.as_slice(), Top::Named, "top", target.path()).is_err());
        assert_eq!(names(target.path()), Vec::<String>::new());
    }
}
