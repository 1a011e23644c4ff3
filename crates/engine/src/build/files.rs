//! `COPY`, `ADD` and `WORKDIR`: files of the context, a stage or an image under new names.

use crate::error::{Attempt, Error, Result};
use coracle_build::{FileRules, Files, Ignored, PathPattern, Transfer};
use coracle_spec::Digest;
use coracle_store::{Altered, Chosen, Copying, Filter, Tree};
use rustix::fs::Mode;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Mode of directories that nobody describes.
const DIRECTORY: Mode = Mode::from_raw_mode(0o755);

/// Whether a path of a source stays out.
type LeftOut<'a> = &'a dyn Fn(&[u8]) -> bool;

/// Makes a directory, unless it is there. Blocks, as everything here.
pub(super) fn make_directory(target: &Tree, path: &str) -> Result<()> {
    let made = target.root().create_dir_all(path, DIRECTORY).map(drop);
    made.map_err(|error| Error::Invalid(coracle_spec::full_text(&error)))
}

/// Brings files into `target`, from `source` where any are not in the Dockerfile itself.
pub(super) fn bring(
    target: &Tree,
    wanted: &Files,
    source: Option<&Tree>,
    left_out: LeftOut<'_>,
) -> Result<()> {
    let is_of_context = wanted.from.is_none();
    Job { target, transfer: &wanted.transfer, rules: &wanted.rules, is_of_context }.run(source, left_out)
}

/// What the files are that would be brought, but for their times.
pub(super) fn fingerprint(source: &Tree, wanted: &Files, left_out: LeftOut<'_>) -> Result<Digest> {
    let transfer = &wanted.transfer;
    let excluded = excluded(transfer)?;
    let out = |path: &[u8], below: &[u8]| left_out(path) || is_left_out(&excluded, below);
    let mut chosen = Vec::new();
    for (at, path) in expand(transfer, source, left_out)?.into_iter().enumerate() {
        // What it is called counts where it keeps its name.
        let mut name = at.to_string().into_bytes();
        if !source.is_directory(&path).attempt(|| format!("look for {}", path.display()))? {
            name.push(b'/');
            name.extend_from_slice(path.file_name().unwrap_or_default().as_bytes());
        }
        chosen.push(Chosen { path, name, with_directory: true });
    }
    let owner = wanted.from.is_none().then_some((0, 0));
    source
        .fingerprint(&chosen, &out, Altered { owner, ..Altered::default() })
        .map_err(|error| super::context::of_input(error, || "read files of a build".to_owned()))
}

fn excluded(transfer: &Transfer) -> Result<Ignored> {
    Ignored::of_patterns(transfer.exclude.iter().map(String::as_str)).map_err(super::invalid)
}

/// Refuses what is not done yet, before anything is.
pub(super) fn check(wanted: &Files) -> Result<()> {
    let remote = |source: &&String| source.contains("://") || source.starts_with("git@");
    if let FileRules::Add { .. } = wanted.rules
        && let Some(source) = wanted.transfer.sources.iter().find(remote)
    {
        return Err(Error::Unsupported(format!(
            "ADD {source}: addresses are not supported yet by this engine"
        )));
    }
    if let FileRules::Add { checksum: Some(_), .. } = wanted.rules {
        return Err(Error::Invalid(
            "ADD --checksum is for addresses, not for files of the context".to_owned(),
        ));
    }
    if let FileRules::Copy { parents: true } = wanted.rules {
        return Err(Error::Unsupported("COPY --parents is not supported yet by this engine".to_owned()));
    }
    Ok(())
}

fn is_left_out(ignored: &Ignored, path: &[u8]) -> bool {
    std::str::from_utf8(path).is_ok_and(|path| ignored.leaves_out(path))
}

fn missing(source: &str) -> Error {
    Error::Invalid(format!("COPY failed: {source} is not in the build context, or is left out of it"))
}

/// A path without the slash at its beginning, as archives have it.
fn relative(path: &Path) -> Vec<u8> {
    path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes().to_vec()
}

/// Where files go, links on the way followed.
struct Destination {
    path: PathBuf,
    /// Whether files keep their names in it.
    is_directory: bool,
    exists_as_directory: bool,
    exists_as_file: bool,
}

/// The paths that the sources stand for. A pattern may stand for none as long as another source stands for some.
fn expand(transfer: &Transfer, source: &Tree, out: LeftOut<'_>) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for text in &transfer.sources {
        let pattern = PathPattern::parse(text).map_err(super::invalid)?;
        match pattern.literal() {
            Some(path) if out(path.as_bytes()) => return Err(missing(text)),
            Some("") => found.push(PathBuf::from(".")),
            Some(path) => found.push(PathBuf::from(path)),
            None => source
                .paths(&mut |path, _| {
                    let bytes = path.as_os_str().as_bytes();
                    if !out(bytes) && path.to_str().is_some_and(|path| pattern.matches(path)) {
                        found.push(path.to_owned());
                    }
                    true
                })
                .attempt(|| format!("look for {text}"))?,
        }
    }
    match transfer.sources.first() {
        Some(text) if found.is_empty() => Err(missing(text)),
        _ => Ok(found),
    }
}

/// Files on their way.
struct Job<'a> {
    target: &'a Tree,
    transfer: &'a Transfer,
    rules: &'a FileRules,
    is_of_context: bool,
}

impl Job<'_> {
    fn run(&self, source: Option<&Tree>, left_out: LeftOut<'_>) -> Result<()> {
        let excluded = excluded(self.transfer)?;
        let out = |path: &[u8], below: &[u8]| left_out(path) || is_left_out(&excluded, below);
        let sources = match source {
            Some(source) => expand(self.transfer, source, left_out)?,
            None => Vec::new(),
        };
        // Everything in a context is root's, whoever sends it.
        let owner = self.owner()?.or(self.is_of_context.then_some((0, 0)));
        let altered = Altered { owner, mode: self.mode()?, timeless: false };
        let destination = self.destination(sources.len() + self.transfer.inline.len())?;
        let mut chosen = Vec::new();
        for path in &sources {
            let source = source.expect("without one there are no paths");
            if self.unpacks() && source.is_archive(path).attempt(|| format!("look at {}", path.display()))? {
                self.unpack(source, path)?;
            } else {
                chosen.push(self.choose(source, path, &destination)?);
            }
        }
        if !chosen.is_empty() || !self.transfer.inline.is_empty() {
            self.make_way(&destination, altered.owner)?;
        }
        if let Some(source) = source {
            self.transport(source, &chosen, &out, altered)?;
        }
        self.write_inline(&destination, altered)
    }

    fn unpacks(&self) -> bool {
        matches!(self.rules, FileRules::Add { unpack, .. } if *unpack != Some(false))
    }

    /// A directory gives its content; a file keeps its name where the destination is a directory. A link there is
    /// followed.
    fn choose(&self, source: &Tree, path: &Path, destination: &Destination) -> Result<Chosen> {
        let is_directory = source.is_directory(path).attempt(|| format!("look for {}", path.display()))?;
        let mut name = destination.path.clone();
        if !is_directory && destination.is_directory {
            name.push(path.file_name().unwrap_or_default());
        }
        if is_directory && destination.exists_as_file {
            return Err(Error::Invalid(format!(
                "cannot copy the directory {} to {}, which is no directory",
                path.display(),
                self.transfer.destination
            )));
        }
        Ok(Chosen {
            path: path.to_owned(),
            name: relative(&name),
            with_directory: !destination.exists_as_directory,
        })
    }

    /// What is at the destination, and what becomes of it.
    fn destination(&self, sources: usize) -> Result<Destination> {
        let (text, target) = (&self.transfer.destination, self.target);
        let finding = || format!("look for {text}");
        let path = target.root().evaluate(text).attempt(finding)?;
        let exists_as_directory = target.is_directory(&path).attempt(finding)?;
        let found = target.find(&path).attempt(finding)?;
        let is_directory = exists_as_directory || text.ends_with('/') || self.transfer.sources.len() > 1;
        if sources > 1 && !is_directory {
            return Err(Error::Invalid(
                "when using COPY with more than one source file, the destination must be a directory and end with a /"
                    .to_owned(),
            ));
        }
        let exists_as_file = found.is_some() && !exists_as_directory;
        if exists_as_file && is_directory {
            return Err(Error::Invalid(format!("the destination {text} is no directory")));
        }
        Ok(Destination { path, is_directory, exists_as_directory, exists_as_file })
    }

    /// Makes the directories that are missing on the way. They are whoever's the files are.
    fn make_way(&self, destination: &Destination, owner: Option<(u32, u32)>) -> Result<()> {
        let making = || format!("make directories of {}", self.transfer.destination);
        let end = if destination.is_directory { Some(&*destination.path) } else { destination.path.parent() };
        let mut missing = Vec::new();
        for directory in end.into_iter().flat_map(Path::ancestors) {
            if self.target.is_directory(directory).attempt(making)? {
                break;
            }
            missing.push(directory.to_owned());
        }
        missing.reverse();
        let mut archive = Vec::new();
        let altered = Altered { owner, ..Altered::default() };
        coracle_store::pack_directories(&missing, altered, &mut archive).attempt(making)?;
        let unpacked = self.target.unpack(Path::new("/"), &archive[..], Copying::default());
        unpacked.map_err(|error| super::context::of_input(error, making))
    }

    /// Packs what was chosen and unpacks it at once.
    fn transport(&self, source: &Tree, chosen: &[Chosen], out: Filter<'_>, altered: Altered) -> Result<()> {
        if chosen.is_empty() {
            return Ok(());
        }
        let copying = || "copy files of a build".to_owned();
        let (reader, writer) = io::pipe().attempt(copying)?;
        std::thread::scope(|scope| {
            let target = self.target;
            let unpacking = scope.spawn(move || target.unpack(Path::new("/"), reader, Copying::default()));
            let packed = source.pack_chosen(chosen, out, altered, writer);
            let unpacked = unpacking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match packed {
                // Where nobody reads any more, the reader says why.
                Err(coracle_store::Error::Write { .. }) if unpacked.is_err() => {}
                packed => packed.map_err(|error| super::context::of_input(error, copying))?,
            }
            unpacked.map_err(|error| super::context::of_input(error, copying))
        })
    }

    /// An archive that `ADD` unpacks into its destination.
    fn unpack(&self, source: &Tree, path: &Path) -> Result<()> {
        let unpacking = || format!("unpack {}", path.display());
        let file = source.open(path).attempt(unpacking)?;
        let destination = Path::new(&self.transfer.destination);
        self.target.root().create_dir_all(destination, DIRECTORY).attempt(unpacking)?;
        let unpacked = self.target.unpack(destination, file, Copying::default());
        unpacked.map_err(|error| super::context::of_input(error, unpacking))
    }

    /// Files whose content stands in the Dockerfile.
    fn write_inline(&self, destination: &Destination, altered: Altered) -> Result<()> {
        if self.transfer.inline.is_empty() {
            return Ok(());
        }
        let named = self.transfer.inline.iter().map(|inline| {
            let mut name = destination.path.clone();
            if destination.is_directory {
                name.push(&inline.name);
            }
            (relative(&name), inline.content.as_bytes())
        });
        let named: Vec<_> = named.collect();
        let mut archive = Vec::new();
        let writing = || "write files of a Dockerfile".to_owned();
        coracle_store::pack_texts(&named, altered, &mut archive).attempt(writing)?;
        let unpacked = self.target.unpack(Path::new("/"), &archive[..], Copying::default());
        unpacked.map_err(|error| super::context::of_input(error, writing))
    }

    /// Whose the files become: root's from a context, and who they were of a stage or an image, unless it is said.
    fn owner(&self) -> Result<Option<(u32, u32)>> {
        let Some(owner) = &self.transfer.owner else { return Ok(None) };
        let root = self.target.root();
        let resolved = coracle_runtime::sandbox::users::resolve(root, owner, &[])
            .map_err(|error| Error::Invalid(error.chain()))?;
        // As Docker: without a group, that of the user's number.
        let gid = if owner.contains(':') { resolved.user.gid } else { resolved.user.uid };
        Ok(Some((resolved.user.uid, gid)))
    }

    fn mode(&self) -> Result<Option<u32>> {
        let Some(text) = &self.transfer.mode else { return Ok(None) };
        let octal = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
        let refused = || Error::Invalid(format!("invalid mode {text}: only octal ones are supported yet"));
        octal.map(Some).ok_or_else(refused)
    }
}
