//! The configuration of Docker's client, which ours is too: `config.json` in `--config`, `DOCKER_CONFIG` or `~/.docker`. What
//! is not known here stays as it is.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Largest file that is read, in bytes.
const FILE: u64 = 4 << 20;

/// What `--config` says, which is said once.
static CHOSEN: OnceLock<PathBuf> = OnceLock::new();

/// Makes `directory` the one of this process.
pub(crate) fn choose(directory: PathBuf) {
    // The command line is read once.
    let _ = CHOSEN.set(directory);
}

/// The directory of the configuration.
pub(crate) fn directory() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    let chosen = CHOSEN.get().cloned().or_else(|| variable("DOCKER_CONFIG"));
    chosen.unwrap_or_else(|| variable("HOME").unwrap_or_default().join(".docker"))
}

/// The file, as it is.
#[derive(Debug)]
pub(crate) struct Configuration {
    pub(crate) path: PathBuf,
    pub(crate) document: Map<String, Value>,
}

impl Configuration {
    /// Reads the file below `directory`; none is as good as an empty one.
    pub(crate) fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("config.json");
        let mut text = String::new();
        match std::fs::File::open(&path) {
            Ok(file) => {
                let attempt = format!("read {}", path.display());
                file.take(FILE).read_to_string(&mut text).map_err(Error::io(attempt))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(format!("open {}", path.display()))(error)),
        }
        let document = if text.trim().is_empty() { Ok(Map::new()) } else { serde_json::from_str(&text) };
        let document = document
            .map_err(|source| Error::Configuration(format!("cannot read {}: {source}", path.display())))?;
        Ok(Self { path, document })
    }

    /// A text of it; what is empty is not there.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.document.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// Replaces the file, readable for its owner alone.
    pub(crate) fn write(&self) -> Result<()> {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        let failed = || Error::io(format!("write {}", self.path.display()));
        let directory = self.path.parent().unwrap_or(Path::new("."));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed())?;
        // A symbolic link stays one.
        let target = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mut part = target.clone().into_os_string();
        part.push(format!(".{}", std::process::id()));
        let text = serde_json::to_string_pretty(&self.document).expect("a document is plain data") + "\n";
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)
            .map_err(failed())?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed())?;
        std::fs::rename(&part, &target).map_err(failed())
    }
}
