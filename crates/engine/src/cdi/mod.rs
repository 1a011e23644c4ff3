//! Devices of the Container Device Interface: which there are on this machine, by the specifications that vendors put in
//! directories (`/etc/cdi`, `/var/run/cdi`), and what they make of a container.
//!
//! The directories are read whenever somebody asks: what is in them changes when drivers are loaded. A specification that
//! is wrong takes nothing from the others; why it is not used is told to whoever asks for a device that is not found.

mod gpus;
mod inject;

use crate::error::{Error, Result, blocking};
use crate::{Engine, limits};
use coracle_spec::cdi::{Device, Edits, Format, Specification};
use coracle_spec::truth;
pub(crate) use inject::inject;
use rustix::fs::{FileType, Mode, OFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a specification says so that builds get a device that nobody has allowed them.
const AUTO_ALLOW: &str = "org.mobyproject.buildkit.device.autoallow";
/// What a specification says so that Dockerfiles can name several devices at once.
const CLASS: &str = "org.mobyproject.buildkit.device.class";

/// A device as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedDevice {
    /// `vendor/class=name`.
    pub name: String,
    /// Whether builds get it although nobody has allowed it.
    pub is_auto_allowed: bool,
    /// What its specification says of it.
    pub annotations: BTreeMap<String, String>,
}

/// All devices of this machine.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    devices: BTreeMap<String, Found>,
    /// Why specifications or devices are not used, each with its file.
    problems: Vec<String>,
}

/// A device, and the specification it stands in.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    document: Arc<Document>,
    place: usize,
}

#[derive(Debug)]
struct Document {
    path: PathBuf,
    specification: Specification,
}

impl Found {
    fn device(&self) -> &Device {
        &self.document.specification.devices[self.place]
    }

    /// What any device of its specification changes, and what this one does.
    pub(crate) fn edits(&self) -> [&Edits; 2] {
        [&self.document.specification.container_edits, &self.device().container_edits]
    }

    /// Whether builds get it although nobody has allowed it.
    pub(crate) fn is_auto_allowed(&self) -> bool {
        let said = self.document.specification.annotation(self.device(), AUTO_ALLOW);
        said.and_then(truth).unwrap_or(false)
    }

    /// The name by which Dockerfiles ask for it and others.
    pub(crate) fn class(&self) -> Option<&str> {
        self.document.specification.annotation(self.device(), CLASS)
    }

    fn annotations(&self) -> BTreeMap<String, String> {
        let mut all = self.document.specification.annotations.clone();
        all.extend(self.device().annotations.clone());
        all
    }
}

impl Catalogue {
    /// Reads the directories; what is in a later one counts more. Blocks.
    pub(crate) fn read(directories: &[PathBuf]) -> Self {
        let mut catalogue = Self::default();
        let mut left = limits::DEVICE_DOCUMENTS;
        for directory in directories {
            let mut here = BTreeMap::new();
            for path in catalogue.files(directory) {
                match read(&path, &mut left) {
                    Ok(specification) => {
                        catalogue.note(&mut here, &Arc::new(Document { path, specification }));
                    }
                    Err(reason) => catalogue.complain(&format!("{}: {reason}", path.display())),
                }
            }
            catalogue.settle(here);
        }
        catalogue
    }

    /// The device of a name, with its name here.
    pub(crate) fn find(&self, name: &str) -> Option<(&str, &Found)> {
        self.devices.get_key_value(name).map(|(name, found)| (name.as_str(), found))
    }

    /// All devices, by name.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Found)> {
        self.devices.iter().map(|(name, found)| (name.as_str(), found))
    }

    /// What may be the reason that a device is not found, to be put behind a text that says so.
    pub(crate) fn reasons(&self) -> String {
        let shown = self.problems.iter().take(limits::DEVICE_PROBLEMS);
        let told: Vec<&str> = shown.map(String::as_str).collect();
        match self.problems.len().saturating_sub(told.len()) {
            _ if told.is_empty() => String::new(),
            0 => format!(" ({})", told.join("; ")),
            more => format!(" ({}; and {more} more)", told.join("; ")),
        }
    }

    fn complain(&mut self, problem: &str) {
        self.problems.push(problem.chars().take(limits::DEVICE_PROBLEM).collect());
    }

    /// The files of a directory that may be specifications, by name. A directory that is not there has none.
    fn files(&mut self, directory: &Path) -> Vec<PathBuf> {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                self.complain(&format!("{}: {error}", directory.display()));
                return Vec::new();
            }
        };
        let paths = entries.flatten().map(|entry| entry.path());
        let limit = limits::DEVICE_FILES;
        let mut files: Vec<PathBuf> = paths.filter(|path| format(path).is_some()).take(limit + 1).collect();
        if files.len() > limit {
            self.problems
                .push(format!("{}: there are more than {limit} specifications", directory.display()));
            return Vec::new();
        }
        files.sort();
        files
    }

    /// Adds the devices of a document to those of its directory.
    fn note(&mut self, here: &mut BTreeMap<String, Vec<Found>>, document: &Arc<Document>) {
        for (place, device) in document.specification.devices.iter().enumerate() {
            let found = Found { document: Arc::clone(document), place };
            here.entry(document.specification.qualified(device)).or_default().push(found);
        }
    }

    /// Takes over the devices of a directory. A name that stands in it twice is nobody's, whatever other directories say.
    fn settle(&mut self, here: BTreeMap<String, Vec<Found>>) {
        for (name, all) in here {
            match <[Found; 1]>::try_from(all) {
                Ok([found]) => drop(self.devices.insert(name, found)),
                Err(all) => {
                    let files: Vec<String> =
                        all.iter().map(|found| found.document.path.display().to_string()).collect();
                    self.complain(&format!("the device {name} stands in {}", files.join(" and ")));
                    self.devices.remove(&name);
                }
            }
        }
    }
}

/// How a file is written, by its name; nothing for one that is no specification.
fn format(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()? {
        "json" => Some(Format::Json),
        "yaml" => Some(Format::Yaml),
        _ => None,
    }
}

/// Reads a specification, of which `left` bytes may still come.
fn read(path: &Path, left: &mut usize) -> std::result::Result<Specification, String> {
    // A FIFO would be waited for, and a terminal become ours.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| error.to_string())?;
    let stat = rustix::fs::fstat(&file).map_err(|error| error.to_string())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("it is no file".to_owned());
    }
    let limit = coracle_spec::limits::DEVICES_DOCUMENT.min(*left);
    let mut text = String::new();
    let length = File::from(file)
        .take(limit as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    *left = left.saturating_sub(length);
    if length > limit {
        let (own, all) = (coracle_spec::limits::DEVICES_DOCUMENT, limits::DEVICE_DOCUMENTS);
        return Err(format!("it has more than {own} bytes, or all specifications have more than {all}"));
    }
    let format = format(path).ok_or_else(|| "it is neither .json nor .yaml".to_owned())?;
    Specification::parse(&text, format).map_err(|error| coracle_spec::full_text(&error))
}

impl Engine {
    /// The devices of the Container Device Interface on this machine, by name, and why some that are specified are not
    /// among them.
    ///
    /// # Errors
    /// When the thread that reads them fails.
    pub async fn devices(&self) -> Result<(Vec<ListedDevice>, Vec<String>)> {
        let directories = self.shared.config.cdi_directories.clone();
        let catalogue = blocking(move || Catalogue::read(&directories)).await?;
        let list = |(name, found): (&str, &Found)| ListedDevice {
            name: name.to_owned(),
            is_auto_allowed: found.is_auto_allowed(),
            annotations: found.annotations(),
        };
        let devices = catalogue.all().map(list).collect();
        Ok((devices, catalogue.problems))
    }
}

/// Why a container gets no devices.
fn failed(reason: String) -> Error {
    Error::Failed { action: "CDI device injection failed".to_owned(), source: reason.into() }
}

#[cfg(test)]
mod tests;
