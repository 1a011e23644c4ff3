//! `COPY`, `ADD` and `WORKDIR`: files of the context, a stage or an image under new names.

use super::stage::{Workshop, unstarted};
use super::{Build, BuildResult};
use crate::containers::View;
use crate::error::{Attempt, Error, Result, blocking};
use coracle_build::{FileRules, Files, Ignored, Origin, PathPattern, Transfer};
use coracle_store::{Altered, Chosen, Copying, Tree};
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
            build.built.get(stage).expect("stages come after those that they need").layers.clone()
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

fn check(wanted: &Files) -> Result<()> {
    let remote = |source: &&String| source.contains("://") || source.starts_with("git@");
    if let FileRules::Add { .. } = wanted.rules
        && let Some(source) = wanted.transfer.sources.iter().find(remote)
    {
        return Err(Error::Unsupported(format!(
            "ADD {source}: addresses are not supported yet by this engine"
        )));
    }
    if let FileRules::Copy { parents: true } = wanted.rules {
        return Err(Error::Unsupported("COPY --parents is not supported yet by this engine".to_owned()));
    }
    Ok(())
}

fn is_left_out(ignored: &Ignored, path: &[u8]) -> bool {
    std::str::from_utf8(path).is_ok_and(|path| ignored.leaves_out(path))
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
        let out = |path: &[u8]| left_out(path) || is_left_out(&excluded, path);
        let sources = self.expand(source, &out)?;
        let altered = Altered { owner: self.owner()?, mode: self.mode()?, timeless: false };
        let mut chosen = Vec::new();
        for path in &sources {
            if self.unpacks() && source.is_archive(path).attempt(|| format!("look at {}", path.display()))? {
                self.unpack(source, path)?;
            } else {
                chosen.push(self.choose(source, path)?);
            }
        }
        self.transport(source, &chosen, &out, altered)?;
        self.write_inline(altered)
    }

    /// The paths that the sources stand for.
    fn expand(&self, source: &Tree, out: &dyn Fn(&[u8]) -> bool) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for text in &self.transfer.sources {
            let relative = text.trim_start_matches('/');
            let pattern = PathPattern::parse(relative).map_err(super::invalid)?;
            let before = found.len();
            match pattern.literal() {
                Some(path) => {
                    if !out(path.as_bytes()) {
                        found.push(PathBuf::from(path));
                    }
                }
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
            if found.len() == before {
                return Err(Error::Invalid(format!(
                    "COPY failed: {text} is not in the build context, or is left out of it"
                )));
            }
        }
        Ok(found)
    }

    fn unpacks(&self) -> bool {
        matches!(self.rules, FileRules::Add { unpack, .. } if unpack != Some(false))
    }

    /// A directory gives its content; a file keeps its name where the destination is a directory.
    fn choose(&self, source: &Tree, path: &Path) -> Result<Chosen> {
        let finding = || format!("look for {}", path.display());
        let destination = self.transfer.destination.trim_start_matches('/');
        let is_directory = source.is_directory(path).attempt(finding)?;
        let into_directory = self.transfer.destination.ends_with('/')
            || destination.is_empty()
            || self.transfer.sources.len() > 1
            || self.target.tree.is_directory(Path::new(destination)).attempt(finding)?;
        let mut name = PathBuf::from(destination);
        if !is_directory && into_directory {
            name.push(path.file_name().unwrap_or_default());
        }
        let there = self.target.tree.is_directory(Path::new(destination)).attempt(finding)?;
        Ok(Chosen {
            path: path.to_owned(),
            name: name.as_os_str().as_bytes().to_vec(),
            with_directory: !there,
        })
    }

    /// Packs what was chosen and unpacks it at once.
    fn transport(
        &self,
        source: &Tree,
        chosen: &[Chosen],
        out: &dyn Fn(&[u8]) -> bool,
        altered: Altered,
    ) -> Result<()> {
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
    fn write_inline(&self, altered: Altered) -> Result<()> {
        if self.transfer.inline.is_empty() {
            return Ok(());
        }
        let directory = self.transfer.destination.trim_start_matches('/');
        let into_directory = self.transfer.destination.ends_with('/') || directory.is_empty();
        let named = self.transfer.inline.iter().map(|inline| {
            let mut name = PathBuf::from(directory);
            if into_directory {
                name.push(&inline.name);
            }
            (name.as_os_str().as_bytes().to_vec(), inline.content.as_bytes())
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
        Ok(Some((resolved.user.uid, resolved.user.gid)))
    }

    fn mode(&self) -> Result<Option<u32>> {
        let Some(text) = &self.transfer.mode else { return Ok(None) };
        let octal = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
        let refused = || Error::Invalid(format!("invalid mode {text}: only octal ones are supported yet"));
        octal.map(Some).ok_or_else(refused)
    }
}
