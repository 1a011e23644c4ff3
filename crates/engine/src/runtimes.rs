//! Which OCI runtimes there are: the engine's own, and others under the names that they are configured by. How another one is
//! called is the shim's.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Names of the engine's own runtime: Docker's two are those of the one that clients get by default, and so is this here,
/// unless another is configured under one of them.
pub const OWN: [&str; 3] = ["coracle", "runc", "io.containerd.runc.v2"];

/// Other runtimes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runtimes(BTreeMap<String, Other>);

/// Another runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Other {
    /// Its program: an absolute path, or a name that is looked for where the system's programs are.
    pub path: PathBuf,
    /// Arguments before those of each call.
    pub arguments: Vec<String>,
}

impl Runtimes {
    /// Adds one.
    ///
    /// # Errors
    /// [`Error::Invalid`] for names that mean something else, names that are taken, and programs that nobody could find.
    pub fn add(&mut self, name: &str, other: Other) -> Result<()> {
        let refused = |reason: &str| Err(Error::Invalid(format!("runtime {name:?}: {reason}")));
        if name.is_empty() {
            return refused("it has no name");
        }
        if name == OWN[0] {
            return refused("that is the name of the engine's own");
        }
        if name.starts_with("io.containerd.") {
            return refused(
                "names of containerd's shims mean what containerd runs, and there is no containerd here",
            );
        }
        if other.path.as_os_str().is_empty() {
            return refused("it needs the path of its program");
        }
        if !other.path.is_absolute() && other.path.components().count() > 1 {
            return refused("the path of its program is neither absolute nor a name");
        }
        match self.0.insert(name.to_owned(), other) {
            Some(_) => refused("it is configured twice"),
            None => Ok(()),
        }
    }

    /// The runtime with this name; none where the engine's own is meant.
    ///
    /// # Errors
    /// [`Error::Invalid`] with Docker's words for a name that nobody knows.
    pub fn find(&self, name: &str) -> Result<Option<&Other>> {
        match self.0.get(name) {
            None if name.is_empty() || OWN.contains(&name) => Ok(None),
            None => Err(Error::Invalid(format!("unknown or invalid runtime name: {name}"))),
            found => Ok(found),
        }
    }

    /// All of them with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Other)> {
        self.0.iter().map(|(name, other)| (name.as_str(), other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(path: &str) -> Other {
        Other { path: path.into(), arguments: Vec::new() }
    }

    #[test]
    fn dockers_names_mean_the_engines_own_until_another_is_configured() {
        let mut runtimes = Runtimes::default();
        for name in ["", "coracle", "runc", "io.containerd.runc.v2"] {
            assert_eq!(runtimes.find(name).unwrap(), None);
        }
        runtimes.add("runc", other("/usr/sbin/runc")).unwrap();
        runtimes.add("crun", other("crun")).unwrap();
        assert_eq!(runtimes.find("runc").unwrap(), Some(&other("/usr/sbin/runc")));
        assert_eq!(runtimes.find("coracle").unwrap(), None);
        assert_eq!(runtimes.find("kata").unwrap_err().to_string(), "unknown or invalid runtime name: kata");
        assert_eq!(runtimes.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["crun", "runc"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut runtimes = Runtimes::default();
        runtimes.add("once", other("/x")).unwrap();
        for (name, path) in [
            ("", "/x"),
            ("coracle", "/x"),
            ("io.containerd.kata.v2", "/x"),
            ("none", ""),
            ("relative", "bin/x"),
            ("once", "/x"),
        ] {
            assert!(runtimes.add(name, other(path)).is_err(), "{name}={path}");
        }
    }
}
