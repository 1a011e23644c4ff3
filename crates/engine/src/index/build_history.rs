//! Which builds there were. Nothing else is lost with it, so no record lies beside it.

use super::{Answer, Durability, Index, execute};
use crate::error::{Attempt, Result};
use rusqlite::{Transaction, params};

impl Index {
    /// Ids and records of all.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn build_records(&self) -> Result<Vec<(String, String)>> {
        self.ask(read).arrive().await
    }

    /// Adds a build or replaces its record. Survives the end of this process.
    pub(crate) fn put_build_record(&self, id: String, record: String) -> Answer<()> {
        let insert = "INSERT INTO build_history (id, record) VALUES (?1, ?2)
            ON CONFLICT (id) DO UPDATE SET record = excluded.record";
        let change =
            move |transaction: &Transaction<'_>| execute(transaction, insert, params![id, record]).map(drop);
        self.change(Durability::Deferred, change, Vec::new())
    }

    /// Forgets builds. Those that are not there are no error.
    pub(crate) fn remove_build_records(&self, ids: Vec<String>) -> Answer<()> {
        let change = move |transaction: &Transaction<'_>| {
            for id in &ids {
                execute(transaction, "DELETE FROM build_history WHERE id = ?1", params![id])?;
            }
            Ok(())
        };
        self.change(Durability::Deferred, change, Vec::new())
    }
}

fn read(transaction: &Transaction<'_>) -> Result<Vec<(String, String)>> {
    let reading = || "read the history of builds".to_owned();
    let mut statement =
        transaction.prepare_cached("SELECT id, record FROM build_history").attempt(reading)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).attempt(reading)?;
    rows.collect::<rusqlite::Result<_>>().attempt(reading)
}
