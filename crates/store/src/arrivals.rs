//! Whoever decides what is freed is told what arrives, before it is looked whether that is here already. From then on it
//! either stays, whoever brought it first, or it is gone and comes anew.

use std::fmt;
use std::sync::OnceLock;

use coracle_spec::Digest;

use crate::Store;

type Listener = Box<dyn Fn(&Digest) + Send + Sync>;

/// Who is told.
#[derive(Default)]
pub(crate) struct Arrivals(OnceLock<Listener>);

impl Arrivals {
    pub(crate) fn tell(&self, digest: &Digest) {
        if let Some(listener) = self.0.get() {
            listener(digest);
        }
    }
}

impl fmt::Debug for Arrivals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Arrivals").field("listener", &self.0.get().is_some()).finish()
    }
}

impl Store {
    /// Has `listener` told the digest of every blob and layer that arrives, or that an archive leaves out because it is here,
    /// before it is looked whether it is. Only the first listener is.
    pub fn listen_to_arrivals(&self, listener: impl Fn(&Digest) + Send + Sync + 'static) {
        // There is one who decides.
        let _ = self.arrivals.0.set(Box::new(listener));
    }
}
