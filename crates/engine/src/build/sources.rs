//! What the sources of `COPY` and `ADD` stand for in a tree: paths and patterns, and what is left out of them.

use crate::error::{Attempt, Error, Result};
use coracle_build::{Ignored, PathPattern};
use coracle_store::{Chosen, Taken, Tree};
use rustix::fs::FileType;
use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Whether a path of a tree stays out.
pub(super) type LeftOut<'a> = &'a (dyn Fn(&[u8]) -> bool + Sync);

/// Something that files are taken from.
#[derive(Clone, Copy)]
pub(super) struct Supply<'a> {
    pub(super) tree: &'a Tree,
    /// What the ignore file leaves out.
    pub(super) left_out: LeftOut<'a>,
}

impl Supply<'_> {
    pub(super) fn leaves_out(&self, path: &[u8]) -> bool {
        (self.left_out)(path)
    }

    /// The paths that a source stands for. A pattern may stand for none.
    pub(super) fn expand(&self, text: &str) -> Result<Vec<PathBuf>> {
        let pattern = PathPattern::parse(text).map_err(super::invalid)?;
        match pattern.literal() {
            Some(path) if self.leaves_out(path.as_bytes()) => Err(left_out(path)),
            Some("") => Ok(vec![PathBuf::from(".")]),
            Some(path) => Ok(vec![PathBuf::from(path)]),
            None => self.matches(&pattern, text),
        }
    }

    fn matches(&self, pattern: &PathPattern, text: &str) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let visited = self.tree.paths(&mut |path, is_directory| {
            let Some(name) = path.to_str() else { return true };
            if pattern.matches(name) && !self.leaves_out(name.as_bytes()) {
                found.push(path.to_owned());
            }
            !is_directory || pattern.may_match_in(name)
        });
        visited.attempt(|| format!("look for {text}"))?;
        Ok(found)
    }

    /// Where a path leads, links followed inside the tree.
    pub(super) fn follow(&self, path: &Path) -> Result<PathBuf> {
        self.tree.follow(path).map_err(|error| missing(error, path))
    }

    /// What a source of `COPY --parents` stands for: everything keeps the directories that it is in, up to the place that
    /// `/./` marks.
    pub(super) fn with_parents(&self, text: &str, excluded: &Ignored) -> Result<Family> {
        let (base, rest) = text.split_once("/./").unwrap_or(("", text));
        let depth = PathPattern::parse(base).map_err(super::invalid)?.depth();
        let depth = depth.ok_or_else(|| {
            Error::Invalid(format!("COPY --parents {text}: ** has no place in front of the mark /./"))
        })?;
        let mut family = Family { depth, chosen: Vec::new(), seen: HashSet::new() };
        for path in self.expand(&format!("{base}/{rest}"))? {
            let found = self.tree.find(&path).map_err(|error| missing(error, &path))?;
            let found = found.ok_or_else(|| not_found(&Path::new("/").join(&path), None))?;
            if !is_left_out(excluded, below(path.as_os_str().as_bytes(), depth)) {
                family.add(&path, FileType::from_raw_mode(found.stat.st_mode));
            }
        }
        Ok(family)
    }
}

/// What was chosen with the directories above it.
pub(super) struct Family {
    /// Components that are not kept.
    pub(super) depth: usize,
    /// By names relative to the destination.
    pub(super) chosen: Vec<Chosen>,
    seen: HashSet<PathBuf>,
}

impl Family {
    /// Adds a path after the directories above it. A link stays a link.
    fn add(&mut self, path: &Path, kind: FileType) {
        let kept = path.components().filter(|part| matches!(part, Component::Normal(_))).count();
        for above in (self.depth + 1)..=kept {
            let part: PathBuf = path.components().take(above).collect();
            if self.seen.insert(part.clone()) {
                self.choose(part, Taken::Itself);
            }
        }
        if kind == FileType::Directory {
            self.choose(path.to_owned(), Taken::Content);
        }
    }

    fn choose(&mut self, path: PathBuf, taken: Taken) {
        let name = below(path.as_os_str().as_bytes(), self.depth).to_vec();
        self.chosen.push(Chosen { path, name, taken });
    }
}

/// A path without its first `depth` components.
pub(super) fn below(path: &[u8], depth: usize) -> &[u8] {
    let mut rest = if path == b"." { &[][..] } else { path };
    for _ in 0..depth {
        rest = rest.iter().position(|byte| *byte == b'/').map_or(&[][..], |slash| &rest[slash + 1..]);
    }
    rest
}

/// Whether patterns leave a path out. Names that are no text match none.
pub(super) fn is_left_out(ignored: &Ignored, path: &[u8]) -> bool {
    std::str::from_utf8(path).is_ok_and(|path| ignored.leaves_out(path))
}

/// What a failure to find something means to whoever wrote the Dockerfile.
pub(super) fn missing(error: coracle_store::Error, source: &Path) -> Error {
    match error {
        coracle_store::Error::NotThere { path } => {
            let is_same = Path::new("/").join(source) == Path::new(&path);
            let note = (!is_same).then(|| format!("{} leads there", source.display()));
            not_found(Path::new(&path), note.as_deref())
        }
        error => super::context::of_input(error, || format!("look for {}", source.display())),
    }
}

fn left_out(path: &str) -> Error {
    not_found(&Path::new("/").join(path), Some("the ignore file leaves it out"))
}

/// In BuildKit's words.
pub(super) fn not_found(path: &Path, note: Option<&str>) -> Error {
    let note = note.map(|note| format!(" ({note})")).unwrap_or_default();
    Error::Invalid(format!("failed to compute cache key: {:?}: not found{note}", path.display().to_string()))
}
