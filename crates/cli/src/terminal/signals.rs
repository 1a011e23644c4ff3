//! Signals of this process, to be forwarded to a container.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::error::{Error, Result};

/// The signals that are caught, as numbers and as the API names them. `SIGCHLD`, `SIGPIPE`, `SIGURG` and the ones that
/// report mistakes of this program stay here.
const FORWARDED: [(i32, &str); 9] = [
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (10, "USR1"),
    (12, "USR2"),
    (14, "ALRM"),
    (15, "TERM"),
    (18, "CONT"),
    (20, "TSTP"),
];

/// Those by which somebody ends a command.
const ENDING: [(i32, &str); 3] = [(1, "HUP"), (2, "INT"), (15, "TERM")];

/// A caught signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caught {
    /// Its number, the same on every Linux this program runs on.
    pub(crate) number: u8,
    /// Its name without `SIG`.
    pub(crate) name: &'static str,
}

/// Signals as they come. While this exists, they do not end this process.
#[derive(Debug)]
pub(crate) struct Signals {
    caught: mpsc::UnboundedReceiver<Caught>,
    _tasks: JoinSet<()>,
}

impl Signals {
    /// Begins to catch what is forwarded to a container.
    pub(crate) fn catch() -> Result<Self> {
        Self::catch_these(&FORWARDED)
    }

    /// Begins to catch those alone by which somebody ends a command that has something to take away before. They are caught
    /// for as long as the process lives: whatever follows must listen to them, too.
    pub(crate) fn catch_ending() -> Result<Self> {
        Self::catch_these(&ENDING)
    }

    fn catch_these(signals: &[(i32, &'static str)]) -> Result<Self> {
        let (sender, caught) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        for &(number, name) in signals {
            let mut stream =
                signal(SignalKind::from_raw(number)).map_err(Error::io(format!("catch SIG{name}")))?;
            let sender = sender.clone();
            let caught = Caught { number: u8::try_from(number).expect("the constants are small"), name };
            tasks.spawn(async move { while stream.recv().await.is_some() && sender.send(caught).is_ok() {} });
        }
        Ok(Self { caught, _tasks: tasks })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Caught {
        match self.caught.recv().await {
            Some(caught) => caught,
            None => std::future::pending().await,
        }
    }
}

/// Changes of the terminal's size.
pub(crate) struct Resizes(tokio::signal::unix::Signal);

impl Resizes {
    /// Begins to watch.
    pub(crate) fn watch() -> Result<Self> {
        signal(SignalKind::window_change()).map(Self).map_err(Error::io("catch SIGWINCH"))
    }

    /// The next one.
    pub(crate) async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
