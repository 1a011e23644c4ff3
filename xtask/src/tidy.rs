//! Rules of the repository that no compiler checks: arrows between crates, module docs, where `unsafe` may stand,
//! licences, doubled dependencies, and that the documents name what is there.

use crate::metadata::Metadata;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which crates each crate may depend on. `ARCHITECTURE.md` explains why.
const ARROWS: [(&str, &[&str]); 17] = [
    ("coracle", &["cli", "daemon"]),
    ("cli", &["client", "api", "spec"]),
    ("client", &["api", "trust"]),
    ("daemon", &["api", "buildkit", "engine", "spec"]),
    ("buildkit", &[]),
    ("engine", &["store", "registry", "network", "build", "runtime", "logfile", "names", "spec", "sys"]),
    ("build", &["spec"]),
    ("registry", &["spec", "trust"]),
    ("runtime", &["logfile", "names", "spec", "sys"]),
    ("store", &["spec", "sys"]),
    ("network", &["spec", "sys"]),
    ("logfile", &["sys"]),
    ("names", &["sys"]),
    ("sys", &[]),
    ("spec", &[]),
    ("trust", &[]),
    ("api", &[]),
];

const LICENCES: [&str; 12] = [
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "CC0-1.0",
    "Unlicense",
    "Unicode-3.0",
    "Apache-2.0 WITH LLVM-exception",
    "bzip2-1.0.6",
];

/// Dependencies that stand in the lock file twice, each with the reason.
const DOUBLED: [(&str, &str); 3] = [
    ("base64", "the gRPC library has not moved to the new version yet"),
    ("getrandom", "the TLS library has not moved to the new version yet, the websocket library has"),
    ("syn", "build time only: derive macros move to the new version one by one"),
];

/// Longest source file, in lines, tests included.
const LONGEST: usize = 700;

pub(crate) fn run() -> Result<(), String> {
    let metadata = Metadata::read()?;
    let mut findings = Vec::new();
    arrows(&metadata, &mut findings);
    licences(&metadata, &mut findings);
    doubled(&metadata, &mut findings);
    let sources = sources(&metadata.workspace_root)?;
    for path in &sources {
        source(&metadata.workspace_root, path, &mut findings)?;
    }
    documents(&metadata, &mut findings);
    if findings.is_empty() {
        println!(
            "tidy: {} source files, {} packages, nothing to say",
            sources.len(),
            metadata.packages.len()
        );
        return Ok(());
    }
    findings.sort();
    Err(format!("tidy: {} findings\n{}", findings.len(), findings.join("\n")))
}

fn arrows(metadata: &Metadata, findings: &mut Vec<String>) {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    for package in metadata.members() {
        let name = package.name.strip_prefix("coracle-").unwrap_or(&package.name);
        let Some(allowed) = allowed.get(name) else { continue };
        let ours = package.dependencies.iter().filter(|d| d.kind.is_none());
        for dependency in ours.filter_map(|d| d.name.strip_prefix("coracle-")) {
            if !allowed.contains(&dependency) {
                findings.push(format!("{name} may not depend on {dependency}"));
            }
        }
    }
}

fn licences(metadata: &Metadata, findings: &mut Vec<String>) {
    for package in metadata.shipped() {
        let text = package.license.clone().unwrap_or_default().replace('/', " OR ");
        let fine = |choice: &str| {
            choice.split(" AND ").all(|part| LICENCES.contains(&part.trim().trim_matches(['(', ')'])))
        };
        if !text.split(" OR ").any(fine) && !fine(&text) {
            findings.push(format!("{} {} has the licence {text:?}", package.name, package.version));
        }
    }
}

fn doubled(metadata: &Metadata, findings: &mut Vec<String>) {
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in metadata.shipped() {
        versions.entry(&package.name).or_default().insert(&package.version);
    }
    for (name, versions) in versions.into_iter().filter(|(_, versions)| versions.len() > 1) {
        if !DOUBLED.iter().any(|(known, _)| *known == name) {
            findings.push(format!("{name} is shipped in {} versions: {versions:?}", versions.len()));
        }
    }
}

fn sources(root: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> =
        ["crates", "xtask", "tests", "bench"].iter().map(|name| root.join(name)).collect();
    while let Some(directory) = open.pop() {
        let entries =
            fs::read_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    Ok(found)
}

fn source(root: &Path, path: &Path, findings: &mut Vec<String>) -> Result<(), String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let name = path.strip_prefix(root).unwrap_or(path).display();
    if !text.starts_with("//!") {
        findings.push(format!("{name}: does not begin with what lives here (//!)"));
    }
    let lines = text.lines().count();
    if lines > LONGEST {
        findings.push(format!("{name}: {lines} lines are a corridor"));
    }
    let in_sys = path.starts_with(root.join("crates/sys"));
    // Split, so that this line is not what it looks for.
    let word = concat!("uns", "afe {");
    if !in_sys && text.contains(word) {
        findings.push(format!("{name}: only crates/sys may have {word} }}"));
    }
    let is_root = path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
    if is_root && !in_sys && !text.contains("#![forbid(unsafe_code)]") {
        findings.push(format!("{name}: does not forbid unsafe code"));
    }
    Ok(())
}

/// The architecture names every crate, and every decision is listed.
fn documents(metadata: &Metadata, findings: &mut Vec<String>) {
    let root = &metadata.workspace_root;
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_default();
    let architecture = read("ARCHITECTURE.md");
    for (name, _) in ARROWS {
        if !architecture.contains(&format!("`{name}`")) {
            findings.push(format!("ARCHITECTURE.md: does not say what `{name}` is"));
        }
    }
    let list = read("docs/adr/README.md");
    for entry in fs::read_dir(root.join("docs/adr")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "README.md" && !list.contains(&name) {
            findings.push(format!("docs/adr/README.md: does not list {name}"));
        }
    }
    for (name, needed) in
        [("LICENSE", "Apache License"), ("CHANGELOG.md", "Unreleased"), ("README.md", "cargo xtask demo")]
    {
        if !read(name).contains(needed) {
            findings.push(format!("{name}: does not contain {needed:?}"));
        }
    }
}
