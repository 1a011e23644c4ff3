//! Steps of a build, counted while it tells of them.

use super::super::told::Told;
use super::record::Counts;
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Counts for one build, which may be made of several.
#[derive(Debug, Default)]
pub struct Counting(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    /// The steps of the one that tells now that make files.
    steps: HashSet<usize>,
}

impl Counting {
    /// What was counted.
    pub fn counts(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).counts
    }

    pub(in crate::build) fn take(&self, told: &Told) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State { counts, steps } = &mut *state;
        match told {
            Told::Steps(all) => {
                *steps = all.iter().filter(|step| step.place.is_some()).map(|step| step.number).collect();
                counts.total = counts.total.saturating_add(u32::try_from(steps.len()).unwrap_or(u32::MAX));
            }
            Told::Cached(step) if steps.contains(step) => counts.cached = counts.cached.saturating_add(1),
            Told::Ended(step, _, None) if steps.contains(step) => {
                counts.completed = counts.completed.saturating_add(1);
            }
            Told::Warning(_) => counts.warnings = counts.warnings.saturating_add(1),
            _ => {}
        }
    }
}
