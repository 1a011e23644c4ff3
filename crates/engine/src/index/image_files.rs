//! Whether the records beside the images say what the index says.
//!
//! A change is committed to the index first and written to its record next. An engine that is killed between the two
//! leaves a record of before, which would come back if the index were ever made of the records. So they are compared
//! whenever the index is opened.

use super::image_rows::{self, ImageFile};
use super::rebuild;
use super::record_files::RecordFile;
use crate::error::{Attempt, Result};
use coracle_spec::Digest;
use coracle_sys::atomic;
use rusqlite::Transaction;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A record that is not what the index says.
#[derive(Debug)]
pub(crate) struct Difference {
    /// Of which image.
    pub(crate) id: Digest,
    /// What is wrong with it.
    pub(crate) problem: String,
    cure: RecordFile,
}

impl Difference {
    /// Brings the record in line, durably.
    pub(super) fn mend(&self, root: &Path) -> Result<()> {
        self.cure.write_durable(root).attempt(|| format!("write the record of image {}", self.id))
    }
}

/// Every record that differs.
pub(super) fn compare(root: &Path, transaction: &Transaction<'_>) -> Result<Vec<Difference>> {
    let mut files = files(root)?;
    let mut found = Vec::new();
    for row in image_rows::read(transaction)? {
        let wanted = sorted(ImageFile { record: row.record.clone(), references: row.references.clone() });
        let problem = match files.remove(&row.id).map(|path| rebuild::read(&path)) {
            None => Some("it is missing".to_owned()),
            Some(Err(reason)) => Some(reason),
            Some(Ok(text)) => match serde_json::from_str(&text).map(sorted) {
                Err(error) => Some(format!("it is malformed: {error}")),
                Ok(file) if file != wanted => Some("it is not what the index says".to_owned()),
                Ok(_) => None,
            },
        };
        let cure = || image_rows::file_of(&row);
        found.extend(problem.map(|problem| Difference { id: row.id, problem, cure: cure() }));
    }
    let stale = files.into_keys().map(|id| Difference {
        id,
        problem: "it is of an image that is gone".to_owned(),
        cure: RecordFile::absent_image(&image_rows::place(&id)),
    });
    found.extend(stale);
    Ok(found)
}

/// The order of names means nothing.
fn sorted(mut file: ImageFile) -> ImageFile {
    file.references.sort();
    file
}

/// Removes what interrupted writes left. Nobody else may be writing.
pub(super) fn sweep(root: &Path) -> Result<()> {
    for directory in directories(root).into_iter().chain([root.join("images")]) {
        atomic::sweep(&directory).attempt(|| format!("sweep {}", directory.display()))?;
    }
    Ok(())
}

/// Where the record of each image is. What has another name is not the index's.
fn files(root: &Path) -> Result<BTreeMap<Digest, PathBuf>> {
    let mut files = BTreeMap::new();
    for directory in directories(root) {
        let algorithm = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        for path in rebuild::entries(&directory).attempt(|| "list the records of images".to_owned())? {
            let hex = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if let Ok(id) = format!("{algorithm}:{hex}").parse::<Digest>() {
                files.insert(id, path);
            }
        }
    }
    Ok(files)
}

fn directories(root: &Path) -> [PathBuf; 2] {
    ["sha256", "sha512"].map(|algorithm| root.join("images").join(algorithm))
}
