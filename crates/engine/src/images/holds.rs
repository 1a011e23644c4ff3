//! Who holds on to which content, so that nobody frees it.
//!
//! Whoever brings content, or makes something of what is there, holds on: to everything as long as it is not known what
//! that will be, to the digests alone from then on; whoever brings what a client sends, to what has arrived since. A client
//! that stops reading or sending thus keeps what its own operation needs, and nothing else. Whoever lets go has the
//! collector look again if it was kept from anything, or if content has arrived.
//!
//! Whoever makes a container says of which image as well, and whoever removes an image closes it to them meanwhile: either
//! the removal finds the container, or the container finds the image gone.

use super::catalogue::Known;
use coracle_spec::Digest;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// Who holds on. Whoever frees something keeps this locked while it goes, so that who begins to hold on finds it either
/// whole, and it stays, or gone.
#[derive(Debug)]
pub(super) struct Holds {
    state: Mutex<State>,
    /// Whether there may be content that no image needs. At first there may: an earlier engine may have been killed.
    left: AtomicBool,
    /// Whether images may take more room than they may. At first they may.
    grown: AtomicBool,
    collector: Arc<Notify>,
    /// Changes each time that an image is open again.
    opened: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<u64, Scope>,
    next: u64,
    /// Of which images containers are being made, by the key of who makes them.
    becoming: BTreeMap<u64, Digest>,
    /// Of which images no container begins to be made, once for each who says so.
    closed: Vec<Digest>,
    /// Whether something was not freed because somebody held on.
    refused: bool,
}

/// To what somebody holds on.
#[derive(Debug)]
enum Scope {
    Everything,
    Only(HashSet<Digest>),
    /// What has arrived since it began.
    Arrived(HashSet<Digest>),
}

/// What becomes of content that somebody holds on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Something is made of what is there.
    Use,
    /// It arrives, and an image may come of it or not.
    Arrival,
}

/// Keeps layers and blobs from being freed as long as it exists.
#[derive(Debug)]
pub struct Hold {
    holds: Arc<Holds>,
    key: u64,
    purpose: Purpose,
}

/// Somebody holds on to it: it is not freed.
#[derive(Debug)]
pub(super) struct Held;

impl Holds {
    /// `collector` is told when it should look again.
    pub(super) fn new(collector: Arc<Notify>) -> Self {
        let (left, grown) = (AtomicBool::new(true), AtomicBool::new(true));
        Self { state: Mutex::default(), left, grown, collector, opened: watch::Sender::default() }
    }

    /// Holds on to everything. Waits at most while one thing goes into the trash, which is a rename.
    pub(super) fn everything(self: &Arc<Self>) -> Hold {
        self.hold(Scope::Everything, Purpose::Use)
    }

    /// Holds on to everything while content arrives.
    pub(super) fn arriving(self: &Arc<Self>) -> Hold {
        self.hold(Scope::Everything, Purpose::Arrival)
    }

    /// Holds on to whatever arrives from now on, of which [`Holds::arrived`] is told.
    pub(super) fn arrivals(self: &Arc<Self>) -> Hold {
        self.hold(Scope::Arrived(HashSet::new()), Purpose::Arrival)
    }

    /// Something arrives: it is looked next whether it is there already.
    pub(super) fn arrived(&self, digest: &Digest) {
        for scope in self.lock().held.values_mut() {
            if let Scope::Arrived(held) = scope {
                held.insert(*digest);
            }
        }
    }

    /// Holds on to a blob that arrives, and to the layer that is made of it.
    pub(super) fn arriving_blob(self: &Arc<Self>, blob: Digest) -> Hold {
        self.hold(Scope::Only(HashSet::from([blob])), Purpose::Arrival)
    }

    fn hold(self: &Arc<Self>, scope: Scope, purpose: Purpose) -> Hold {
        let mut state = self.lock();
        let key = state.next;
        state.next += 1;
        state.held.insert(key, scope);
        Hold { holds: Arc::clone(self), key, purpose }
    }

    /// Whether somebody holds on to this.
    pub(super) fn covers(&self, digest: &Digest) -> bool {
        self.lock().covers(&[*digest])
    }

    /// Whether somebody holds on to this, and knows that it is this.
    pub(super) fn names(&self, digest: &Digest) -> bool {
        self.lock().held.values().any(|scope| match scope {
            Scope::Everything => false,
            Scope::Only(held) | Scope::Arrived(held) => held.contains(digest),
        })
    }

    /// As long as the value is kept, nobody begins to make a container of these images.
    pub(super) fn close(self: &Arc<Self>, images: impl IntoIterator<Item = Digest>) -> Closed {
        let images: Vec<Digest> = images.into_iter().collect();
        self.lock().closed.extend(&images);
        Closed { holds: Arc::clone(self), images }
    }

    /// Whether a container is being made of an image. It is known before this says no.
    pub(super) fn becomes_a_container(&self, image: &Digest) -> bool {
        self.lock().becoming.values().any(|becoming| becoming == image)
    }

    /// Frees what these digests stand for, unless somebody holds on to one of them.
    pub(super) fn free<T>(&self, digests: &[Digest], free: impl FnOnce() -> T) -> Result<T, Held> {
        let mut state = self.lock();
        if state.covers(digests) {
            state.refused = true;
            self.something_is_left();
            return Err(Held);
        }
        let freed = free();
        drop(state);
        Ok(freed)
    }

    /// There may be content that no image needs.
    pub(super) fn something_is_left(&self) {
        self.left.store(true, Ordering::SeqCst);
    }

    /// Whether there may have been any; from now on there is none.
    pub(super) fn take_left(&self) -> bool {
        self.left.swap(false, Ordering::SeqCst)
    }

    /// Images may take more room than they may.
    pub(super) fn may_have_grown(&self) {
        self.grown.store(true, Ordering::SeqCst);
    }

    /// Whether they might have; from now on they do not.
    pub(super) fn take_grown(&self) -> bool {
        self.grown.swap(false, Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn covers(&self, digests: &[Digest]) -> bool {
        self.held.values().any(|scope| match scope {
            Scope::Everything => true,
            Scope::Only(held) | Scope::Arrived(held) => digests.iter().any(|digest| held.contains(digest)),
        })
    }
}

impl Hold {
    /// From now on only these are held on to.
    pub(super) fn only(&self, digests: impl IntoIterator<Item = Digest>) {
        let mut state = self.holds.lock();
        state.held.insert(self.key, Scope::Only(digests.into_iter().collect()));
        let refused = std::mem::take(&mut state.refused);
        drop(state);
        if refused {
            self.holds.collector.notify_one();
        }
    }

    /// From now on a container is being made of `image`, once it is not closed.
    pub(super) async fn becomes_a_container_of(&self, image: Digest) {
        let mut opened = self.holds.opened.subscribe();
        while !self.is_let_in(image) {
            // It ends only with what is asked here.
            let _ = opened.changed().await;
        }
    }

    fn is_let_in(&self, image: Digest) -> bool {
        let mut state = self.holds.lock();
        let open = !state.closed.contains(&image);
        if open {
            state.becoming.insert(self.key, image);
        }
        open
    }

    /// These too, where it is not everything anyway.
    pub(crate) fn and(&self, digests: impl IntoIterator<Item = Digest>) {
        if let Some(Scope::Only(held) | Scope::Arrived(held)) = self.holds.lock().held.get_mut(&self.key) {
            held.extend(digests);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.holds.lock();
        state.held.remove(&self.key);
        state.becoming.remove(&self.key);
        let refused = std::mem::take(&mut state.refused);
        drop(state);
        if self.purpose == Purpose::Arrival {
            // A collection that ran meanwhile has not seen what came after it.
            self.holds.something_is_left();
            self.holds.may_have_grown();
        }
        if refused || self.purpose == Purpose::Arrival {
            self.holds.collector.notify_one();
        }
    }
}

/// Keeps containers from being made of images as long as it exists.
#[derive(Debug)]
pub(super) struct Closed {
    holds: Arc<Holds>,
    images: Vec<Digest>,
}

impl Drop for Closed {
    fn drop(&mut self) {
        let mut state = self.holds.lock();
        for image in &self.images {
            if let Some(position) = state.closed.iter().position(|closed| closed == image) {
                state.closed.swap_remove(position);
            }
        }
        drop(state);
        self.holds.opened.send_replace(());
    }
}

/// What an image consists of, but for the archives of its layers, which go with the layers.
pub(super) fn content_of(image: &Known) -> impl Iterator<Item = Digest> {
    let layers = image.layers.iter().map(|layer| layer.diff_id);
    layers.chain(image.manifests.iter().copied()).chain([image.id])
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn holds() -> (Arc<Holds>, Arc<Notify>) {
        let collector = Arc::new(Notify::new());
        (Arc::new(Holds::new(Arc::clone(&collector))), collector)
    }

    fn is_told(collector: &Notify) -> bool {
        collector.notified().now_or_never().is_some()
    }

    #[test]
    fn only_what_somebody_holds_on_to_stays() {
        let (holds, _) = holds();
        let [a, b] = [b"a", b"b"].map(|text| Digest::of(text));
        let freed = |digests: &[Digest]| holds.free(digests, || ()).is_ok();
        let hold = holds.everything();
        assert!(!freed(&[a]) && !holds.names(&a));
        hold.and([b]);
        assert!(!freed(&[a]), "it is everything still");
        hold.only([a]);
        assert!(!freed(&[a]) && !freed(&[b, a]) && freed(&[b]) && holds.names(&a));
        hold.and([b]);
        assert!(!freed(&[b]));
        drop(hold);
        assert!(freed(&[a, b]));
    }

    #[test]
    fn what_arrives_is_held_by_those_who_began_before() {
        let (holds, _) = holds();
        let [before, after] = ["before", "after"].map(|text| Digest::of(text.as_bytes()));
        holds.arrived(&before);
        let first = holds.arrivals();
        holds.arrived(&after);
        let second = holds.arrivals();
        assert!(!holds.covers(&before) && holds.covers(&after) && holds.names(&after));
        drop(first);
        assert!(!holds.covers(&after));
        second.and([before]);
        holds.arrived(&after);
        assert!(holds.covers(&before) && holds.covers(&after));
        drop(second);
        assert!(!holds.covers(&before));
    }

    #[test]
    fn whoever_lets_go_wakes_the_collector_if_it_was_kept_from_something() {
        let (holds, collector) = holds();
        let digest = Digest::of(b"a");
        drop(holds.everything());
        assert!(!is_told(&collector), "nothing was to be freed");
        let (first, second) = (holds.everything(), holds.everything());
        holds.take_left();
        assert!(holds.free(&[digest], || ()).is_err());
        first.only([]);
        assert!(is_told(&collector), "it may go now");
        assert!(holds.free(&[digest], || ()).is_err(), "the second one is there still");
        drop(second);
        assert!(is_told(&collector) && holds.take_left());
        drop(first);
        assert!(!is_told(&collector));
    }

    #[test]
    fn a_closed_image_becomes_a_container_when_all_have_opened_it_again() {
        let (holds, _) = holds();
        let [image, other] = ["image", "other"].map(|text| Digest::of(text.as_bytes()));
        let (first, second) = (holds.close([image]), holds.close([other, image]));
        let hold = holds.everything();
        let mut becoming = Box::pin(hold.becomes_a_container_of(image));
        assert!(becoming.as_mut().now_or_never().is_none());
        drop(first);
        assert!(becoming.as_mut().now_or_never().is_none() && !holds.becomes_a_container(&image));
        drop(second);
        assert!(becoming.as_mut().now_or_never().is_some());
        assert!(holds.becomes_a_container(&image) && !holds.becomes_a_container(&other));
        drop(becoming);
        drop(hold);
        assert!(!holds.becomes_a_container(&image));
    }

    #[test]
    fn after_an_arrival_the_collector_looks_again_though_nobody_was_refused() {
        let (holds, collector) = holds();
        let hold = holds.arriving_blob(Digest::of(b"a"));
        assert!(holds.take_left() && holds.take_grown());
        drop(hold);
        assert!(is_told(&collector) && holds.take_left() && holds.take_grown());
    }
}
