//! Layers on their way here: each blob is fetched once, however many pulls wait for it, and goes on as long as one of
//! them does.
//!
//! ```text
//! Waiting ─► Downloading(bytes) ─► Unpacking ─► Done
//!    └────────────┴──────────────────┴────────► Failed: who started it hears why, the others try by themselves
//! ```

use super::super::body::BodyReader;
use super::super::forward::forward;
use super::super::{Inner, of_store};
use super::{LayerStep, Teller, of_registry};
use crate::error::{Attempt, Error, Result, blocking};
use coracle_registry::Repository;
use coracle_spec::image::Descriptor;
use coracle_spec::{Digest, Reference};
use coracle_store::{Expected, Layer};
use futures_util::FutureExt;
use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;

/// All layers that are on their way.
#[derive(Debug, Default)]
pub(in super::super) struct Downloads {
    registries: Mutex<HashMap<String, FromOne>>,
}

/// What is on its way from one registry. A registry that is slow or hostile delays no pull from another, not even of the
/// same layer.
#[derive(Debug)]
struct FromOne {
    running: HashMap<Digest, Weak<Download>>,
    /// How many more may come at once.
    slots: Arc<Semaphore>,
}

/// One of them.
#[derive(Debug)]
struct Download {
    state: watch::Receiver<State>,
    failure: Arc<Mutex<Option<Error>>>,
    task: AbortHandle,
}

#[derive(Clone, Debug)]
enum State {
    Waiting,
    Downloading(u64),
    Unpacking,
    Done(Layer),
    Failed,
}

/// A download that somebody waits for.
#[derive(Debug)]
pub(super) struct Begun {
    download: Arc<Download>,
    /// Whether it began here, and not with another pull.
    here: bool,
}

/// A blob, and where it is to be had.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) repository: Repository,
    pub(super) reference: Reference,
    pub(super) blob: Descriptor,
}

impl Drop for Download {
    /// Nobody waits any more. What came is kept for the next attempt.
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Downloads {
    /// Waits until a layer is fetched and unpacked that has begun to come.
    pub(super) async fn finish(
        &self,
        mut begun: Begun,
        inner: &Arc<Inner>,
        source: &Source,
        told: &Teller,
    ) -> Result<Layer> {
        let id = source.blob.digest.short();
        loop {
            if let Some(layer) = follow(&begun.download, &id, source.blob.size, told).await? {
                return Ok(layer);
            }
            if begun.here {
                let failure = begun.download.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
                return Err(failure.expect("a failed download says why"));
            }
            // Another pull's registry or credentials may be at fault: this one has its own.
            begun = self.begin(inner, source);
        }
    }

    /// Has a layer come, unless it does so already. Those that begin first get the slots first.
    pub(super) fn begin(&self, inner: &Arc<Inner>, source: &Source) -> Begun {
        let mut registries = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        registries.retain(|_, from| {
            from.running.retain(|_, download| download.strong_count() > 0);
            !from.running.is_empty()
        });
        let slots = || Arc::new(Semaphore::new(inner.registry_settings().downloads));
        let new = || FromOne { running: HashMap::new(), slots: slots() };
        let from = registries.entry(source.reference.domain().to_owned()).or_insert_with(new);
        let alive = from.running.get(&source.blob.digest).and_then(Weak::upgrade);
        if let Some(download) = alive.filter(|download| !matches!(*download.state.borrow(), State::Failed)) {
            return Begun { download, here: false };
        }
        let download = Arc::new(start(Arc::clone(inner), source.clone(), Arc::clone(&from.slots)));
        from.running.insert(source.blob.digest, Arc::downgrade(&download));
        Begun { download, here: true }
    }
}

/// Tells how a download goes, to its end; `None` when it failed.
async fn follow(download: &Download, id: &str, total: u64, told: &Teller) -> Result<Option<Layer>> {
    let mut state = download.state.clone();
    loop {
        let now = state.borrow_and_update().clone();
        match now {
            State::Waiting => told.layer(id, LayerStep::Waiting).await,
            State::Downloading(done) => told.layer(id, LayerStep::Downloading { done, total }).await,
            State::Unpacking => told.layer(id, LayerStep::Downloaded).await,
            State::Done(layer) => return Ok(Some(layer)),
            State::Failed => return Ok(None),
        }
        state.changed().await.attempt(|| format!("wait for layer {id}"))?;
    }
}

fn start(inner: Arc<Inner>, source: Source, slots: Arc<Semaphore>) -> Download {
    let (sender, state) = watch::channel(State::Waiting);
    let failure = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&failure);
    let mut turn = Box::pin(slots.acquire_owned());
    // Looked at once here: otherwise the order of the turns would be the one in which the tasks happen to run first.
    let now = (&mut turn).now_or_never();
    let task = tokio::spawn(async move {
        let permit = match now {
            Some(permit) => permit,
            None => turn.await,
        };
        let result = match permit.attempt(|| "wait for a download to begin".to_owned()) {
            Ok(_permit) => fetch_resuming(&inner, &source, &sender).await,
            Err(error) => Err(error),
        };
        let end = match result {
            Ok(layer) => State::Done(layer),
            Err(error) => {
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                State::Failed
            }
        };
        sender.send_replace(end);
    });
    Download { state, failure, task: task.abort_handle() }
}

/// Fetches a layer. A beginning that was kept from before and turns out to be wrong is fetched again too, and so is what
/// only a mirror had wrong.
async fn fetch_resuming(inner: &Arc<Inner>, source: &Source, state: &watch::Sender<State>) -> Result<Layer> {
    if let Some(layer) = unpack_again(inner, source).await? {
        return Ok(layer);
    }
    loop {
        let had = kept(inner, source).await?;
        let mut from = None;
        let result = fetch(inner, source, state, &mut from).await;
        if !matches!(result, Err(Error::Invalid(_))) {
            return result;
        }
        let resumed_wrongly = had > 0 && kept(inner, source).await? == 0;
        let mirror_is_out = from.is_some_and(|host| source.repository.distrust(&host));
        if !resumed_wrongly && !mirror_is_out {
            return result;
        }
    }
}

/// Unpacks a blob that is here whole, though its layer is not: the engine was killed between the two.
async fn unpack_again(inner: &Arc<Inner>, source: &Source) -> Result<Option<Layer>> {
    let (inner, source) = (Arc::clone(inner), source.clone());
    blocking(move || {
        let _hold = inner.holds.arriving_blob(source.blob.digest);
        let expected = Expected { blob: Some(source.blob.digest), diff_id: None };
        let unpacked = match inner.store.read_blob(&source.blob.digest) {
            Ok(blob) => inner.store.import(blob, &expected).map(Some),
            Err(coracle_store::Error::BlobMissing { .. }) => Ok(None),
            Err(error) => Err(error),
        };
        unpacked.map_err(|error| failed(error, &source))
    })
    .await?
}

/// How many bytes an earlier attempt has left, of no more than there are.
async fn kept(inner: &Arc<Inner>, source: &Source) -> Result<u64> {
    let (inner, source) = (Arc::clone(inner), source.clone());
    blocking(move || {
        let partial = inner.store.partial(&source.blob.digest).map_err(|error| failed(error, &source))?;
        Ok(partial.map_or(0, |partial| partial.size).min(source.blob.size))
    })
    .await?
}

/// One attempt. `from` tells which host gave the content.
async fn fetch(
    inner: &Arc<Inner>,
    source: &Source,
    state: &watch::Sender<State>,
    from: &mut Option<String>,
) -> Result<Layer> {
    let offset = kept(inner, source).await?;
    let stream = source.repository.blob(&source.blob, offset).await;
    let mut stream = stream.map_err(|error| of_registry(error, &source.reference))?;
    let (sender, reader) = BodyReader::channel();
    let importing = {
        let (inner, source) = (Arc::clone(inner), source.clone());
        tokio::task::spawn_blocking(move || import(&inner, &source, offset, reader))
    };
    state.send_replace(State::Downloading(offset));
    let came = forward(&mut stream, sender, |done| {
        state.send_replace(State::Downloading(offset + done));
        std::future::ready(())
    });
    match came.await {
        Ok(whole) => {
            *from = Some(stream.host());
            if whole {
                state.send_replace(State::Unpacking);
            }
            super::joined(importing.await)
        }
        Err(error) => {
            // It ends for the same reason, after keeping what came.
            let _ = importing.await;
            Err(of_registry(error, &source.reference))
        }
    }
}

/// Makes a layer of what came before and what comes now. Blocks.
fn import(inner: &Inner, source: &Source, offset: u64, rest: BodyReader) -> Result<Layer> {
    let _hold = inner.holds.arriving_blob(source.blob.digest);
    let expected = Expected { blob: Some(source.blob.digest), diff_id: None };
    let layer = match inner.store.partial(&source.blob.digest).map_err(|error| failed(error, source))? {
        Some(partial) if offset > 0 => {
            inner.store.import(partial.content.take(offset).chain(rest), &expected)
        }
        _ => inner.store.import(rest, &expected),
    };
    layer.map_err(|error| failed(error, source))
}

fn failed(error: coracle_store::Error, source: &Source) -> Error {
    of_store(error, || {
        format!("unpack layer {} of {}", source.blob.digest.short(), source.reference.familiar())
    })
}
