//! When images were last used.
//!
//! A start notes it in memory, which costs nothing; it is written with the next durable change, or when nobody asks the
//! index for anything. A container's own record tells the same of a start that was not written yet.

use super::{Index, execute};
use crate::error::{Attempt, Result};
use coracle_spec::Digest;
use rusqlite::{Transaction, params};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use time::OffsetDateTime;

/// Uses that are not written yet.
#[derive(Debug, Default)]
pub(super) struct PendingUses(Mutex<BTreeMap<Digest, OffsetDateTime>>);

impl PendingUses {
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    pub(super) fn take(&self) -> BTreeMap<Digest, OffsetDateTime> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, OffsetDateTime>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    /// Notes that an image was used, without a system call.
    pub(crate) fn note_image_use(&self, id: Digest, at: OffsetDateTime) {
        self.uses.lock().insert(id, at);
    }

    /// Has what was noted written, which nobody waits for.
    pub(crate) fn write_image_uses(&self) {
        self.send(Box::new(super::worker::Worker::write_uses));
    }

    /// When each image was last used. Blocks.
    ///
    /// # Errors
    /// The database's.
    pub(crate) fn image_uses(&self) -> Result<Vec<(Digest, OffsetDateTime)>> {
        self.ask(read).wait()
    }
}

/// Writes uses; those of images that are gone are forgotten.
pub(super) fn put(transaction: &Transaction<'_>, uses: &BTreeMap<Digest, OffsetDateTime>) -> Result<()> {
    let insert = "INSERT INTO image_uses (image, last_used)
        SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM images WHERE id = ?1)
        ON CONFLICT (image) DO UPDATE SET last_used = max(last_used, excluded.last_used)";
    for (id, at) in uses {
        execute(transaction, insert, params![id.to_string(), at.unix_timestamp()])?;
    }
    Ok(())
}

fn read(transaction: &Transaction<'_>) -> Result<Vec<(Digest, OffsetDateTime)>> {
    let read = || "read when images were used".to_owned();
    let mut statement =
        transaction.prepare_cached("SELECT image, last_used FROM image_uses").attempt(read)?;
    let mut rows = statement.query([]).attempt(read)?;
    let mut uses = Vec::new();
    while let Some(row) = rows.next().attempt(read)? {
        let (id, at): (String, i64) = (row.get(0).attempt(read)?, row.get(1).attempt(read)?);
        uses.push((id.parse().attempt(read)?, OffsetDateTime::from_unix_timestamp(at).attempt(read)?));
    }
    Ok(uses)
}
