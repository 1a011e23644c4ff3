//! The context of a build: a directory of this machine, or an archive that is unpacked into a directory of its own.

use super::inputs::{Client, Recipe, Selection, Source};
use super::named::{Named, NamedContext};
use super::provenance::Material;
use super::remote::{Fetcher, RemoteContext};
use super::room::Room;
use super::workshop::Bench;
use crate::engine::Shared;
use crate::error::{Attempt, Error, Result, blocking};
use crate::images::BodyReader;
use coracle_build::Ignored;
use coracle_spec::Digest;
use coracle_store::{Altered, Chosen, Copying, Taken, Tree};
use coracle_sys::rooted::Root;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// What a Dockerfile is called.
const USUAL: [&str; 2] = ["Dockerfile", "dockerfile"];
/// What an ignore file is called.
const IGNORE: &str = ".dockerignore";

/// Where a context is in its workspace.
const TOP: &str = "context";

/// Mode of the root of a context, whatever the umask and the archive say.
const MODE: Mode = Mode::from_raw_mode(0o755);

/// The files of a context.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) tree: Tree,
    /// What the ignore file leaves out.
    ignored: Ignored,
    /// Where they were unpacked, unless they are read in place. Goes after the tree.
    _workspace: Option<Room>,
}

impl Files {
    /// Whether it is read where it is: whoever it belongs to may change it while it is read.
    pub(super) fn is_in_place(&self) -> bool {
        self._workspace.is_none()
    }

    /// Where they are.
    pub(super) fn directory(&self) -> std::io::Result<std::path::PathBuf> {
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&self.tree.root().as_fd());
        std::fs::read_link(format!("/proc/self/fd/{descriptor}"))
    }

    /// Whether a path is left out.
    pub(super) fn leaves_out(&self, path: &[u8]) -> bool {
        std::str::from_utf8(path).is_ok_and(|path| self.ignored.leaves_out(path))
    }
}

/// The contexts of a build, of which the client is asked for those that are needed.
pub(super) struct Contexts {
    main: OnceCell<Arc<Files>>,
    /// The name of the client's directory, where that is the context, and the ignore file that came with the Dockerfile.
    of_client: Option<(String, Option<String>)>,
    /// Those that have names.
    pub(super) others: BTreeMap<String, Named>,
    pub(super) client: Arc<dyn Client>,
    pub(super) shared: Arc<Shared>,
    /// Where the context was fetched from.
    origin: Option<Material>,
}

impl Contexts {
    /// The files of the context.
    pub(super) async fn main(&self) -> Result<Arc<Files>> {
        self.main.get_or_try_init(|| self.fetch()).await.cloned()
    }

    /// Where the context was fetched from, if it was.
    pub(super) fn origin(&self) -> Option<&Material> {
        self.origin.as_ref()
    }

    /// Whether one of them is read where it is.
    pub(super) fn are_in_place(&self) -> bool {
        self.main.get().is_some_and(|files| files.is_in_place())
            || self.others.values().any(Named::is_in_place)
    }

    async fn fetch(&self) -> Result<Arc<Files>> {
        let Some((name, ignore)) = &self.of_client else {
            return Err(Error::Invalid("this build has no context to take files from".to_owned()));
        };
        of_client(&self.shared, &self.client, name, ignore.as_deref()).await
    }
}

/// A directory of the client's, without what its ignore file leaves out, or `ignore` where that comes from elsewhere.
pub(super) async fn of_client(
    shared: &Arc<Shared>,
    client: &Arc<dyn Client>,
    name: &str,
    ignore: Option<&str>,
) -> Result<Arc<Files>> {
    let ignore = match ignore {
        Some(ignore) => ignore.to_owned(),
        None => ask_for_ignore(shared, client, name).await?.unwrap_or_default(),
    };
    let ignored = Ignored::parse(&ignore).map_err(super::invalid)?;
    let selection = Selection { exclude: ignored.patterns(), ..Selection::default() };
    let archive = client.directory(name, &selection).await?;
    let shared = Arc::clone(shared);
    blocking(move || {
        let (tree, workspace) = unpack(&shared, archive)?;
        Ok(Arc::new(Files { tree, ignored, _workspace: Some(workspace) }))
    })
    .await?
}

/// A directory of this machine, read where it is.
pub(super) async fn of_directory(directory: &OwnedFd) -> Result<Arc<Files>> {
    let directory = directory.try_clone().attempt(|| "open the context of a build".to_owned())?;
    blocking(move || {
        let tree = in_place(directory)?;
        let ignore = read_if_there(&tree, IGNORE)?.unwrap_or_default();
        let ignored = Ignored::parse(&ignore).map_err(super::invalid)?;
        Ok(Arc::new(Files { tree, ignored, _workspace: None }))
    })
    .await?
}

/// What is at an address, as it is there: nothing is unpacked.
pub(super) async fn of_address(
    shared: &Arc<Shared>,
    client: &Arc<dyn Client>,
    address: &str,
) -> Result<Arc<Files>> {
    let opened = Arc::clone(shared);
    let (tree, workspace) = blocking(move || make_room(&opened)).await??;
    Fetcher { shared, client }.named(address, &workspace.path().join(TOP)).await?;
    Ok(Arc::new(Files { tree, ignored: Ignored::default(), _workspace: Some(workspace) }))
}

fn in_place(directory: OwnedFd) -> Result<Tree> {
    let opening = || "open the context of a build".to_owned();
    let root = Root::from_fd(directory).attempt(opening)?;
    Tree::new(root, &[]).attempt(opening)
}

/// A copy of what another build has made. Blocks.
fn copy_of(shared: &Shared, layers: &[Digest]) -> Result<(Tree, Room)> {
    let (tree, workspace) = make_room(shared)?;
    let bench = Bench::open(shared, layers)?;
    let everything = Chosen { path: "/".into(), name: Vec::new(), taken: Taken::Content };
    super::files::copy(bench.tree(), everything, &tree, Altered::default())?;
    Ok((tree, workspace))
}

/// Reads the Dockerfile, and opens the context as far as that needs it.
pub(super) async fn open(
    shared: &Arc<Shared>,
    source: Source,
    recipe: &Recipe,
    others: BTreeMap<String, NamedContext>,
    client: &Arc<dyn Client>,
) -> Result<(String, Contexts)> {
    let opened = Arc::clone(shared);
    let alone = Recipe::InContext(USUAL[0].to_owned());
    let (mut recipe, mut origin) = (recipe, None);
    let (files, name) = match source {
        Source::Nothing => (None, None),
        Source::Client(name) => (None, Some(name)),
        Source::Archive(archive) => {
            let unpacking = move || unpack(&opened, archive).map(|(tree, work)| (tree, Some(work)));
            (Some(blocking(unpacking).await??), None)
        }
        Source::Address(address) => {
            let (tree, workspace, (what, material)) = fetch(shared, client, &address).await?;
            origin = Some(material);
            if what == RemoteContext::Dockerfile {
                recipe = &alone;
            }
            (Some((tree, Some(workspace))), None)
        }
        Source::Directory(directory) => (Some((in_place(directory)?, None)), None),
        Source::Product(product) => {
            let copying = move || copy_of(&opened, product.layers()).map(|(tree, work)| (tree, Some(work)));
            (Some(blocking(copying).await??), None)
        }
    };
    let (files, text, ignore) = match recipe {
        Recipe::Text(text) => {
            // Only the ignore file that has the usual name can be meant.
            let reading = move || {
                let ignore =
                    files.as_ref().map(|(tree, _)| read_if_there(tree, IGNORE)).transpose()?.flatten();
                Ok::<_, Error>((files, ignore))
            };
            let (files, ignore) = blocking(reading).await??;
            (files, text.clone(), ignore)
        }
        Recipe::InContext(path) => {
            let Some((tree, workspace)) = files else {
                return Err(Error::Invalid(
                    "this build has no context to read the Dockerfile from".to_owned(),
                ));
            };
            let path = path.clone();
            let reading = move || {
                let (text, ignore) = read_recipe(&tree, &path)?;
                Ok::<_, Error>((Some((tree, workspace)), text, ignore))
            };
            blocking(reading).await??
        }
        Recipe::Client { directory, path } => {
            let (text, ignore) = ask_for_recipe(shared, client, directory, path).await?;
            (files, text, ignore)
        }
    };
    let ignored = Ignored::parse(ignore.as_deref().unwrap_or_default()).map_err(super::invalid)?;
    let files = files.map(|(tree, workspace)| Arc::new(Files { tree, ignored, _workspace: workspace }));
    let contexts = Contexts {
        main: files.map(OnceCell::from).unwrap_or_default(),
        of_client: name.map(|name| (name, ignore)),
        others: others.into_iter().map(|(name, what)| (name, what.into())).collect(),
        client: Arc::clone(client),
        shared: Arc::clone(shared),
        origin,
    };
    Ok((text, contexts))
}

async fn fetch(
    shared: &Arc<Shared>,
    client: &Arc<dyn Client>,
    address: &str,
) -> Result<(Tree, Room, (RemoteContext, Material))> {
    let opened = Arc::clone(shared);
    let (tree, workspace) = blocking(move || make_room(&opened)).await??;
    let what = Fetcher { shared, client }.context(address, &workspace.path().join(TOP)).await?;
    Ok((tree, workspace, what))
}

/// An empty context.
fn make_room(shared: &Shared) -> Result<(Tree, Room)> {
    let opening = || "make room for the context of a build".to_owned();
    let workspace = Room::open(shared).attempt(opening)?;
    // The workspace is the engine's alone; the root in it is what `COPY . /new` gives its mode to.
    let top = workspace.path().join(TOP);
    coracle_sys::atomic::create_dir(&top, MODE).attempt(opening)?;
    let tree = Tree::new(Root::open(&top).attempt(opening)?, &[]).attempt(opening)?;
    Ok((tree, workspace))
}

/// Unpacks a context. Everything belongs to root, as what is copied from it does. Blocks.
fn unpack(shared: &Shared, archive: BodyReader) -> Result<(Tree, Room)> {
    let opening = || "unpack the context of a build".to_owned();
    let (tree, workspace) = make_room(shared)?;
    let copying = Copying { owner: Some((0, 0)), ..Copying::default() };
    tree.unpack(Path::new("/"), archive, copying).map_err(|error| of_input(error, opening))?;
    Ok((tree, workspace))
}

/// The text of a Dockerfile, and of the ignore file that goes with it.
fn read_recipe(tree: &Tree, path: &str) -> Result<(String, Option<String>)> {
    let (name, text) = read(tree, path)?;
    // A Dockerfile may have an ignore file of its own beside it.
    let own = read_if_there(tree, &format!("{name}{IGNORE}"))?;
    let ignore = match own {
        Some(own) => Some(own),
        None => read_if_there(tree, IGNORE)?,
    };
    Ok((text, ignore))
}

async fn ask_for_recipe(
    shared: &Arc<Shared>,
    client: &Arc<dyn Client>,
    directory: &str,
    path: &str,
) -> Result<(String, Option<String>)> {
    let follow = vec![path.to_owned(), format!("{path}{IGNORE}"), path.to_lowercase()];
    let selection = Selection { follow, ..Selection::default() };
    let archive = client.directory(directory, &selection).await?;
    let (shared, path) = (Arc::clone(shared), path.to_owned());
    let reading = move || {
        let (tree, _workspace) = unpack(&shared, archive)?;
        let (name, text) = read(&tree, if path == USUAL[0] { "" } else { &path })?;
        Ok((text, read_if_there(&tree, &format!("{name}{IGNORE}"))?))
    };
    blocking(reading).await?
}

async fn ask_for_ignore(
    shared: &Arc<Shared>,
    client: &Arc<dyn Client>,
    name: &str,
) -> Result<Option<String>> {
    let selection = Selection { follow: vec![IGNORE.to_owned()], ..Selection::default() };
    let archive = client.directory(name, &selection).await?;
    let shared = Arc::clone(shared);
    let reading = move || {
        let (tree, _workspace) = unpack(&shared, archive)?;
        read_if_there(&tree, IGNORE)
    };
    blocking(reading).await?
}

fn read(tree: &Tree, name: &str) -> Result<(String, String)> {
    let names: &[&str] = if name.is_empty() { &USUAL } else { &[name] };
    for name in names {
        if let Some(text) = read_if_there(tree, name)? {
            return Ok(((*name).to_owned(), text));
        }
    }
    let name = names[0];
    Err(Error::Invalid(format!("Cannot locate specified Dockerfile: {name} is not in the context")))
}

/// A small text of the context. Links are followed inside it.
fn read_if_there(tree: &Tree, name: &str) -> Result<Option<String>> {
    let reading = || format!("read {name} of the context");
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let file = match tree.root().open_file(name, flags, Mode::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(error) if matches!(error.errno(), Some(Errno::NOENT | Errno::NOTDIR)) => return Ok(None),
        // The name and the links are the client's.
        Err(error) if matches!(error.errno(), Some(Errno::LOOP | Errno::INVAL | Errno::NAMETOOLONG)) => {
            return Err(Error::Invalid(coracle_spec::full_text(&error)));
        }
        Err(error) => return Err(error).attempt(reading),
    };
    if !file.metadata().attempt(reading)?.is_file() {
        return Err(Error::Invalid(format!("{name} of the context is no file")));
    }
    let mut text = Vec::new();
    let limit = coracle_build::limits::TEXT as u64;
    file.take(limit + 1).read_to_end(&mut text).attempt(reading)?;
    if text.len() as u64 > limit {
        return Err(Error::Invalid(format!("{name} of the context is larger than {limit} bytes")));
    }
    let text = String::from_utf8(text);
    text.map(Some).map_err(|_| Error::Invalid(format!("{name} of the context is no text")))
}

/// What is wrong with an archive is the client's.
pub(super) fn of_input(error: coracle_store::Error, action: impl FnOnce() -> String) -> Error {
    if error.is_input() {
        return Error::Invalid(coracle_spec::full_text(&error));
    }
    Error::Failed { action: action(), source: Box::new(error) }
}
