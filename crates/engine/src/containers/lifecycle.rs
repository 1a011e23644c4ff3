//! What clients do with containers. What takes long is done here, in steps that the container's task carries out.

use super::admit::Command as Kind;
use super::logs::LogStream;
use super::registry::Container;
use super::settings::Settings;
use super::state::Status;
use super::task::{Answer, Command};
use super::{Description, isolation, signals};
use crate::engine::Engine;
use crate::error::{Attempt, Error, Result, blocking};
use coracle_logfile::Selection;
use coracle_runtime::protocol::{Reply, Request};
use coracle_spec::runtime::ConsoleSize;
use coracle_spec::{Name, Owners};
use coracle_store::{Change, Store};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What a client waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    /// That the container does not run.
    #[default]
    NotRunning,
    /// That it ends once more.
    NextExit,
    /// That it is removed.
    Removed,
}

/// A client that waits; it misses nothing from the moment this exists.
pub struct Waiting {
    view: watch::Receiver<Arc<Description>>,
    condition: WaitCondition,
    /// How the container was when the waiting began.
    first: Arc<Description>,
}

impl Waiting {
    /// Waits. Returns the container as it was last.
    pub async fn done(mut self) -> Arc<Description> {
        let mut last = Arc::clone(&self.first);
        loop {
            let met = match self.condition {
                WaitCondition::NotRunning => {
                    !last.state.status.is_up() && last.state.status != Status::Restarting
                }
                WaitCondition::NextExit => last.state.finished_at != self.first.state.finished_at,
                WaitCondition::Removed => false,
            };
            if met || self.view.changed().await.is_err() {
                // The channel closes with the removal, which meets every condition.
                return if met { last } else { Arc::clone(&self.view.borrow()) };
            }
            last = Arc::clone(&self.view.borrow_and_update());
        }
    }
}

impl Engine {
    /// All containers as they are now.
    pub fn list(&self) -> Vec<Arc<Description>> {
        self.shared.containers.all().iter().map(Container::describe).collect()
    }

    /// A container as it is now.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`].
    pub fn inspect(&self, name: &str) -> Result<Arc<Description>> {
        Ok(self.shared.containers.find(name)?.describe())
    }

    /// Ids of the execs that run in a container.
    pub fn execs_of(&self, container: &Description) -> Vec<String> {
        self.shared.execs.of(&container.id)
    }

    /// Starts a container. Answers whether that changed anything.
    ///
    /// # Errors
    /// [`Error::Start`] for its program, [`Error::Conflict`] for its state.
    pub async fn start(&self, name: &str) -> Result<bool> {
        self.shared.containers.find(name)?.ask(|reply| Command::Start { reply }).await
    }

    /// Stops a container: with its signal, and with SIGKILL after `timeout` seconds (never if negative). Answers
    /// whether that changed anything.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a signal that is none.
    pub async fn stop(&self, name: &str, timeout: Option<i64>, signal: Option<&str>) -> Result<bool> {
        let container = self.shared.containers.find(name)?;
        let description = container.describe();
        let settings = &description.settings;
        let own = if settings.stop_signal.is_empty() { "SIGTERM" } else { &settings.stop_signal };
        let number = signals::parse(signal.filter(|signal| !signal.is_empty()).unwrap_or(own))?;
        container.ask(|reply| Command::StopByHand { reply }).await?;
        if !description.state.status.is_up() {
            return Ok(false);
        }
        let patience = timeout.or(settings.stop_timeout).unwrap_or(10);
        let patience = u64::try_from(patience).ok().map(Duration::from_secs);
        self.bring_down(&container, number, patience).await?;
        self.shared.tell_of(&container.describe(), "stop", &[]);
        Ok(true)
    }

    /// Stops a container, if it runs, and starts it.
    ///
    /// # Errors
    /// As [`Engine::stop`] and [`Engine::start`].
    pub async fn restart(&self, name: &str, timeout: Option<i64>, signal: Option<&str>) -> Result<()> {
        let container = self.shared.containers.find(name)?;
        container.ask(|reply| Command::Keep { keep: true, reply }).await?;
        let restarted = match self.stop(container.id().as_str(), timeout, signal).await {
            Ok(_) => self.start(container.id().as_str()).await,
            Err(error) => Err(error),
        };
        let kept = container.ask(|reply| Command::Keep { keep: false, reply }).await;
        restarted.and(kept)?;
        self.shared.tell_of(&container.describe(), "restart", &[]);
        Ok(())
    }

    /// Sends a signal to a container's first process; SIGKILL if it is empty.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it does not run, [`Error::Invalid`] for a signal that is none.
    pub async fn kill(&self, name: &str, signal: &str) -> Result<()> {
        let container = self.shared.containers.find(name)?;
        let number = if signal.is_empty() { signals::KILL } else { signals::parse(signal)? };
        let description = container.describe();
        let stops = signals::parse(&description.settings.stop_signal).is_ok_and(|own| own == number);
        if description.state.status == Status::Restarting {
            // Docker takes it for one that runs: it does not come back, and there is nothing that could hear of it.
            return match number == signals::KILL || stops {
                true => container.ask(|reply| Command::StopByHand { reply }).await,
                false => Ok(()),
            };
        }
        if !description.state.status.is_up() {
            return Err(Error::Conflict(format!(
                "cannot kill container: {name}: container {} is not running",
                container.id()
            )));
        }
        if number == signals::KILL || stops {
            container.ask(|reply| Command::StopByHand { reply }).await?;
        }
        self.signal(&container, number).await?;
        if number == signals::KILL {
            // As Docker, which answers once the container is down.
            wait_until_down(&mut container.watch(), Some(Duration::from_secs(10))).await;
        }
        Ok(())
    }

    pub(super) async fn signal(&self, container: &Container, number: i32) -> Result<()> {
        match self.ask(container, Kind::Signal, Request::Signal { exec: None, number }).await {
            // It has ended by itself meanwhile, which is what was wanted; whoever asked finds it so.
            Err(Error::Conflict(_))
                if wait_until_down(&mut container.watch(), Some(Duration::from_secs(10))).await =>
            {
                Ok(())
            }
            Ok(_) if number == signals::KILL && container.describe().state.status == Status::Paused => {
                container.ask(|reply| Command::Freeze { frozen: false, reply }).await
            }
            answer => answer.map(drop),
        }
    }

    async fn ask(&self, container: &Container, kind: Kind, request: Request) -> Result<Answer> {
        container.ask(|reply| Command::Ask { kind, request, descriptors: Vec::new(), reply }).await
    }

    /// Freezes all processes of a container.
    ///
    /// # Errors
    /// [`Error::Conflict`] for its state.
    pub async fn pause(&self, name: &str) -> Result<()> {
        self.shared.containers.find(name)?.ask(|reply| Command::Freeze { frozen: true, reply }).await
    }

    /// Thaws all processes of a container.
    ///
    /// # Errors
    /// [`Error::Conflict`] for its state.
    pub async fn unpause(&self, name: &str) -> Result<()> {
        self.shared.containers.find(name)?.ask(|reply| Command::Freeze { frozen: false, reply }).await
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it is taken, [`Error::Invalid`] when it is none.
    pub async fn rename(&self, name: &str, new: &str) -> Result<()> {
        let container = self.shared.containers.find(name)?;
        let text = new.strip_prefix('/').unwrap_or(new);
        let name: Name = text.parse().map_err(|_| {
            Error::Invalid(format!(
                "Invalid container name ({new}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
            ))
        })?;
        container.ask(|reply| Command::Rename { name, reply }).await
    }

    /// Changes settings of a container, whether it runs or not: limits, ports, health check and bounds of the log at once,
    /// the restart policy from the next exit on. Returns what the client should know.
    ///
    /// # Errors
    /// What `change` refuses; [`Error::Invalid`] for impossible limits, the driver's for ports. Ports are then as they were;
    /// limits that the kernel has taken already stay.
    pub async fn update(
        &self,
        name: &str,
        change: impl FnOnce(&mut Settings) -> Result<()> + Send + 'static,
    ) -> Result<Vec<String>> {
        let change = Box::new(change);
        self.shared.containers.find(name)?.ask(|reply| Command::Update { change, reply }).await
    }

    /// Removes a container; with `force` also one that runs, with `volumes` its anonymous volumes too.
    ///
    /// # Errors
    /// [`Error::Conflict`] while it runs.
    pub async fn remove(&self, name: &str, force: bool, volumes: bool) -> Result<()> {
        self.shared.containers.find(name)?.ask(|reply| Command::Remove { force, volumes, reply }).await
    }

    /// Begins to wait for a container.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn wait(&self, name: &str, condition: WaitCondition) -> Result<Waiting> {
        let mut view = self.shared.containers.find(name)?.watch();
        let first = Arc::clone(&view.borrow_and_update());
        Ok(Waiting { view, condition, first })
    }

    /// Sets the size of a container's terminal.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it does not run or has no terminal.
    pub async fn resize(&self, name: &str, size: ConsoleSize) -> Result<()> {
        let container = self.shared.containers.find(name)?;
        self.ask(&container, Kind::Signal, Request::Resize { exec: None, size }).await?;
        let (height, width) = (size.height.to_string(), size.width.to_string());
        self.shared.tell_of(&container.describe(), "resize", &[("height", &height), ("width", &width)]);
        Ok(())
    }

    /// Opens a container's log; with `follow` it is read on until the container does not run.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a container without a log.
    pub async fn logs(&self, name: &str, selection: Selection, follow: bool) -> Result<LogStream> {
        let container = self.shared.containers.find(name)?;
        let description = container.describe();
        if super::logs::limits(&description.settings.host.log, &self.shared.config)?.is_none() {
            return Err(Error::Unsupported("configured logging driver does not support reading".to_owned()));
        }
        let path = self.shared.log_path(&description.id);
        let exits = follow.then(|| container.watch());
        // Searching takes its time, and the thread that does it serves others.
        blocking(move || LogStream::open(&path, &selection, exits)).await?
    }

    /// Ids of a container's processes, in the engine's pid namespace.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it does not run.
    pub async fn processes(&self, name: &str) -> Result<Vec<i32>> {
        let container = self.shared.containers.find(name)?;
        match self.ask(&container, Kind::Signal, Request::Processes).await?.0 {
            Reply::Processes(ids) => Ok(ids),
            other => Err(Error::Conflict(format!("the shim answered {other:?}"))),
        }
    }

    /// What a container has changed of its image.
    ///
    /// # Errors
    /// When its layers cannot be read.
    pub async fn changes(&self, name: &str) -> Result<Vec<Change>> {
        let description = self.inspect(name)?;
        let store = Arc::clone(&self.shared.store);
        blocking(move || {
            let subject = || format!("compare container {} with its image", description.id);
            store.changes(&description.id, &description.layers).attempt(subject)
        })
        .await?
    }

    /// A container's whole file system, for [`export`].
    ///
    /// # Errors
    /// [`Error::NotFound`]; when it cannot be opened.
    pub async fn root_of(&self, name: &str) -> Result<WholeRoot> {
        let container = self.shared.containers.find(name)?;
        let description = container.describe();
        if description.state.status.is_up() {
            // A running container is reached through its shim: a second overlay would destroy its upper directory.
            let (_, mut descriptors) = self.ask(&container, Kind::Signal, Request::Root).await?;
            let missing = || Error::Conflict("the shim sent no root".to_owned());
            let root = descriptors.pop().ok_or_else(missing)?;
            return Ok(WholeRoot { root, owners: isolation::owners_of_process(description.state.pid)? });
        }
        let store = Arc::clone(&self.shared.store);
        let root = blocking(move || open_root(&store, &description)).await??;
        Ok(WholeRoot { root, owners: None })
    }

    /// Tells that a container's whole file system was given away.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn tell_of_export(&self, name: &str) -> Result<()> {
        let container = self.inspect(name)?;
        self.shared.tell_of(&container, "export", &[]);
        Ok(())
    }

    /// Tells that a client has left a container that goes on.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn tell_of_detaching(&self, name: &str) -> Result<()> {
        let container = self.inspect(name)?;
        self.shared.tell_of(&container, "detach", &[]);
        Ok(())
    }
}

/// The root of a container that does not run: a detached overlay of its layers, its own changes topmost, read-only.
fn open_root(store: &Store, description: &Description) -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let subject = || format!("open the file system of container {}", description.id);
    let snapshot = store.snapshot(&description.id, &description.layers).attempt(subject)?;
    let open = |path: &std::path::Path| {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .attempt(subject)
    };
    let mut lower = vec![open(&snapshot.upper)?];
    for path in &snapshot.lower {
        lower.push(open(path)?);
    }
    coracle_sys::mount::overlay(&lower, None).attempt(subject)
}

/// A container's whole file system.
#[derive(Debug)]
pub struct WholeRoot {
    root: OwnedFd,
    /// Who the container's users are in it, if they are others.
    owners: Option<Owners>,
}

/// Writes it as an archive. Blocks.
///
/// # Errors
/// When it cannot be read, or `output` not be written.
pub fn export(whole: &WholeRoot, output: impl std::io::Write) -> Result<()> {
    let exported = Store::export(whole.root.as_fd(), whole.owners.as_ref(), output);
    exported.attempt(|| "export a file system".to_owned())
}

/// Waits until a container has no processes; `false` when it took longer than `patience`.
pub(super) async fn wait_until_down(
    view: &mut watch::Receiver<Arc<Description>>,
    patience: Option<Duration>,
) -> bool {
    // A container that is removed is down as well.
    let down = view.wait_for(|description| !description.state.status.is_up());
    match patience {
        Some(patience) => tokio::time::timeout(patience, down).await.is_ok(),
        None => {
            drop(down.await);
            true
        }
    }
}
