//! The volumes that an earlier engine left.

use super::{DIRECTORY, Entry, Volume, directory, record};
use crate::error::{Attempt, Result};
use crate::index::Index;
use crate::limits;
use coracle_spec::Name;
use coracle_sys::atomic;
use coracle_sys::rooted::Root;
use std::collections::BTreeMap;
use std::path::Path;

/// The record in a volume's directory.
pub(super) const RECORD: &str = "record.json";

/// All volumes below the data root `root`. A directory with a record that the index lacks was being made or removed
/// when an engine was killed: it is a volume again, as data is never thrown away. Everything else is reported.
pub(super) fn volumes(root: &Path, index: &Index) -> Result<BTreeMap<String, Entry>> {
    let top = root.join("volumes");
    atomic::create_dir_durable(&top, DIRECTORY).attempt(|| format!("make {}", top.display()))?;
    let mut volumes = BTreeMap::new();
    for text in index.volumes()? {
        let volume = record::read(root, &text)?;
        if !volume.mountpoint.is_dir() {
            tracing::error!(volume = volume.name, "the directory of a volume is missing");
        }
        volumes.insert(volume.name.clone(), Entry::new(volume));
    }
    let reading = || format!("list {}", top.display());
    for entry in std::fs::read_dir(&top).attempt(reading)? {
        let file_name = entry.attempt(reading)?.file_name();
        if file_name.to_str().is_some_and(|name| volumes.contains_key(name)) {
            continue;
        }
        match find_again(root, &file_name.to_string_lossy(), index) {
            Ok(volume) => {
                tracing::warn!(
                    volume = volume.name,
                    "a volume that the index lacked was found by its record"
                );
                volumes.insert(volume.name.clone(), Entry::new(volume));
            }
            Err(reason) => {
                let place = top.join(&file_name);
                tracing::warn!(place = %place.display(), reason, "left alone, as it is no volume");
            }
        }
    }
    Ok(volumes)
}

fn find_again(root: &Path, name: &str, index: &Index) -> std::result::Result<Volume, String> {
    let name: Name = name.parse().map_err(|error: coracle_spec::Error| error.to_string())?;
    let content = Root::open(directory(root, name.as_str()))
        .and_then(|directory| directory.read_bounded(RECORD, limits::RECORD))
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8(content).map_err(|error| error.to_string())?;
    let volume = record::read(root, &text).map_err(|error| error.chain())?;
    if volume.name != name.as_str() {
        return Err("it has the record of another volume".to_owned());
    }
    index.put_volume(&name, text).map_err(|error| error.chain())?;
    Ok(volume)
}
