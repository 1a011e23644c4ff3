//! What a build tells, as the lines of the classic builder: step after step, also of stages that are built at once.

use super::running::Running;
use coracle_api::ProgressMessage;
use coracle_engine::build::{BuildError, StepInfo, Told};
use std::collections::{HashMap, VecDeque};

/// Bytes of output of a step that are kept until it is its turn to be shown.
const KEPT: usize = 1 << 20;

/// What a build tells, as lines.
pub(super) struct Lines {
    running: Running,
    names: Vec<String>,
    /// Whether only the image is told.
    quiet: bool,
    steps: Steps,
    /// The beginning of a character whose end has not come.
    cut: Vec<u8>,
    pub(super) ready: VecDeque<ProgressMessage>,
}

/// The steps, of which one is shown at a time.
#[derive(Default)]
struct Steps {
    all: Vec<StepInfo>,
    /// The one that is shown.
    shown: usize,
    /// What others have told, until it is their turn.
    waiting: HashMap<usize, Waiting>,
}

#[derive(Default)]
struct Waiting {
    told: Vec<Told>,
    bytes: usize,
}

impl Lines {
    /// Lines of a build that gives its result these names.
    pub(super) fn new(running: Running, names: Vec<String>, quiet: bool) -> Self {
        let (steps, cut, ready) = (Steps::default(), Vec::new(), VecDeque::new());
        Self { running, names, quiet, steps, cut, ready }
    }

    /// The next line; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<ProgressMessage>, BuildError> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Ok(Some(line));
            }
            match self.running.next().await? {
                Some(told) => self.take(told),
                None => return Ok(None),
            }
        }
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Built(id) => {
                let aux = Some(serde_json::json!({ "ID": id.to_string() }));
                self.ready.push_back(ProgressMessage { aux, ..ProgressMessage::default() });
                if self.quiet {
                    self.show(format!("{id}\n"));
                    return;
                }
                self.show(format!("Successfully built {}\n", id.short()));
                for name in std::mem::take(&mut self.names) {
                    self.show(format!("Successfully tagged {name}\n"));
                }
            }
            _ if self.quiet => {}
            Told::Steps(steps) => self.steps.all.extend(steps),
            told => self.take_step(told),
        }
    }

    /// Shows what a step tells, or keeps it until those before it are done. One that fails is shown at once: nothing
    /// comes after it.
    fn take_step(&mut self, told: Told) {
        let number = match &told {
            Told::Begun(step, _) | Told::Cached(step) | Told::Changed(step, _) | Told::Ended(step, ..) => {
                *step
            }
            Told::Output { step, .. } => *step,
            Told::NotUsed { step, .. } => *step,
            Told::Read(cache, _, Some(reason)) => {
                return self.show(format!("The cache {cache} is not used: {reason}\n"));
            }
            Told::Steps(_) | Told::Built(_) | Told::Warning(_) | Told::Reading(..) | Told::Read(..) => return,
        };
        let failed = matches!(&told, Told::Ended(_, _, Some(_)));
        self.steps.waiting.entry(number).or_default().push(told);
        if failed {
            self.steps.shown = number;
        }
        while self.show_waiting() {
            self.steps.shown += 1;
        }
    }

    /// Shows what the step has told whose turn it is; whether it is done.
    fn show_waiting(&mut self) -> bool {
        let shown = self.steps.shown;
        let waiting = self.steps.waiting.remove(&shown).unwrap_or_default();
        let mut is_done = false;
        for told in waiting.told {
            is_done |= matches!(told, Told::Ended(..));
            self.show_told(told);
        }
        is_done
    }

    fn show_told(&mut self, told: Told) {
        match told {
            Told::Begun(step, _) => {
                let Some(info) = self.steps.all.iter().find(|info| info.number == step) else { return };
                let text = format!("Step {}/{} : {}\n", step + 1, self.steps.all.len(), info.text);
                self.show(text);
            }
            Told::NotUsed { from, reason, .. } => {
                self.show(format!("The cache {from} is not used any more: {reason}\n"));
            }
            Told::Cached(_) => self.show(" ---> Using cache\n".to_owned()),
            Told::Output { bytes, is_error, .. } => {
                self.cut.extend_from_slice(&bytes);
                let text = take_text(&mut self.cut);
                match (text.is_empty(), is_error) {
                    (true, _) => {}
                    // In red, as the classic builder shows it.
                    (false, true) => self.show(format!("\x1b[91m{text}\x1b[0m")),
                    (false, false) => self.show(text),
                }
            }
            _ => {}
        }
    }

    fn show(&mut self, stream: String) {
        self.ready.push_back(ProgressMessage { stream, ..ProgressMessage::default() });
    }
}

impl Waiting {
    /// Keeps what a step tells. Of output that is too long the beginning is kept, and a note that something is missing.
    fn push(&mut self, told: Told) {
        let Told::Output { step, is_error, bytes } = told else { return self.told.push(told) };
        let is_whole = self.bytes <= KEPT;
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes <= KEPT {
            self.told.push(Told::Output { step, is_error, bytes });
        } else if is_whole {
            let bytes =
                "\n[output clipped: the step wrote more than 1 MiB before it was its turn to be shown]\n"
                    .into();
            self.told.push(Told::Output { step, is_error: true, bytes });
        }
    }
}

/// All whole characters; what is none is replaced.
pub(super) fn take_text(bytes: &mut Vec<u8>) -> String {
    let whole = match std::str::from_utf8(bytes) {
        // A character that has only begun is at most three bytes of its four.
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    };
    let rest = bytes.split_off(whole);
    let text = String::from_utf8_lossy(bytes).into_owned();
    *bytes = rest;
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_not_cut_in_two() {
        let mut pending = Vec::new();
        let mut texts = Vec::new();
        for part in [&b"a\xc3"[..], b"\xa4b\xff", b"\xf0\x9f", b"\xa6\x80"] {
            pending.extend_from_slice(part);
            texts.push(take_text(&mut pending));
        }
        assert_eq!(texts, ["a", "äb\u{fffd}", "", "🦀"]);
    }
}
