//! Opening the database: its version, its migration, and what happens to one that is damaged.

use super::rebuild;
use crate::error::{Attempt, Error, Result};
use coracle_sys::atomic;
use rusqlite::{Connection, ErrorCode, FileControl, TransactionBehavior, ffi};
use rustix::fs::Mode;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use time::OffsetDateTime;

/// What leads from each version of the schema to the next; the first from nothing. Only ever added to.
const MIGRATIONS: [&str; 5] = [
    "
    CREATE TABLE containers (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, record TEXT NOT NULL) STRICT;
    CREATE TABLE volumes (name TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
    CREATE TABLE images (id TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
    CREATE TABLE image_references (reference TEXT PRIMARY KEY, image TEXT NOT NULL) STRICT;
    CREATE INDEX image_references_by_image ON image_references (image);
    ",
    "
    CREATE TABLE image_uses (image TEXT PRIMARY KEY, last_used INTEGER NOT NULL) STRICT;
    CREATE TABLE image_pins (pin TEXT PRIMARY KEY) STRICT;
    ",
    "
    CREATE TABLE build_steps
        (key TEXT PRIMARY KEY, record TEXT NOT NULL, last_used INTEGER NOT NULL, uses INTEGER NOT NULL) STRICT;
    ",
    "
    CREATE TABLE build_history (id TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
    ",
    "
    CREATE TABLE networks (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, record TEXT NOT NULL) STRICT;
    ",
];

const NAME: &str = "meta.db";

/// The file in which its commits are until they are moved into it (SQLite's write-ahead log).
pub(super) const LOG: &str = "meta.db-wal";
/// Where the version stands in a database file (`user_version`, SQLite file format, section 1.3).
const VERSION_OFFSET: usize = 60;
const MAGIC: &[u8] = b"SQLite format 3\0";

/// Opens the database below `root`, on a connection that commits durably. A missing or damaged one is made of the
/// records.
pub(super) fn open(root: &Path) -> Result<Connection> {
    prepare(root)?;
    refuse_newer(&root.join(NAME), &MIGRATIONS)?;
    match open_somehow(root) {
        Err(error) if is_damage(&error) => {
            let aside = quarantine(&root.join(NAME))?;
            tracing::error!(
                error = error.chain(),
                aside = %aside.display(),
                "the index is damaged and was set aside; it is made again of the records"
            );
            open_somehow(root)
        }
        result => result,
    }
}

/// Opens it for us alone where the disk has no room for readers.
fn open_somehow(root: &Path) -> Result<Connection> {
    match open_file(root, &MIGRATIONS, Sharing::WithReaders) {
        Err(error) if is_want_of_shared_memory(&error) => {
            tracing::warn!(
                error = error.chain(),
                "the disk is full: until the next start nobody else can look into the index"
            );
            open_file(root, &MIGRATIONS, Sharing::Alone)
        }
        result => result,
    }
}

/// Who may look into the database while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    /// Other programs, which find in a file of shared memory what is where in the log. It begins empty at each start and wants
    /// room on the disk.
    WithReaders,
    /// Nobody: what is where stands in memory of this process (SQLite, "WAL without shared memory").
    Alone,
}

/// Makes the directories of records that nobody else makes.
fn prepare(root: &Path) -> Result<()> {
    let images = root.join("images");
    for directory in [images.clone(), images.join("sha256"), images.join("sha512"), root.join("networks")] {
        atomic::create_dir(&directory, Mode::from_raw_mode(0o700))
            .attempt(|| "make the directories of the index".to_owned())?;
    }
    Ok(())
}

/// Reads the version without the database's own code, which would touch the files beside it. A migration ends with
/// everything in the main file, so the version there is the last one.
fn refuse_newer(path: &Path, migrations: &[&str]) -> Result<()> {
    let mut header = [0; VERSION_OFFSET + 4];
    match File::open(path).and_then(|mut file| file.read_exact(&mut header)) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {
            return Ok(());
        }
        Err(error) => return Err(error).attempt(|| format!("read {}", path.display())),
    }
    if !header.starts_with(MAGIC) {
        return Ok(());
    }
    let bytes = header[VERSION_OFFSET..].try_into().expect("four bytes are left");
    check_version(i64::from(i32::from_be_bytes(bytes)), migrations).map(drop)
}

/// The version as a number of migrations that were applied.
fn check_version(version: i64, migrations: &[&str]) -> Result<usize> {
    let known = migrations.len();
    match usize::try_from(version) {
        Ok(version) if version <= known => Ok(version),
        _ => Err(Error::Unsupported(format!(
            "meta.db has version {version} and this engine knows {known}: start the newer engine that wrote it"
        ))),
    }
}

fn open_file(root: &Path, migrations: &[&str], sharing: Sharing) -> Result<Connection> {
    let path = root.join(NAME);
    let mut connection = connect(&path, sharing)?;
    let version = user_version(&connection).and_then(|version| check_version(version, migrations))?;
    check_integrity(&connection)?;
    if version == migrations.len() {
        return Ok(connection);
    }
    if version > 0 {
        copy(&connection, &path, version)?;
    }
    migrate(root, &mut connection, version, migrations)?;
    Ok(connection)
}

fn connect(path: &Path, sharing: Sharing) -> Result<Connection> {
    let opening = || format!("open {}", path.display());
    // Records hold environments, and so passwords. The files beside it get the same mode (SQLite, `findCreateFileMode`).
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path).attempt(opening)?;
    file.set_permissions(Permissions::from_mode(0o600)).attempt(opening)?;
    let connection = Connection::open(path).attempt(opening)?;
    for (pragma, value) in [
        // Before the log is opened.
        ("locking_mode", if sharing == Sharing::Alone { "EXCLUSIVE" } else { "NORMAL" }),
        ("journal_mode", "WAL"),
        ("synchronous", "FULL"),
        // Moved into the database when idle instead.
        ("wal_autocheckpoint", "0"),
        // Somebody may look into it with another program.
        ("busy_timeout", "5000"),
        // No statement here is foreign, but the file may have been.
        ("trusted_schema", "OFF"),
    ] {
        connection
            .pragma_update_and_check(None, pragma, value, |_| Ok(()))
            .or_else(no_rows)
            .attempt(opening)?;
    }
    // Otherwise it goes with the connection, and with it the room that is kept in it for a full disk.
    connection.file_control(None::<&str>, FileControl::PersistWal(&mut 1)).attempt(opening)?;
    Ok(connection)
}

/// Some pragmas answer with their value, some with nothing.
fn no_rows(error: rusqlite::Error) -> rusqlite::Result<()> {
    if matches!(error, rusqlite::Error::QueryReturnedNoRows) { Ok(()) } else { Err(error) }
}

fn user_version(connection: &Connection) -> Result<i64> {
    connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .attempt(|| "read the version of the index".to_owned())
}

fn check_integrity(connection: &Connection) -> Result<()> {
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .attempt(|| "check the index".to_owned())?;
    if verdict == "ok" {
        return Ok(());
    }
    let code = ffi::Error::new(ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(code, Some(verdict))).attempt(|| "check the index".to_owned())
}

/// A database that had nothing is filled in the same step: it never counts as made before it is whole.
fn migrate(root: &Path, connection: &mut Connection, from: usize, migrations: &[&str]) -> Result<()> {
    let attempt = || format!("bring the index from version {from} to {}", migrations.len());
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).attempt(attempt)?;
    for migration in &migrations[from..] {
        transaction.execute_batch(migration).attempt(attempt)?;
    }
    let version = i64::try_from(migrations.len()).expect("few migrations");
    transaction.pragma_update(None, "user_version", version).attempt(attempt)?;
    if from == 0 {
        rebuild::from_records(root, &transaction)?;
    }
    transaction.commit().attempt(attempt)?;
    settle(connection)
}

/// Moves everything into the main file.
fn settle(connection: &Connection) -> Result<()> {
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .attempt(|| "move the index's log into the database".to_owned())
}

/// Keeps the database as it is before a migration.
fn copy(connection: &Connection, path: &Path, version: usize) -> Result<()> {
    settle(connection)?;
    let copy = beside(path, &format!("version-{version}"));
    let attempt = || format!("copy the index to {}", copy.display());
    std::fs::copy(path, &copy).attempt(attempt)?;
    File::open(&copy).and_then(|file| file.sync_all()).attempt(attempt)?;
    atomic::sync_parent(&copy).attempt(attempt)
}

/// Sets a damaged database aside, with what belongs to it; where.
fn quarantine(path: &Path) -> Result<PathBuf> {
    let aside = beside(path, "damaged");
    for suffix in ["", "-wal", "-shm"] {
        let (from, to) = (with_suffix(path, suffix), with_suffix(&aside, suffix));
        match std::fs::rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.attempt(|| format!("set {} aside", from.display()))?,
        }
    }
    Ok(aside)
}

/// A name beside `path` that nothing has.
fn beside(path: &Path, what: &str) -> PathBuf {
    let mut at = OffsetDateTime::now_utc().unix_timestamp();
    loop {
        let name = with_suffix(path, &format!(".{what}-{at}"));
        if !name.exists() {
            return name;
        }
        at += 1;
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Whether there is no room for the file of shared memory.
fn is_want_of_shared_memory(error: &Error) -> bool {
    let Error::Failed { source, .. } = error else { return false };
    let error = source.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error);
    let codes = [
        ffi::SQLITE_IOERR_SHMOPEN,
        ffi::SQLITE_IOERR_SHMSIZE,
        ffi::SQLITE_IOERR_SHMMAP,
        ffi::SQLITE_CANTOPEN,
    ];
    error.is_some_and(|error| codes.contains(&error.extended_code))
}

/// Whether the file itself is at fault, and not the machine.
fn is_damage(error: &Error) -> bool {
    let Error::Failed { source, .. } = error else { return false };
    let code = source.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
    matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_keeps_a_copy_and_a_newer_version_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.db");
        let first = ["CREATE TABLE a (x TEXT) STRICT; INSERT INTO a VALUES ('old');"];
        drop(open_file(dir.path(), &first, Sharing::WithReaders).unwrap());
        let both = [first[0], "ALTER TABLE a ADD COLUMN y TEXT; UPDATE a SET y = x || 'er';"];
        let connection = open_file(dir.path(), &both, Sharing::WithReaders).unwrap();
        let value: String = connection.query_row("SELECT y FROM a", [], |row| row.get(0)).unwrap();
        assert_eq!((value.as_str(), user_version(&connection).unwrap()), ("older", 2));
        drop(connection);
        let names: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let copy =
            names.iter().find(|name| name.to_str().unwrap().starts_with("meta.db.version-1-")).unwrap();
        let copy = Connection::open(dir.path().join(copy)).unwrap();
        assert_eq!(user_version(&copy).unwrap(), 1);
        drop(copy);

        let before = std::fs::read(&path).unwrap();
        let error = refuse_newer(&path, &first).unwrap_err();
        assert!(matches!(&error, Error::Unsupported(text) if text.contains("version 2")), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
