//! The index: which containers, volumes, images and names there are, in one SQLite database.
//!
//! ```text
//! meta.db                             the database, with meta.db-wal beside it
//! meta.db.damaged-<unix time>         one that could not be read, set aside
//! meta.db.version-<n>-<unix time>     one as it was before its migration
//! containers/<id>/record.json         a copy of each record, from which the database can be made again
//! volumes/<name>/record.json
//! networks/<id>.json
//! images/<algorithm>/<hex>.json
//! images/pins.json                    what was pinned by hand
//! ```
//!
//! When images were last used, and what builds have done, stands in the database alone.
//!
//! Records are opaque here: their owners give them a form. One thread owns the connection and does one thing after
//! the other; nothing here is locked. What is in a directory of containers or volumes besides its record is not the
//! index's.

mod build_history;
mod build_steps;
mod database;
mod image_files;
mod image_rows;
mod image_uses;
mod pins;
mod rebuild;
mod record_files;
mod reserve;
#[cfg(test)]
mod tests;
mod worker;

pub(crate) use image_files::Difference;
pub(crate) use image_rows::ImageRow;

use crate::error::{Attempt, Error, Result, blocking};
use coracle_spec::{ContainerId, Name};
use image_uses::PendingUses;
use record_files::RecordFile;
use rusqlite::{OptionalExtension, Transaction, params};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use tokio::sync::oneshot;
use worker::{Job, Worker};

/// What a change survives once it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// A power cut; about 0.7 ms.
    Durable,
    /// The end of this process; about 30 µs. Reaches the disk with the next durable change, or when nothing goes on.
    Deferred,
}

/// The index of one data root.
#[derive(Debug)]
pub(crate) struct Index {
    /// Taken when the index is dropped, which ends the thread.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    uses: Arc<PendingUses>,
}

/// The answer to something that was asked of the thread. It is done whether or not anybody waits.
#[derive(Debug)]
pub(crate) struct Answer<T>(oneshot::Receiver<Result<T>>);

impl<T> Answer<T> {
    /// Waits for it.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn arrive(self) -> Result<T> {
        self.0.await.attempt(|| "wait for the index".to_owned())?
    }

    /// For blocking threads.
    fn wait(self) -> Result<T> {
        self.0.blocking_recv().attempt(|| "wait for the index".to_owned())?
    }
}

impl Index {
    /// Opens the index of the data root `root`, which exists. A missing or damaged one is made of the records.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when a newer engine wrote it, with nothing touched, and the database's.
    pub(crate) async fn open(root: &Path) -> Result<Self> {
        let root = root.to_owned();
        blocking(move || Self::open_now(&root)).await?
    }

    fn open_now(root: &Path) -> Result<Self> {
        let uses = Arc::<PendingUses>::default();
        let mut worker = Worker::new(database::open(root)?, root, Arc::clone(&uses));
        image_files::sweep(root)?;
        for difference in worker.mend_image_records()? {
            let (id, problem) = (difference.id, difference.problem);
            tracing::info!(image = %id, problem, "an earlier engine left a record behind, which was brought in line");
        }
        worker.mend_pins()?;
        let (sender, jobs) = mpsc::channel();
        let thread = std::thread::Builder::new().name("index".to_owned()).spawn(move || worker.run(&jobs));
        Ok(Self { jobs: Some(sender), thread: Some(thread.attempt(|| "start the index".to_owned())?), uses })
    }

    /// Adds a container, or replaces its record and name.
    ///
    /// # Errors
    /// [`Error::Conflict`] when another container has the name.
    pub(crate) async fn put_container(
        &self,
        id: &ContainerId,
        name: &Name,
        record: String,
        durability: Durability,
    ) -> Result<()> {
        let (id, name) = (id.to_string(), name.to_string());
        let file = RecordFile::container(&id, record.clone());
        let insert = "INSERT INTO containers (id, name, record) VALUES (?1, ?2, ?3)
            ON CONFLICT (id) DO UPDATE SET name = excluded.name, record = excluded.record";
        let change = move |transaction: &Transaction<'_>| {
            refuse_taken_name(transaction, &id, &name)?;
            execute(transaction, insert, params![id, name, record]).map(drop)
        };
        self.change(durability, change, vec![file]).arrive().await
    }

    /// Forgets a container, whose directory, with its record, the caller has removed; durably. Absent is no error.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        let id = id.to_string();
        let file = RecordFile::gone_with_container(&id);
        let change = move |transaction: &Transaction<'_>| {
            execute(transaction, "DELETE FROM containers WHERE id = ?1", params![id]).map(drop)
        };
        self.change(Durability::Durable, change, vec![file]).arrive().await
    }

    /// The records of all containers, in the order in which they were added.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn containers(&self) -> Result<Vec<String>> {
        self.ask(|transaction| records(transaction, "SELECT record FROM containers ORDER BY rowid"))
            .arrive()
            .await
    }

    /// Adds a network, durably.
    ///
    /// # Errors
    /// The database's, a taken name among them.
    pub(crate) async fn put_network(&self, id: &str, name: &str, record: String) -> Result<()> {
        let file = RecordFile::network(id, record.clone());
        let (id, name) = (id.to_owned(), name.to_owned());
        let change = move |transaction: &Transaction<'_>| {
            let insert = "INSERT INTO networks (id, name, record) VALUES (?1, ?2, ?3)";
            execute(transaction, insert, params![id, name, record]).map(drop)
        };
        self.change(Durability::Durable, change, vec![file]).arrive().await
    }

    /// Forgets a network, durably. Absent is no error.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn remove_network(&self, id: &str) -> Result<()> {
        let file = RecordFile::absent_network(id);
        let id = id.to_owned();
        let change = move |transaction: &Transaction<'_>| {
            execute(transaction, "DELETE FROM networks WHERE id = ?1", params![id]).map(drop)
        };
        self.change(Durability::Durable, change, vec![file]).arrive().await
    }

    /// The records of all networks that users made.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn networks(&self) -> Result<Vec<String>> {
        self.ask(|transaction| records(transaction, "SELECT record FROM networks ORDER BY rowid"))
            .arrive()
            .await
    }

    /// Adds a volume or replaces its record, durably. Blocks.
    ///
    /// # Errors
    /// The database's.
    pub(crate) fn put_volume(&self, name: &Name, record: String) -> Result<()> {
        let name = name.to_string();
        let file = RecordFile::volume(&name, record.clone());
        let insert = "INSERT INTO volumes (name, record) VALUES (?1, ?2)
            ON CONFLICT (name) DO UPDATE SET record = excluded.record";
        let change = move |transaction: &Transaction<'_>| {
            execute(transaction, insert, params![name, record]).map(drop)
        };
        self.change(Durability::Durable, change, vec![file]).wait()
    }

    /// Forgets a volume, whose directory, with its record, the caller has removed. Absent is no error. Blocks.
    ///
    /// # Errors
    /// The database's.
    pub(crate) fn remove_volume(&self, name: &Name) -> Result<()> {
        let name = name.to_string();
        let change = move |transaction: &Transaction<'_>| {
            execute(transaction, "DELETE FROM volumes WHERE name = ?1", params![name]).map(drop)
        };
        self.change(Durability::Durable, change, Vec::new()).wait()
    }

    /// The records of all volumes, in the order of their names. Blocks.
    ///
    /// # Errors
    /// The database's.
    pub(crate) fn volumes(&self) -> Result<Vec<String>> {
        self.ask(|transaction| records(transaction, "SELECT record FROM volumes ORDER BY name")).wait()
    }

    /// The records beside the images that are not what the index says. Blocks.
    ///
    /// # Errors
    /// The database's, and the kernel's.
    pub(crate) fn image_differences(&self) -> Result<Vec<Difference>> {
        self.have(|worker| worker.image_differences()).wait()
    }

    /// The same, and brings them in line. Blocks.
    ///
    /// # Errors
    /// The database's, and the kernel's.
    pub(crate) fn mend_image_records(&self) -> Result<Vec<Difference>> {
        self.have(|worker| worker.mend_image_records()).wait()
    }

    /// Brings everything to the disk that was not awaited.
    ///
    /// # Errors
    /// When the thread has ended.
    pub(crate) async fn flush(&self) -> Result<()> {
        let settle = |worker: &mut Worker| {
            worker.settle();
            Ok(())
        };
        self.have(settle).arrive().await
    }

    /// Runs `work` in a transaction on the index's thread, then brings `files` in line with it.
    fn change<T: Send + 'static>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
        files: Vec<RecordFile>,
    ) -> Answer<T> {
        self.have(move |worker| worker.commit(durability, work, files))
    }

    fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> Answer<T> {
        self.have(|worker| worker.read(work))
    }

    /// Has the thread do something.
    fn have<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Worker) -> Result<T> + Send + 'static,
    ) -> Answer<T> {
        let (reply, answer) = oneshot::channel();
        self.send(Box::new(move |worker| {
            let result = work(worker);
            // Whoever asked may have gone; what was asked is done all the same.
            let _ = reply.send(result);
        }));
        Answer(answer)
    }

    fn send(&self, job: Job) {
        let jobs = self.jobs.as_ref().expect("taken only when dropped");
        // If the thread has ended, the job is dropped with its end of the channel, and the answer says so.
        let _ = jobs.send(job);
    }
}

impl Drop for Index {
    /// Waits until everything that was asked is done and on the disk.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn refuse_taken_name(transaction: &Transaction<'_>, id: &str, name: &str) -> Result<()> {
    let select = "SELECT id FROM containers WHERE name = ?1 AND id != ?2";
    let holder: Option<String> = transaction
        .prepare_cached(select)
        .and_then(|mut statement| statement.query_row(params![name, id], |row| row.get(0)).optional())
        .attempt(|| format!("look up container name {name}"))?;
    match holder {
        None => Ok(()),
        Some(holder) => Err(Error::Conflict(format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{holder}\". \
             You have to remove (or rename) that container to be able to reuse that name."
        ))),
    }
}

/// Runs a statement; the number of rows it changed.
fn execute(transaction: &Transaction<'_>, statement: &str, values: impl rusqlite::Params) -> Result<usize> {
    transaction
        .prepare_cached(statement)
        .and_then(|mut statement| statement.execute(values))
        .attempt(|| "write to the index".to_owned())
}

/// The first column of every row.
fn records(transaction: &Transaction<'_>, select: &str) -> Result<Vec<String>> {
    let mut statement = transaction.prepare_cached(select).attempt(|| "read the index".to_owned())?;
    let rows = statement.query_map([], |row| row.get(0)).attempt(|| "read the index".to_owned())?;
    rows.collect::<rusqlite::Result<_>>().attempt(|| "read the index".to_owned())
}
