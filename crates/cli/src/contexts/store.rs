//! The store on disk.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use coracle_spec::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{DEFAULT, DOCKER};
use crate::error::{Error, Result};

/// Largest file of a context, in bytes.
pub(super) const FILE: u64 = 10 << 20;

/// One context. What is not known here stays as it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Context {
    pub(crate) name: String,
    pub(crate) metadata: Map<String, Value>,
    pub(crate) endpoints: BTreeMap<String, Map<String, Value>>,
}

impl Context {
    /// What it is for; empty when nobody said.
    pub(crate) fn description(&self) -> &str {
        self.metadata.get("Description").and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn describe(&mut self, text: &str) {
        self.metadata.insert("Description".to_owned(), text.into());
    }

    /// The engine's address; empty where there is none.
    pub(crate) fn host(&self) -> &str {
        let endpoint = self.endpoints.get(DOCKER);
        endpoint.and_then(|endpoint| endpoint.get("Host")).and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether whoever answers there is taken for the engine.
    pub(crate) fn skip_tls_verify(&self) -> bool {
        let endpoint = self.endpoints.get(DOCKER);
        endpoint
            .and_then(|endpoint| endpoint.get("SkipTLSVerify"))
            .and_then(Value::as_bool)
            .unwrap_or_default()
    }

    /// Replaces the engine's endpoint.
    pub(crate) fn set_host(&mut self, host: &str, skip_tls_verify: bool) {
        let Value::Object(endpoint) = json!({"Host": host, "SkipTLSVerify": skip_tls_verify}) else {
            unreachable!("it is written as an object")
        };
        self.endpoints.insert(DOCKER.to_owned(), endpoint);
    }
}

/// A certificate or a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFile {
    /// Which endpoint it is for.
    pub(crate) endpoint: String,
    /// `ca.pem`, `cert.pem` or `key.pem`.
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
}

/// Where contexts are kept.
#[derive(Debug)]
pub(crate) struct Store(PathBuf);

impl Store {
    /// The one below the directory of a configuration.
    pub(crate) fn below(configuration: &Path) -> Self {
        Self(configuration.join("contexts"))
    }

    /// The directory of what is known about a context.
    pub(crate) fn metadata_of(&self, name: &str) -> PathBuf {
        self.0.join("meta").join(Digest::of(name.as_bytes()).hex())
    }

    /// The directory of a context's certificates and keys.
    pub(crate) fn tls_of(&self, name: &str) -> PathBuf {
        self.0.join("tls").join(Digest::of(name.as_bytes()).hex())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.metadata_of(name).join("meta.json").exists()
    }

    /// Every context, by name.
    pub(crate) fn all(&self) -> Result<Vec<Context>> {
        let mut all = Vec::new();
        for directory in names(&self.0.join("meta"))? {
            all.push(read(&self.0.join("meta").join(directory).join("meta.json"))?);
        }
        all.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(all)
    }

    /// One context.
    pub(crate) fn get(&self, name: &str) -> Result<Context> {
        let path = self.metadata_of(name).join("meta.json");
        if !path.exists() {
            return Err(Error::Configuration(format!(
                "context {name:?}: context not found: open {}: no such file or directory",
                path.display()
            )));
        }
        read(&path)
    }

    /// The certificates and keys of a context.
    pub(crate) fn tls(&self, name: &str) -> Result<Vec<TlsFile>> {
        let root = self.tls_of(name);
        let mut files = Vec::new();
        for endpoint in names(&root)? {
            for name in names(&root.join(&endpoint))? {
                let content = bytes(&root.join(&endpoint).join(&name))?;
                files.push(TlsFile { endpoint: endpoint.clone(), name, content });
            }
        }
        Ok(files)
    }

    /// Writes a context, in the place of one of this name.
    pub(crate) fn put(&self, context: &Context) -> Result<()> {
        let text = serde_json::to_string(context).expect("a context is plain data");
        write(&self.metadata_of(&context.name).join("meta.json"), text.as_bytes())
    }

    /// Writes the certificates and keys of a context, in the place of those that are there.
    pub(crate) fn put_tls(&self, name: &str, files: &[TlsFile]) -> Result<()> {
        remove(&self.tls_of(name))?;
        let put =
            |file: &TlsFile| write(&self.tls_of(name).join(&file.endpoint).join(&file.name), &file.content);
        files.iter().try_for_each(put)
    }

    /// Removes a context with all that belongs to it.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        remove(&self.metadata_of(name))?;
        remove(&self.tls_of(name))
    }
}

/// Refuses what is no name of a context, or is that of the one which is not kept.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let mut letters = name.bytes();
    let first = letters.next().is_some_and(|letter| letter.is_ascii_alphanumeric());
    let rest = |letter: u8| letter.is_ascii_alphanumeric() || b"_.+-".contains(&letter);
    if name == DEFAULT {
        return Err(Error::Configuration(format!("{name:?} is a reserved context name")));
    }
    if first && name.len() > 1 && letters.all(rest) {
        return Ok(());
    }
    Err(Error::Configuration(format!(
        "context name {name:?} is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
    )))
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let failed = || Error::io(format!("list {}", directory.display()));
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed()(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed())?.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

pub(super) fn bytes(path: &Path) -> Result<Vec<u8>> {
    let failed = || Error::io(format!("read {}", path.display()));
    let mut content = Vec::new();
    fs::File::open(path).map_err(failed())?.take(FILE).read_to_end(&mut content).map_err(failed())?;
    Ok(content)
}

fn read(path: &Path) -> Result<Context> {
    let unreadable = |error| Error::Configuration(format!("cannot read {}: {error}", path.display()));
    serde_json::from_slice(&bytes(path)?).map_err(unreadable)
}

/// Writes a file whole or not at all, for its owner alone: it may be a key.
fn write(path: &Path, content: &[u8]) -> Result<()> {
    let failed = || Error::io(format!("write {}", path.display()));
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed())?;
    let part = path.with_extension(format!("part{}", std::process::id()));
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&part);
    file.and_then(|mut file| file.write_all(content)).map_err(failed())?;
    fs::rename(&part, path).map_err(failed())
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", directory.display()))(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(name: &str) -> Context {
        let mut context = Context { name: name.to_owned(), ..Context::default() };
        context.describe("for a test");
        context.set_host("unix:///x.sock", false);
        context
    }

    #[test]
    fn what_is_written_is_found_where_docker_looks_for_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::below(directory.path());
        store.put(&context("foo")).expect("written");
        let key = TlsFile { endpoint: "docker".into(), name: "key.pem".into(), content: b"secret".to_vec() };
        store.put_tls("foo", std::slice::from_ref(&key)).expect("written");
        let digest = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
        let path = directory.path().join(format!("contexts/meta/{digest}/meta.json"));
        let text = fs::read_to_string(path).expect("it is there");
        assert_eq!(
            text,
            r#"{"Name":"foo","Metadata":{"Description":"for a test"},"Endpoints":{"docker":{"Host":"unix:///x.sock","SkipTLSVerify":false}}}"#
        );
        let path = directory.path().join(format!("contexts/tls/{digest}/docker/key.pem"));
        assert_eq!(path.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(store.get("foo").expect("read"), context("foo"));
        assert_eq!(store.tls("foo").expect("read"), [key]);
        assert_eq!(store.all().expect("read"), [context("foo")]);
        store.remove("foo").expect("removed");
        assert!(!store.has("foo") && store.tls("foo").expect("read").is_empty());
    }

    #[test]
    fn names_are_checked() {
        for name in ["ab", "a-b.c_d+e", "1x"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", "a", "default", "-a", "a b", "a/b", "..", "\u{e9}t\u{e9}"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
