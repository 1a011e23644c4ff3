//! What builds have done before. Nothing but the time is lost with it, so no record lies beside it.

use super::{Durability, Index, execute};
use crate::error::{Attempt, Result};
use coracle_spec::Digest;
use rusqlite::{Transaction, params};

/// A step of a build that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BuildStepRow {
    pub(crate) key: Digest,
    pub(crate) record: String,
    /// Seconds since 1970.
    pub(crate) last_used: i64,
    pub(crate) uses: u32,
}

impl Index {
    /// All steps.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn build_steps(&self) -> Result<Vec<BuildStepRow>> {
        self.ask(read).arrive().await
    }

    /// Adds a step or replaces its record. Survives the end of this process.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn put_build_step(&self, key: Digest, record: String, last_used: i64) -> Result<()> {
        let insert = "INSERT INTO build_steps (key, record, last_used, uses) VALUES (?1, ?2, ?3, 0)
            ON CONFLICT (key) DO UPDATE SET record = excluded.record, last_used = excluded.last_used";
        let change = move |transaction: &Transaction<'_>| {
            execute(transaction, insert, params![key.to_string(), record, last_used]).map(drop)
        };
        self.change(Durability::Deferred, change, Vec::new()).arrive().await
    }

    /// Notes a use of a step, which nobody waits for.
    pub(crate) fn note_build_step_use(&self, key: Digest, last_used: i64, uses: u32) {
        let update = "UPDATE build_steps SET last_used = ?2, uses = ?3 WHERE key = ?1";
        let change = move |transaction: &Transaction<'_>| {
            execute(transaction, update, params![key.to_string(), last_used, uses]).map(drop)
        };
        drop(self.change(Durability::Deferred, change, Vec::new()));
    }

    /// Forgets steps. Those that are not there are no error.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn remove_build_steps(&self, keys: Vec<Digest>) -> Result<()> {
        let change = move |transaction: &Transaction<'_>| {
            for key in &keys {
                execute(transaction, "DELETE FROM build_steps WHERE key = ?1", params![key.to_string()])?;
            }
            Ok(())
        };
        self.change(Durability::Deferred, change, Vec::new()).arrive().await
    }
}

fn read(transaction: &Transaction<'_>) -> Result<Vec<BuildStepRow>> {
    let reading = || "read what builds have done".to_owned();
    let select = "SELECT key, record, last_used, uses FROM build_steps";
    let mut statement = transaction.prepare_cached(select).attempt(reading)?;
    let mut rows = statement.query([]).attempt(reading)?;
    let mut steps = Vec::new();
    while let Some(row) = rows.next().attempt(reading)? {
        let key: String = row.get(0).attempt(reading)?;
        steps.push(BuildStepRow {
            key: key.parse().attempt(reading)?,
            record: row.get(1).attempt(reading)?,
            last_used: row.get(2).attempt(reading)?,
            uses: row.get(3).attempt(reading)?,
        });
    }
    Ok(steps)
}
