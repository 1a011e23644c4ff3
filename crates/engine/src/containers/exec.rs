//! Processes that join running containers: made, started once, remembered until the container has ended.

use super::task::Command;
use super::{Attached, Description, admit, attach, links};
use crate::engine::{Engine, Shared};
use crate::error::{Error, Result};
use coracle_runtime::protocol::{Attachment, Execution, Reply, Request};
use coracle_spec::id::ExecId;
use coracle_spec::runtime::{Capabilities, ConsoleSize, Process};
use coracle_spec::{ContainerId, runtime};
use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long one that has ended is remembered. Docker looks every five minutes for those that nobody needs.
const KEPT: Duration = Duration::from_secs(5 * 60);
/// Most that have ended and are remembered. Before they are five minutes old the oldest go.
const MOST_KEPT: usize = 4096;

/// How long a change of a terminal's size waits for the start of its exec. Docker has the same.
const START_OF_RESIZED: Duration = Duration::from_secs(10);

/// What a client wants to run in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecSettings {
    /// Program and arguments.
    pub cmd: Vec<String>,
    /// Variables besides the container's.
    pub env: Vec<String>,
    /// `USER[:GROUP]`; the container's own if empty.
    pub user: String,
    /// The container's own if empty.
    pub working_dir: String,
    /// Whether it gets a terminal.
    pub tty: bool,
    /// Which streams are wanted: input, output, error output.
    pub attach: [bool; 3],
    /// Whether nearly all confinement is off.
    pub privileged: bool,
    /// What detaches a client, as text; kept for clients.
    pub detach_keys: String,
    /// The terminal's size at start.
    pub console_size: Option<ConsoleSize>,
}

impl ExecSettings {
    /// The command as events have it, with Docker's space after a program that has no arguments.
    fn line(&self) -> String {
        let (program, arguments) =
            self.cmd.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
        format!("{program} {}", arguments.join(" "))
    }
}

/// An exec as it is now.
#[derive(Clone, Debug)]
pub struct Exec {
    /// Its id.
    pub id: ExecId,
    /// The container.
    pub container: ContainerId,
    /// What was asked for.
    pub settings: ExecSettings,
    /// Its process; 0 when there is none.
    pub pid: i32,
    /// Whether it runs.
    pub running: bool,
    /// Its exit code, once it has ended.
    pub exit_code: Option<i32>,
}

/// All execs.
#[derive(Default)]
pub(crate) struct Execs {
    all: Mutex<All>,
    /// Told whenever one has started or ended.
    changes: tokio::sync::Notify,
}

/// Execs by id.
#[derive(Default)]
struct All {
    execs: HashMap<String, Exec>,
    /// Those that have ended, in the order of that, and when. Some may be gone by now.
    ended: VecDeque<(Instant, String)>,
}

impl All {
    /// An exec has ended at `now`.
    fn end(&mut self, id: &str, code: i32, now: Instant) -> Option<Exec> {
        let exec = self.execs.get_mut(id)?;
        exec.running = false;
        exec.exit_code = Some(code);
        self.ended.push_back((now, id.to_owned()));
        Some(exec.clone())
    }

    /// Forgets those that have ended long ago.
    fn forget(&mut self, now: Instant) {
        while let Some((ended, id)) = self.ended.front()
            && (self.ended.len() > MOST_KEPT || now.saturating_duration_since(*ended) >= KEPT)
        {
            self.execs.remove(id);
            self.ended.pop_front();
        }
    }
}

impl Execs {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, Exec>) -> T) -> T {
        self.with_all(|all| {
            // Whoever asks may not find what is too old, whether it has been looked for since or not.
            all.forget(Instant::now());
            act(&mut all.execs)
        })
    }

    fn with_all<T>(&self, act: impl FnOnce(&mut All) -> T) -> T {
        act(&mut self.all.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn get(&self, id: &str) -> Result<Exec> {
        self.with(|all| all.get(id).cloned()).ok_or_else(|| missing(id))
    }

    /// An exec has ended.
    pub(crate) fn ended(&self, shared: &Shared, id: &str, code: i32) {
        let exec = self.with_all(|all| all.end(id, code, Instant::now()));
        self.changes.notify_waiters();
        let container = exec.and_then(|exec| shared.containers.find(exec.container.as_str()).ok());
        if let Some(container) = container {
            let code = code.to_string();
            shared.tell_of(&container.describe(), "exec_die", &[("execID", id), ("exitCode", &code)]);
        }
    }

    /// A container has ended; its execs are of no more use, and those that were not started never will be.
    pub(crate) fn forget(&self, container: &ContainerId) {
        self.with_all(|all| {
            let is_of = |exec: &Exec| exec.container == *container;
            all.execs.retain(|_, exec| !is_of(exec) || exec.running || exec.exit_code.is_some());
            let running = all.execs.values().filter(|exec| is_of(exec) && exec.running);
            for id in running.map(|exec| exec.id.to_string()).collect::<Vec<_>>() {
                all.end(&id, 137, Instant::now());
            }
        });
        self.changes.notify_waiters();
    }

    pub(crate) fn of(&self, container: &ContainerId) -> Vec<String> {
        self.with(|all| {
            all.values()
                .filter(|e| e.container == *container && e.running)
                .map(|e| e.id.to_string())
                .collect()
        })
    }

    /// Removes one that nobody asks for any more.
    pub(crate) fn remove(&self, exec: &ExecId) {
        self.with(|all| all.remove(exec.as_str()));
    }

    /// Removes what belongs to a removed container.
    pub(crate) fn remove_of(&self, container: &ContainerId) {
        self.with(|all| all.retain(|_, exec| exec.container != *container));
    }
}

/// Why there is no exec in a container that the client has `named`.
fn refused(refusal: admit::Refusal, container: &Description, named: &str) -> Error {
    if refusal == admit::Refusal::Paused {
        return Error::Conflict(format!("Container {named} is paused, unpause the container before exec"));
    }
    refusal.error(&container.id)
}

fn missing(id: &str) -> Error {
    Error::NotFound { kind: "exec instance", name: id.to_owned() }
}

impl Engine {
    /// Makes an exec, which does not run yet.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the container does not run, [`Error::Invalid`] without a command.
    pub fn create_exec(&self, container: &str, settings: ExecSettings) -> Result<ExecId> {
        let named = container;
        let container = self.shared.containers.find(named)?.describe();
        admit::admit(container.state.status, admit::Command::Exec)
            .map_err(|refusal| refused(refusal, &container, named))?;
        if settings.cmd.is_empty() {
            return Err(Error::Invalid("No exec command specified".to_owned()));
        }
        let exec = Exec {
            id: ExecId::random(),
            container: container.id.clone(),
            settings,
            pid: 0,
            running: false,
            exit_code: None,
        };
        let id = exec.id.clone();
        self.shared.execs.with(|all| all.insert(id.to_string(), exec.clone()));
        let action = format!("exec_create: {}", exec.settings.line());
        self.shared.tell_of(&container, &action, &[("execID", id.as_str())]);
        Ok(id)
    }

    /// Takes an exec that can be started now, so that nobody else starts it.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it was started before or the container does not run.
    pub fn take_exec(&self, id: &str) -> Result<TakenExec> {
        let exec = self.shared.execs.get(id)?;
        let container = self.shared.containers.find(exec.container.as_str())?.describe();
        admit::admit(container.state.status, admit::Command::Exec)
            .map_err(|refusal| refused(refusal, &container, container.id.as_str()))?;
        let exec = self.shared.execs.with(|all| {
            let exec = all.get_mut(id).ok_or_else(|| missing(id))?;
            if exec.running || exec.exit_code.is_some() {
                return Err(Error::Conflict(format!("exec command {id} has already run")));
            }
            exec.running = true;
            Ok(exec.clone())
        })?;
        Ok(TakenExec { shared: Arc::clone(&self.shared), exec, state: Taken::Waiting, lifetime: None })
    }

    /// Waits until an exec does not run.
    pub async fn wait_exec(&self, id: &str) {
        loop {
            let changed = self.shared.execs.changes.notified();
            if !self.shared.execs.get(id).is_ok_and(|exec| exec.running) {
                return;
            }
            changed.await;
        }
    }

    /// Waits until an exec has been started, whether it has ended since or not.
    async fn wait_until_started(&self, id: &str) -> Result<()> {
        loop {
            let changed = self.shared.execs.changes.notified();
            let exec = self.shared.execs.get(id)?;
            if exec.pid != 0 || exec.exit_code.is_some() {
                return Ok(());
            }
            changed.await;
        }
    }

    /// An exec as it is now.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn inspect_exec(&self, id: &str) -> Result<Exec> {
        self.shared.execs.get(id)
    }

    /// Sets the size of an exec's terminal. Clients ask for it beside the start, so it waits for that as Docker does.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Conflict`] when it is not started in time, has ended or has no terminal.
    pub async fn resize_exec(&self, id: &str, size: ConsoleSize) -> Result<()> {
        let exec = self.shared.execs.get(id)?;
        tokio::time::timeout(START_OF_RESIZED, self.wait_until_started(id)).await.map_err(|_| {
            Error::Conflict(format!("exec {id} has not been started: it has no terminal to resize"))
        })??;
        let container = self.shared.containers.find(exec.container.as_str())?;
        let request = Request::Resize { exec: Some(id.to_owned()), size };
        let kind = admit::Command::Signal;
        container.ask(|reply| Command::Ask { kind, request, descriptors: Vec::new(), reply }).await.map(drop)
    }

    /// Tells that a client has left an exec that goes on.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn tell_of_detaching_from_exec(&self, id: &str) -> Result<()> {
        let exec = self.shared.execs.get(id)?;
        let container = self.inspect(exec.container.as_str())?;
        self.shared.tell_of(&container, "exec_detach", &[("execID", id)]);
        Ok(())
    }
}

/// An exec that only its owner can start; dropped, it can be taken again.
pub struct TakenExec {
    shared: Arc<Shared>,
    exec: Exec,
    state: Taken,
    lifetime: Option<Duration>,
}

#[derive(Debug, PartialEq, Eq)]
enum Taken {
    Waiting,
    Started,
}

impl TakenExec {
    /// What is to be run.
    pub fn settings(&self) -> &ExecSettings {
        &self.exec.settings
    }

    /// Has it killed after a time, whether this engine is there then or not.
    pub(crate) fn for_at_most(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Starts it, and returns its streams.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the container does not run any more; [`Error::Start`].
    pub async fn start(mut self, size: Option<ConsoleSize>) -> Result<Attached> {
        let (ours, theirs) = attach::pair()?;
        let [stdin, stdout, stderr] = self.exec.settings.attach;
        self.run(Attachment { stdin, stdout, stderr, owner: true, marked: false }, vec![theirs], size)
            .await?;
        Ok(Attached::to(ours, self.exec.settings.tty, stdin))
    }

    /// Starts it with nobody attached.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_detached(mut self, size: Option<ConsoleSize>) -> Result<()> {
        let [_, stdout, stderr] = self.exec.settings.attach;
        self.run(Attachment { stdout, stderr, owner: true, ..Attachment::default() }, Vec::new(), size).await
    }

    async fn run(
        &mut self,
        attachment: Attachment,
        descriptors: Vec<OwnedFd>,
        size: Option<ConsoleSize>,
    ) -> Result<()> {
        self.state = Taken::Started;
        let started = self.ask(attachment, descriptors, size).await;
        let id = self.exec.id.as_str();
        self.shared.execs.with_all(|all| match &started {
            Ok(pid) => all.execs.get_mut(id).into_iter().for_each(|exec| exec.pid = *pid),
            // As with Docker, whatever the reason; its command makes 127 of a missing program.
            Err(_) => drop(all.end(id, 126, Instant::now())),
        });
        self.shared.execs.changes.notify_waiters();
        started.map(drop)
    }

    /// Has the container's shim start it. Answers with its process id.
    async fn ask(
        &self,
        attachment: Attachment,
        descriptors: Vec<OwnedFd>,
        size: Option<ConsoleSize>,
    ) -> Result<i32> {
        let (shared, exec) = (&self.shared, &self.exec);
        let container = shared.containers.find(exec.container.as_str())?;
        let description = container.describe();
        let user =
            if exec.settings.user.is_empty() { &description.settings.user } else { &exec.settings.user };
        let execution = Execution {
            id: exec.id.to_string(),
            process: process(&exec.settings, &description, shared, size)?,
            user: user.clone(),
            privileged: exec.settings.privileged,
            attachment,
            lifetime: self.lifetime.map(|lifetime| u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX)),
        };
        let request = Request::Exec(Box::new(execution));
        // As Docker: before it is tried. So it comes before the end of what is short.
        let action = format!("exec_start: {}", exec.settings.line());
        shared.tell_of(&description, &action, &[("execID", exec.id.as_str())]);
        let awaited = container.ask(|reply| Command::Exec { request, descriptors, reply }).await?;
        let (reply, _) = awaited.answer().await?;
        Ok(if let Reply::Started { pid } = reply { pid } else { 0 })
    }
}

impl Drop for TakenExec {
    fn drop(&mut self) {
        if self.state == Taken::Waiting {
            self.shared.execs.with(|all| {
                if let Some(exec) = all.get_mut(self.exec.id.as_str()) {
                    exec.running = false;
                }
            });
        }
    }
}

fn process(
    exec: &ExecSettings,
    description: &Description,
    shared: &Shared,
    size: Option<ConsoleSize>,
) -> Result<Process> {
    let container = &description.settings;
    let mut host = container.host.clone();
    host.privileged |= exec.privileged;
    let allowed = super::confinement::capabilities(&host, &shared.available)?;
    let options = super::confinement::SecurityOptions::parse(&container.host.security_opt)?;
    let no_new_privileges =
        options.no_new_privileges.unwrap_or(shared.config.defaults.no_new_privileges) && !exec.privileged;
    let base = super::oci_spec::base_environment(&description.id, container, exec.tty);
    // A linked container that has ended since is no reason to start nothing in this one.
    let env = super::merge::merge_env(&base, &links::variables(shared, description).unwrap_or_default());
    let env = super::merge::merge_env(&env, &container.env);
    let cwd = [&exec.working_dir, &container.working_dir].into_iter().find(|path| !path.is_empty());
    Ok(Process {
        terminal: exec.tty,
        console_size: size.or(exec.console_size),
        args: exec.cmd.clone(),
        env: super::merge::merge_env(&env, &exec.env),
        cwd: cwd.cloned().unwrap_or_else(|| "/".to_owned()),
        capabilities: Some(Capabilities {
            bounding: allowed.clone(),
            effective: allowed.clone(),
            permitted: allowed,
            ..Capabilities::default()
        }),
        no_new_privileges,
        oom_score_adj: Some(container.host.oom_score_adj),
        rlimits: super::oci_spec::rlimits(container)?,
        ..runtime::Process::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(all: &mut All) -> String {
        let id = ExecId::random();
        let exec = Exec {
            id: id.clone(),
            container: ContainerId::random(),
            settings: ExecSettings::default(),
            pid: 1,
            running: true,
            exit_code: None,
        };
        all.execs.insert(id.to_string(), exec);
        id.to_string()
    }

    #[test]
    fn those_that_have_ended_are_forgotten_after_a_while_and_those_that_run_are_not() {
        let mut all = All::default();
        let (early, late, running) = (exec(&mut all), exec(&mut all), exec(&mut all));
        let start = Instant::now();
        assert_eq!(all.end(&early, 3, start).unwrap().exit_code, Some(3));
        all.end(&late, 0, start + KEPT / 2);
        let mut left = |after: Duration| {
            all.forget(start + after);
            [&early, &late, &running].map(|id| all.execs.contains_key(id.as_str()))
        };
        assert_eq!(left(KEPT - Duration::from_secs(1)), [true, true, true]);
        assert_eq!(left(KEPT), [false, true, true]);
        assert_eq!(left(2 * KEPT), [false, false, true]);
        assert!(all.ended.is_empty() && all.end(&early, 0, start).is_none());
    }

    #[test]
    fn no_more_than_so_many_are_remembered() {
        let mut all = All::default();
        let now = Instant::now();
        let ids: Vec<String> = (0..MOST_KEPT + 3).map(|_| exec(&mut all)).collect();
        ids.iter().for_each(|id| drop(all.end(id, 0, now)));
        all.forget(now);
        assert_eq!((all.execs.len(), all.ended.len()), (MOST_KEPT, MOST_KEPT));
        assert!(!all.execs.contains_key(&ids[2]) && all.execs.contains_key(&ids[3]));
    }
}
