//! The thread that owns the connection: commits, and what it does when nobody asks for anything.

use super::image_files::{self, Difference};
use super::image_uses::{self, PendingUses};
use super::pins;
use super::record_files::RecordFile;
use super::reserve;
use super::{Durability, database};
use crate::error::{Attempt, Result};
use crate::limits;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};

/// Something that the thread is asked to do.
pub(super) type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// What the thread owns.
pub(super) struct Worker {
    connection: Connection,
    root: PathBuf,
    /// How the connection commits at present.
    durability: Durability,
    /// Commits that are in the log only.
    unsettled: u32,
    /// Records that are not on the disk yet, by their place.
    files: BTreeMap<PathBuf, RecordFile>,
    /// Uses of images that are in memory only.
    uses: Arc<PendingUses>,
}

impl Worker {
    /// Takes a connection that commits durably.
    pub(super) fn new(connection: Connection, root: &Path, uses: Arc<PendingUses>) -> Self {
        let root = root.to_owned();
        let files = BTreeMap::new();
        let worker = Self { connection, root, durability: Durability::Durable, unsettled: 0, files, uses };
        worker.reserve();
        worker
    }

    /// Works until nobody can ask any more.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let next = if self.is_settled() {
                jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                jobs.recv_timeout(limits::INDEX_IDLE)
            };
            match next {
                Ok(job) => self.work(job),
                Err(RecvTimeoutError::Timeout) => self.settle_while_idle(jobs),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.settle();
    }

    /// Brings everything to the disk.
    pub(super) fn settle(&mut self) {
        while self.settle_one() {}
    }

    fn work(&mut self, job: Job) {
        job(self);
        if self.unsettled >= limits::INDEX_COMMITS {
            self.checkpoint();
        }
    }

    /// Does one thing after the other that costs an fsync, until somebody asks for something.
    fn settle_while_idle(&mut self, jobs: &Receiver<Job>) {
        while self.settle_one() {
            match jobs.try_recv() {
                Ok(job) => return self.work(job),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.unsettled == 0 && self.files.is_empty() && self.uses.is_empty()
    }

    /// Brings one thing to the disk; `false` when there was none.
    fn settle_one(&mut self) -> bool {
        if let Some((_, file)) = self.files.pop_first() {
            // The database has it: what fails here costs nothing unless that is lost too.
            if let Err(error) = file.write_durable(&self.root) {
                tracing::warn!(%error, "cannot write the record beside an object");
            }
            return true;
        }
        if !self.uses.is_empty() {
            self.write_uses();
            return true;
        }
        if self.unsettled == 0 {
            return false;
        }
        self.checkpoint();
        true
    }

    /// Writes the uses of images that are in memory only. They survive the end of this process from here on.
    pub(super) fn write_uses(&mut self) {
        if self.uses.is_empty() {
            return;
        }
        let uses = self.uses.take();
        if let Err(error) =
            self.commit(Durability::Deferred, |transaction| image_uses::put(transaction, &uses), Vec::new())
        {
            tracing::warn!(error = error.chain(), "it is not noted when images were last used");
        }
    }

    /// Moves the log into the database, which is synced before the log is used again.
    fn checkpoint(&mut self) {
        self.unsettled = 0;
        let done = self.set_durability(Durability::Durable).and_then(|()| {
            self.connection
                .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
                .attempt(|| "move the index's log into the database".to_owned())
        });
        if let Err(error) = done {
            tracing::warn!(error = error.chain(), "the index's log grows");
        }
        self.reserve();
    }

    /// Sees to it that the log can grow although the disk is full.
    fn reserve(&self) {
        if let Err(error) = reserve::take(&self.root.join(database::LOG)) {
            tracing::debug!(%error, "no room could be kept for the index on a full disk");
        }
    }

    /// Runs `work` in a transaction and commits it, then brings `files` in line.
    pub(super) fn commit<T>(
        &mut self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T>,
        files: Vec<RecordFile>,
    ) -> Result<T> {
        self.set_durability(durability)?;
        let uses = Arc::clone(&self.uses);
        let transaction = self.begin(TransactionBehavior::Immediate)?;
        let result = work(&transaction)?;
        if durability == Durability::Durable {
            // What waits for the disk anyway takes them along; a start does not wait for them.
            image_uses::put(&transaction, &uses.take())?;
        }
        transaction.commit().attempt(|| "commit to the index".to_owned())?;
        self.unsettled += 1;
        for file in files {
            if durability == Durability::Durable
                && let Err(error) = file.write(&self.root)
            {
                tracing::warn!(%error, "cannot write the record beside an object, trying again later");
            }
            self.files.insert(file.place().to_owned(), file);
        }
        Ok(result)
    }

    /// Runs `work`, which changes nothing.
    pub(super) fn read<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        work(&self.begin(TransactionBehavior::Deferred)?)
    }

    /// The records beside the images that are not what the database says.
    pub(super) fn image_differences(&mut self) -> Result<Vec<Difference>> {
        let root = self.root.clone();
        self.read(|transaction| image_files::compare(&root, transaction))
    }

    /// The same, and brings them in line.
    pub(super) fn mend_image_records(&mut self) -> Result<Vec<Difference>> {
        let differences = self.image_differences()?;
        for difference in &differences {
            difference.mend(&self.root)?;
        }
        Ok(differences)
    }

    /// Brings the record of all pins in line with the database.
    pub(super) fn mend_pins(&mut self) -> Result<()> {
        let root = self.root.clone();
        self.read(|transaction| pins::mend(&root, transaction))
    }

    fn begin(&mut self, behavior: TransactionBehavior) -> Result<Transaction<'_>> {
        self.connection
            .transaction_with_behavior(behavior)
            .attempt(|| "begin a transaction of the index".to_owned())
    }

    /// `OFF`, as `NORMAL` syncs too whenever it begins the log anew. Every durable commit syncs the whole log, so what
    /// came before it is then on the disk as well.
    fn set_durability(&mut self, durability: Durability) -> Result<()> {
        if self.durability != durability {
            let value = match durability {
                Durability::Durable => "FULL",
                Durability::Deferred => "OFF",
            };
            self.connection
                .pragma_update(None, "synchronous", value)
                .attempt(|| "set how the index commits".to_owned())?;
            self.durability = durability;
        }
        Ok(())
    }
}
