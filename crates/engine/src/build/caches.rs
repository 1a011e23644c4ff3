//! Directories that stay from one build to the next: `RUN --mount=type=cache`.
//!
//! ```text
//! build/caches/<digest of the id, of what it began with and of the owner asked for>[-N]/
//!   content/     what commands see; N counts caches of those who would not share
//!   about.json   its id, when it was used last, how large it was then
//! ```
//!
//! What is in one is a command's, and foreign. It is only ever mounted as a whole: nothing in it is a path of the engine's.

use super::memory::Permit;
use crate::engine::Engine;
use crate::error::{Attempt, Error, Result, blocking};
use coracle_build::Sharing;
use coracle_spec::Digest;
use coracle_sys::atomic;
use coracle_sys::rooted::Root;
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use time::OffsetDateTime;
use tokio::sync::Notify;

const CONTENT: &str = "content";
const ABOUT: &str = "about.json";
/// Largest description that is read, in bytes: an id may be long.
const LARGEST_ABOUT: u64 = 1 << 20;

/// All caches of an engine.
#[derive(Debug)]
pub(crate) struct CacheMounts {
    root: PathBuf,
    trash: PathBuf,
    used: Mutex<HashMap<String, Use>>,
    freed: Notify,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// By so many commands at once.
    Together(usize),
    Alone,
}

/// A cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheMount {
    /// What it is called on the disk.
    pub key: String,
    /// Its id, or the target if it has none.
    pub id: String,
    /// Seconds since 1970.
    pub created: i64,
    /// Seconds since 1970.
    pub last_used: i64,
    /// Bytes in its files when it was used last.
    pub size: u64,
    /// Whether a command uses it.
    pub in_use: bool,
}

/// The record of a cache.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct About {
    id: String,
    created: i64,
    last_used: i64,
    size: u64,
}

/// A cache that a command uses. Given back with the value.
#[derive(Debug)]
pub(super) struct Grant {
    caches: Arc<CacheMounts>,
    name: String,
    /// Whether there was nothing yet.
    pub(super) is_new: bool,
}

/// Which cache is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) id: String,
    pub(super) sharing: Sharing,
    /// What it begins with, if not with nothing.
    pub(super) seed: Option<String>,
    /// Owner and mode, if they are asked for.
    pub(super) permit: Option<Permit>,
}

impl Wanted {
    /// Its name on the disk.
    pub(super) fn key(&self) -> String {
        let seed = self.seed.as_deref().unwrap_or_default();
        let permit = self.permit.map(|permit| format!("\0{:o} {}:{}", permit.mode, permit.uid, permit.gid));
        Digest::of(format!("{}\0{seed}{}", self.id, permit.unwrap_or_default()).as_bytes()).hex()
    }
}

impl CacheMounts {
    pub(crate) fn new(data_root: &Path) -> Self {
        let root = data_root.join("build").join("caches");
        Self { root, trash: data_root.join("trash"), used: Mutex::default(), freed: Notify::new() }
    }

    /// Takes a cache, and waits while somebody has it who does not share. One command takes several in the order of their
    /// keys, or two would wait for each other.
    pub(super) async fn take(self: &Arc<Self>, wanted: &Wanted) -> Result<Grant> {
        let key = wanted.key();
        let name = loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // From here on nothing is missed.
            freed.as_mut().enable();
            if let Some(name) = self.try_take(&key, wanted.sharing) {
                break name;
            }
            freed.await;
        };
        // From here on it is given back.
        let mut grant = Grant { caches: Arc::clone(self), name, is_new: false };
        let (caches, id, name) = (Arc::clone(self), wanted.id.clone(), grant.name.clone());
        grant.is_new = blocking(move || caches.prepare(&name, &id)).await??;
        Ok(grant)
    }

    fn try_take(&self, key: &str, sharing: Sharing) -> Option<String> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let now = match (sharing, used.get(key)) {
            (Sharing::Shared, None) => Use::Together(1),
            (Sharing::Shared, Some(Use::Together(count))) => Use::Together(count + 1),
            (Sharing::Locked | Sharing::Private, None) => Use::Alone,
            (Sharing::Private, Some(_)) => {
                let names = (1_usize..).map(|number| format!("{key}-{number}"));
                let free = names.into_iter().find(|name| !used.contains_key(name))?;
                used.insert(free.clone(), Use::Alone);
                return Some(free);
            }
            (Sharing::Shared, Some(Use::Alone)) | (Sharing::Locked, Some(_)) => return None,
        };
        used.insert(key.to_owned(), now);
        Some(key.to_owned())
    }

    /// Makes the directory of a cache, unless it is there; whether it is new. Its content is still to be made then.
    fn prepare(&self, name: &str, id: &str) -> Result<bool> {
        let directory = self.root.join(name);
        let making = || format!("make the cache {id}");
        for path in [self.root.parent().unwrap_or(&self.root), &self.root, &directory] {
            atomic::create_dir(path, Mode::RWXU).attempt(making)?;
        }
        if Root::open(directory.join(CONTENT)).is_ok() {
            return Ok(false);
        }
        let now = OffsetDateTime::now_utc().unix_timestamp();
        write_about(&directory, &About { id: id.to_owned(), created: now, last_used: now, size: 0 })?;
        Ok(true)
    }

    fn give_back(&self, name: &str) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        match used.get_mut(name) {
            Some(Use::Together(count)) if *count > 1 => *count -= 1,
            _ => drop(used.remove(name)),
        }
        drop(used);
        self.freed.notify_waiters();
    }

    /// All caches. Blocks.
    pub(crate) fn list(&self) -> Result<Vec<CacheMount>> {
        let listing = || format!("list {}", self.root.display());
        let entries = match std::fs::read_dir(&self.root) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.attempt(listing)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let Ok(key) = entry.attempt(listing)?.file_name().into_string() else { continue };
            // What has no record has no content either.
            let Some(about) = read_about(&self.root.join(&key)) else { continue };
            let in_use = self.used.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&key);
            let About { id, created, last_used, size } = about;
            found.push(CacheMount { key, id, created, last_used, size, in_use });
        }
        found.sort_by(|one, other| one.key.cmp(&other.key));
        Ok(found)
    }

    /// Removes a cache that no command uses; whether it was there and is gone. Blocks for a rename; the trash is emptied
    /// later.
    pub(crate) fn remove(&self, key: &str) -> Result<bool> {
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
            return Ok(false);
        }
        {
            let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
            if used.contains_key(key) {
                return Ok(false);
            }
            used.insert(key.to_owned(), Use::Alone);
        }
        let removed = atomic::discard(self.root.join(key), &self.trash);
        self.give_back(key);
        Ok(removed.attempt(|| format!("remove the cache {key}"))?.is_some())
    }

    /// Notes that a cache was used, and how large it is now. Blocks.
    fn note(&self, name: &str) -> Result<()> {
        let directory = self.root.join(name);
        let Some(about) = read_about(&directory) else { return Ok(()) };
        let size = coracle_store::size_of(&directory.join(CONTENT));
        let size = size.attempt(|| format!("measure the cache {}", about.id))?;
        let last_used = OffsetDateTime::now_utc().unix_timestamp();
        write_about(&directory, &About { last_used, size, ..about })
    }
}

impl Engine {
    /// What commands of builds keep for the next one.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn cache_mounts(&self) -> Result<Vec<CacheMount>> {
        let caches = Arc::clone(&self.shared.caches);
        blocking(move || caches.list()).await?
    }
}

impl Grant {
    /// Where the content is, or is to be made.
    pub(super) fn content(&self) -> PathBuf {
        self.caches.root.join(&self.name).join(CONTENT)
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let (caches, name) = (Arc::clone(&self.caches), std::mem::take(&mut self.name));
        let ending = move || {
            if let Err(error) = caches.note(&name) {
                tracing::warn!(error = error.chain(), "the use of a cache cannot be noted");
            }
            caches.give_back(&name);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(ending)),
            Err(_) => ending(),
        }
    }
}

fn write_about(directory: &Path, about: &About) -> Result<()> {
    let writing = || format!("describe the cache {}", about.id);
    let text = serde_json::to_vec(about)
        .map_err(|error| Error::Failed { action: writing(), source: Box::new(error) })?;
    atomic::write(directory.join(ABOUT), &text, Mode::RUSR | Mode::WUSR).attempt(writing)
}

fn read_about(directory: &Path) -> Option<About> {
    let root = Root::open(directory).ok()?;
    serde_json::from_slice(&root.read_bounded(ABOUT, LARGEST_ABOUT).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(id: &str, sharing: Sharing) -> Wanted {
        Wanted { id: id.to_owned(), sharing, seed: None, permit: None }
    }

    async fn taken(caches: &Arc<CacheMounts>, id: &str, sharing: Sharing) -> Grant {
        caches.take(&wanted(id, sharing)).await.unwrap()
    }

    /// Waits until the end of a grant, which is noted elsewhere, is through.
    async fn end(caches: &Arc<CacheMounts>, grant: Grant) {
        let freed = caches.freed.notified();
        drop(grant);
        freed.await;
    }

    #[tokio::test]
    async fn one_id_is_one_directory_below_the_caches_whatever_the_id() {
        let data = tempfile::tempdir().unwrap();
        let caches = Arc::new(CacheMounts::new(data.path()));
        for id in ["go", "../../etc", "/", "a\0b", "", &"x".repeat(5000)] {
            let grant = taken(&caches, id, Sharing::Shared).await;
            assert!(grant.is_new, "{id:.20}");
            std::fs::create_dir(grant.content()).unwrap();
            let parent = grant.content().parent().unwrap().parent().unwrap().to_owned();
            assert_eq!(parent, data.path().join("build/caches"));
            end(&caches, grant).await;
            assert!(!taken(&caches, id, Sharing::Shared).await.is_new);
        }
        assert_eq!(caches.list().unwrap().len(), 6);
    }

    #[tokio::test]
    async fn those_who_share_use_it_at_once_and_those_who_lock_wait() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(data.path().join("trash")).unwrap();
        let caches = Arc::new(CacheMounts::new(data.path()));
        let one = taken(&caches, "a", Sharing::Shared).await;
        let two = taken(&caches, "a", Sharing::Shared).await;
        assert_eq!(one.content(), two.content());
        let key = wanted("a", Sharing::Locked).key();
        assert_eq!(caches.try_take(&key, Sharing::Locked), None);
        end(&caches, one).await;
        assert_eq!(caches.try_take(&key, Sharing::Locked), None);
        let waiting = tokio::spawn({
            let caches = Arc::clone(&caches);
            async move { taken(&caches, "a", Sharing::Locked).await }
        });
        end(&caches, two).await;
        let locked = waiting.await.unwrap();
        assert_eq!(caches.try_take(&key, Sharing::Shared), None);
        assert!(!caches.remove(&key).unwrap(), "it is in use");
        end(&caches, locked).await;
        assert!(caches.remove(&key).unwrap() && caches.list().unwrap().is_empty());
    }

    #[tokio::test]
    async fn who_does_not_share_gets_another_one() {
        let data = tempfile::tempdir().unwrap();
        let caches = Arc::new(CacheMounts::new(data.path()));
        let one = taken(&caches, "a", Sharing::Private).await;
        let two = taken(&caches, "a", Sharing::Private).await;
        assert_ne!(one.content(), two.content());
        let first = one.content();
        end(&caches, one).await;
        assert_eq!(taken(&caches, "a", Sharing::Private).await.content(), first, "a free one is taken again");
    }

    #[tokio::test]
    async fn its_size_is_known_without_a_look_and_names_that_are_none_remove_nothing() {
        let data = tempfile::tempdir().unwrap();
        std::fs::create_dir(data.path().join("trash")).unwrap();
        let caches = Arc::new(CacheMounts::new(data.path()));
        let grant = taken(&caches, "a", Sharing::Shared).await;
        std::fs::create_dir(grant.content()).unwrap();
        std::fs::write(grant.content().join("f"), vec![0; 10_000]).unwrap();
        end(&caches, grant).await;
        assert_eq!(caches.list().unwrap()[0].size, 10_000);
        for key in ["", "..", "../caches", "x"] {
            assert!(!caches.remove(key).unwrap(), "{key}");
        }
    }
}
