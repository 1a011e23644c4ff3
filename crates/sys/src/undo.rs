//! A list of what to undo, run in reverse when a longer operation fails halfway.

use std::error::Error;

type Action<'a> = Box<dyn FnOnce() -> Result<(), Box<dyn Error + Send + Sync>> + Send + 'a>;

/// Undoes the steps taken so far, newest first, unless [`Undo::disarm`] is called.
///
/// Each acquisition registers its undo before the next step is taken.
#[derive(Default)]
pub struct Undo<'a> {
    steps: Vec<(&'static str, Action<'a>)>,
}

/// One undo that failed, with the name it was registered under.
#[derive(Debug)]
pub struct Failure {
    /// What was to be undone.
    pub step: &'static str,
    /// Why it could not be.
    pub source: Box<dyn Error + Send + Sync>,
}

impl<'a> Undo<'a> {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers how to undo the step just taken.
    pub fn push<E: Error + Send + Sync + 'static>(
        &mut self,
        step: &'static str,
        action: impl FnOnce() -> Result<(), E> + Send + 'a,
    ) {
        self.steps.push((step, Box::new(move || action().map_err(Into::into))));
    }

    /// Runs every undo, newest first, and reports each that failed; none stops the others.
    pub fn run(mut self) -> Vec<Failure> {
        self.unwind()
    }

    /// Forgets the list: everything succeeded and has an owner now.
    pub fn disarm(mut self) {
        self.steps.clear();
    }

    fn unwind(&mut self) -> Vec<Failure> {
        let mut failures = Vec::new();
        while let Some((step, action)) = self.steps.pop() {
            if let Err(source) = action() {
                failures.push(Failure { step, source });
            }
        }
        failures
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        // Reached by `?` in the middle of an operation: its error is reported, the undos' failures would hide it.
        self.unwind();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::Mutex;

    #[test]
    fn steps_are_undone_newest_first_and_failures_do_not_stop_the_rest() {
        let order = Mutex::new(Vec::new());
        let mut undo = Undo::new();
        for step in ["first", "second", "third"] {
            let order = &order;
            undo.push(step, move || {
                order.lock().expect("no panic holds it").push(step);
                if step == "second" { Err(io::Error::other("stuck")) } else { Ok(()) }
            });
        }
        let failures = undo.run();
        assert_eq!(*order.lock().unwrap(), ["third", "second", "first"]);
        assert_eq!(failures.iter().map(|f| f.step).collect::<Vec<_>>(), ["second"]);
    }

    #[test]
    fn a_disarmed_list_undoes_nothing_and_a_dropped_one_everything() {
        let count = Mutex::new(0);
        let bump = || {
            *count.lock().expect("no panic holds it") += 1;
            Ok::<(), io::Error>(())
        };
        let mut undo = Undo::new();
        undo.push("kept", bump);
        undo.disarm();
        assert_eq!(*count.lock().unwrap(), 0);
        let mut undo = Undo::new();
        undo.push("dropped", bump);
        drop(undo);
        assert_eq!(*count.lock().unwrap(), 1);
    }
}
