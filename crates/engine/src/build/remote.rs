//! What builds take from addresses: files of web servers and Git repositories, for `ADD` and as contexts.

use super::agent::AgentSocket;
use super::files::Archives;
use super::git::{Access, Fetch, origin_of, without_user};
use super::inputs::Client;
use super::invalid;
use super::provenance::Material;
use super::room::Room;
use crate::engine::Shared;
use crate::error::{Attempt, Error, Result, blocking};
use crate::limits;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use coracle_build::{Address, FileRules, Files, Repository};
use coracle_registry::Secret;
use coracle_spec::digest::{Algorithm, Hasher};
use coracle_spec::{Digest, ModeChange};
use coracle_store::{Altered, Chosen, Copying, Taken, Tree};
use coracle_sys::rooted::Root;
use rustix::fs::Mode;
use std::fs::{FileTimes, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

/// Modes of files that a repository has: as git knows them, whatever the engine's umask is.
const OF_REPOSITORY: &str = "u=rwX,go=rX";
/// What a file is called whose address tells no name; it is only seen if it is to be called so.
const NAMELESS: &str = "__unnamed__";
/// The SSH agent that repositories are fetched by.
const AGENT: &str = "default";

/// Something that came from an address. Dropped on threads that may block.
pub(super) struct Fetched {
    /// Which of the sources it is.
    pub(super) number: usize,
    pub(super) tree: Tree,
    pub(super) what: What,
    /// What it is, but for its times.
    pub(super) identity: String,
    /// The same for those who ask what a build was made of.
    pub(super) material: Material,
    /// Goes after the tree.
    _workspace: Room,
}

/// What is in the tree.
pub(super) enum What {
    /// One file.
    File { name: PathBuf, archives: Archives },
    /// What is in a directory, with the modes that it gets.
    Repository { directory: PathBuf, mode: ModeChange },
}

/// What a context at an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RemoteContext {
    /// Files with a Dockerfile among them.
    Files,
    /// A Dockerfile alone.
    Dockerfile,
}

/// Who fetches, and by whose leave.
pub(super) struct Fetcher<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) client: &'a Arc<dyn Client>,
}

/// The sources of `wanted` that are addresses, with their numbers.
///
/// # Errors
/// [`Error::Invalid`] for addresses and options that cannot be.
pub(super) fn addresses(wanted: &Files) -> Result<Vec<(usize, Address)>> {
    let FileRules::Add { checksum, .. } = &wanted.rules else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (number, text) in wanted.transfer.sources.iter().enumerate() {
        match Address::of_source(text).map_err(invalid)? {
            Some(address) => found.push((number, address)),
            None if checksum.is_some() => {
                return Err(Error::Invalid(
                    "ADD --checksum is for addresses, not for files of the context".to_owned(),
                ));
            }
            None => {}
        }
    }
    Ok(found)
}

impl Fetcher<'_> {
    /// Fetches the sources of `wanted` that are addresses.
    pub(super) async fn fetch_all(&self, wanted: &Files) -> Result<Vec<Fetched>> {
        let FileRules::Add { checksum, keep_git_dir, unpack } = &wanted.rules else { return Ok(Vec::new()) };
        let mut fetched = Vec::new();
        for (number, address) in addresses(wanted)? {
            fetched.push(match address {
                Address::File(address) => {
                    let archives =
                        if *unpack == Some(true) { Archives::AreUnpacked } else { Archives::AreFiles };
                    let wanted = File {
                        address,
                        checksum: checksum.as_deref().map(checksum_of).transpose()?,
                        needs_name: wanted.transfer.destination.ends_with('/') && *unpack != Some(true),
                    };
                    self.file(number, &wanted, archives).await?
                }
                Address::Repository(mut repository) => {
                    if let Some(checksum) = checksum {
                        repository.demand(checksum).map_err(invalid)?;
                    }
                    repository.keep_git_dir = Some(repository.keep_git_dir.unwrap_or(*keep_git_dir));
                    self.repository(number, repository).await?
                }
            });
        }
        Ok(fetched)
    }

    /// Writes a context into the empty directory `into`. Everything in it becomes root's; a Dockerfile that comes alone is
    /// called so.
    ///
    /// # Errors
    /// [`Error::Missing`] for what is not there, [`Error::Invalid`] for what is no context.
    pub(super) async fn context(&self, address: &str, into: &Path) -> Result<(RemoteContext, Material)> {
        let address = Address::of_context(address).map_err(invalid)?;
        let fetched = match address {
            Address::File(address) => {
                let wanted = File { address, checksum: None, needs_name: false };
                self.file(0, &wanted, Archives::AreUnpacked).await?
            }
            Address::Repository(repository) => self.repository(0, repository).await?,
        };
        let (into, material) = (into.to_owned(), fetched.material.clone());
        let what = blocking(move || fetched.write_context(&into)).await??;
        Ok((what, material))
    }

    /// Writes what is at an address into the empty directory `into`: a repository, or a file under its own name.
    ///
    /// # Errors
    /// As [`Fetcher::context`].
    pub(super) async fn named(&self, address: &str, into: &Path) -> Result<()> {
        let fetched = match Address::of_context(address).map_err(invalid)? {
            Address::File(address) => {
                let wanted = File { address, checksum: None, needs_name: true };
                self.file(0, &wanted, Archives::AreFiles).await?
            }
            Address::Repository(mut repository) => {
                // As BuildKit: a repository by a name has its history.
                repository.keep_git_dir = Some(repository.keep_git_dir.unwrap_or(true));
                self.repository(0, repository).await?
            }
        };
        let into = into.to_owned();
        blocking(move || fetched.write(&into)).await?
    }

    async fn file(&self, number: usize, wanted: &File, archives: Archives) -> Result<Fetched> {
        let workspace = self.workspace().await?;
        let top = workspace.path().join("fetched");
        let (name, digest) = self.download(wanted, &top).await?;
        if let Some(expected) = wanted.checksum.filter(|expected| *expected != digest) {
            return Err(Error::Invalid(format!(
                "digest mismatch {digest}: {expected} was expected of {}",
                wanted.address
            )));
        }
        let opening = || "open a file that was fetched".to_owned();
        let tree = Root::open(&top).attempt(opening)?;
        let tree = Tree::new(tree, &[]).attempt(opening)?;
        let identity = format!("file {name} {digest}");
        let what = What::File { name: name.into(), archives };
        let material = Material::file(&wanted.address, digest);
        Ok(Fetched { number, tree, what, identity, material, _workspace: workspace })
    }

    async fn workspace(&self) -> Result<Room> {
        let shared = Arc::clone(self.shared);
        let making = || "make room for what is fetched".to_owned();
        blocking(move || {
            let workspace = Room::open(&shared)?;
            coracle_sys::atomic::create_dir(workspace.path().join("fetched"), Mode::from_raw_mode(0o755))?;
            Ok::<_, coracle_store::Error>(workspace)
        })
        .await?
        .attempt(making)
    }

    /// Writes a file into the directory `top`; its name and digest.
    async fn download(&self, wanted: &File, top: &Path) -> Result<(String, Digest)> {
        let address = &wanted.address;
        let header = self.authorization(address, "HTTP_AUTH_HEADER_", "HTTP_AUTH_TOKEN_").await?;
        let mut stream = self.shared.images.fetch(address, header.as_ref()).await?;
        let disposed = || stream.disposition().and_then(coracle_build::disposed_name);
        let name = coracle_build::file_name(address).or_else(disposed);
        if name.is_none() && wanted.needs_name {
            return Err(Error::Invalid(format!(
                "{address} does not tell what its file is called: let the destination end with a name"
            )));
        }
        let name = name.unwrap_or_else(|| NAMELESS.to_owned());
        let writing = || format!("write what {address} gives");
        let path = top.join(&name);
        let mut file = tokio::fs::File::create_new(&path).await.attempt(writing)?;
        let (mut hasher, mut size) = (Hasher::new(Algorithm::Sha256), 0_u64);
        loop {
            let piece = stream.next().await;
            let piece = piece.map_err(|error| Error::Missing(coracle_spec::full_text(&error)))?;
            let Some(piece) = piece else { break };
            size += piece.len() as u64;
            if size > limits::FETCHED {
                let limit = limits::FETCHED;
                return Err(Error::Invalid(format!("{address} gives more than the {limit} bytes allowed")));
            }
            hasher.update(&piece);
            file.write_all(&piece).await.attempt(writing)?;
        }
        file.flush().await.attempt(writing)?;
        let (file, modified) = (file.into_std().await, stream.modified());
        let finishing = move || {
            file.set_permissions(Permissions::from_mode(0o600))?;
            modified.map_or(Ok(()), |time| file.set_times(FileTimes::new().set_modified(time)))
        };
        blocking(finishing).await?.attempt(writing)?;
        Ok((name, hasher.finish()))
    }

    /// What the client's secrets say of a host: a whole header, or a token. Names with the host at their end come first.
    async fn authorization(&self, address: &str, header: &str, token: &str) -> Result<Option<Secret>> {
        let Some(host) = host_of(address) else { return Ok(None) };
        if let Some(secret) = self.client.secret(&format!("{header}{host}")).await? {
            return Ok(Some(Secret::new(text(&secret))));
        }
        let token = self.client.secret(&format!("{token}{host}")).await?;
        Ok(token.map(|secret| Secret::new(format!("Bearer {}", text(&secret)))))
    }

    async fn repository(&self, number: usize, wanted: Repository) -> Result<Fetched> {
        let (remote, own) = without_user(&wanted.remote);
        let wanted = Repository { remote, ..wanted };
        let workspace = self.workspace().await?;
        let place = workspace.path().join("fetched");
        let is_ssh = !wanted.remote.starts_with("http") && !wanted.remote.starts_with("git://");
        // It is needed as long as git runs.
        let agent = match is_ssh {
            true => AgentSocket::open(self.client, AGENT, workspace.path()).await?,
            false => None,
        };
        let access = Access {
            authorization: match own {
                Some(own) => Some(own),
                None => self.git_authorization(&wanted.remote).await?,
            },
            agent: agent.as_ref().map(|agent| agent.path().to_owned()),
        };
        let checkout = Fetch { wanted: &wanted, access: &access, place: &place }.run().await?;
        drop(agent);
        let commit = checkout.commit;
        let reference = wanted.reference.iter().map(|reference| format!("#{reference}"));
        let material =
            Material::commit(&format!("{}{}", wanted.remote, reference.collect::<String>()), &commit);
        blocking(move || {
            let opening = || "open a repository that was fetched".to_owned();
            let tree = Root::open(&checkout.directory).attempt(opening)?;
            let tree = Tree::new(tree, &[]).attempt(opening)?;
            let keeps = wanted.keep_git_dir == Some(true);
            if !keeps {
                remove_git_directories(&tree)?;
            }
            let subdirectory = wanted.subdirectory.unwrap_or_default();
            // A link in it would lead to other files than the address says (CVE-2026-33748).
            if tree.root().open_directory_without_links(&subdirectory).is_err() && !subdirectory.is_empty() {
                return Err(Error::Missing(format!("the repository has no directory {subdirectory}")));
            }
            let identity = format!("repository {commit} {subdirectory} {keeps} {:?}", wanted.submodules);
            let mode = OF_REPOSITORY.parse().expect("a constant mode");
            let what = What::Repository { directory: Path::new("/").join(subdirectory), mode };
            Ok(Fetched { number, tree, what, identity, material, _workspace: workspace })
        })
        .await?
    }

    async fn git_authorization(&self, remote: &str) -> Result<Option<Secret>> {
        let Some(host) = host_of(remote) else { return Ok(None) };
        for end in [format!(".{host}"), String::new()] {
            if let Some(header) = self.client.secret(&format!("GIT_AUTH_HEADER{end}")).await? {
                return Ok(Some(Secret::new(text(&header))));
            }
            if let Some(token) = self.client.secret(&format!("GIT_AUTH_TOKEN{end}")).await? {
                let pair = BASE64.encode(format!("x-access-token:{}", text(&token)));
                return Ok(Some(Secret::new(format!("basic {pair}"))));
            }
        }
        Ok(None)
    }
}

/// `host:port` of an address of http or https.
fn host_of(address: &str) -> Option<String> {
    Some(origin_of(address)?.split_once("://")?.1.to_owned())
}

/// What a secret says that is a text.
fn text(secret: &[u8]) -> String {
    String::from_utf8_lossy(secret).trim().to_owned()
}

/// A file that is wanted of a web server.
struct File {
    address: String,
    checksum: Option<Digest>,
    /// Whether it keeps the name that it has there.
    needs_name: bool,
}

fn checksum_of(text: &str) -> Result<Digest> {
    let digest = text.parse::<Digest>().ok().filter(|_| text.starts_with("sha256:"));
    digest.ok_or_else(|| {
        Error::Invalid(format!("invalid checksum {text:?}: that of a file is sha256: and 64 hex digits"))
    })
}

/// The histories of a repository and of those in it: what git keeps them in is called so everywhere, and nothing else is.
fn remove_git_directories(tree: &Tree) -> Result<()> {
    let removing = || "leave out the history of a repository".to_owned();
    let mut found = Vec::new();
    let visited = tree.paths(&mut |path, _| {
        let is_one = path.file_name().is_some_and(|name| name.as_bytes() == b".git");
        if is_one {
            found.push(path.to_owned());
        }
        !is_one
    });
    visited.attempt(removing)?;
    found.iter().try_for_each(|path| tree.root().remove_tree(path)).attempt(removing)
}

impl Fetched {
    /// Writes what was fetched as it is. Blocks.
    fn write(&self, into: &Path) -> Result<()> {
        let target = open(into)?;
        match &self.what {
            What::Repository { directory, mode } => {
                super::files::copy(&self.tree, content(directory, ""), &target, of_root(Some(*mode)))
            }
            What::File { name, .. } => {
                let own = name.to_string_lossy();
                super::files::copy(&self.tree, content(name, &own), &target, of_root(None))
            }
        }
    }

    /// Writes what was fetched as a context. Blocks.
    fn write_context(&self, into: &Path) -> Result<RemoteContext> {
        let writing = || "write the context of a build".to_owned();
        let target = open(into)?;
        match &self.what {
            What::Repository { .. } => {
                self.write(into)?;
                Ok(RemoteContext::Files)
            }
            What::File { name, .. } if self.tree.is_archive(name).attempt(writing)? => {
                let file = self.tree.open(name).attempt(writing)?;
                let copying = Copying { owner: Some((0, 0)), ..Copying::default() };
                let unpacked = target.unpack(Path::new("/"), file, copying);
                unpacked.map_err(|error| super::context::of_input(error, writing))?;
                Ok(RemoteContext::Files)
            }
            What::File { name, .. } => {
                let readable = "644".parse().expect("a constant mode");
                let recipe = content(name, "Dockerfile");
                super::files::copy(&self.tree, recipe, &target, of_root(Some(readable)))?;
                Ok(RemoteContext::Dockerfile)
            }
        }
    }
}

fn open(directory: &Path) -> Result<Tree> {
    let opening = || "write the context of a build".to_owned();
    Tree::new(Root::open(directory).attempt(opening)?, &[]).attempt(opening)
}

fn content(path: &Path, name: &str) -> Chosen {
    Chosen { path: path.to_owned(), name: name.into(), taken: Taken::Content }
}

/// What is fetched becomes root's.
fn of_root(mode: Option<ModeChange>) -> Altered {
    Altered { owner: Some((0, 0)), mode, ..Altered::default() }
}
