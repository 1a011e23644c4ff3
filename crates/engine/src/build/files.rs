//! `COPY`, `ADD` and `WORKDIR`: files of the context, a stage or an image under new names.

use super::stage::{Workshop, unstarted};
use super::{Build, BuildResult};
use crate::containers::View;
use crate::error::{Attempt, Error, Result, blocking};
use coracle_build::{FileRules, Files, Ignored, Origin, PathPattern, Transfer};
use coracle_store::{Altered, Chosen, Copying, Filter, Tree};
use rustix::fs::Mode;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Mode of directories that nobody describes.
const DIRECTORY: Mode = Mode::from_raw_mode(0o755);

/// Makes a directory, unless it is there.
pub(super) async fn make_directory(workshop: &Workshop<'_>, path: &str) -> Result<()> {
    let (view, path) = (workshop.build.engine.view(workshop.id.as_str()).await?, path.to_owned());
    let made = move || view.tree.root().create_dir_all(&path, DIRECTORY).map(drop);
    blocking(made).await?.map_err(|error| Error::Invalid(coracle_spec::full_text(&error)))
}

/// Brings files in.
pub(super) async fn bring(workshop: &Workshop<'_>, wanted: &Files, build: &Build<'_>) -> BuildResult<()> {
    check(wanted)?;
    let target = build.engine.view(workshop.id.as_str()).await?;
    let job = Job { target, transfer: wanted.transfer.clone(), rules: wanted.rules.clone() };
    let Some(origin) = &wanted.from else {
        let context = Arc::clone(&build.context);
        let bringing = move || job.run(&context.tree, &|path| is_left_out(&context.ignored, path));
        return Ok(blocking(bringing).await??);
    };
    let layers = match origin {
        Origin::Stage(stage) => {
            // What a trigger of a base image needs was not known when the order was made.
            let built = build.built.get(stage).ok_or_else(|| not_built(*stage))?;
            built.layers.clone()
        }
        Origin::Image(name) => build.image(name, &build.request.wanted.platform).await?.layers,
    };
    let source = Workshop::open(&layers, unstarted(), build).await?;
    let view = build.engine.view(source.id.as_str()).await;
    let brought = match view {
        Ok(view) => blocking(move || job.run(&view.tree, &|_| false)).await,
        Err(error) => Err(error),
    };
    source.close().await;
    Ok(brought??)
}

fn not_built(stage: usize) -> Error {
    Error::Unsupported(format!(
        "a trigger of the base image copies from stage {stage}, which nothing else before it needs: this is not \
         supported yet by this engine"
    ))
}

fn check(wanted: &Files) -> Result<()> {
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

/// Files on their way.
struct Job {
    target: Arc<View>,
    transfer: Transfer,
    rules: FileRules,
}

impl Job {
    /// Blocks.
    fn run(&self, source: &Tree, left_out: &dyn Fn(&[u8]) -> bool) -> Result<()> {
        let excluded =
            Ignored::of_patterns(self.transfer.exclude.iter().map(String::as_str)).map_err(super::invalid)?;
        let out = |path: &[u8], below: &[u8]| left_out(path) || is_left_out(&excluded, below);
        let sources = self.expand(source, left_out)?;
        let altered = Altered { owner: self.owner()?, mode: self.mode()?, timeless: false };
        let destination = self.destination(sources.len() + self.transfer.inline.len())?;
        let mut chosen = Vec::new();
        for path in &sources {
            if self.unpacks() && source.is_archive(path).attempt(|| format!("look at {}", path.display()))? {
                self.unpack(source, path)?;
            } else {
                chosen.push(self.choose(source, path, &destination)?);
            }
        }
        if !chosen.is_empty() || !self.transfer.inline.is_empty() {
            self.make_way(&destination, altered.owner)?;
        }
        self.transport(source, &chosen, &out, altered)?;
        self.write_inline(&destination, altered)
    }

    /// The paths that the sources stand for. A pattern may stand for none as long as another source stands for some.
    fn expand(&self, source: &Tree, out: &dyn Fn(&[u8]) -> bool) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for text in &self.transfer.sources {
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
        match self.transfer.sources.first() {
            Some(text) if found.is_empty() => Err(missing(text)),
            _ => Ok(found),
        }
    }

    fn unpacks(&self) -> bool {
        matches!(self.rules, FileRules::Add { unpack, .. } if unpack != Some(false))
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
        let (text, target) = (&self.transfer.destination, &self.target.tree);
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
            if self.target.tree.is_directory(directory).attempt(making)? {
                break;
            }
            missing.push(directory.to_owned());
        }
        missing.reverse();
        let mut archive = Vec::new();
        let altered = Altered { owner, ..Altered::default() };
        coracle_store::pack_directories(&missing, altered, &mut archive).attempt(making)?;
        let unpacked = self.target.tree.unpack(Path::new("/"), &archive[..], Copying::default());
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
            let target = &self.target.tree;
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
        self.target.tree.root().create_dir_all(destination, DIRECTORY).attempt(unpacking)?;
        let unpacked = self.target.tree.unpack(destination, file, Copying::default());
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
        let unpacked = self.target.tree.unpack(Path::new("/"), &archive[..], Copying::default());
        unpacked.map_err(|error| super::context::of_input(error, writing))
    }

    /// Whose the files become: root's from a context, and who they were of a stage or an image, unless it is said.
    fn owner(&self) -> Result<Option<(u32, u32)>> {
        let Some(owner) = &self.transfer.owner else { return Ok(None) };
        let root = self.target.tree.root();
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
