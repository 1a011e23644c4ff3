//! What a command is given for its time: `RUN --mount`, and the script of a here-document.
//!
//! Nothing of it is a path that a command or an image chooses: what is mounted is a directory of the engine's own, or a
//! place in one that was reached without leaving it (CVE-2024-1753, CVE-2024-23651). What may be written to is a copy that
//! goes afterwards (CVE-2025-4953), but for caches.

use super::BuildResult;
use super::agent::AgentSocket;
use super::cache::Inputs;
use super::caches::{Grant, Wanted as WantedCache};
use super::context::Files as ContextFiles;
use super::memory::{MemoryDirectory, Permit};
use super::origins::Origins;
use super::room::Room;
use super::sources::{LeftOut, Supply, missing, not_found};
use super::stages::Build;
use super::stubs::Stubs;
use super::workshop::Bench;
use crate::containers::settings::{MountSetting, Settings};
use crate::engine::Shared;
use crate::error::{Attempt, Error, Result, blocking};
use coracle_build::{Command, Mount, MountKind, Origin, Program};
use coracle_spec::Digest;
use coracle_store::{Altered, Chosen, Filter, Taken, Tree};
use coracle_sys::atomic;
use coracle_sys::rooted::Root;
use rustix::fs::{FileType, Mode};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the script of a here-document is, as BuildKit has it.
const SCRIPTS: &str = "/dev/pipes";
/// Where secrets are that nobody asks for elsewhere.
const SECRETS: &str = "/run/secrets";
/// What a copy is called in its workspace.
const COPY: &str = "content";

/// What a command is given. Everything goes with the value, which is dropped on threads that may block.
#[derive(Default)]
pub(super) struct Mounts {
    words: Option<Vec<String>>,
    mounts: Vec<MountSetting>,
    tmpfs: BTreeMap<String, String>,
    /// Variables that say where something is.
    env: Vec<String>,
    /// Variables that are secrets, and no part of any record.
    secret_env: Vec<String>,
    stubs: Stubs,
    memory: Option<MemoryDirectory>,
    _agents: Vec<AgentSocket>,
    _caches: Vec<Grant>,
    _copies: Vec<Room>,
    _contexts: Vec<Arc<ContextFiles>>,
}

impl Mounts {
    /// Gets everything ready for a command that runs on `layers`; `others` is where more is mounted.
    pub(super) async fn prepare(
        build: &Build<'_>,
        layers: &[Digest],
        command: &Command,
        others: &[String],
    ) -> BuildResult<Self> {
        let mut mounts = Self::default();
        if let Program::Script { name, text } = &command.program {
            mounts.script(build, name, text)?;
        }
        mounts.caches(build, &command.mounts).await?;
        for (mount, from) in &command.mounts {
            match mount.kind {
                MountKind::Bind => mounts.bind(build, mount, from.as_ref()).await?,
                MountKind::Cache => {}
                MountKind::Tmpfs => mounts.tmpfs(mount)?,
                MountKind::Secret => mounts.secret(build, mount).await?,
                MountKind::Ssh => mounts.ssh(build, mount).await?,
            }
        }
        let targets: Vec<String> = mounts
            .mounts
            .iter()
            .map(|mount| mount.target.clone())
            .chain(mounts.tmpfs.keys().cloned())
            .chain(others.iter().cloned())
            .collect();
        if !targets.is_empty() {
            let (shared, layers) = (Arc::clone(build.shared()), layers.to_vec());
            let finding = move || {
                let bench = Bench::open(&shared, &layers)?;
                Stubs::find(bench.tree(), targets.iter().map(String::as_str))
            };
            mounts.stubs = blocking(finding).await??;
        }
        Ok(mounts)
    }

    /// Adds what is bound to what the command depends on. A cache and a secret may be anything.
    pub(super) async fn add_inputs(
        build: &Build<'_>,
        command: &Command,
        inputs: &mut Inputs,
    ) -> BuildResult<()> {
        for (mount, from) in command.mounts.iter().filter(|(mount, _)| mount.kind == MountKind::Bind) {
            let name = format!("the files at {}", mount.target.as_deref().unwrap_or_default());
            let origin = build.origin(from.as_ref()).await?;
            if let Origins::Layers(layers) = &origin {
                inputs.add_digests(name, layers);
                continue;
            }
            let altered = Altered { owner: Some((0, 0)), ..Altered::default() };
            let look =
                move |tree: &Tree, chosen: Chosen, out: Filter<'_>| tree.fingerprint(&[chosen], out, altered);
            inputs.add_digest(name, look_at(build, origin, mount, look).await?);
        }
        Ok(())
    }

    /// What the kernel notes of changes of what is bound of the context.
    pub(super) async fn state(build: &Build<'_>, command: &Command) -> Result<String> {
        let mut states = String::new();
        for (mount, from) in &command.mounts {
            let reads = !matches!(from, Some(Origin::Stage(_) | Origin::Image(_)));
            if mount.kind == MountKind::Bind && reads {
                let origin = build.origin(from.as_ref()).await?;
                let look = |tree: &Tree, chosen: Chosen, out: Filter<'_>| tree.state(&[chosen], out);
                states.push_str(&look_at(build, origin, mount, look).await?.to_string());
            }
        }
        Ok(states)
    }

    /// Adds it all to the settings of the command's container.
    pub(super) fn add_to(&self, settings: &mut Settings) {
        if let Some(words) = &self.words {
            settings.cmd = Some(words.clone());
        }
        settings.host.mounts.extend(self.mounts.iter().cloned());
        settings.host.tmpfs.extend(self.tmpfs.clone());
        settings.env.extend(self.env.iter().cloned());
        settings.secret_env.0.extend(self.secret_env.iter().cloned());
    }

    /// Removes what mounts were attached to from the directory of what the command wrote. Blocks.
    pub(super) fn clean(&self, written: &Path) -> Result<()> {
        self.stubs.clean(written)
    }

    fn memory(&mut self, shared: &Shared) -> Result<&MemoryDirectory> {
        if self.memory.is_none() {
            self.memory = Some(MemoryDirectory::new(&shared.config)?);
        }
        Ok(self.memory.as_ref().expect("it was made"))
    }

    fn mount(&mut self, source: &Path, target: String, read_only: bool) -> Result<()> {
        if self.mounts.iter().any(|mount| mount.target == target) || self.tmpfs.contains_key(&target) {
            return Err(Error::Invalid(format!("duplicate mount point: {target}")));
        }
        let source = source.to_str().ok_or_else(|| {
            Error::Unsupported(format!("a path with names that are no text cannot be mounted at {target}"))
        })?;
        self.mounts.push(MountSetting {
            kind: "bind".to_owned(),
            is_engines: true,
            source: source.to_owned(),
            target,
            read_only,
            ..MountSetting::default()
        });
        Ok(())
    }

    fn script(&mut self, build: &Build<'_>, name: &str, text: &str) -> Result<()> {
        let permit = Permit { mode: 0o755, uid: 0, gid: 0 };
        let path = self.memory(build.shared())?.write("script", text.as_bytes(), permit)?;
        let target = format!("{SCRIPTS}/{name}");
        self.words = Some(vec![target.clone()]);
        self.mount(&path, target, true)
    }

    fn tmpfs(&mut self, mount: &Mount) -> Result<()> {
        let target = target_of(mount)?;
        let size = mount.size.as_deref().map(size_of).transpose()?;
        // Builds run programs there, as `configure` does.
        let options = std::iter::once("exec".to_owned()).chain(size.map(|size| format!("size={size}")));
        self.tmpfs.insert(target, options.collect::<Vec<_>>().join(","));
        Ok(())
    }

    async fn secret(&mut self, build: &Build<'_>, mount: &Mount) -> Result<()> {
        let target = mount.target.as_deref();
        let id = mount.id.as_deref().or(target.and_then(|path| path.rsplit('/').next())).unwrap_or_default();
        let Some(secret) = build.request.client.secret(id).await? else {
            return if mount.required {
                Err(Error::Invalid(format!("secret {id}: not found")))
            } else {
                Ok(())
            };
        };
        if let Some(name) = &mount.env {
            let text = String::from_utf8(secret.clone()).ok().filter(|text| !text.contains('\0'));
            let text = text.ok_or_else(|| {
                Error::Invalid(format!("secret {id} is no text: it can be a file, but no variable"))
            })?;
            self.secret_env.push(format!("{name}={text}"));
            if target.is_none() {
                return Ok(());
            }
        }
        let permit = Permit {
            mode: mount.mode.unwrap_or(0o400),
            uid: mount.uid.unwrap_or(0),
            gid: mount.gid.unwrap_or(0),
        };
        let name = format!("secret-{}", self.mounts.len());
        let path = self.memory(build.shared())?.write(&name, &secret, permit)?;
        let target = target.map_or_else(|| format!("{SECRETS}/{id}"), str::to_owned);
        self.mount(&path, target, true)
    }

    async fn ssh(&mut self, build: &Build<'_>, mount: &Mount) -> Result<()> {
        let id = mount.id.as_deref().unwrap_or("default");
        let directory = self.memory(build.shared())?.path().to_owned();
        let Some(agent) = AgentSocket::open(&build.request.client, id, &directory).await? else {
            let refused = || {
                Error::Invalid(format!(
                    "unset ssh forward key {id}: the client gives no SSH agent of this id"
                ))
            };
            return if mount.required { Err(refused()) } else { Ok(()) };
        };
        let permit = Permit {
            mode: mount.mode.unwrap_or(0o600),
            uid: mount.uid.unwrap_or(0),
            gid: mount.gid.unwrap_or(0),
        };
        permit.apply_to(agent.path()).attempt(|| "give the socket of an SSH agent its owner".to_owned())?;
        let number = self._agents.len();
        let target = mount.target.clone().unwrap_or_else(|| format!("/run/buildkit/ssh_agent.{number}"));
        if number == 0 {
            self.env.push(format!("SSH_AUTH_SOCK={target}"));
        }
        self.mount(agent.path(), target, true)?;
        self._agents.push(agent);
        Ok(())
    }

    /// Files of the context, a stage or an image.
    async fn bind(&mut self, build: &Build<'_>, mount: &Mount, from: Option<&Origin>) -> Result<()> {
        let (source, target) = (mount.source.clone().unwrap_or_else(|| "/".to_owned()), target_of(mount)?);
        let writable = mount.writable == Some(true);
        let shared = Arc::clone(build.shared());
        let origin = build.origin(from).await?;
        if let Origins::Context(context) = &origin {
            self._contexts.push(Arc::clone(context));
        }
        let finding = move || match &origin {
            Origins::Context(files) => of_context(&shared, files, &source, writable),
            Origins::Layers(_) => {
                let copied = origin.with(&shared, |supply| copy(&shared, supply, &source))?;
                Ok((copied.0, Some(copied.1)))
            }
        };
        let (path, copy) = blocking(finding).await??;
        self._copies.extend(copy);
        self.mount(&path, target, !writable)
    }

    /// All caches of a command, in the order of their keys: two commands never wait for each other.
    async fn caches(&mut self, build: &Build<'_>, mounts: &[(Mount, Option<Origin>)]) -> Result<()> {
        let mut wanted = Vec::new();
        for (mount, from) in mounts.iter().filter(|(mount, _)| mount.kind == MountKind::Cache) {
            let target = target_of(mount)?;
            let origin = match from {
                Some(from) => Some(build.origin(Some(from)).await?),
                None => None,
            };
            let source = mount.source.clone().unwrap_or_else(|| "/".to_owned());
            if origin.is_none() && source != "/" {
                // Whoever else has the cache could make a link of it meanwhile (CVE-2024-23651).
                return Err(Error::Unsupported(format!(
                    "a cache is mounted whole: source={source} needs from, of which the cache begins as a part"
                )));
            }
            let seed = match &origin {
                None => None,
                Some(Origins::Layers(layers)) => Some(format!("{layers:?} {source}")),
                Some(files) => {
                    let look = |tree: &Tree, chosen: Chosen, out: Filter<'_>| {
                        tree.fingerprint(&[chosen], out, Altered::default())
                    };
                    Some(look_at(build, files.clone(), mount, look).await?.to_string())
                }
            };
            let id = mount.id.clone().unwrap_or_else(|| target.clone());
            // Who asks for another owner asks for another cache, as with BuildKit: the first to come would decide otherwise.
            let is_owned = mount.mode.is_some() || mount.uid.is_some() || mount.gid.is_some();
            let permit = is_owned.then(|| permit_of(mount));
            let cache = WantedCache { id, sharing: mount.sharing, seed, permit };
            wanted.push((cache.key(), cache, mount, target, origin.map(|origin| (origin, source))));
        }
        wanted.sort_by(|one, other| one.0.cmp(&other.0));
        let mut last: Option<(String, PathBuf)> = None;
        for (key, cache, mount, target, seed) in wanted {
            let read_only = mount.writable == Some(false);
            if let Some((_, path)) = last.as_ref().filter(|(taken, _)| *taken == key) {
                self.mount(&path.clone(), target, read_only)?;
                continue;
            }
            let grant = build.shared().caches.take(&cache).await?;
            let path = grant.content();
            if grant.is_new {
                let permit = permit_of(mount);
                let (shared, path) = (Arc::clone(build.shared()), path.clone());
                blocking(move || begin_cache(&shared, &path, permit, seed)).await??;
            }
            self.mount(&path, target, read_only)?;
            self._caches.push(grant);
            last = Some((key, path));
        }
        Ok(())
    }
}

/// What the directory of a new cache is like.
fn permit_of(mount: &Mount) -> Permit {
    Permit { mode: mount.mode.unwrap_or(0o755), uid: mount.uid.unwrap_or(0), gid: mount.gid.unwrap_or(0) }
}

/// A digest of what is bound.
async fn look_at(
    build: &Build<'_>,
    origin: Origins,
    mount: &Mount,
    look: impl FnOnce(&Tree, Chosen, Filter<'_>) -> coracle_store::Result<Digest> + Send + 'static,
) -> Result<Digest> {
    let source = PathBuf::from(mount.source.as_deref().unwrap_or("/"));
    let shared = Arc::clone(build.shared());
    let looking = move || {
        origin.with(&shared, |supply| {
            let path = supply.follow(&source)?;
            let chosen = Chosen { path, name: b"bound".to_vec(), taken: Taken::Content };
            let digest = look(supply.tree, chosen, &|path, _| supply.leaves_out(path));
            digest.map_err(|error| missing(error, &source))
        })
    };
    blocking(looking).await?
}

fn target_of(mount: &Mount) -> Result<String> {
    let target = mount.target.clone().filter(|target| target != "/");
    target.ok_or_else(|| Error::Invalid("invalid mount target \"/\"".to_owned()))
}

/// `64m` in bytes.
fn size_of(text: &str) -> Result<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let shift = match unit.trim().trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => 64,
    };
    let size = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1_u64.checked_shl(shift)?));
    size.ok_or_else(|| Error::Invalid(format!("invalid size of a tmpfs: {text}")))
}

/// Where a part of the context is: itself where it is the engine's alone, nothing of it is left out and nobody writes, or
/// else a copy. Blocks.
fn of_context(
    shared: &Shared,
    context: &ContextFiles,
    source: &str,
    writable: bool,
) -> Result<(PathBuf, Option<Room>)> {
    let out = |path: &[u8]| context.leaves_out(path);
    let path = context.tree.follow(Path::new(source)).map_err(|error| missing(error, Path::new(source)))?;
    let relative = path.strip_prefix("/").unwrap_or(&path);
    if out(relative.as_os_str().as_bytes()) {
        return Err(not_found(&path, Some("the ignore file leaves it out")));
    }
    if writable || context.is_in_place() || leaves_out_some(&context.tree, relative, &out)? {
        let (path, copy) = copy(shared, Supply { tree: &context.tree, left_out: &out }, source)?;
        return Ok((path, Some(copy)));
    }
    // Nobody else reaches what was unpacked: the path leads there still when it is mounted.
    let top = context.directory().attempt(|| "find the context of a build".to_owned())?;
    Ok((top.join(relative), None))
}

fn leaves_out_some(tree: &Tree, below: &Path, out: LeftOut<'_>) -> Result<bool> {
    let mut found = false;
    let visited = tree.paths(&mut |path, _| {
        found |= path.starts_with(below) && out(path.as_os_str().as_bytes());
        !found && (path.starts_with(below) || below.starts_with(path))
    });
    visited.attempt(|| "look at the context of a build".to_owned())?;
    Ok(found)
}

/// A copy of a part of a tree in a directory of its own. Blocks.
fn copy(shared: &Shared, supply: Supply<'_>, source: &str) -> Result<(PathBuf, Room)> {
    let copying = || format!("copy {source} for a mount");
    let workspace = Room::open(shared).attempt(copying)?;
    copy_into(supply, source, workspace.path())?;
    Ok((workspace.path().join(COPY), workspace))
}

/// The same, into a directory, under the name [`COPY`].
fn copy_into(supply: Supply<'_>, source: &str, into: &Path) -> Result<()> {
    let copying = || format!("copy {source} for a mount");
    let (tree, path) = (supply.tree, supply.follow(Path::new(source))?);
    let target = Tree::new(Root::open(into).attempt(copying)?, &[]).attempt(copying)?;
    let found = tree.find(&path).attempt(copying)?;
    let is_directory =
        found.is_some_and(|found| FileType::from_raw_mode(found.stat.st_mode) == FileType::Directory);
    let part = |taken| Chosen { path: path.clone(), name: COPY.into(), taken };
    let chosen = if is_directory {
        vec![part(Taken::Itself), part(Taken::Content)]
    } else {
        vec![part(Taken::Content)]
    };
    super::files::move_all(tree, &chosen, &|path, _| supply.leaves_out(path), Altered::default(), &target)
}

/// Makes the content of a cache, all at once: whoever comes in between makes it too, and one of both stays. Blocks.
fn begin_cache(shared: &Shared, path: &Path, permit: Permit, seed: Option<(Origins, String)>) -> Result<()> {
    let making = || format!("make {}", path.display());
    let workspace = Room::open(shared).attempt(making)?;
    let new = workspace.path().join(COPY);
    match seed {
        None => atomic::create_dir(&new, Mode::RWXU).attempt(making)?,
        Some((origin, source)) => {
            origin.with(shared, |supply| copy_into(supply, &source, workspace.path()))?;
            if !new.is_dir() {
                return Err(Error::Invalid(format!(
                    "a cache cannot begin with {source}, which is no directory"
                )));
            }
        }
    }
    permit.apply_to(&new).attempt(making)?;
    match atomic::publish_durable(&new, path) {
        Err(error) if error.errno() == Some(rustix::io::Errno::EXIST) => Ok(()),
        published => published.attempt(making),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, bytes) in [("0", 0), ("1024", 1024), ("64m", 64 << 20), ("1GiB", 1 << 30), ("2 kb", 2048)]
        {
            assert_eq!(size_of(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "m", "-1", "1x", "99999999999t", "1m,mode=777"] {
            assert!(size_of(text).is_err(), "{text}");
        }
    }
}
