//! What is in an image: its configuration, and the tree that its layers make, as lines of text that can be compared.

use crate::Engine;
use coracle_corpus::digest;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read};

/// Content of a file that is shown as it is, in bytes; more is shown by its digest.
const SHOWN: usize = 200;
/// In front of the names of extended attributes in an archive's records.
const ATTRIBUTE: &str = "SCHILY.xattr.";
/// What a layer takes away: `.wh.NAME`, or everything from below (image specification, "Whiteouts").
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// An image as `docker save` gives it.
#[derive(Debug, Default)]
pub struct Saved {
    /// Its configuration.
    pub config: Value,
    /// How much each layer changes of what is below.
    pub changes: Vec<usize>,
    /// What they make.
    pub tree: Tree,
}

/// Files by their paths, which begin with a slash.
pub type Tree = BTreeMap<String, Node>;

/// A file of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `file`, `directory`, `link`, …
    kind: &'static str,
    mode: u32,
    owner: (u64, u64),
    /// Content, target or device.
    what: String,
    attributes: BTreeMap<String, Vec<u8>>,
    /// In seconds since 1970.
    time: i64,
    /// Names of the same file have the same number.
    inode: usize,
}

impl Node {
    /// Whether both are the same but for their times and other names.
    pub fn is_like(&self, other: &Self) -> bool {
        Self { time: 0, inode: 0, ..self.clone() } == Self { time: 0, inode: 0, ..other.clone() }
    }

    /// As one line. `what` may stand for a content that differs from run to run.
    pub fn line(&self, path: &str, what: Option<&str>, with_time: bool) -> String {
        let (user, group) = self.owner;
        let mode = if self.kind == "link" { String::new() } else { format!(" {:04o}", self.mode) };
        let mut line = format!("{} {}{mode} {user}:{group}", self.kind, path.escape_debug());
        let what = what.unwrap_or(&self.what);
        if !what.is_empty() {
            line.push_str(&format!(" {what}"));
        }
        for (name, value) in &self.attributes {
            let value: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            line.push_str(&format!(" {name}={value}"));
        }
        if with_time {
            line.push_str(&format!(" time={}", self.time));
        }
        line
    }
}

/// Lines for what `tree` has and `base` has not, or not so, and for what is gone.
pub fn compare(base: &Tree, tree: &Tree, hidden: &[String], with_time: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let mut first: BTreeMap<usize, &str> = BTreeMap::new();
    for (path, node) in tree {
        let name = *first.entry(node.inode).or_insert(path);
        if base.get(path).is_some_and(|below| below.is_like(node)) {
            continue;
        }
        let what = hidden.contains(path).then_some("(not compared)");
        let mut line = node.line(path, what, with_time);
        if name != path {
            line.push_str(&format!(" is {}", name.escape_debug()));
        }
        lines.push(line);
    }
    let gone = base.keys().filter(|path| !tree.contains_key(*path));
    lines.extend(gone.map(|path| format!("gone {}", path.escape_debug())));
    lines
}

impl Saved {
    /// Saves an image of an engine and reads it.
    pub fn from_engine(engine: &Engine, image: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let place = place.path();
        let path = place.join("saved.tar");
        engine.docker(&["save", "-o", &path.display().to_string(), image]).ok();
        tar::Archive::new(File::open(&path).unwrap()).unpack(place).unwrap();
        let json =
            |path: &str| -> Value { serde_json::from_slice(&fs::read(place.join(path)).unwrap()).unwrap() };
        let manifest = json("manifest.json");
        let (mut tree, mut changes) = (Tree::new(), Vec::new());
        for layer in manifest[0]["Layers"].as_array().into_iter().flatten() {
            let layer = File::open(place.join(layer.as_str().unwrap())).unwrap();
            changes.push(apply(&mut tree, BufReader::new(layer)));
        }
        Self { config: json(manifest[0]["Config"].as_str().unwrap()), changes, tree }
    }

    /// Digests of the layers' archives.
    pub fn layers(&self) -> &[Value] {
        self.config["rootfs"]["diff_ids"].as_array().map(Vec::as_slice).unwrap_or_default()
    }
}

/// Puts a layer on top of a tree, and returns how much it changes there.
fn apply(tree: &mut Tree, layer: impl Read) -> usize {
    let below = std::mem::take(tree);
    let mut inode = below.values().map(|node| node.inode + 1).max().unwrap_or(0);
    let (mut gone, mut own) = (Vec::new(), Tree::new());
    for entry in tar::Archive::new(layer).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = absolute(&entry.path_bytes());
        let (parent, name) = path.rsplit_once('/').unwrap_or_default();
        if name == OPAQUE {
            gone.push(format!("{parent}/"));
        } else if let Some(name) = name.strip_prefix(WHITEOUT) {
            gone.extend([format!("{parent}/{name}"), format!("{parent}/{name}/")]);
        } else if entry.header().entry_type().is_hard_link() {
            let target = absolute(&entry.link_name_bytes().unwrap());
            let node = own.get(&target).or_else(|| below.get(&target)).expect("a hard link leads to a file");
            own.insert(path, node.clone());
        } else if path != "/" {
            inode += 1;
            let node = read(&mut entry, inode);
            if node.kind != "directory" {
                gone.push(format!("{path}/"));
            }
            own.insert(path, node);
        }
    }
    let is_gone = |path: &str| {
        gone.iter().any(|gone| if gone.ends_with('/') { path.starts_with(gone) } else { path == gone })
    };
    let new = own.iter().filter(|(path, node)| below.get(*path).is_none_or(|old| !old.is_like(node)));
    let lost = below.keys().filter(|path| is_gone(path) && !own.contains_key(*path));
    let changes = new.count() + lost.count();
    *tree = below.into_iter().filter(|(path, _)| !is_gone(path)).collect();
    tree.extend(own);
    changes
}

fn read(entry: &mut tar::Entry<'_, impl Read>, inode: usize) -> Node {
    let mut records = BTreeMap::new();
    for record in entry.pax_extensions().unwrap().into_iter().flatten() {
        let record = record.unwrap();
        records.insert(record.key().unwrap().to_owned(), record.value_bytes().to_vec());
    }
    let number = |name: &str| -> Option<u64> {
        let text = std::str::from_utf8(records.get(name)?).unwrap();
        Some(text.split('.').next().unwrap_or_default().parse().unwrap())
    };
    let header = entry.header().clone();
    let mut content = Vec::new();
    entry.read_to_end(&mut content).unwrap();
    let device = || {
        let part = |part: Option<u32>| part.unwrap_or_default();
        format!("{}:{}", part(header.device_major().unwrap()), part(header.device_minor().unwrap()))
    };
    let (kind, what) = match header.entry_type() {
        tar::EntryType::Directory => ("directory", String::new()),
        tar::EntryType::Symlink => {
            let target = entry.link_name_bytes().unwrap();
            ("link", format!("-> {}", String::from_utf8_lossy(&target).escape_debug()))
        }
        tar::EntryType::Char => ("character device", device()),
        tar::EntryType::Block => ("block device", device()),
        tar::EntryType::Fifo => ("fifo", String::new()),
        _ => ("file", shown(&content)),
    };
    let attributes = records
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(ATTRIBUTE)?.to_owned(), value.clone())))
        .collect();
    Node {
        kind,
        mode: header.mode().unwrap() & 0o7777,
        owner: (
            // Fields that are empty count as 0.
            number("uid").unwrap_or_else(|| header.uid().unwrap_or_default()),
            number("gid").unwrap_or_else(|| header.gid().unwrap_or_default()),
        ),
        what,
        attributes,
        time: number("mtime").unwrap_or_else(|| header.mtime().unwrap_or_default()).cast_signed(),
        inode,
    }
}

/// A short text as it is, anything else by size and digest.
fn shown(content: &[u8]) -> String {
    match std::str::from_utf8(content) {
        Ok(text) if content.len() <= SHOWN => format!("{text:?}"),
        _ => format!("{} {}", content.len(), digest(content)),
    }
}

/// A path from the root without a slash at its end.
fn absolute(path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path);
    let parts: Vec<&str> = path.split('/').filter(|part| !["", "."].contains(part)).collect();
    format!("/{}", parts.join("/"))
}
