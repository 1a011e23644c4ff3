//! How many bytes containers have written over their images, as far as that cannot have changed since it was counted.
//!
//! Counting walks the whole tree. Of a container that runs it is done each time; of one that does not, once until it starts
//! or somebody opens its files. Nothing of this survives the engine: the next one counts again.

use coracle_spec::ContainerId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The sizes that are known.
#[derive(Debug, Default)]
pub(crate) struct Sizes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    sizes: HashMap<ContainerId, Size>,
    /// Tells one count from the next.
    next: u64,
}

#[derive(Debug, PartialEq)]
enum Size {
    /// Bytes.
    Known(u64),
    /// It is being counted, the last time as this.
    Counting(u64),
}

/// Somebody may change what the container wrote, for as long as this exists.
#[derive(Debug)]
pub(crate) struct Changing {
    sizes: Arc<Sizes>,
    id: ContainerId,
}

impl Drop for Changing {
    fn drop(&mut self) {
        self.sizes.forget(&self.id);
    }
}

impl Sizes {
    /// The size of a container that does not run, by `count` where it is not known. Remembered unless it is forgotten
    /// meanwhile.
    pub(crate) fn get_or_count<E>(
        &self,
        id: &ContainerId,
        count: impl FnOnce() -> Result<u64, E>,
    ) -> Result<u64, E> {
        let number = {
            let mut state = self.lock();
            if let Some(Size::Known(size)) = state.sizes.get(id) {
                return Ok(*size);
            }
            state.next += 1;
            let number = state.next;
            state.sizes.insert(id.clone(), Size::Counting(number));
            number
        };
        let counted = count();
        let mut state = self.lock();
        if state.sizes.get(id) == Some(&Size::Counting(number)) {
            match &counted {
                Ok(size) => state.sizes.insert(id.clone(), Size::Known(*size)),
                Err(_) => state.sizes.remove(id),
            };
        }
        counted
    }

    /// What was counted before now, or is being counted, counts no more.
    pub(crate) fn forget(&self, id: &ContainerId) {
        self.lock().sizes.remove(id);
    }

    /// The same until the value is dropped.
    pub(crate) fn changing(self: &Arc<Self>, id: &ContainerId) -> Changing {
        Changing { sizes: Arc::clone(self), id: id.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_during_a_count_is_counted_again() {
        let (sizes, id) = (Arc::new(Sizes::default()), ContainerId::random());
        let get = |count: &dyn Fn() -> Result<u64, ()>| sizes.get_or_count(&id, count);
        assert_eq!(get(&|| Err(())), Err(()));
        assert_eq!(get(&|| Ok(1)), Ok(1), "a failure is not remembered");
        assert_eq!(get(&|| Ok(2)), Ok(1));
        let changing = sizes.changing(&id);
        drop(changing);
        let forgotten = || {
            sizes.forget(&id);
            Ok(3)
        };
        assert_eq!(get(&forgotten), Ok(3));
        // The later of two counts began after the change.
        let overtaken = || {
            sizes.forget(&id);
            assert_eq!(get(&|| Ok(5)), Ok(5));
            Ok(4)
        };
        assert_eq!(get(&overtaken), Ok(4));
        assert_eq!(get(&|| Ok(6)), Ok(5));
    }
}
