//! The record that lies beside each container, volume and image, a copy of what the database has.

use coracle_sys::atomic;
use rustix::fs::Mode;
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// What a record file is called in the directory of a container or volume.
pub(super) const RECORD: &str = "record.json";

const FILE: Mode = Mode::from_raw_mode(0o600);

/// What is to become of a record file.
#[derive(Clone, Debug)]
pub(super) struct RecordFile {
    /// Below the data root.
    place: PathBuf,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    /// This stands in it.
    Record(String),
    /// It is removed.
    Absent,
    /// It went with its directory.
    Gone,
}

impl RecordFile {
    pub(super) fn container(id: &str, record: String) -> Self {
        Self { place: Path::new("containers").join(id).join(RECORD), content: Content::Record(record) }
    }

    pub(super) fn gone_with_container(id: &str) -> Self {
        Self { place: Path::new("containers").join(id).join(RECORD), content: Content::Gone }
    }

    pub(super) fn volume(name: &str, record: String) -> Self {
        Self { place: Path::new("volumes").join(name).join(RECORD), content: Content::Record(record) }
    }

    pub(super) fn network(id: &str, record: String) -> Self {
        Self { place: network(id), content: Content::Record(record) }
    }

    pub(super) fn absent_network(id: &str) -> Self {
        Self { place: network(id), content: Content::Absent }
    }

    /// `name` is below `images`.
    pub(super) fn image(name: &Path, record: String) -> Self {
        Self { place: Path::new("images").join(name), content: Content::Record(record) }
    }

    pub(super) fn absent_image(name: &Path) -> Self {
        Self { place: Path::new("images").join(name), content: Content::Absent }
    }

    pub(super) fn place(&self) -> &Path {
        &self.place
    }

    /// Brings the file in line, so that it survives the end of this process.
    pub(super) fn write(&self, root: &Path) -> coracle_sys::Result<()> {
        self.apply(root, |path, content| atomic::write(path, content, FILE))
    }

    /// As [`RecordFile::write`], and it survives a power cut.
    pub(super) fn write_durable(&self, root: &Path) -> coracle_sys::Result<()> {
        self.apply(root, |path, content| atomic::write_durable(path, content, FILE))
    }

    fn apply(
        &self,
        root: &Path,
        write: impl FnOnce(&Path, &[u8]) -> coracle_sys::Result<()>,
    ) -> coracle_sys::Result<()> {
        let path = root.join(&self.place);
        let result = match &self.content {
            Content::Record(content) => write(&path, content.as_bytes()),
            Content::Absent => atomic::discard(&path, root.join("trash")).map(drop),
            Content::Gone => Ok(()),
        };
        match result {
            // The object was removed meanwhile, its record with it.
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(()),
            result => result,
        }
    }
}

fn network(id: &str) -> PathBuf {
    Path::new("networks").join(format!("{id}.json"))
}
