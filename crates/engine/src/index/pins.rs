//! What was pinned by hand: names and ids of images. All of them lie in one small record too.

use super::record_files::RecordFile;
use super::{Durability, Index, execute, rebuild, records};
use crate::error::{Attempt, Result};
use rusqlite::{Transaction, params};
use std::collections::BTreeSet;
use std::path::Path;

/// Below `images`.
const RECORD: &str = "pins.json";

impl Index {
    /// Replaces all pins, durably. Blocks.
    ///
    /// # Errors
    /// The database's.
    pub(crate) fn put_pins(&self, pins: &BTreeSet<String>) -> Result<()> {
        let (file, pins) = (file_of(pins), pins.clone());
        self.change(Durability::Durable, move |transaction| put(transaction, &pins), vec![file]).wait()
    }

    /// All pins. Blocks.
    ///
    /// # Errors
    /// The database's.
    pub(crate) fn pins(&self) -> Result<BTreeSet<String>> {
        self.ask(read).wait()
    }
}

/// Takes the pins over that lie in the record; how many.
pub(super) fn from_record(root: &Path, transaction: &Transaction<'_>) -> Result<usize> {
    match recorded(root) {
        Ok(pins) if pins.is_empty() => Ok(0),
        Ok(pins) => put(transaction, &pins).map(|()| pins.len()),
        Err(reason) => {
            tracing::error!(reason, "what was pinned is not known any more");
            Ok(0)
        }
    }
}

/// An engine that was killed between the database and the record leaves a record of before.
pub(super) fn mend(root: &Path, transaction: &Transaction<'_>) -> Result<()> {
    let pins = read(transaction)?;
    if recorded(root).is_ok_and(|recorded| recorded == pins) {
        return Ok(());
    }
    file_of(&pins).write_durable(root).attempt(|| "write the record of what is pinned".to_owned())
}

fn file_of(pins: &BTreeSet<String>) -> RecordFile {
    RecordFile::image(Path::new(RECORD), serde_json::to_string(pins).expect("plain data has a document"))
}

fn recorded(root: &Path) -> std::result::Result<BTreeSet<String>, String> {
    let path = root.join("images").join(RECORD);
    if !path.exists() {
        return Ok(BTreeSet::new());
    }
    serde_json::from_str(&rebuild::read(&path)?).map_err(|error| error.to_string())
}

fn read(transaction: &Transaction<'_>) -> Result<BTreeSet<String>> {
    Ok(records(transaction, "SELECT pin FROM image_pins")?.into_iter().collect())
}

fn put(transaction: &Transaction<'_>, pins: &BTreeSet<String>) -> Result<()> {
    execute(transaction, "DELETE FROM image_pins", [])?;
    for pin in pins {
        execute(transaction, "INSERT INTO image_pins (pin) VALUES (?1)", params![pin])?;
    }
    Ok(())
}
