//! A place for one container: a root, a state directory, a log, a shim to talk to.
//!
//! Each test program uses a part of it.
#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

pub(crate) mod canary;

use coracle_runtime::cgroup::Layout;
use coracle_runtime::protocol::{
    Attachment, Event, Execution, Exit, Failure, Log, Message, Overlay, Plan, Reply, Request, Role, SOCKET,
    Stdin, receive, send, split, write_plan,
};
use coracle_spec::runtime::{
    Capabilities, Linux, Mount, Namespace, NamespaceKind, Process, Resources, RootFs, Spec,
};
use coracle_sys::process::{Child, reap};
use coracle_sys::spawn::{Spawn, spawn};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, socketpair};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::OnceLock;

pub(crate) struct Bench {
    directory: tempfile::TempDir,
    given: RefCell<Vec<OwnedFd>>,
    id: String,
    shim: Cell<Option<Child>>,
    shim_pid: Cell<i32>,
}

/// A connection to a shim.
#[derive(Debug)]
pub(crate) struct Shim {
    socket: OwnedFd,
    pid: i32,
    events: VecDeque<Event>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["root/bin", "root/etc", "root/tmp", "upper", "work", "state"] {
            std::fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        let busybox = directory.path().join("root/bin/busybox");
        std::fs::copy("/bin/busybox", &busybox).expect("the package busybox-static is installed");
        for applet in [
            "sh", "cat", "sleep", "ps", "tty", "stty", "grep", "id", "readlink", "mkfifo", "true", "ls",
            "test", "nslookup", "mknod", "head", "find", "mkdir", "mount", "unshare", "cut", "sort", "stat",
            "mv", "ln", "rm", "touch", "wc", "dd", "pwd",
        ] {
            std::os::unix::fs::symlink("busybox", directory.path().join("root/bin").join(applet)).unwrap();
        }
        std::fs::write(directory.path().join("root/etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        let id = directory.path().file_name().unwrap().to_string_lossy().replace('.', "");
        Self { directory, given: RefCell::default(), id, shim: Cell::default(), shim_pid: Cell::default() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path("log")
    }

    pub(crate) fn upper(&self) -> PathBuf {
        self.path("upper")
    }

    pub(crate) fn attach(&self, plan: &mut Plan, attachment: Attachment) -> OwnedFd {
        let (ours, theirs) = stream_pair();
        plan.attachments.push(attachment);
        self.give(plan, Role::Attached, theirs);
        ours
    }

    /// Sends a descriptor along with the plan.
    pub(crate) fn give(&self, plan: &mut Plan, role: Role, descriptor: OwnedFd) {
        plan.descriptors.push(role);
        self.given.borrow_mut().push(descriptor);
    }

    pub(crate) fn start(&self, plan: &Plan) -> Result<Shim, Failure> {
        self.launch().start(self, plan)
    }

    /// Starts a shim, prepares the container of `plan`, and waits until that is done.
    pub(crate) fn prepare(&self, plan: &Plan) -> Shim {
        let shim = self.launch();
        self.send(&shim, &Request::Prepare, plan);
        wait_until(|| self.waiting().is_some_and(is_receiving) && is_receiving(self.shim_pid()));
        shim
    }

    /// The same of a plan of which nothing can be prepared.
    pub(crate) fn prepare_in_vain(&self, plan: &Plan) -> Shim {
        let shim = self.launch();
        self.send(&shim, &Request::Prepare, plan);
        // It waits before it has the request, too; its socket for engines is made after.
        wait_until(|| self.state().join(SOCKET).exists() && is_receiving(self.shim_pid()));
        assert_eq!(self.waiting(), None);
        shim
    }

    /// The first process that waits for its start.
    pub(crate) fn waiting(&self) -> Option<i32> {
        let pid = self.shim_pid();
        let children =
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_whitespace().next()?.parse().ok()
    }

    fn launch(&self) -> Shim {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let null = rustix::io::fcntl_dupfd_cloexec(File::open("/dev/null").unwrap(), 20).unwrap();
        let error = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 20).unwrap();
        // Above the places that it is copied to; the original is closed, or the shim's end would not be seen.
        let theirs = rustix::io::fcntl_dupfd_cloexec(&theirs, 20).map(|copy| (copy, drop(theirs))).unwrap().0;
        let child = spawn(&Spawn {
            program: &CString::new(format!("/proc/self/fd/{}", sealed_program().as_raw_fd())).unwrap(),
            arguments: &[CString::new("coracle-runtime").unwrap(), CString::new("shim").unwrap()],
            environment: &[],
            descriptors: &[null.as_fd(), error.as_fd(), error.as_fd(), theirs.as_fd()],
            groups: None,
        })
        .unwrap();
        drop(theirs);
        self.shim_pid.set(child.pid.as_raw_nonzero().get());
        self.shim.set(Some(child));
        Shim { socket: ours, pid: 0, events: VecDeque::new() }
    }

    fn send(&self, shim: &Shim, request: &Request, plan: &Plan) {
        let memory = write_plan(plan).unwrap();
        let given = self.given.take();
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![memory.as_fd()];
        descriptors.extend(given.iter().map(AsFd::as_fd));
        let (ahead, beside) = split(&descriptors);
        ahead.for_each(|some| send(shim.socket.as_fd(), 1, &Request::Descriptors, some).unwrap());
        send(shim.socket.as_fd(), 1, request, beside).unwrap();
    }

    /// Connects as an engine does that was restarted.
    pub(crate) fn find(&self) -> Shim {
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        connect(&socket, &SocketAddrUnix::new(self.state().join(SOCKET)).unwrap()).unwrap();
        Shim { socket, pid: 0, events: VecDeque::new() }
    }

    pub(crate) fn wait_for_log(&self, text: &str) {
        wait_until(|| std::fs::read_to_string(self.log()).is_ok_and(|log| log.contains(text)));
    }

    pub(crate) fn wait_for_exit_record(&self) -> Exit {
        let read = || coracle_runtime::shim::record::read_exit(&self.state());
        wait_until(|| read().is_some());
        read().unwrap()
    }

    /// Runs the container of `plan`, which has a terminal, to its end. Returns what it printed.
    pub(crate) fn run_on_terminal(&self, plan: &mut Plan) -> Result<String, Failure> {
        let attachment =
            Attachment { stdin: true, stdout: true, stderr: true, owner: true, ..Attachment::default() };
        let client = self.attach(plan, attachment);
        let mut shim = self.start(plan)?;
        let text = String::from_utf8(read_all(client)).unwrap();
        shim.exited();
        shim.forget();
        Ok(text)
    }

    /// The process of the shim that was started last.
    pub(crate) fn shim_pid(&self) -> i32 {
        self.shim_pid.get()
    }

    /// Removes the groups that a killed shim leaves, once they are empty.
    pub(crate) fn remove_groups(&self) {
        let group = coracle_runtime::cgroup::Group::existing(
            &Layout::detect().unwrap(),
            std::path::Path::new(&group_path(&self.id)),
        );
        group.remove().unwrap();
    }

    /// Waits for the shim to end, and looks for what it may have left.
    pub(crate) fn assert_nothing_is_left(&self) {
        if let Some(child) = self.shim.take() {
            reap(child.pidfd.as_fd()).unwrap();
        }
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains(self.directory.path().to_str().unwrap()));
        let Layout::V1 { hierarchies, unified } = Layout::detect().unwrap() else { return };
        for mount in hierarchies.iter().map(|h| h.mountpoint.clone()).chain(unified) {
            assert!(!mount.join(group_path(&self.id).trim_start_matches('/')).exists());
            // Shared by all tests of this process; the last one out succeeds.
            let _ = std::fs::remove_dir(mount.join(parent_group().trim_start_matches('/')));
        }
    }
}

impl Drop for Bench {
    /// A test that failed leaves nothing either: the container dies with its shim.
    fn drop(&mut self) {
        let Some(child) = self.shim.take() else { return };
        if coracle_sys::process::send_signal(child.pidfd.as_fd(), 9).is_ok() {
            // Its directory in each hierarchy cannot be waited for here; the next boot has none.
            let _ = reap(child.pidfd.as_fd());
        }
    }
}

/// The runtime as the engine starts it: a copy in memory that nobody can change, whatever reaches it from inside a
/// container (CVE-2019-5736).
fn sealed_program() -> &'static OwnedFd {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let memory =
            memfd_create("coracle-runtime", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        let memory = rustix::io::fcntl_dupfd_cloexec(memory, 20).unwrap();
        let mut file = File::open(env!("CARGO_BIN_EXE_coracle-runtime")).unwrap();
        std::io::copy(&mut file, &mut File::from(memory.try_clone().unwrap())).unwrap();
        let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        fcntl_add_seals(&memory, seals).unwrap();
        memory
    })
}

fn wait_until(condition: impl Fn() -> bool) {
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !condition() {
        assert!(std::time::Instant::now() < limit, "it did not happen within ten seconds");
        std::thread::yield_now();
    }
}

/// Whether a process does nothing but wait for a message, recvmsg(2).
fn is_receiving(pid: i32) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    call.split(' ').next() == Some("47")
}

impl Shim {
    pub(crate) fn start(mut self, bench: &Bench, plan: &Plan) -> Result<Self, Failure> {
        bench.send(&self, &Request::Start, plan);
        match self.reply().0 {
            Reply::Started { pid } => Ok(Self { pid, ..self }),
            Reply::Failed(failure) => Err(failure),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn ask(&mut self, request: &Request) -> Reply {
        self.ask_with(request, &[])
    }

    pub(crate) fn ask_with(&mut self, request: &Request, descriptors: &[OwnedFd]) -> Reply {
        let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        send(self.socket.as_fd(), 2, request, &borrowed).unwrap();
        self.reply().0
    }

    fn reply(&mut self) -> (Reply, Vec<OwnedFd>) {
        loop {
            let (frame, descriptors) =
                receive::<Message>(self.socket.as_fd()).unwrap().expect("the shim answers");
            match frame.body {
                Message::Reply(reply) => return (reply, descriptors),
                Message::Event(event) => self.events.push_back(event),
            }
        }
    }

    pub(crate) fn event(&mut self) -> Event {
        if let Some(event) = self.events.pop_front() {
            return event;
        }
        let (frame, _) = receive::<Message>(self.socket.as_fd()).unwrap().expect("the shim tells");
        match frame.body {
            Message::Event(event) => event,
            Message::Reply(reply) => panic!("unasked: {reply:?}"),
        }
    }

    pub(crate) fn exited(&mut self) -> Exit {
        loop {
            if let Event::Exited(exit) = self.event() {
                return exit;
            }
        }
    }

    /// Ends the container, and the shim.
    pub(crate) fn kill(mut self) {
        self.ask(&Request::Signal { exec: None, number: 9 });
        assert_eq!(self.exited().code, 137);
        self.forget();
    }

    pub(crate) fn forget(mut self) {
        assert_eq!(self.ask(&Request::Forget), Reply::Done);
    }

    /// The container's first process.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// As when the engine is killed.
    pub(crate) fn abandon(self) -> i32 {
        self.pid
    }
}

/// Runs the container of `plan` to its end. Returns its exit code, its output and its error output.
pub(crate) fn run(bench: &Bench, plan: &mut Plan) -> Result<(i32, String, String), Failure> {
    run_in(bench, bench.launch(), plan)
}

/// The same in a shim that may have prepared it.
pub(crate) fn run_in(bench: &Bench, shim: Shim, plan: &mut Plan) -> Result<(i32, String, String), Failure> {
    let attachment = Attachment { stdout: true, stderr: true, owner: true, ..Attachment::default() };
    let client = bench.attach(plan, attachment);
    let mut shim = shim.start(bench, plan)?;
    let (out, err) = demultiplex(&read_all(client));
    let exit = shim.exited();
    shim.forget();
    Ok((exit.code, out, err))
}

pub(crate) fn stream_pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap()
}

pub(crate) fn read_all(socket: OwnedFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::from(socket).read_to_end(&mut bytes).unwrap();
    bytes
}

pub(crate) fn demultiplex(mut bytes: &[u8]) -> (String, String) {
    let (mut out, mut err) = (String::new(), String::new());
    while bytes.len() >= 8 {
        let length = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
        let text = std::str::from_utf8(&bytes[8..8 + length]).unwrap();
        if bytes[0] == 1 {
            out.push_str(text);
        } else {
            err.push_str(text);
        }
        bytes = &bytes[8 + length..];
    }
    (out, err)
}

fn parent_group() -> String {
    format!("/coracle-shim-test-{}", std::process::id())
}

fn group_path(id: &str) -> String {
    format!("{}/{id}", parent_group())
}

pub(crate) fn process(args: &[&str]) -> Process {
    let allowed: Vec<String> =
        ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"].map(str::to_owned).to_vec();
    Process {
        args: args.iter().map(ToString::to_string).collect(),
        env: vec!["PATH=/bin".into()],
        cwd: "/".into(),
        capabilities: Some(Capabilities {
            bounding: allowed.clone(),
            effective: allowed.clone(),
            permitted: allowed,
            ..Capabilities::default()
        }),
        ..Process::default()
    }
}

pub(crate) fn execution(id: &str, args: &[&str]) -> Execution {
    Execution {
        id: id.into(),
        process: process(args),
        user: String::new(),
        privileged: false,
        attachment: Attachment { stdout: true, stderr: true, owner: true, ..Attachment::default() },
        lifetime: None,
    }
}

pub(crate) fn mount(destination: &str, kind: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: kind.into(),
        options: options.iter().map(ToString::to_string).collect(),
    }
}

/// A container as the engine makes it by default, without a network.
pub(crate) fn plan(bench: &Bench, args: &[&str]) -> Plan {
    let kinds = [
        NamespaceKind::Pid,
        NamespaceKind::Network,
        NamespaceKind::Mount,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
        NamespaceKind::Cgroup,
    ];
    let spec = Spec {
        oci_version: coracle_spec::runtime::VERSION.into(),
        process: Some(process(args)),
        root: Some(RootFs { path: String::new(), readonly: false }),
        hostname: "bench".into(),
        mounts: vec![
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount(
                "/dev/pts",
                "devpts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            ),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        ],
        linux: Some(Linux {
            namespaces: kinds.map(|kind| Namespace { kind, path: String::new() }).to_vec(),
            cgroups_path: group_path(&bench.id),
            resources: Some(Resources::default()),
            masked_paths: vec![
                "/proc/kcore".into(),
                "/proc/keys".into(),
                "/sys/firmware".into(),
                "/proc/acpi".into(),
            ],
            readonly_paths: vec!["/proc/bus".into(), "/proc/sys".into(), "/proc/sysrq-trigger".into()],
            ..Linux::default()
        }),
        ..Spec::default()
    };
    Plan {
        id: bench.id.clone(),
        spec,
        user: String::new(),
        groups: Vec::new(),
        root: Overlay {
            lower: vec![bench.path("root")],
            upper: bench.upper(),
            work: bench.path("work"),
            volatile: true,
            may_be_bounded: false,
        },
        cgroups: Layout::detect().unwrap(),
        state_directory: bench.state(),
        boot_id: "test".into(),
        log: Some(Log { path: bench.log(), max_size: 1 << 20, max_files: 2, attributes: String::new() }),
        stdin: Stdin::Closed,
        init: false,
        names: None,
        relays: Vec::new(),
        attachments: Vec::new(),
        descriptors: Vec::new(),
        runtime: None,
    }
}
