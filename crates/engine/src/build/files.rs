//! `COPY`, `ADD` and `WORKDIR`: files of the context, a stage, an image or an address under new names. Everything blocks.

use super::destination::Destination;
use super::remote::{Fetched, What};
use super::sources::{LeftOut, Supply, is_left_out, missing};
use crate::error::{Attempt, Error, Result};
use coracle_build::{Directory, FileRules, Files, Ignored, Transfer};
use coracle_spec::digest::{Algorithm, Hasher};
use coracle_spec::{Digest, ModeChange};
use coracle_store::{Altered, Chosen, Content, Copying, Filter, Layer, Replace, Store, Taken, Tree, Vacancy};
use coracle_sys::rooted::Root;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Makes a directory, unless it is there: as BuildKit, it belongs to whoever commands run as.
pub(super) fn make_directory(target: &Tree, wanted: &Directory) -> Result<()> {
    let user = coracle_runtime::sandbox::users::resolve(target.root(), &wanted.owner, &[]);
    // Nobody has said whose it is to be; a command as a user who is not there fails by itself.
    let owner = user.map_or((0, 0), |resolved| (resolved.user.uid, resolved.user.gid));
    Destination::find(target, &wanted.path, Some(owner))?.directory().map(drop)
}

/// What files are brought in, and where from.
#[derive(Clone, Copy)]
pub(super) struct Bringing<'a> {
    pub(super) wanted: &'a Files,
    /// Where those come from that are neither in the Dockerfile nor at an address.
    pub(super) source: Option<&'a Tree>,
    /// What stays out of them.
    pub(super) left_out: LeftOut<'a>,
    /// Whether they are a context's: root's, whoever sends them.
    pub(super) are_of_context: bool,
    /// What came from addresses.
    pub(super) fetched: &'a [Fetched],
}

/// What is told of files in a digest.
type Look<'a> = &'a dyn Fn(&Tree, &[Chosen], Filter<'_>) -> coracle_store::Result<Digest>;

/// One of the sources, found.
enum Found<'a> {
    Fetched(&'a Fetched),
    Local(Supply<'a>, &'a str),
}

impl<'a> Bringing<'a> {
    /// Brings them into `target`.
    pub(super) fn bring(&self, target: &Tree) -> Result<()> {
        let transfer = &self.wanted.transfer;
        let altered = self.altered(target)?;
        let mut work = Work {
            target,
            excluded: excluded(transfer)?,
            altered,
            owner_of_archives: altered.owner.filter(|_| transfer.owner.is_some()),
            destination: Destination::find(target, &transfer.destination, altered.owner)?,
        };
        for found in self.sources()? {
            match (found, &self.wanted.rules) {
                (Found::Fetched(fetched), _) => work.bring_fetched(fetched)?,
                (Found::Local(supply, text), FileRules::Copy { parents: true }) => {
                    work.bring_with_parents(supply, text)?;
                }
                (Found::Local(supply, text), rules) => {
                    for path in supply.expand(text)? {
                        work.bring(supply, path, Archives::of(rules))?;
                    }
                }
            }
        }
        work.write_inline(transfer)
    }

    /// The same, where everything is the content of one directory that goes where nothing is.
    pub(super) fn alone<'b>(&'b self, target: &'b Tree) -> Result<Option<Alone<'b>>> {
        let transfer = &self.wanted.transfer;
        let parents = matches!(self.wanted.rules, FileRules::Copy { parents: true });
        let ([Found::Local(supply, text)], true, false) =
            (&self.sources()?[..], transfer.inline.is_empty(), parents)
        else {
            return Ok(None);
        };
        let [path] = &supply.expand(text)?[..] else { return Ok(None) };
        let looking = || format!("look for {}", transfer.destination);
        if !supply.tree.is_directory(&supply.follow(path)?).attempt(looking)? {
            return Ok(None);
        }
        let altered = self.altered(target)?;
        let place = target.root().evaluate(&transfer.destination).attempt(looking)?;
        let Some(vacancy) = target.vacancy(&place).attempt(looking)? else { return Ok(None) };
        let excluded = excluded(transfer)?;
        Ok(Some(Alone { supply: *supply, path: path.clone(), excluded, altered, vacancy }))
    }

    /// What the files are that would be brought, but for their times.
    pub(super) fn fingerprint(&self) -> Result<Digest> {
        let altered = Altered { owner: self.own_owner(), ..Altered::default() };
        self.look(&|tree, chosen, out| tree.fingerprint(chosen, out, altered))
    }

    /// What the kernel notes of changes of these files.
    pub(super) fn state(&self) -> Result<Digest> {
        self.look(&|tree, chosen, out| tree.state(chosen, out))
    }

    /// One digest of all sources.
    fn look(&self, how: Look<'_>) -> Result<Digest> {
        let reading = || "read files of a build".to_owned();
        let excluded = excluded(&self.wanted.transfer)?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        for found in self.sources()? {
            let (supply, chosen, depth) = match (found, &self.wanted.rules) {
                (Found::Fetched(fetched), _) => {
                    hasher.update(fetched.identity.as_bytes());
                    continue;
                }
                (Found::Local(supply, text), FileRules::Copy { parents: true }) => {
                    let family = supply.with_parents(text, &excluded)?;
                    (supply, family.chosen, Some(family.depth))
                }
                (Found::Local(supply, text), _) => (supply, all(supply, text, &excluded)?, None),
            };
            let out = |path: &[u8], below: &[u8]| {
                let counted = depth.map_or(below, |depth| super::sources::below(path, depth));
                supply.leaves_out(path) || is_left_out(&excluded, counted)
            };
            let digest =
                how(supply.tree, &chosen, &out).map_err(|error| super::context::of_input(error, reading))?;
            hasher.update(digest.to_string().as_bytes());
        }
        Ok(hasher.finish())
    }

    fn sources(&self) -> Result<Vec<Found<'a>>> {
        let mut found = Vec::new();
        for (number, text) in self.wanted.transfer.sources.iter().enumerate() {
            let fetched = self.fetched.iter().find(|fetched| fetched.number == number);
            found.push(match (fetched, self.source) {
                (Some(fetched), _) => Found::Fetched(fetched),
                (None, Some(tree)) => Found::Local(Supply { tree, left_out: self.left_out }, text),
                (None, None) => {
                    return Err(Error::Invalid(format!("there are no files to take {text} from")));
                }
            });
        }
        Ok(found)
    }

    fn own_owner(&self) -> Option<(u32, u32)> {
        self.are_of_context.then_some((0, 0))
    }

    fn altered(&self, target: &Tree) -> Result<Altered> {
        let transfer = &self.wanted.transfer;
        let owner = transfer.owner.as_deref().map(|text| owner_of(target.root(), text)).transpose()?;
        let mode = transfer.mode.as_deref().map(str::parse::<ModeChange>).transpose();
        let mode = mode.map_err(|error| Error::Invalid(error.to_string()))?;
        Ok(Altered { owner: owner.or(self.own_owner()), mode, ..Altered::default() })
    }
}

/// The content of one directory that goes where nothing is.
pub(super) struct Alone<'a> {
    supply: Supply<'a>,
    path: PathBuf,
    excluded: Ignored,
    altered: Altered,
    vacancy: Vacancy<'a>,
}

impl Alone<'_> {
    /// Makes the layer of a step of it, while it is read. Nothing is newer there than `latest`, in seconds since 1970.
    pub(super) fn keep(&self, store: &Store, latest: Option<i64>) -> Result<Option<Layer>> {
        let out =
            |path: &[u8], below: &[u8]| self.supply.leaves_out(path) || is_left_out(&self.excluded, below);
        let content = Content {
            tree: self.supply.tree,
            path: &self.path,
            altered: Altered { latest, ..self.altered },
            owner: self.altered.owner.unwrap_or_default(),
        };
        let kept = store.keep_content(&content, &out, &self.vacancy);
        kept.map_err(|error| missing(error, &self.path))
    }
}

/// The same with numbers instead of the names of users, who are those of `tree`.
pub(super) fn with_numbers(wanted: &Files, tree: &Tree) -> Result<Files> {
    let mut numbered = wanted.clone();
    if let Some(owner) = &mut numbered.transfer.owner {
        let (uid, gid) = owner_of(tree.root(), owner)?;
        *owner = format!("{uid}:{gid}");
    }
    Ok(numbered)
}

/// What a source stands for, by names that say which source it is and what files are called, which counts where they keep
/// their names.
fn all(supply: Supply<'_>, text: &str, excluded: &Ignored) -> Result<Vec<Chosen>> {
    let mut chosen = Vec::new();
    for (at, path) in supply.expand(text)?.into_iter().enumerate() {
        let mut name = at.to_string().into_bytes();
        let end = supply.follow(&path)?;
        if !supply.tree.is_directory(&end).attempt(|| format!("look at {}", path.display()))? {
            let file_name = path.file_name().unwrap_or_default().as_bytes();
            if is_left_out(excluded, file_name) {
                continue;
            }
            name.push(b'/');
            name.extend_from_slice(file_name);
        }
        chosen.push(Chosen { path, name, taken: Taken::Content });
    }
    Ok(chosen)
}

fn excluded(transfer: &Transfer) -> Result<Ignored> {
    Ignored::of_patterns(transfer.exclude.iter().map(String::as_str)).map_err(super::invalid)
}

/// A path without the slash at its beginning, as archives have it.
fn relative(path: &Path) -> Vec<u8> {
    path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes().to_vec()
}

fn owner_of(root: &Root, text: &str) -> Result<(u32, u32)> {
    let resolved = coracle_runtime::sandbox::users::resolve(root, text, &[])
        .map_err(|error| Error::Invalid(error.chain()))?;
    // As BuildKit: a number without a group is the group's number too, a name has its own.
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let gid = if is_number { resolved.user.uid } else { resolved.user.gid };
    Ok((resolved.user.uid, gid))
}

/// What becomes of a tar archive, compressed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Archives {
    AreFiles,
    AreUnpacked,
}

impl Archives {
    /// What becomes of those of a context.
    fn of(rules: &FileRules) -> Self {
        match rules {
            FileRules::Add { unpack, .. } if *unpack != Some(false) => Self::AreUnpacked,
            _ => Self::AreFiles,
        }
    }
}

/// Files on their way.
struct Work<'a> {
    target: &'a Tree,
    /// What `--exclude` leaves out.
    excluded: Ignored,
    altered: Altered,
    /// Whose what is in archives becomes, where that is said: they say it themselves otherwise.
    owner_of_archives: Option<(u32, u32)>,
    destination: Destination<'a>,
}

impl Work<'_> {
    /// Brings what is at a path. A directory gives its content; a file keeps its name where the destination is a
    /// directory. A link is followed.
    fn bring(&mut self, supply: Supply<'_>, path: PathBuf, archives: Archives) -> Result<()> {
        let end = supply.follow(&path)?;
        let looking = || format!("look at {}", path.display());
        if supply.tree.is_directory(&end).attempt(looking)? {
            let name = relative(self.destination.directory()?);
            return self.transport(supply, Chosen { path, name, taken: Taken::Content }, self.altered);
        }
        let file_name = path.file_name().unwrap_or_default();
        if is_left_out(&self.excluded, file_name.as_bytes()) {
            return Ok(());
        }
        if archives == Archives::AreUnpacked && supply.tree.is_archive(&end).attempt(looking)? {
            return self.unpack(supply.tree, &end);
        }
        let name = relative(&self.destination.file(file_name)?);
        self.transport(supply, Chosen { path, name, taken: Taken::Content }, self.altered)
    }

    fn bring_with_parents(&mut self, supply: Supply<'_>, text: &str) -> Result<()> {
        let family = supply.with_parents(text, &self.excluded)?;
        if family.chosen.is_empty() {
            return Ok(());
        }
        let mut top = relative(self.destination.directory()?);
        if !top.is_empty() {
            top.push(b'/');
        }
        let under = |one: &Chosen| Chosen { name: [&top[..], &one.name].concat(), ..one.clone() };
        let chosen: Vec<Chosen> = family.chosen.iter().map(under).collect();
        let out = |path: &[u8], _: &[u8]| {
            supply.leaves_out(path) || is_left_out(&self.excluded, super::sources::below(path, family.depth))
        };
        self.move_all(supply.tree, &chosen, &out, self.altered)
    }

    fn bring_fetched(&mut self, fetched: &Fetched) -> Result<()> {
        let supply = Supply { tree: &fetched.tree, left_out: &|_| false };
        match &fetched.what {
            What::File { name, archives } => self.bring(supply, name.clone(), *archives),
            What::Repository { directory, mode } => {
                let name = relative(self.destination.directory()?);
                let chosen = Chosen { path: directory.clone(), name, taken: Taken::Content };
                let mode = self.altered.mode.or(Some(*mode));
                self.transport(supply, chosen, Altered { mode, ..self.altered })
            }
        }
    }

    fn transport(&self, supply: Supply<'_>, chosen: Chosen, altered: Altered) -> Result<()> {
        let out = |path: &[u8], below: &[u8]| supply.leaves_out(path) || is_left_out(&self.excluded, below);
        self.move_all(supply.tree, &[chosen], &out, altered)
    }

    fn move_all(&self, source: &Tree, chosen: &[Chosen], out: Filter<'_>, altered: Altered) -> Result<()> {
        move_all(source, chosen, out, altered, self.target)
    }

    /// An archive that `ADD` unpacks into its destination.
    fn unpack(&mut self, source: &Tree, path: &Path) -> Result<()> {
        let unpacking = || format!("unpack {}", path.display());
        let file = source.open(path).attempt(unpacking)?;
        let copying = Copying { owner: self.owner_of_archives, ..Copying::default() };
        let unpacked = self.target.unpack(self.destination.directory()?, file, copying);
        unpacked.map_err(|error| super::context::of_input(error, unpacking))
    }

    /// Files whose content stands in the Dockerfile.
    fn write_inline(&mut self, transfer: &Transfer) -> Result<()> {
        let mut named = Vec::new();
        for inline in &transfer.inline {
            let path = self.destination.file(inline.name.as_ref())?;
            named.push((relative(&path), inline.content.as_bytes()));
        }
        if named.is_empty() {
            return Ok(());
        }
        let mut archive = Vec::new();
        let writing = || "write files of a Dockerfile".to_owned();
        coracle_store::pack_texts(&named, self.altered, &mut archive).attempt(writing)?;
        let unpacked = self.target.unpack(Path::new("/"), &archive[..], Copying::default());
        unpacked.map_err(|error| super::context::of_input(error, writing))
    }
}

/// Copies what was chosen.
pub(super) fn copy(source: &Tree, chosen: Chosen, target: &Tree, altered: Altered) -> Result<()> {
    move_all(source, &[chosen], &|_, _| false, altered, target)
}

/// Packs what was chosen and unpacks it at once.
pub(super) fn move_all(
    source: &Tree,
    chosen: &[Chosen],
    out: Filter<'_>,
    altered: Altered,
    target: &Tree,
) -> Result<()> {
    let copying = || "copy files of a build".to_owned();
    let (reader, writer) = io::pipe().attempt(copying)?;
    let kept = Copying { replace: Replace::SameKind, ..Copying::default() };
    std::thread::scope(|scope| {
        let unpacking = scope.spawn(move || target.unpack(Path::new("/"), reader, kept));
        let packed = source.pack_chosen(chosen, out, altered, writer);
        let unpacked = unpacking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match packed {
            // Where nobody reads any more, the reader says why.
            Err(coracle_store::Error::Write { .. }) if unpacked.is_err() => {}
            packed => packed.map_err(|error| missing(error, &chosen[0].path))?,
        }
        unpacked.map_err(|error| super::context::of_input(error, copying))
    })
}
