//! What the engine and a shim say to each other.
//!
//! Each frame is one `SOCK_SEQPACKET` datagram: a JSON document, and descriptors beside it. The version is of the
//! frame's shape; what a peer can do stands in its feature bits. Unknown fields are ignored, an unknown request is
//! refused by name, so that an engine serves the shims of every earlier release and the reverse.

use crate::cgroup::Layout;
use crate::channel;
use crate::error::{Error, Result};
use crate::limits;
use coracle_spec::Owners;
use coracle_spec::runtime::{ConsoleSize, Linux, Process, Resources, Spec};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::slice::Chunks;

mod mark;

pub use mark::Mark;

/// The version of the frames.
pub const VERSION: u16 = 1;

/// The feature of shims that change ports and the log's bounds while the container runs.
pub const CHANGES: u64 = 1;

/// The feature of shims to which a request may bring more descriptors than fit beside one frame.
pub const MANY: u64 = 2;

/// The feature of shims that relay what arrives at ports which the kernel does not translate.
pub const RELAYS: u64 = 4;

/// The feature of shims that tell whoever attaches where the log was then.
pub const MARKS: u64 = 8;

/// What this release can do, as bits.
pub const FEATURES: u64 = CHANGES | MANY | RELAYS | MARKS;

/// Most descriptors beside one frame.
pub const DESCRIPTORS: usize = limits::FRAME_DESCRIPTORS;

/// The name of a shim's socket in the container's state directory.
pub const SOCKET: &str = "shim.sock";
/// The name of the record of a running container.
pub const RUN_RECORD: &str = "run.json";
/// The name of the record of an exit.
pub const EXIT_RECORD: &str = "exit.json";

/// One frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Frame<B> {
    /// [`VERSION`] of the sender.
    pub version: u16,
    /// [`FEATURES`] of the sender.
    pub features: u64,
    /// Chosen by the engine; a reply carries the id of its request, an event 0.
    pub id: u64,
    /// What is said.
    pub body: B,
}

/// What the engine asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Keep these descriptors for the request that comes with the same id: they come before those beside it. Not answered. Of
    /// shims that have [`MANY`].
    Descriptors,
    /// Prepare what does not depend on what runs, for a start that may come: cgroup, namespaces, file systems of the
    /// kernel. Descriptors: the plan, then those that the plan lists: namespaces and the sockets of the resolver, which the
    /// start does not bring again. Not answered; at most once, before the start. When the socket is closed instead, nothing
    /// stays.
    Prepare,
    /// Make a user namespace for the container to come, or have it join the one that is the descriptor. Descriptor of the reply,
    /// where it is asked for: a network namespace that belongs to it, for the engine to set up and to send as
    /// [`Role::Network`]. At most once, before anything else.
    Isolate(Isolation),
    /// Start the container. Descriptors: the plan, then those that the plan lists. Only once, on the inherited socket.
    Start,
    /// Tell how the container is.
    State,
    /// Connect a stream socket, which is the descriptor, to the container's streams.
    Attach(Attachment),
    /// Start a process in the container. Descriptor: the stream socket to connect to it, if it is attached.
    Exec(Box<Execution>),
    /// Send a signal to the container's first process, or to an exec. SIGKILL to an exec also ends what it has started, as
    /// far as that can be told from the rest: descendants, and whoever is in its session.
    Signal {
        /// The exec, or the container itself.
        exec: Option<String>,
        /// The signal's number.
        number: i32,
    },
    /// Set a terminal's size.
    Resize {
        /// The exec, or the container itself.
        exec: Option<String>,
        /// The size.
        size: ConsoleSize,
    },
    /// Stop or resume all tasks.
    Freeze {
        /// Whether to stop them.
        frozen: bool,
    },
    /// Change limits.
    Update(Box<Resources>),
    /// Resolve names from other tables, or by other servers: the container has joined or left a network. Names that
    /// were published in a table it has left are the engine's to withdraw.
    Names(Names),
    /// Hold further ports, whose sockets are the descriptors, and close those of others. Of shims that have [`CHANGES`].
    Ports {
        /// What is not held any more; what is not held anyway is none of it.
        release: Vec<HeldPort>,
        /// Which of those that are held from now on are relayed, and where those lead that are already. Of shims that have
        /// [`RELAYS`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        relays: Vec<RelayedPort>,
    },
    /// Keep as much of the log from now on. Of shims that have [`CHANGES`].
    Log(LogBounds),
    /// List the processes, by their ids in the engine's pid namespace.
    Processes,
    /// Hand out the root: a descriptor of it as the container sees it.
    Root,
    /// Hand out the mount namespace of a volume: the descriptor that came as the [`Role::Volume`] of this number, counted from 0.
    Volume {
        /// Which.
        number: usize,
    },
    /// The exit is on record: the shim may end. It answers once it holds the layers no more, and its cgroup is gone.
    Forget,
}

/// A user namespace, and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// Who its users are outside.
    pub owners: Owners,
    /// Whether a network namespace is wanted.
    pub network: bool,
}

/// A port of the host that a socket holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPort {
    /// The number of its transport in the IP header.
    pub protocol: u8,
    /// Where the socket is bound.
    pub address: SocketAddr,
}

/// A held port of which the shim passes on what arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayedPort {
    /// The port of the host.
    pub port: HeldPort,
    /// Where it leads: an address of the container.
    pub target: SocketAddr,
}

/// How much of a container's output is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogBounds {
    /// Size at which a file is rotated, in bytes; never if 0.
    pub max_size: u64,
    /// Most files, the current one included.
    pub max_files: u32,
}

/// What the shim answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done.
    Done,
    /// A process was started.
    Started {
        /// Its id in the engine's pid namespace.
        pid: i32,
    },
    /// How the container is.
    State(State),
    /// Ids of processes.
    Processes(Vec<i32>),
    /// It could not be done.
    Failed(Failure),
}

/// What the shim says unasked, to every connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The container has ended.
    Exited(Exit),
    /// An exec has ended.
    ExecExited {
        /// Which.
        exec: String,
        /// Its exit code; 128 + signal when it was killed.
        code: i32,
    },
    /// The kernel has killed a process of the container for want of memory.
    OutOfMemory,
}

/// What a shim sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// To a request.
    Reply(Reply),
    /// Unasked.
    Event(Event),
}

/// How a container is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The first process, in the engine's pid namespace; absent before the start.
    pub pid: Option<i32>,
    /// The exit, if there was one.
    pub exit: Option<Exit>,
    /// Execs that run.
    pub execs: BTreeMap<String, i32>,
}

/// How a container ended. Also the exit record on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code; 128 + signal when it was killed.
    pub code: i32,
    /// Whether the kernel killed a process of it for want of memory.
    pub oom_killed: bool,
    /// When, in nanoseconds since 1970.
    pub at: i128,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// For people.
    pub text: String,
    /// What another runtime was asked for, whose words the text is; absent where the shim's own are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verb: Option<String>,
}

/// Kinds of failures that a caller can do something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The program is not there: exit code 127.
    NotFound,
    /// The program cannot be run: exit code 126.
    NotExecutable,
    /// The request makes no sense.
    Invalid,
    /// The container, or the exec, has ended.
    Gone,
    /// Anything else.
    #[serde(other)]
    Other,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let kind = match error {
            Error::NotFound { .. } => FailureKind::NotFound,
            Error::NotExecutable { .. } => FailureKind::NotExecutable,
            Error::Invalid(_) | Error::Malformed(_) => FailureKind::Invalid,
            Error::Foreign { text, .. } => FailureKind::told_by(text),
            _ => FailureKind::Other,
        };
        // What is quoted in it may be as long as its author liked, and a frame is not.
        let mut text = error.chain();
        text.truncate(text.floor_char_boundary(limits::FAILURE_TEXT));
        let verb = match error {
            Error::Foreign { verb, .. } => Some(verb.clone()),
            _ => None,
        };
        Self { kind, text, verb }
    }
}

impl FailureKind {
    /// What kind of failure the words of another runtime tell of: those that Docker looks for, which every runtime has
    /// from the same places.
    fn told_by(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        if ["executable file not found", "no such file or directory"].iter().any(|words| text.contains(words))
        {
            Self::NotFound
        } else if ["permission denied", "is a directory"].iter().any(|words| text.contains(words)) {
            Self::NotExecutable
        } else {
            Self::Other
        }
    }
}

/// Which streams an attached socket carries.
///
/// Output is framed as Docker frames it (a header of eight bytes before each piece) unless the process has a
/// terminal; input is raw, and shutting down the socket's sending half ends it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attachment {
    /// Whether what arrives on the socket is the process's input.
    pub stdin: bool,
    /// Whether the output is wanted.
    pub stdout: bool,
    /// Whether the error output is wanted.
    pub stderr: bool,
    /// Whether the process waits for as long as this socket is full. Otherwise a socket that takes nothing for a
    /// while is dropped.
    pub owner: bool,
    /// Whether a [`Mark`] comes first, and then what has come of each stream since the last entry of the log, so that the log up
    /// to there and the socket together are the whole output. Of shims that have [`MARKS`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub marked: bool,
}

/// A process to start in a running container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    /// The engine's name for it.
    pub id: String,
    /// What runs; its user is resolved by the shim.
    pub process: Process,
    /// `USER[:GROUP]` as Docker writes it.
    pub user: String,
    /// Whether all capabilities and no filter apply.
    pub privileged: bool,
    /// Which streams the socket carries.
    pub attachment: Attachment,
    /// Milliseconds after which the shim kills it with what it has started, whether an engine is there or not; never if
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<u64>,
}

/// What a container is made of, all of it decided by the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The container's id.
    pub id: String,
    /// The configuration. Its user is resolved by the shim, inside the root.
    pub spec: Spec,
    /// `USER[:GROUP]` as Docker writes it.
    pub user: String,
    /// Groups besides the user's own, names or numbers.
    #[serde(default)]
    pub groups: Vec<String>,
    /// The layers.
    pub root: Overlay,
    /// The machine's cgroup hierarchies.
    pub cgroups: Layout,
    /// Where the socket and the records of this container are.
    pub state_directory: PathBuf,
    /// Identifies this boot of the machine.
    pub boot_id: String,
    /// Where the output is logged.
    pub log: Option<Log>,
    /// Whether the process has an input.
    pub stdin: Stdin,
    /// Whether a reaper is the first process.
    #[serde(default)]
    pub init: bool,
    /// Where names are resolved; absent without a network of the container's own.
    #[serde(default)]
    pub names: Option<Names>,
    /// What is attached from the start, one for each [`Role::Attached`], in order.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    /// What the descriptors after the plan are, in order.
    #[serde(default)]
    pub descriptors: Vec<Role>,
    /// Which of the held ports are relayed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relays: Vec<RelayedPort>,
    /// Who makes the container's processes instead of the shim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
}

impl Plan {
    /// Who the container's users are outside of its user namespace, if it has one.
    pub fn owners(&self) -> Option<Owners> {
        self.spec.linux.as_ref().and_then(Linux::owners)
    }
}

/// Another OCI runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// The program: a path, or a name that is looked for where programs of the system are.
    pub path: PathBuf,
    /// Arguments before its own.
    #[serde(default)]
    pub arguments: Vec<String>,
}

/// The layers of a root file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// Read-only, topmost first.
    pub lower: Vec<PathBuf>,
    /// Receives changes.
    pub upper: PathBuf,
    /// Scratch space of the kernel.
    pub work: PathBuf,
    /// Whether changes need not survive a loss of power.
    #[serde(default)]
    pub volatile: bool,
    /// Whether what receives changes may be held to a size, by a quota of its file system.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_be_bounded: bool,
}

/// Where a container's output is logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The current file.
    pub path: PathBuf,
    /// Size at which it is rotated, in bytes.
    pub max_size: u64,
    /// Most files, the current one included.
    pub max_files: u32,
    /// What each line is marked with, a JSON document; nothing if empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub attributes: String,
}

/// The input of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// None: reading gives the end at once.
    Closed,
    /// Open until the container ends, whoever attaches.
    Open,
    /// Open until the first attached input ends.
    Once,
}

/// Where names are resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The name tables of the container's networks.
    pub tables: Vec<PathBuf>,
    /// What the networks of the tables are called, in the same order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// The endpoint whose names are withdrawn when the container ends.
    pub endpoint: String,
    /// Servers that everything else is asked of; the host's own if empty.
    #[serde(default)]
    pub servers: Vec<std::net::IpAddr>,
    /// Whether nobody is asked: no network of the container leads out, and neither do names (CVE-2024-29018).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_internal: bool,
    /// What the container alone calls others, and how the tables know them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, String>,
}

/// The source of a bind mount that shows what came as [`Role::SharedMemory`]: no path, as it is not absolute.
pub const SHARED_MEMORY: &str = "shared memory";

const TREE: &str = "tree ";

/// The source of a bind mount that shows what came as the [`Role::Tree`] of this number, counted from 0.
pub fn tree(number: usize) -> String {
    format!("{TREE}{number}")
}

/// The number of the tree that a source stands for, if it was made by [`tree`].
pub(crate) fn tree_number(source: &str) -> Option<usize> {
    source.strip_prefix(TREE)?.parse().ok()
}

/// What a descriptor that accompanies a plan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A network namespace to join.
    Network,
    /// A pid namespace to join.
    Pid,
    /// An ipc namespace to join.
    Ipc,
    /// A uts namespace to join.
    Uts,
    /// A detached mount of the shared memory that belongs to the ipc namespace to join. It is what the mount with the source
    /// [`SHARED_MEMORY`] shows.
    SharedMemory,
    /// A detached mount, which the mounts show whose source is [`tree`] of its number among those that come.
    Tree,
    /// A mount namespace whose root is the file system of a volume, which is kept as long as the container runs: a later engine
    /// asks for it.
    Volume,
    /// A socket on which names are asked for in datagrams.
    NamesUdp,
    /// A socket on which names are asked for in connections.
    NamesTcp,
    /// Kept open as long as the container runs: a reserved port.
    Held,
    /// A stream socket that is connected to the container's streams.
    Attached,
}

/// Encodes and sends one frame.
///
/// # Errors
/// As [`channel::send`].
pub fn send<B: Serialize>(
    socket: BorrowedFd<'_>,
    id: u64,
    body: &B,
    descriptors: &[BorrowedFd<'_>],
) -> Result<()> {
    let frame = Frame { version: VERSION, features: FEATURES, id, body };
    let bytes = serde_json::to_vec(&frame).map_err(|error| Error::Malformed(error.to_string()))?;
    if bytes.len() > limits::FRAME {
        return Err(Error::Malformed(format!("a frame of {} bytes is too long", bytes.len())));
    }
    channel::send(socket, &bytes, descriptors)
}

/// Descriptors as they are sent with a request: those of each frame ahead of it, and those beside it.
pub fn split<'a, 'b>(
    descriptors: &'a [BorrowedFd<'b>],
) -> (Chunks<'a, BorrowedFd<'b>>, &'a [BorrowedFd<'b>]) {
    let ahead = descriptors.len().saturating_sub(1) / DESCRIPTORS * DESCRIPTORS;
    let (ahead, beside) = descriptors.split_at(ahead);
    (ahead.chunks(DESCRIPTORS), beside)
}

/// The id of a frame of which only the beginning is there.
pub fn id_of(beginning: &[u8]) -> Option<u64> {
    // It stands before all that others have a say in.
    let text = std::str::from_utf8(&beginning[..beginning.len().min(128)]).unwrap_or_default();
    let (_, rest) = text.split_once("\"id\":")?;
    rest[..rest.find(|letter: char| !letter.is_ascii_digit())?].parse().ok()
}

/// A frame that was received, with its descriptors.
pub type Received<B> = (Frame<B>, Vec<OwnedFd>);

/// Receives and decodes one frame; `None` when the peer has closed.
///
/// # Errors
/// As [`channel::receive`], of a truncated one [`id_of`] may still know whose it is; [`Error::Malformed`] for a document that
/// makes no sense.
pub fn receive<B: for<'a> Deserialize<'a>>(socket: BorrowedFd<'_>) -> Result<Option<Received<B>>> {
    let Some((bytes, descriptors)) = channel::receive(socket)? else { return Ok(None) };
    let frame = serde_json::from_slice(&bytes).map_err(|error| Error::Malformed(error.to_string()))?;
    Ok(Some((frame, descriptors)))
}

/// Writes a plan into a sealed memory file.
///
/// # Errors
/// When memory or descriptors run out.
pub fn write_plan(plan: &Plan) -> Result<OwnedFd> {
    let failed = |source| Error::Protocol { action: "write the plan", source };
    let memory = memfd_create("coracle-plan", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|error| failed(error.into()))?;
    let bytes = serde_json::to_vec(plan).map_err(|error| Error::Malformed(error.to_string()))?;
    let mut file = File::from(memory);
    file.write_all(&bytes).map_err(failed)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(file.as_fd(), seals).map_err(|error| failed(error.into()))?;
    Ok(file.into())
}

/// Reads a plan from the memory file that [`write_plan`] made.
///
/// # Errors
/// [`Error::Malformed`] when it is no plan or too large.
pub fn read_plan(memory: OwnedFd) -> Result<Plan> {
    let failed = |source| Error::Protocol { action: "read the plan", source };
    let file = File::from(memory);
    let size = rustix::fs::fstat(&file).map_err(|error| failed(error.into()))?.st_size;
    let size = usize::try_from(size).ok().filter(|size| *size <= limits::PLAN);
    let mut bytes =
        vec![0; size.ok_or_else(|| Error::Malformed("a plan is longer than allowed".to_owned()))?];
    // The writer's offset is shared, so reading is by position.
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_spec::owners::IdMapping;

    /// The frames of the first release. They are never changed: a later release must still read them.
    #[test]
    fn the_frames_of_release_0_1_are_understood() {
        let request =
            r#"{"version":1,"features":0,"id":7,"body":{"signal":{"exec":null,"number":15}},"later":1}"#;
        let frame: Frame<Request> = serde_json::from_str(request).unwrap();
        assert_eq!((frame.id, frame.body), (7, Request::Signal { exec: None, number: 15 }));
        let event = r#"{"version":1,"features":0,"id":0,"body":{"event":{"exited":{"code":137,"oom_killed":true,"at":5}}}}"#;
        let frame: Frame<Message> = serde_json::from_str(event).unwrap();
        assert_eq!(frame.body, Message::Event(Event::Exited(Exit { code: 137, oom_killed: true, at: 5 })));
        let ports = r#"{"version":1,"features":1,"id":8,"body":{"ports":{"release":[{"protocol":6,"address":"0.0.0.0:80"}]}}}"#;
        let frame: Frame<Request> = serde_json::from_str(ports).unwrap();
        let address = SocketAddr::from(([0, 0, 0, 0], 80));
        assert_eq!(
            frame.body,
            Request::Ports { release: vec![HeldPort { protocol: 6, address }], relays: Vec::new() }
        );
        let log = r#"{"version":1,"features":1,"id":9,"body":{"log":{"max_size":0,"max_files":2}}}"#;
        let frame: Frame<Request> = serde_json::from_str(log).unwrap();
        assert_eq!(frame.body, Request::Log(LogBounds { max_size: 0, max_files: 2 }));
        let attach = r#"{"version":1,"features":7,"id":11,"body":{"attach":{"stdin":false,"stdout":true,"stderr":true,"owner":false,"marked":true}}}"#;
        let frame: Frame<Request> = serde_json::from_str(attach).unwrap();
        let marked = Attachment { stdout: true, stderr: true, marked: true, ..Attachment::default() };
        assert_eq!(frame.body, Request::Attach(marked));
        let volume = r#"{"version":1,"features":7,"id":12,"body":{"volume":{"number":1}}}"#;
        let frame: Frame<Request> = serde_json::from_str(volume).unwrap();
        assert_eq!(frame.body, Request::Volume { number: 1 });
        let more = r#"{"version":1,"features":3,"id":10,"body":"descriptors"}"#;
        assert_eq!(serde_json::from_str::<Frame<Request>>(more).unwrap().body, Request::Descriptors);
        let isolate = r#"{"version":1,"features":1,"id":1,"body":{"isolate":{"network":true,"owners":{"uids":[{"containerID":0,"hostID":70000,"size":9}],"gids":[]}}}}"#;
        let frame: Frame<Request> = serde_json::from_str(isolate).unwrap();
        let uids = vec![IdMapping { container_id: 0, host_id: 70_000, size: 9 }];
        let owners = Owners { uids, gids: Vec::new() };
        assert_eq!(frame.body, Request::Isolate(Isolation { owners, network: true }));
        let failed = r#"{"kind":"of_tomorrow","text":"x"}"#;
        assert_eq!(serde_json::from_str::<Failure>(failed).unwrap().kind, FailureKind::Other);
    }

    #[test]
    fn whose_a_frame_is_stands_in_its_beginning() {
        let frame = Frame { version: VERSION, features: FEATURES, id: 77, body: Request::State };
        let bytes = serde_json::to_vec(&frame).unwrap();
        assert_eq!(id_of(&bytes), Some(77));
        assert_eq!(id_of(&bytes[..bytes.len() - 9]), Some(77));
        for text in ["", "{}", r#"{"id":"#, r#"{"id":7"#, r#"{"id":-7,"#] {
            assert_eq!(id_of(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn descriptors_go_ahead_as_far_as_they_do_not_fit() {
        let descriptors = vec![rustix::stdio::stdin(); 2 * DESCRIPTORS];
        let sizes = |count: usize| {
            let (ahead, beside) = split(&descriptors[..count]);
            (ahead.map(<[_]>::len).collect::<Vec<_>>(), beside.len())
        };
        assert_eq!(sizes(0), (vec![], 0));
        assert_eq!(sizes(DESCRIPTORS), (vec![], DESCRIPTORS));
        assert_eq!(sizes(DESCRIPTORS + 1), (vec![DESCRIPTORS], 1));
        assert_eq!(sizes(2 * DESCRIPTORS), (vec![DESCRIPTORS], DESCRIPTORS));
    }

    #[test]
    fn a_request_that_nobody_knows_is_malformed() {
        let (a, b) = channel::pair().unwrap();
        channel::send(a.as_fd(), br#"{"version":1,"features":0,"id":1,"body":"dance"}"#, &[]).unwrap();
        assert!(matches!(receive::<Request>(b.as_fd()), Err(Error::Malformed(_))));
    }
}
