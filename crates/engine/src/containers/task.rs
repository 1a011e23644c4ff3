//! The task of one container: the only place where its state changes.
//!
//! It takes commands one after another, and hears from the shim in between. What takes long (waiting for a container
//! to stop) is done by whoever asked, step by step.

use super::admit::{Command as Kind, Plan, admit};
use super::attach::{self, Seat, Waiting};
use super::exit;
use super::health::{self, Monitor, Probe};
use super::memberships::Membership;
use super::partners;
use super::prepare::{self, Preparation};
use super::recover::{self, Broken};
use super::registry::Container;
use super::settings::{RestartPolicy, Settings};
use super::start;
use super::state::Status;
use super::trees::{self, Volumes};
use super::view::{Opened, View};
use super::{Description, record, remove};
use crate::engine::Shared;
use crate::error::{Error, Result, blocking};
use crate::index::Durability;
use crate::shim::{Awaited, Shim};
use coracle_runtime::protocol::{Attachment, Event, Exit, MARKS, Reply, Request};
use coracle_spec::Name;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// Answers a command.
pub(crate) type ReplyTo<T> = oneshot::Sender<Result<T>>;

/// What a shim said, and the descriptors that came with it.
pub(crate) type Answer = (Reply, Vec<OwnedFd>);

/// A change of settings, which may be refused.
pub(crate) type Change = Box<dyn FnOnce(&mut Settings) -> Result<()> + Send>;

/// What the task is asked to do.
pub(crate) enum Command {
    /// Start the container. Answers whether that changed anything.
    Start { reply: ReplyTo<bool> },
    /// Ask the shim something that does not change the container's state.
    Ask { kind: Kind, request: Request, descriptors: Vec<OwnedFd>, reply: ReplyTo<Answer> },
    /// Start an exec. What comes of it is waited for elsewhere, as another runtime may take its time.
    Exec { request: Request, descriptors: Vec<OwnedFd>, reply: ReplyTo<Awaited> },
    /// Remember that somebody stops the container, so that it is not restarted.
    StopByHand { reply: ReplyTo<()> },
    /// Whether a container that is removed when it ends is to stay this time, as it is started again at once.
    Keep { keep: bool, reply: ReplyTo<()> },
    /// Freeze or thaw all processes.
    Freeze { frozen: bool, reply: ReplyTo<()> },
    /// Connect a socket to the streams, now or when the container starts.
    Attach { attachment: Attachment, seat: Arc<Seat>, reply: ReplyTo<()> },
    /// Connect a socket to the streams now, with a mark if the shim can. Answers whether it has.
    AttachMarked { attachment: Attachment, seat: Arc<Seat>, reply: ReplyTo<bool> },
    /// Nothing; what was asked for before is done when it is answered.
    Pass { reply: ReplyTo<()> },
    /// Reach the container's files.
    Files { reply: ReplyTo<Arc<View>> },
    /// Give it another name.
    Rename { name: Name, reply: ReplyTo<()> },
    /// Change settings that can be changed. Answers what the client should know.
    Update { change: Change, reply: ReplyTo<Vec<String>> },
    /// Be on another network.
    Connect { membership: Membership, reply: ReplyTo<()> },
    /// Be on a network no more.
    Disconnect { network: String, reply: ReplyTo<()> },
    /// Know another container by a further name no more.
    Unlink { alias: String, reply: ReplyTo<()> },
    /// Give up what was made for a start that may come.
    Dismiss { reply: ReplyTo<()> },
    /// Remove it.
    Remove { force: bool, volumes: bool, reply: ReplyTo<()> },
}

/// A running container's shim.
pub(crate) struct Live {
    pub(crate) shim: Shim,
    pub(crate) events: mpsc::UnboundedReceiver<Event>,
    /// The volumes that are mounted for the container.
    pub(crate) volumes: Volumes,
}

/// The task's own state.
pub(crate) struct Task {
    pub(crate) shared: Arc<Shared>,
    pub(crate) now: Description,
    pub(crate) live: Option<Live>,
    /// Whether it stays although it is removed when it ends.
    stays: bool,
    /// Ends when the shim of the last run holds the layers no more.
    pub(crate) last: Option<tokio::task::JoinHandle<()>>,
    /// The files while they are mounted although the container does not run.
    pub(crate) files: Option<Opened>,
    /// Who waits for the container to start to be attached.
    pub(super) waiting: Waiting,
    /// When the restart policy starts it again, once every container is known.
    pub(crate) restart_at: Option<Instant>,
    /// The container whose namespace it joins, if that is to be started first.
    awaited: Option<watch::Receiver<Arc<Description>>>,
    /// What was made for the start that is expected.
    pub(super) prepared: Option<Preparation>,
    /// Finds out whether it works.
    pub(crate) health: Monitor,
    pub(crate) view: watch::Sender<Arc<Description>>,
}

/// What happens next.
enum Next {
    Command(Box<Command>),
    Event(Event),
    /// The shim is gone without a word.
    Lost,
    Restart,
    /// The start that was expected has not come.
    Dismiss,
    /// The health check was answered.
    Probed(Probe),
    End,
}

/// Starts the task of a container and returns the way to it.
pub(crate) fn spawn(shared: &Arc<Shared>, now: Description, live: Option<Live>) -> Container {
    begin(shared, now, Found { live, ..Found::default() })
}

/// Starts the task of a container that was just made, and prepares it.
pub(crate) fn spawn_prepared(shared: &Arc<Shared>, now: Description) -> Container {
    let prepared = prepare::begin(shared, &now);
    begin(shared, now, Found { prepared, ..Found::default() })
}

/// Starts the task of a container that has ended while nobody was there.
pub(crate) fn spawn_ended(shared: &Arc<Shared>, now: Description, exit: Exit) -> Container {
    begin(shared, now, Found { exit: Some(exit), ..Found::default() })
}

/// What there is of a container when its task begins.
#[derive(Default)]
struct Found {
    live: Option<Live>,
    exit: Option<Exit>,
    prepared: Option<Preparation>,
}

fn begin(shared: &Arc<Shared>, now: Description, found: Found) -> Container {
    let (commands, receiver) = mpsc::channel(16);
    let id = now.id.clone();
    let (view, watched) = watch::channel(Arc::new(now.clone()));
    let task = Task {
        shared: Arc::clone(shared),
        now,
        live: found.live,
        stays: false,
        last: None,
        files: None,
        waiting: Waiting::default(),
        restart_at: None,
        awaited: None,
        prepared: found.prepared,
        health: Monitor::default(),
        view,
    };
    tokio::spawn(task.run(receiver, found.exit));
    Container::new(id, watched, commands)
}

/// Waits until then; for ever without a time.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Waits for the time of a restart, and until all containers are known.
async fn restart(time: Option<Instant>, mut recovered: watch::Receiver<bool>) {
    at(time).await;
    // An engine that is gone restarts nothing.
    let _ = recovered.wait_for(|recovered| *recovered).await;
}

/// Waits until another container has changed, or is gone; for ever without one.
async fn changed(other: &mut Option<watch::Receiver<Arc<Description>>>) {
    match other {
        // Gone is a change as well.
        Some(other) => drop(other.changed().await),
        None => std::future::pending().await,
    }
}

impl Description {
    /// Whether the restart policy starts the container when the engine starts.
    pub(super) fn starts_with_the_engine(&self) -> bool {
        let was_started = !matches!(self.state.status, Status::Created | Status::Dead);
        was_started
            && match self.settings.host.restart {
                RestartPolicy::Always => true,
                RestartPolicy::UnlessStopped => !self.state.stopped_by_hand,
                RestartPolicy::OnFailure(_) => self.state.status == Status::Restarting,
                RestartPolicy::No => false,
            }
    }
}

impl Task {
    async fn run(mut self, mut commands: mpsc::Receiver<Box<Command>>, exit: Option<Exit>) {
        if let Some(exit) = exit {
            if Box::pin(self.ended(exit)).await {
                return;
            }
        } else if self.live.is_none() && self.now.starts_with_the_engine() {
            self.restart_at = Some(Instant::now());
        }
        loop {
            let next = self.next(&mut commands).await;
            // What is done needs kilobytes, and a container that rests should not keep them.
            if Box::pin(self.take(next)).await {
                return;
            }
        }
    }

    /// Does what comes next; whether it was the last.
    async fn take(&mut self, next: Next) -> bool {
        match next {
            Next::Command(command) => return self.obey(*command).await,
            Next::Event(Event::Exited(exit)) => return self.ended(exit).await,
            Next::Event(Event::ExecExited { exec, code }) => {
                self.shared.execs.ended(&self.shared, &exec, code);
            }
            Next::Event(Event::OutOfMemory) => self.out_of_memory().await,
            Next::Lost => return self.lost().await,
            Next::Restart => self.restart().await,
            Next::Dismiss => self.dismiss_prepared().await,
            Next::Probed(probe) => health::judge(self, probe).await,
            Next::End => return true,
        }
        false
    }

    /// Connects to the shim again, the connection to which is broken, if it is there; else the container has ended. Whether it
    /// is gone.
    async fn lost(&mut self) -> bool {
        // It has nothing to say and takes no request any more; its volumes stay mounted meanwhile.
        let volumes = self.live.take().map(|live| live.volumes);
        let exit = match recover::connect_again(&self.shared, &self.now).await {
            Broken::Mended(live) => {
                tracing::warn!(container = %self.now.id, "the connection to its shim broke, and was made again");
                self.live = Some(live);
                return false;
            }
            Broken::Ended(exit) => {
                tracing::warn!(container = %self.now.id, "it has ended while the connection to its shim was broken");
                exit
            }
            Broken::Lost => {
                tracing::error!(container = %self.now.id, "the shim is gone; its container is killed with it");
                exit::clear(&self.shared, &self.now).await;
                exit::lost()
            }
        };
        trees::let_go(volumes.unwrap_or_default()).await;
        self.ended(exit).await
    }

    async fn next(&mut self, commands: &mut mpsc::Receiver<Box<Command>>) -> Next {
        let restart = restart(self.restart_at, self.shared.recovered.subscribe());
        let awaited = changed(&mut self.awaited);
        let dismiss = at(self.prepared.as_ref().map(|prepared| prepared.until));
        self.health.follow(&self.now);
        let probed = self.health.next(&self.shared, &self.now);
        let live = &mut self.live;
        let event = async move {
            match live {
                Some(live) => live.events.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            event = event => event.map_or(Next::Lost, Next::Event),
            command = commands.recv() => command.map_or(Next::End, Next::Command),
            () = restart => Next::Restart,
            () = awaited => Next::Restart,
            () = dismiss => Next::Dismiss,
            probe = probed => Next::Probed(probe),
        }
    }

    /// Does what was asked; whether the container is gone with it.
    async fn obey(&mut self, command: Command) -> bool {
        // In every arm: who asked may have gone meanwhile, what was done stays done.
        match command {
            Command::Start { reply } => {
                // From here on it goes when it ends, however soon that is.
                self.stays = false;
                self.give_up_restart();
                self.now.state.restart_count = 0;
                let _ = reply.send(self.start().await);
            }
            Command::Ask { kind, request, descriptors, reply } => {
                let _ = reply.send(self.ask(kind, &request, &descriptors).await);
            }
            Command::Exec { request, descriptors, reply } => {
                let _ = reply.send(self.exec(&request, &descriptors).await);
            }
            Command::StopByHand { reply } => {
                self.stop_by_hand().await;
                let _ = reply.send(Ok(()));
            }
            Command::Keep { keep, reply } => {
                self.stays = keep;
                let _ = reply.send(Ok(()));
            }
            Command::Freeze { frozen, reply } => {
                let _ = reply.send(self.freeze(frozen).await);
            }
            Command::Attach { attachment, seat, reply } => {
                let _ = reply.send(self.attach(attachment, &seat).await);
            }
            Command::AttachMarked { attachment, seat, reply } => {
                let _ = reply.send(self.attach_marked(attachment, &seat).await);
            }
            Command::Pass { reply } => {
                let _ = reply.send(Ok(()));
            }
            Command::Files { reply } => {
                let files = self.files().await;
                if let Err(Ok(view)) = reply.send(files) {
                    tokio::task::spawn_blocking(move || drop(view));
                }
            }
            Command::Rename { name, reply } => {
                let _ = reply.send(self.rename(name).await);
            }
            Command::Update { change, reply } => {
                let _ = reply.send(self.update(change).await);
            }
            Command::Connect { membership, reply } => {
                let _ = reply.send(self.connect(membership).await);
            }
            Command::Disconnect { network, reply } => {
                let _ = reply.send(self.disconnect(&network).await);
            }
            Command::Unlink { alias, reply } => {
                let _ = reply.send(self.unlink(&alias).await);
            }
            Command::Dismiss { reply } => {
                self.dismiss_prepared().await;
                let _ = reply.send(Ok(()));
            }
            Command::Remove { force, volumes, reply } => {
                let removed = self.remove(force, volumes).await;
                let over = removed.is_ok();
                let _ = reply.send(removed);
                return over;
            }
        }
        false
    }

    /// Starts the container; `false` if it runs already.
    async fn start(&mut self) -> Result<bool> {
        match self.admit(Kind::Start)? {
            Plan::Do => {
                // A second overlay on a live upper directory would destroy it.
                self.layers_are_free().await;
                if let Some(opened) = self.files.take() {
                    opened.closed().await;
                }
                start::start(self).await.map(|()| true)
            }
            Plan::Nothing | Plan::KillFirst => Ok(false),
        }
    }

    /// Waits until the shim of the last run holds the layers no more.
    pub(crate) async fn layers_are_free(&mut self) {
        if let Some(last) = self.last.take() {
            // A shim that was lost holds nothing.
            let _ = last.await;
        }
    }

    /// The container's files: as it sees them while it runs, else mounted for as long as somebody uses them.
    async fn files(&mut self) -> Result<Arc<View>> {
        self.admit(Kind::Files)?;
        if let Some(live) = &self.live {
            let (_, mut descriptors) = live.shim.ask(&Request::Root, &[]).await?;
            let root =
                descriptors.pop().ok_or_else(|| Error::Conflict("the shim sent no root".to_owned()))?;
            let (shared, now) = (Arc::clone(&self.shared), self.now.clone());
            return blocking(move || View::of_running(&shared, &now, root)).await?.map(Arc::new);
        }
        if let Some(view) = self.files.as_ref().and_then(Opened::view) {
            return Ok(view);
        }
        self.layers_are_free().await;
        if let Some(opened) = self.files.take() {
            opened.closed().await;
        }
        let (shared, now) = (Arc::clone(&self.shared), self.now.clone());
        let (view, opened) = blocking(move || View::of_stopped(&shared, &now)).await??;
        self.files = Some(opened);
        Ok(view)
    }

    /// Forgets that the restart policy is to start the container; whether it was.
    fn give_up_restart(&mut self) -> bool {
        self.restart_at.take().is_some() | self.awaited.take().is_some()
    }

    async fn restart(&mut self) {
        self.give_up_restart();
        // It comes back with the next engine if the machine ends.
        if self.shared.ending.load(Ordering::Relaxed) {
            return;
        }
        self.awaited = partners::awaited(&self.shared.containers, &self.now);
        if self.awaited.is_some() {
            return;
        }
        self.now.state.restart_count += 1;
        if let Err(error) = self.start().await {
            tracing::warn!(container = %self.now.id, error = error.chain(), "the restart policy could not start it");
            self.now.state.status = Status::Exited;
            self.changed().await;
        }
    }

    async fn ask(&mut self, kind: Kind, request: &Request, descriptors: &[OwnedFd]) -> Result<Answer> {
        self.admit(kind)?;
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let answer = self.live()?.shim.ask(request, &descriptors).await?;
        if let Request::Signal { exec: None, number } = request {
            // Told here, so that it comes before the end that follows from it.
            self.tell("kill", &[("signal", &number.to_string())]);
        }
        Ok(answer)
    }

    async fn exec(&mut self, request: &Request, descriptors: &[OwnedFd]) -> Result<Awaited> {
        self.admit(Kind::Exec)?;
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        self.live()?.shim.begin(request, &descriptors).await
    }

    async fn stop_by_hand(&mut self) {
        self.now.state.stopped_by_hand = true;
        if self.give_up_restart() {
            self.now.state.status = Status::Exited;
        }
        self.changed().await;
    }

    async fn freeze(&mut self, frozen: bool) -> Result<()> {
        self.admit(if frozen { Kind::Pause } else { Kind::Unpause })?;
        self.live()?.shim.ask(&Request::Freeze { frozen }, &[]).await?;
        self.now.state.status = if frozen { Status::Paused } else { Status::Running };
        if frozen {
            health::leave(&mut self.now.state);
        }
        self.tell(if frozen { "pause" } else { "unpause" }, &[]);
        self.changed().await;
        Ok(())
    }

    async fn attach(&mut self, attachment: Attachment, seat: &Arc<Seat>) -> Result<()> {
        let Some(live) = &self.live else {
            self.waiting.push(attachment, seat);
            return Ok(());
        };
        attach::seated(&live.shim, attachment, seat).await
    }

    async fn attach_marked(&mut self, attachment: Attachment, seat: &Arc<Seat>) -> Result<bool> {
        let shim = &self.live()?.shim;
        let marked = shim.can(MARKS).await?;
        attach::seated(shim, Attachment { marked, ..attachment }, seat).await.map(|()| marked)
    }

    async fn rename(&mut self, name: Name) -> Result<()> {
        if name == self.now.name {
            return Err(Error::Invalid(
                "Renaming a container with the same name as its current name".to_owned(),
            ));
        }
        self.shared.containers.reserve(&name, &self.now.id)?;
        let before = std::mem::replace(&mut self.now.name, name);
        let renamed = self.save(Durability::Durable).await;
        let (kept, freed) =
            if renamed.is_ok() { (&self.now.name, &before) } else { (&before, &self.now.name) };
        self.shared.containers.release(freed, &self.now.id);
        let kept = kept.clone();
        self.now.name = kept;
        renamed?;
        start::publish_names(self).await;
        let old = format!("/{before}");
        self.tell("rename", &[("oldName", &old)]);
        self.publish();
        Ok(())
    }

    async fn remove(&mut self, force: bool, volumes: bool) -> Result<()> {
        let plan = self.admit(Kind::Remove { force }).map_err(|error| match error {
            Error::Conflict(_) if self.now.state.status.is_up() => Error::Conflict(format!(
                "cannot remove container \"/{}\": container is {}: stop the container before removing or force remove",
                self.now.name, self.now.state.status
            )),
            other => other,
        })?;
        self.give_up_restart();
        if plan == Plan::KillFirst {
            self.now.state.stopped_by_hand = true;
            self.kill_and_wait().await?;
        }
        self.dismiss_prepared().await;
        remove::remove(self, volumes).await
    }

    async fn kill_and_wait(&mut self) -> Result<()> {
        self.tell("kill", &[("signal", "9")]);
        let live = self.live()?;
        match live.shim.ask(&Request::Signal { exec: None, number: 9 }, &[]).await {
            // It has ended by itself; the event is on its way.
            Ok(_) | Err(Error::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
        // A frozen process dies of SIGKILL only once it is thawed, on v1.
        let _ = live.shim.ask(&Request::Freeze { frozen: false }, &[]).await;
        let limit = Instant::now() + Duration::from_secs(10);
        let exit = loop {
            match tokio::time::timeout_at(limit, live.events.recv()).await {
                Ok(Some(Event::Exited(exit))) => break exit,
                Ok(Some(_)) => {}
                Ok(None) => {
                    exit::clear(&self.shared, &self.now).await;
                    break exit::lost();
                }
                Err(_) => {
                    let text = "the container did not die within ten seconds of SIGKILL; a process of it hangs in the kernel";
                    return Err(Error::Conflict(text.to_owned()));
                }
            }
        };
        exit::settle(self, exit).await;
        Ok(())
    }

    /// Takes note that the kernel has killed a process of the container; the others may go on.
    async fn out_of_memory(&mut self) {
        self.now.state.oom_killed = true;
        self.tell("oom", &[]);
        self.changed().await;
    }

    /// Takes note of an exit. Answers whether the container is gone with it.
    async fn ended(&mut self, exit: Exit) -> bool {
        exit::settle(self, exit).await;
        if self.now.settings.host.auto_remove && !self.stays {
            return match remove::remove(self, true).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(container = %self.now.id, error = error.chain(), "it could not be removed");
                    false
                }
            };
        }
        if let Some(pause) = self.restart_pause() {
            self.now.state.status = Status::Restarting;
            self.restart_at = Some(Instant::now() + pause);
            self.changed().await;
        }
        false
    }

    /// How long to wait before the restart policy starts the container again: twice as long each time, to a minute.
    fn restart_pause(&self) -> Option<Duration> {
        let state = &self.now.state;
        let wanted = match &self.now.settings.host.restart {
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
            RestartPolicy::OnFailure(most) => {
                state.exit_code != 0 && (*most == 0 || state.restart_count < *most)
            }
        };
        let doubled = Duration::from_millis(100 << state.restart_count.min(10));
        (wanted && !state.stopped_by_hand).then(|| doubled.min(Duration::from_secs(60)))
    }

    fn admit(&self, kind: Kind) -> Result<Plan> {
        let id = &self.now.id;
        admit(self.now.state.status, kind).map_err(|refusal| refusal.error(id))
    }

    pub(crate) fn live(&mut self) -> Result<&mut Live> {
        let id = &self.now.id;
        self.live.as_mut().ok_or_else(|| Error::Conflict(format!("container {id} is not running")))
    }

    /// Shows everybody the container as it is now.
    pub(crate) fn publish(&self) {
        self.view.send_replace(Arc::new(self.now.clone()));
    }

    /// Writes the record.
    pub(crate) async fn save(&self, durability: Durability) -> Result<()> {
        let record = record::write(&self.now);
        self.shared.index.put_container(&self.now.id, &self.now.name, record, durability).await
    }

    /// Records a change of the state, which need not survive a loss of power, and shows it: who was told finds it again after an
    /// engine that was killed.
    pub(crate) async fn changed(&self) {
        if let Err(error) = self.save(Durability::Deferred).await {
            tracing::error!(container = %self.now.id, error = error.chain(), "its record could not be written");
        }
        self.publish();
    }

    /// Tells of something that happened to the container.
    pub(crate) fn tell(&self, action: &str, details: &[(&str, &str)]) {
        self.shared.tell_of(&self.now, action, details);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of what a function returns, in bytes.
    fn returned<A, B, C, F>(_: impl FnOnce(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// A thousand containers that do nothing are nothing unusual.
    #[test]
    fn a_container_at_rest_costs_little() {
        let task = returned(Task::run);
        assert!(task < 2048, "{task}");
    }
}
