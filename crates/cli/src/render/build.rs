//! Progress of builds: in place on a terminal, line after line elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use coracle_api::build::{BuildProgress, BuildStep};

/// Lines of output that are shown of a running step.
const TAIL: usize = 5;
const SECOND: i64 = 1_000_000_000;

/// Shows how a build goes.
pub(crate) struct Display<W> {
    out: W,
    /// Columns, on a terminal.
    columns: Option<usize>,
    quiet: bool,
    explains: bool,
    steps: HashMap<usize, BuildStep>,
    running: BTreeMap<usize, Running>,
    /// Lines on the terminal that will be replaced.
    drawn: usize,
}

#[derive(Default)]
struct Running {
    begun: i64,
    is_cached: bool,
    /// The last line, as far as it has come.
    line: String,
    tail: Vec<String>,
}

impl<W: Write> Display<W> {
    /// A display on `out`, which is a terminal of so many columns, or none.
    pub(crate) fn new(out: W, columns: Option<usize>, quiet: bool, explains: bool) -> Self {
        let (steps, running) = (HashMap::new(), BTreeMap::new());
        Self { out, columns, quiet, explains, steps, running, drawn: 0 }
    }

    /// Shows one message.
    pub(crate) fn show(&mut self, message: &BuildProgress, now: i64) -> io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        self.erase()?;
        match message {
            BuildProgress::Steps { steps } => {
                self.steps.extend(steps.iter().map(|step| (step.number, step.clone())));
            }
            BuildProgress::Begun { step, time } if self.is_shown(*step) => {
                self.running.insert(*step, Running { begun: *time, ..Running::default() });
                if self.columns.is_none() {
                    let title = self.title(*step);
                    writeln!(self.out, "#{step} {title}")?;
                }
            }
            BuildProgress::Cached { step } => {
                if let Some(running) = self.running.get_mut(step) {
                    running.is_cached = true;
                }
            }
            BuildProgress::Changed { step, inputs } if self.explains => {
                writeln!(self.out, "{} not in the cache: {} changed", self.mark(*step), inputs.join(", "))?;
            }
            BuildProgress::Warning { rule, text, lines } => {
                writeln!(self.out, "WARN {rule}: {} (line {})", printable(text), lines.0)?;
            }
            BuildProgress::Note { text } => writeln!(self.out, "NOTE {}", printable(text))?,
            BuildProgress::Output { step, text, .. } => self.output(*step, text, now)?,
            BuildProgress::Ended { step, time, failure } => self.ended(*step, *time, failure)?,
            BuildProgress::Built { image, names } => {
                writeln!(self.out, "image {image}")?;
                names.iter().try_for_each(|name| writeln!(self.out, "named {name}"))?;
            }
            BuildProgress::Begun { .. } | BuildProgress::Changed { .. } | BuildProgress::Failed { .. } => {}
        }
        self.draw(now)
    }

    /// Shows how long what runs has run.
    pub(crate) fn tick(&mut self, now: i64) -> io::Result<()> {
        if self.quiet || self.columns.is_none() || self.running.is_empty() {
            return Ok(());
        }
        self.erase()?;
        self.draw(now)
    }

    fn is_shown(&self, step: usize) -> bool {
        self.steps.get(&step).is_some_and(|step| step.place.is_some())
    }

    fn mark(&self, step: usize) -> String {
        if self.columns.is_some() { format!(" => {}", self.title(step)) } else { format!("#{step}") }
    }

    /// `[stage 2/3] RUN make`
    fn title(&self, step: usize) -> String {
        let Some(info) = self.steps.get(&step) else { return String::new() };
        let (at, all) = info.place.unwrap_or_default();
        let stage = if info.stage.is_empty() { String::new() } else { format!("{} ", info.stage) };
        printable(&format!("[{stage}{at}/{all}] {}", info.text))
    }

    fn output(&mut self, step: usize, text: &str, now: i64) -> io::Result<()> {
        let on_terminal = self.columns.is_some();
        let Some(running) = self.running.get_mut(&step) else { return Ok(()) };
        running.line.push_str(text);
        while let Some(end) = running.line.find('\n') {
            let rest = running.line.split_off(end + 1);
            let line = std::mem::replace(&mut running.line, rest);
            if on_terminal {
                running.tail.push(line);
                let first = running.tail.len().saturating_sub(TAIL);
                running.tail.drain(..first);
            } else {
                write!(self.out, "#{step} {} {line}", seconds(now - running.begun))?;
            }
        }
        Ok(())
    }

    fn ended(&mut self, step: usize, time: i64, failure: &str) -> io::Result<()> {
        let Some(running) = self.running.remove(&step) else { return Ok(()) };
        let took = seconds(time - running.begun);
        let Some(columns) = self.columns else {
            if !running.line.is_empty() {
                writeln!(self.out, "#{step} {took} {}", running.line)?;
            }
            return match (failure, running.is_cached) {
                ("", true) => writeln!(self.out, "#{step} CACHED\n"),
                ("", false) => writeln!(self.out, "#{step} DONE {took}s\n"),
                (failure, _) => writeln!(self.out, "#{step} ERROR: {failure}\n"),
            };
        };
        let how = match (failure, running.is_cached) {
            ("", true) => " => CACHED",
            ("", false) => " =>",
            _ => " => ERROR",
        };
        let line = line(&format!("{how} {}", self.title(step)), &took, columns);
        writeln!(self.out, "{line}")?;
        if failure.is_empty() {
            return Ok(());
        }
        let unfinished = Some(&running.line).filter(|line| !line.is_empty());
        running
            .tail
            .iter()
            .chain(unfinished)
            .try_for_each(|line| writeln!(self.out, "    {}", printable(line)))
    }

    fn erase(&mut self) -> io::Result<()> {
        if self.drawn > 0 {
            write!(self.out, "\x1b[{}A\x1b[0J", self.drawn)?;
            self.drawn = 0;
        }
        Ok(())
    }

    fn draw(&mut self, now: i64) -> io::Result<()> {
        let Some(columns) = self.columns else { return self.out.flush() };
        for (step, running) in &self.running {
            let head = format!(" => {}", self.title(*step));
            writeln!(self.out, "{}", line(&head, &seconds(now - running.begun), columns))?;
            self.drawn += 1;
            for text in &running.tail {
                writeln!(self.out, "{}", cut(&format!(" => => {}", printable(text)), columns))?;
                self.drawn += 1;
            }
        }
        self.out.flush()
    }
}

fn seconds(nanoseconds: i64) -> String {
    let tenths = nanoseconds.max(0) / (SECOND / 10);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// A text, and a time at the end of the line.
fn line(text: &str, time: &str, columns: usize) -> String {
    let room = columns.saturating_sub(time.len() + 2);
    format!("{:<room$} {time}s", cut(text, room))
}

fn cut(text: &str, columns: usize) -> String {
    text.chars().take(columns).collect()
}

/// What a program writes must not move the cursor.
fn printable(text: &str) -> String {
    text.trim_end().chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(number: usize, text: &str, place: Option<(usize, usize)>) -> BuildStep {
        BuildStep { number, stage: String::new(), text: text.to_owned(), place }
    }

    fn messages() -> Vec<BuildProgress> {
        vec![
            BuildProgress::Steps {
                steps: vec![
                    step(0, "FROM a", Some((1, 2))),
                    step(1, "ENV A=1", None),
                    step(2, "RUN x", Some((2, 2))),
                ],
            },
            BuildProgress::Begun { step: 0, time: 0 },
            BuildProgress::Cached { step: 0 },
            BuildProgress::Ended { step: 0, time: 0, failure: String::new() },
            BuildProgress::Begun { step: 1, time: 0 },
            BuildProgress::Ended { step: 1, time: 0, failure: String::new() },
            BuildProgress::Begun { step: 2, time: 0 },
            BuildProgress::Changed { step: 2, inputs: vec!["the command".to_owned()] },
            BuildProgress::Output { step: 2, error: false, text: "one\ntw".to_owned() },
            BuildProgress::Output { step: 2, error: false, text: "o\x1b[2J".to_owned() },
            BuildProgress::Ended { step: 2, time: SECOND * 3 / 2, failure: "it failed".to_owned() },
        ]
    }

    fn shown(columns: Option<usize>) -> String {
        let mut out = Vec::new();
        let mut display = Display::new(&mut out, columns, false, true);
        messages().iter().try_for_each(|message| display.show(message, SECOND)).expect("writes to memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn elsewhere_every_step_is_told_line_after_line() {
        assert_eq!(
            shown(None),
            "#0 [1/2] FROM a\n#0 CACHED\n\n#2 [2/2] RUN x\n#2 not in the cache: the command changed\n#2 1.0 one\n\
             #2 1.5 two\x1b[2J\n#2 ERROR: it failed\n\n"
        );
    }

    #[test]
    fn on_a_terminal_only_what_runs_is_replaced_and_output_cannot_move_the_cursor() {
        let text = shown(Some(30));
        assert!(text.contains("\n =>") || text.starts_with(" =>"), "{text:?}");
        assert!(text.contains(" => CACHED [1/2] FROM a   0.0s\n"), "{text:?}");
        assert!(
            text.contains("\x1b[2A\x1b[0J => ERROR [2/2] RUN x     1.5s\n    one\n    two [2J\n"),
            "{text:?}"
        );
    }
}
