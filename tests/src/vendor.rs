//! Directories of specifications of devices, as vendors write them (Container Device Interface).

use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// A directory that an engine is told of with `--cdi-spec-dir`.
#[derive(Debug)]
pub struct Vendor(TempDir);

impl Vendor {
    /// With one specification of the kind `vendor.test/class`.
    pub fn new(devices: &str) -> Self {
        let vendor = Self(tempfile::Builder::new().prefix("coracle-cdi-").tempdir().unwrap());
        vendor.put("vendor.yaml", &format!("cdiVersion: 0.7.0\nkind: vendor.test/class\n{devices}"));
        vendor
    }

    /// Writes a file.
    pub fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Where a file is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The directory, as an option of the daemon.
    pub fn option(&self) -> String {
        format!("--cdi-spec-dir={}", self.0.path().display())
    }
}
