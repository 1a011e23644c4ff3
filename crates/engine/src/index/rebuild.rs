//! Makes the database of the records that lie beside containers, volumes, networks and images.
//!
//! A record that cannot be used is reported and left where it is. What has no record is left alone too.

use super::image_rows::{self, ImageFile, ImageRow};
use super::record_files::RECORD;
use super::{execute, pins, refuse_taken_name};
use crate::error::{Attempt, Result};
use crate::limits;
use coracle_spec::{ContainerId, Digest, Name};
use rusqlite::{Transaction, params};
use serde::Deserialize;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What the index needs to know of the record of a container or network.
#[derive(Deserialize)]
struct Head {
    id: String,
    name: String,
}

/// What the index needs to know of an image's record.
#[derive(Deserialize)]
struct ImageHead {
    #[serde(default)]
    last_tagged: Option<i128>,
}

/// Adds everything that has a record below `root`.
pub(super) fn from_records(root: &Path, transaction: &Transaction<'_>) -> Result<()> {
    let rebuilding = || "make the index of the records".to_owned();
    let mut count = 0;
    for directory in entries(&root.join("containers")).attempt(rebuilding)? {
        count += usize::from(report(&directory, &container(transaction, &directory)));
    }
    for directory in entries(&root.join("volumes")).attempt(rebuilding)? {
        count += usize::from(report(&directory, &volume(transaction, &directory)));
    }
    for file in entries(&root.join("networks")).attempt(rebuilding)? {
        count += usize::from(report(&file, &network(transaction, &file)));
    }
    count += images(root, transaction)?;
    count += pins::from_record(root, transaction)?;
    if count > 0 {
        tracing::warn!(
            count,
            "the index was made of the records of containers, volumes, networks and images"
        );
    }
    Ok(())
}

/// Whether a record was used.
fn report<T>(place: &Path, result: &std::result::Result<T, String>) -> bool {
    if let Err(reason) = result {
        tracing::error!(place = %place.display(), reason, "left alone, as it has no usable record");
    }
    result.is_ok()
}

fn container(transaction: &Transaction<'_>, directory: &Path) -> std::result::Result<(), String> {
    let record = read(&directory.join(RECORD))?;
    let head: Head = serde_json::from_str(&record).map_err(|error| error.to_string())?;
    let id: ContainerId = head.id.parse().map_err(|error: coracle_spec::Error| error.to_string())?;
    let name: Name = head.name.parse().map_err(|error: coracle_spec::Error| error.to_string())?;
    if directory.file_name().is_none_or(|name| name != id.as_str()) {
        return Err("it is the record of another container".to_owned());
    }
    refuse_taken_name(transaction, id.as_str(), name.as_str()).map_err(|error| error.chain())?;
    let insert = "INSERT INTO containers (id, name, record) VALUES (?1, ?2, ?3)";
    execute(transaction, insert, params![id.as_str(), name.as_str(), record])
        .map(drop)
        .map_err(|error| error.chain())
}

fn volume(transaction: &Transaction<'_>, directory: &Path) -> std::result::Result<(), String> {
    let record = read(&directory.join(RECORD))?;
    serde_json::from_str::<serde::de::IgnoredAny>(&record).map_err(|error| error.to_string())?;
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name: Name = name.parse().map_err(|error: coracle_spec::Error| error.to_string())?;
    let insert = "INSERT INTO volumes (name, record) VALUES (?1, ?2)";
    execute(transaction, insert, params![name.as_str(), record]).map(drop).map_err(|error| error.chain())
}

fn network(transaction: &Transaction<'_>, file: &Path) -> std::result::Result<(), String> {
    let record = read(file)?;
    let head: Head = serde_json::from_str(&record).map_err(|error| error.to_string())?;
    if file.file_name().is_none_or(|name| name != format!("{}.json", head.id).as_str()) {
        return Err("it is the record of another network".to_owned());
    }
    let insert = "INSERT INTO networks (id, name, record) VALUES (?1, ?2, ?3)";
    execute(transaction, insert, params![head.id, head.name, record]).map(drop).map_err(|error| error.chain())
}

/// Where two records claim a name, the one that was named later has it.
fn images(root: &Path, transaction: &Transaction<'_>) -> Result<usize> {
    let mut found = Vec::new();
    for algorithm in ["sha256", "sha512"] {
        let directory = root.join("images").join(algorithm);
        for file in entries(&directory).attempt(|| "list the records of images".to_owned())? {
            let image = image(algorithm, &file);
            report(&file, &image);
            found.extend(image.ok());
        }
    }
    found.sort_by_key(|(last_tagged, _)| *last_tagged);
    let rows: Vec<ImageRow> = found.into_iter().map(|(_, row)| row).collect();
    image_rows::put(transaction, &rows)?;
    Ok(rows.len())
}

fn image(algorithm: &str, file: &Path) -> std::result::Result<(Option<i128>, ImageRow), String> {
    let hex = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let id: Digest =
        format!("{algorithm}:{hex}").parse().map_err(|error: coracle_spec::Error| error.to_string())?;
    let content: ImageFile = serde_json::from_str(&read(file)?).map_err(|error| error.to_string())?;
    let head: ImageHead = serde_json::from_str(&content.record).map_err(|error| error.to_string())?;
    Ok((head.last_tagged, ImageRow { id, record: content.record, references: content.references }))
}

/// What is in a directory, sorted; nothing if it is missing.
pub(super) fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    // Left by a write that was interrupted.
    paths.retain(|path| !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")));
    paths.sort();
    Ok(paths)
}

pub(super) fn read(path: &Path) -> std::result::Result<String, String> {
    let mut content = String::new();
    let read = File::open(path).and_then(|file| file.take(limits::RECORD + 1).read_to_string(&mut content));
    match read {
        Err(error) => Err(error.to_string()),
        Ok(length) if length as u64 > limits::RECORD => Err("its record is too large".to_owned()),
        Ok(_) => Ok(content),
    }
}
