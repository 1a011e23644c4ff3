//! The second thread of a shim: it moves all streams, so that neither a slow disk nor a slow client delays what the
//! first thread answers.

use super::channel::{Channel, Name, WIDE_PIPE};
use crate::protocol::Attachment;
use coracle_logfile::Limits;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Size of the buffer through which everything goes, in bytes. Of one that is never filled only the beginning is in memory.
const BUFFER: usize = WIDE_PIPE;

enum Command {
    Add(Box<Channel>),
    Attach { name: Name, socket: OwnedFd, attachment: Attachment },
    BoundLog(Limits),
    Quit,
}

/// What the pump tells the first thread.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// All output of a process was read and logged.
    Ended(Name),
    /// Output is missing from the log.
    LogFailed(String),
    /// Everything is delivered and nothing will come any more.
    Finished,
}

struct Shared {
    commands: Mutex<Vec<Command>>,
    notices: Mutex<Vec<Notice>>,
    wake_pump: OwnedFd,
    wake_owner: OwnedFd,
}

/// The first thread's handle of the pump.
pub(super) struct Pump {
    shared: Arc<Shared>,
}

impl Pump {
    /// Starts the thread, which moves the streams of the container from the first.
    pub(super) fn start(container: Channel) -> io::Result<Self> {
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let shared = Arc::new(Shared {
            commands: Mutex::new(vec![Command::Add(Box::new(container))]),
            notices: Mutex::default(),
            wake_pump: event()?,
            wake_owner: event()?,
        });
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("streams".into())
            .stack_size(128 * 1024)
            .spawn(move || run(&theirs))?;
        Ok(Self { shared })
    }

    /// Becomes readable when there are notices.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.wake_owner.as_fd()
    }

    /// What has happened since the last call.
    pub(super) fn notices(&self) -> Vec<Notice> {
        clear(&self.shared.wake_owner);
        std::mem::take(&mut *lock(&self.shared.notices))
    }

    /// Moves the streams of one more process.
    pub(super) fn add(&self, channel: Channel) {
        self.command(Command::Add(Box::new(channel)));
    }

    /// Keeps as much of the container's log from now on.
    pub(super) fn bound_log(&self, limits: Limits) {
        self.command(Command::BoundLog(limits));
    }

    /// Connects a socket to the streams of a process. It is closed at once if they have ended.
    pub(super) fn attach(&self, name: Name, socket: OwnedFd, attachment: Attachment) {
        self.command(Command::Attach { name, socket, attachment });
    }

    /// Nothing more will come: the pump finishes when everything is delivered.
    pub(super) fn quit(&self) {
        self.command(Command::Quit);
    }

    fn command(&self, command: Command) {
        lock(&self.shared.commands).push(command);
        wake(&self.shared.wake_pump);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A list stays whole whoever panics while holding it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(event: &OwnedFd) {
    // The counter cannot overflow: it is cleared on each turn of the reader.
    let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
}

fn clear(event: &OwnedFd) {
    // Nothing to read means that it was cleared already.
    let _ = rustix::io::read(event, &mut [0; 8]);
}

/// What a turn of the loop found ready.
#[derive(Clone, Copy)]
enum Ready {
    Wake,
    Output(usize, usize),
    Input(usize),
    Client { channel: usize, client: usize, hung_up: bool },
}

fn run(shared: &Shared) {
    let mut channels: Vec<Channel> = Vec::new();
    let mut buffer = vec![0; BUFFER];
    let mut quitting = false;
    loop {
        for command in std::mem::take(&mut *lock(&shared.commands)) {
            quitting |= obey(command, &mut channels);
        }
        if quitting && channels.iter().all(|channel| channel.clients.is_empty() && channel.outputs.is_empty())
        {
            tell(shared, Notice::Finished);
            return;
        }
        for ready in wait(shared, &channels) {
            match ready {
                Ready::Wake => clear(&shared.wake_pump),
                Ready::Output(channel, output) => {
                    read_output(shared, &mut channels[channel], output, &mut buffer);
                }
                Ready::Input(channel) => channels[channel].write_input(),
                Ready::Client { channel, client, hung_up } => {
                    channels[channel].read_client(client, hung_up, &mut buffer);
                }
            }
        }
        let now = Instant::now();
        channels.iter_mut().for_each(|channel| channel.serve_clients(now));
        // The container's own channel stays, so that later clients learn that it has ended.
        channels.retain(|channel| {
            channel.name.is_none() || !(channel.outputs.is_empty() && channel.clients.is_empty())
        });
    }
}

fn obey(command: Command, channels: &mut Vec<Channel>) -> bool {
    match command {
        Command::Add(channel) => channels.push(*channel),
        Command::Attach { name, socket, attachment } => {
            if let Some(channel) = channels.iter_mut().find(|channel| channel.name == name) {
                channel.attach(socket, attachment);
            }
        }
        Command::BoundLog(limits) => channels.iter_mut().for_each(|channel| channel.bound_log(limits)),
        Command::Quit => {
            // What still holds an output open is no part of the container any more.
            for channel in channels.iter_mut() {
                channel.outputs.clear();
                channel.finish_log();
            }
            return true;
        }
    }
    false
}

fn read_output(shared: &Shared, channel: &mut Channel, index: usize, buffer: &mut [u8]) {
    if channel.read_output(index, buffer) {
        channel.outputs.remove(index);
        if channel.outputs.is_empty() {
            channel.finish_log();
            tell(shared, Notice::Ended(channel.name.clone()));
        }
    }
    if let Some(failure) = channel.take_log_failure() {
        tell(shared, Notice::LogFailed(failure));
    }
}

fn tell(shared: &Shared, notice: Notice) {
    lock(&shared.notices).push(notice);
    wake(&shared.wake_owner);
}

/// Waits until something can be done, and returns it. The outputs of a channel come after its clients, which they
/// may remove, and highest first, so that the removal of one leaves the others' places.
fn wait(shared: &Shared, channels: &[Channel]) -> Vec<Ready> {
    let mut ready = vec![Ready::Wake];
    let mut polled = vec![PollFd::new(&shared.wake_pump, PollFlags::IN)];
    let mut deadline: Option<Instant> = None;
    for (index, channel) in channels.iter().enumerate() {
        for (at, client) in channel.clients.iter().enumerate() {
            let mut flags = PollFlags::empty();
            if client.sends_input() && channel.takes_input() {
                flags |= PollFlags::IN;
            }
            if !client.is_served() {
                flags |= PollFlags::OUT;
            }
            deadline = deadline.into_iter().chain(client.deadline()).min();
            if flags.is_empty() && client.sends_input() {
                // Nothing to do for it, and a hang-up would be reported on every turn.
                continue;
            }
            ready.push(Ready::Client { channel: index, client: at, hung_up: false });
            polled.push(PollFd::from_borrowed_fd(client.socket(), flags));
        }
        if let Some(descriptor) = channel.wants_to_write() {
            ready.push(Ready::Input(index));
            polled.push(PollFd::from_borrowed_fd(descriptor, PollFlags::OUT));
        }
        if channel.is_open() {
            for (at, output) in channel.outputs.iter().enumerate().rev() {
                ready.push(Ready::Output(index, at));
                polled.push(PollFd::new(&output.descriptor, PollFlags::IN));
            }
        }
    }
    let timeout = deadline.map(|deadline| {
        Timespec::try_from(deadline.saturating_duration_since(Instant::now())).unwrap_or_default()
    });
    if poll(&mut polled, timeout.as_ref()).is_err() {
        // Interrupted: the next turn asks again.
        return Vec::new();
    }
    let happened =
        |flags: PollFlags| flags.intersects(PollFlags::IN | PollFlags::OUT | PollFlags::HUP | PollFlags::ERR);
    let told = |(ready, fd): (Ready, &PollFd<'_>)| match ready {
        Ready::Client { channel, client, .. } => Ready::Client {
            channel,
            client,
            hung_up: fd.revents().intersects(PollFlags::HUP | PollFlags::ERR),
        },
        other => other,
    };
    ready.into_iter().zip(&polled).filter(|(_, fd)| happened(fd.revents())).map(told).collect()
}
