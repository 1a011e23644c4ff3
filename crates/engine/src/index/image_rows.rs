//! Images and their names in the index. Everything here blocks.

use super::record_files::RecordFile;
use super::{Durability, Index, execute};
use crate::error::{Attempt, Result};
use coracle_spec::Digest;
use rusqlite::{Transaction, params};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// An image in the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageRow {
    /// Digest of its configuration.
    pub(crate) id: Digest,
    /// What else is known of it.
    pub(crate) record: String,
    /// Its names with everything spelt out. No two images have the same.
    pub(crate) references: Vec<String>,
}

/// The record file of an image.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ImageFile {
    pub(super) record: String,
    pub(super) references: Vec<String>,
}

impl Index {
    /// Adds images, or replaces their records and names, durably. A name that another image had moves. All or none.
    ///
    /// # Errors
    /// The database's.
    pub(crate) fn put_images(&self, rows: Vec<ImageRow>) -> Result<()> {
        let files = rows.iter().map(file_of).collect();
        self.change(Durability::Durable, move |transaction| put(transaction, &rows), files).wait()
    }

    /// Forgets an image and all its names, durably. Absent is no error.
    ///
    /// # Errors
    /// The database's.
    pub(crate) fn remove_image(&self, id: &Digest) -> Result<()> {
        let file = RecordFile::absent_image(&place(id));
        let id = id.to_string();
        let change = move |transaction: &Transaction<'_>| {
            execute(transaction, "DELETE FROM image_references WHERE image = ?1", params![id])?;
            execute(transaction, "DELETE FROM image_uses WHERE image = ?1", params![id])?;
            execute(transaction, "DELETE FROM images WHERE id = ?1", params![id]).map(drop)
        };
        self.change(Durability::Durable, change, vec![file]).wait()
    }

    /// All images, in the order in which they were added.
    ///
    /// # Errors
    /// The database's.
    pub(crate) fn images(&self) -> Result<Vec<ImageRow>> {
        self.ask(read).wait()
    }
}

/// Writes rows with their names.
pub(super) fn put(transaction: &Transaction<'_>, rows: &[ImageRow]) -> Result<()> {
    let insert = "INSERT INTO images (id, record) VALUES (?1, ?2)
        ON CONFLICT (id) DO UPDATE SET record = excluded.record";
    let name = "INSERT INTO image_references (reference, image) VALUES (?1, ?2)
        ON CONFLICT (reference) DO UPDATE SET image = excluded.image";
    for row in rows {
        let id = row.id.to_string();
        execute(transaction, insert, params![id, row.record])?;
        execute(transaction, "DELETE FROM image_references WHERE image = ?1", params![id])?;
    }
    for row in rows {
        for reference in &row.references {
            execute(transaction, name, params![reference, row.id.to_string()])?;
        }
    }
    Ok(())
}

pub(super) fn read(transaction: &Transaction<'_>) -> Result<Vec<ImageRow>> {
    let read = || "read the images of the index".to_owned();
    let mut names = transaction
        .prepare_cached("SELECT reference FROM image_references WHERE image = ?1 ORDER BY reference")
        .attempt(read)?;
    let mut images =
        transaction.prepare_cached("SELECT id, record FROM images ORDER BY rowid").attempt(read)?;
    let mut rows = images.query([]).attempt(read)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().attempt(read)? {
        let id: String = row.get(0).attempt(read)?;
        let record = row.get(1).attempt(read)?;
        let references = names
            .query_map([&id], |row| row.get(0))
            .and_then(Iterator::collect::<rusqlite::Result<_>>)
            .attempt(read)?;
        found.push(ImageRow { id: id.parse().attempt(read)?, record, references });
    }
    Ok(found)
}

pub(super) fn file_of(row: &ImageRow) -> RecordFile {
    let file = ImageFile { record: row.record.clone(), references: row.references.clone() };
    RecordFile::image(&place(&row.id), serde_json::to_string(&file).expect("plain data has a document"))
}

/// Below `images`.
pub(super) fn place(id: &Digest) -> PathBuf {
    PathBuf::from(id.algorithm().name()).join(format!("{}.json", id.hex()))
}
