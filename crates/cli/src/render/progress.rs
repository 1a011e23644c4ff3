//! Progress of pulls, loads and imports: bars on a terminal, plain lines elsewhere.

use std::io::{self, Write};

use coracle_api::ProgressMessage;

use super::units;

/// Width of a bar, in letters.
const BAR: i64 = 50;

/// Shows messages; lines with an id replace each other on a terminal.
pub(crate) struct Display<W> {
    out: W,
    terminal: bool,
    quiet: bool,
    /// Ids in the order of their lines.
    lines: Vec<String>,
}

impl<W: Write> Display<W> {
    /// A display on `out`.
    pub(crate) fn new(out: W, terminal: bool, quiet: bool) -> Self {
        Self { out, terminal, quiet, lines: Vec::new() }
    }

    /// Shows one message.
    pub(crate) fn show(&mut self, message: &ProgressMessage) -> io::Result<()> {
        if self.quiet {
            return Ok(());
        }
        let progress = progress(message);
        if !self.terminal {
            // Elsewhere a bar would be a line per step of it.
            return if progress.is_empty() { self.line(message, "") } else { Ok(()) };
        }
        if message.id.is_empty() || message.progress_detail.is_none() {
            return self.line(message, &progress);
        }
        let known = self.lines.iter().position(|id| *id == message.id);
        let up = match known {
            Some(at) => self.lines.len() - at,
            None => {
                self.lines.push(message.id.clone());
                writeln!(self.out)?;
                1
            }
        };
        write!(self.out, "\x1b[{up}A\x1b[2K\r")?;
        self.text(message, &progress)?;
        write!(self.out, "\x1b[{up}B\r")?;
        self.out.flush()
    }

    fn line(&mut self, message: &ProgressMessage, progress: &str) -> io::Result<()> {
        if !message.stream.is_empty() {
            self.out.write_all(message.stream.as_bytes())?;
        } else if !message.status.is_empty() {
            self.text(message, progress)?;
            writeln!(self.out)?;
        }
        self.out.flush()
    }

    fn text(&mut self, message: &ProgressMessage, progress: &str) -> io::Result<()> {
        if !message.id.is_empty() {
            write!(self.out, "{}: ", message.id)?;
        }
        write!(self.out, "{}", message.status)?;
        if progress.is_empty() { Ok(()) } else { write!(self.out, " {progress}") }
    }
}

/// `[=====>   ]  1.2MB/3.4MB`, or nothing when there is nothing to measure.
fn progress(message: &ProgressMessage) -> String {
    let Some(detail) =
        message.progress_detail.as_ref().filter(|detail| detail.current > 0 || detail.total > 0)
    else {
        return message.progress.clone();
    };
    let amount = |value: i64| {
        if detail.units.is_empty() { units::size(value) } else { format!("{value} {}", detail.units) }
    };
    if detail.total <= 0 || detail.current > detail.total {
        return amount(detail.current);
    }
    let done = usize::try_from(detail.current.saturating_mul(BAR) / detail.total).unwrap_or(0);
    let left = usize::try_from(BAR).unwrap_or(0).saturating_sub(done);
    let head = if left > 0 { ">" } else { "" };
    let counts = if detail.hidecounts {
        String::new()
    } else {
        format!("  {:>8}/{}", amount(detail.current), amount(detail.total))
    };
    format!("[{}{head}{}]{counts}", "=".repeat(done), " ".repeat(left.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use coracle_api::progress::ProgressDetail;

    use super::*;

    fn message(id: &str, status: &str, current: i64, total: i64) -> ProgressMessage {
        let progress_detail = Some(ProgressDetail { current, total, ..ProgressDetail::default() });
        ProgressMessage {
            id: id.into(),
            status: status.into(),
            progress_detail,
            ..ProgressMessage::default()
        }
    }

    fn shown(terminal: bool, messages: &[ProgressMessage]) -> String {
        let mut out = Vec::new();
        let mut display = Display::new(&mut out, terminal, false);
        messages.iter().try_for_each(|message| display.show(message)).expect("writes to memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn elsewhere_steps_are_lines_and_bars_are_left_out() {
        let messages = [
            message("a", "Pulling fs layer", 0, 0),
            message("a", "Downloading", 5, 10),
            message("a", "Done", 0, 0),
        ];
        assert_eq!(shown(false, &messages), "a: Pulling fs layer\na: Done\n");
        assert_eq!(shown(false, &[ProgressMessage::stream("text")]), "text");
    }

    #[test]
    fn on_a_terminal_each_id_keeps_its_line() {
        let text = shown(true, &[message("a", "x", 0, 0), message("b", "y", 0, 0), message("a", "z", 0, 0)]);
        assert_eq!(
            text,
            "\n\x1b[1A\x1b[2K\ra: x\x1b[1B\r\n\x1b[1A\x1b[2K\rb: y\x1b[1B\r\x1b[2A\x1b[2K\ra: z\x1b[2B\r"
        );
    }

    #[test]
    fn bars_grow_and_sizes_are_for_people() {
        let bar = progress(&message("a", "", 500, 1000));
        assert_eq!(bar, format!("[{}>{}]      500B/1kB", "=".repeat(25), " ".repeat(24)));
        assert_eq!(progress(&message("a", "", 1000, 1000)), format!("[{}]       1kB/1kB", "=".repeat(50)));
        assert_eq!(progress(&message("a", "", 2000, 0)), "2kB");
    }
}
