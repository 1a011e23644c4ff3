//! Hostile archives, made by code, each with a benign twin: for every door through which an archive comes in (load, import,
//! pull, `docker cp`). And random benign trees, for comparisons with others, in [`trees`].
//!
//! Every case must be refused or confined: nothing outside of the directory that it is unpacked into may change, the
//! canary above all, which is where each case aims. Its twin is as much like it as harmless can be, and must work, or
//! refusing everything would do. What exactly a layer looks like afterwards is checked by the store's own tests.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::return_self_not_must_use,
    reason = "a test that cannot go on fails"
)]

mod kinds;
mod links;
mod metadata;
mod names;
mod sizes;
pub mod tar;
pub mod trees;

use sha2::{Digest, Sha256};
use std::path::Path;
use tar::Tar;

/// What must come of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Every door refuses it.
    Refused,
    /// It is no layer; where archives are only files, it may be unpacked.
    RefusedAsLayer,
    /// It may be unpacked, and stays where it is unpacked.
    Confined,
}

/// A hostile archive and its twin.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it tries.
    pub name: String,
    /// The hostile archive.
    pub hostile: Vec<u8>,
    /// What must come of it.
    pub fate: Fate,
    /// The benign one. Its last entry is the file [`PROBE`], whose content is `name`.
    pub twin: Vec<u8>,
}

/// The last file of every twin.
pub const PROBE: &str = "probe";

/// Where cases aim: a directory of the host.
#[derive(Clone, Debug)]
pub struct Canary {
    /// Its absolute path.
    pub absolute: String,
    /// The same by more `..` than there can be directories.
    pub relative: String,
}

impl Canary {
    /// The canary at `path`; it has a file `secret` in it.
    pub fn new(path: &Path) -> Self {
        let absolute = path.to_str().expect("tests have paths of text").to_owned();
        let relative = format!("{}{}", "../".repeat(24), absolute.trim_start_matches('/'));
        Self { absolute, relative }
    }
}

/// All cases, aimed at the canary.
pub fn all(canary: &Canary) -> Vec<Case> {
    let mut cases = Vec::new();
    names::add(&mut cases, canary);
    links::add(&mut cases, canary);
    kinds::add(&mut cases);
    metadata::add(&mut cases);
    sizes::add(&mut cases);
    cases
}

/// Adds a case of two archives that were not ended yet.
fn case(cases: &mut Vec<Case>, name: impl Into<String>, fate: Fate, hostile: Tar, twin: Tar) {
    bytes(cases, name, fate, hostile.end(), twin);
}

/// Adds a case of bytes that may be no archive at all.
fn bytes(cases: &mut Vec<Case>, name: impl Into<String>, fate: Fate, hostile: Vec<u8>, twin: Tar) {
    let name = name.into();
    let twin = twin.file(PROBE, name.as_bytes()).end();
    cases.push(Case { name, hostile, fate, twin });
}

/// The SHA-256 digest of some bytes, as image documents have it.
pub fn digest(bytes: &[u8]) -> String {
    let hex = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("sha256:{hex}")
}

/// An archive of an image with this one layer, as `docker save` writes it; `name` becomes its tag.
pub fn docker_archive(layer: &[u8], name: &str) -> Vec<u8> {
    let config = config(layer);
    let manifest =
        format!(r#"[{{"Config":"config.json","RepoTags":["{name}:latest"],"Layers":["layer.tar"]}}]"#);
    Tar::new()
        .file("config.json", config.as_bytes())
        .file("layer.tar", layer)
        .file("manifest.json", manifest.as_bytes())
        .end()
}

/// The configuration of an image with this one layer.
pub fn config(layer: &[u8]) -> String {
    format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["/none"]}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        digest(layer)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn there_are_enough_cases_and_none_comes_twice() {
        let cases = all(&Canary::new(Path::new("/canary")));
        let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), cases.len(), "two cases of one name");
        let archives: BTreeSet<&[u8]> = cases.iter().map(|case| case.hostile.as_slice()).collect();
        assert_eq!(archives.len(), cases.len(), "two cases are the same");
        assert!(cases.len() >= 200, "{}", cases.len());
        assert!(cases.iter().filter(|case| case.fate == Fate::Confined).count() >= 50);
    }
}
