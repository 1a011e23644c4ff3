//! An engine under test, and the commands that speak to it.

use crate::wiretap::Wiretap;
use crate::{Output, image, leftovers, users};
use rustix::fs::FlockOperation;
use std::fs::{self, File};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Counts the engines of this process, so that each gets an address range of its own.
static ENGINES: AtomicU32 = AtomicU32::new(0);

/// An engine with roots of its own, or the original.
pub struct Engine {
    /// What its data is on, if it is not the disk of all: let go of before the place.
    disk: Option<Disk>,
    place: TempDir,
    /// Where the engine itself listens.
    own_host: String,
    /// Where clients connect: the same, or what watches the engine's answers.
    host: String,
    wiretap: Option<Wiretap>,
    process: Option<Process>,
    prefix: String,
}

struct Process {
    child: Child,
    subnet: Subnet,
    more: Vec<String>,
    /// The firewall's table before the first container.
    table: String,
}

/// A small disk, which is in memory.
struct Disk(PathBuf);

impl Disk {
    /// What it is called in the host's table of mounts.
    const NAME: &str = "coracle-test-disk";

    fn mount(path: &Path, mebibytes: u32) -> Self {
        use rustix::mount::{MountFlags, mount};
        fs::create_dir_all(path).unwrap();
        let options = std::ffi::CString::new(format!("size={mebibytes}m,mode=0711")).unwrap();
        mount(Self::NAME, path, "tmpfs", MountFlags::empty(), options.as_c_str()).unwrap();
        Self(path.to_owned())
    }

    /// Whether what was found is this.
    fn is_told_of(&self, found: &str) -> bool {
        found.starts_with("mount: ")
            && found.contains(&format!(" {} ", self.0.display()))
            && found.contains(Self::NAME)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// A directory for an engine.
fn place() -> TempDir {
    tempfile::Builder::new().prefix("coracle-test-").tempdir().unwrap()
}

/// An address range that no other engine on the machine uses, for as long as this is held.
struct Subnet {
    bip: String,
    _lock: File,
}

/// Where the programs under test are: beside this one, or above the directory `deps` that tests are in.
pub fn programs() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let directory = program.parent().unwrap();
    if directory.ends_with("deps") { directory.parent().unwrap() } else { directory }.to_owned()
}

/// Whether an interface has the address of the bridge already.
fn is_on_this_machine(number: u32) -> bool {
    let address = Ipv4Addr::new(10, 231, u8::try_from(number).unwrap(), 1);
    UdpSocket::bind((address, 0)).is_ok()
}

impl Subnet {
    fn reserve() -> Self {
        let place = programs().join("test-subnets");
        fs::create_dir_all(&place).unwrap();
        let first = std::process::id().wrapping_mul(31).wrapping_add(ENGINES.fetch_add(1, Ordering::Relaxed));
        for number in (0..200).map(|step| first.wrapping_add(step) % 200) {
            let lock = File::create(place.join(number.to_string())).unwrap();
            // A killed test may have left the bridge of its engine.
            if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
                && !is_on_this_machine(number)
            {
                return Self { bip: format!("10.231.{number}.1/24"), _lock: lock };
            }
        }
        panic!("two hundred engines run already");
    }
}

impl Engine {
    /// Starts an engine with the small image in it, or uses the one that `TARGET` names.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more arguments for our daemon.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_in(place(), None, arguments)
    }

    /// Starts our engine with its data on a disk of so many mebibytes.
    pub fn start_on_disk(mebibytes: u32) -> Self {
        let place = place();
        let disk = Disk::mount(&place.path().join("data"), mebibytes);
        Self::start_in(place, Some(disk), &[])
    }

    /// Starts our engine where a user has so many ids to give to containers, from `first` on, and it gives them.
    pub fn start_remapped(first: u32, arguments: &[&str]) -> Self {
        let place = place();
        if std::env::var_os("TARGET").is_none() {
            users::write(place.path(), first);
        }
        let remapped: Vec<&str> = ["--userns-remap=default"].iter().chain(arguments).copied().collect();
        Self::start_in(place, None, &remapped)
    }

    /// Has our engine give containers the ids of a user, from `first` on, when it is started again.
    pub fn remap(&mut self, first: u32) {
        users::write(self.place.path(), first);
        let process = self.process.as_mut().expect("only our engine is started again");
        process.more.push("--userns-remap=default".to_owned());
    }

    /// Has the user other ids to give, for an engine that is started again.
    pub fn give_other_ids(&self, first: u32) {
        users::write(self.place.path(), first);
    }

    fn start_in(place: TempDir, disk: Option<Disk>, arguments: &[&str]) -> Self {
        let prefix = format!("t{}x{}", std::process::id(), ENGINES.fetch_add(1, Ordering::Relaxed));
        let mut engine = match std::env::var("TARGET") {
            Ok(host) => Self::new(place, host, None, prefix),
            Err(_) => {
                let host = format!("unix://{}", place.path().join("socket").display());
                let more: Vec<String> = arguments.iter().map(ToString::to_string).collect();
                let subnet = Subnet::reserve();
                let child = spawn(place.path(), &host, &subnet, &more);
                Self::new(place, host, Some(Process { child, subnet, more, table: String::new() }), prefix)
            }
        };
        engine.disk = disk;
        engine.wait_until_it_answers();
        engine.watch();
        if let Some(process) = &mut engine.process {
            process.table = leftovers::table(engine.place.path());
        }
        engine.import_small();
        engine
    }

    /// The original at an address, beside ours.
    pub fn at(host: &str) -> Self {
        let prefix = format!("t{}x{}", std::process::id(), ENGINES.fetch_add(1, Ordering::Relaxed));
        Self::new(place(), host.to_owned(), None, prefix)
    }

    fn new(place: TempDir, host: String, process: Option<Process>, prefix: String) -> Self {
        Self { disk: None, place, own_host: host.clone(), host, wiretap: None, process, prefix }
    }

    /// Has clients connect where their answers are held against the schema.
    fn watch(&mut self) {
        let socket = self.place.path().join("wire");
        let wiretap = Wiretap::start(socket, self.own_socket(), self.is_original());
        self.host = format!("unix://{}", wiretap.socket().display());
        self.wiretap = Some(wiretap);
    }

    /// Imports the small image where it is not there yet.
    pub fn import_small(&self) {
        if self.docker(&["image", "inspect", image::SMALL]).code != 0 {
            let archive = image::small(self.place.path());
            self.docker(&["import", &archive.display().to_string(), image::SMALL]).ok();
        }
    }

    /// Whether the engine is the original, which some tests ask to leave out what only we promise.
    pub fn is_original(&self) -> bool {
        self.process.is_none()
    }

    /// A name that no other test uses.
    pub fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// A directory of the test's own.
    pub fn directory(&self) -> &Path {
        self.place.path()
    }

    /// A new directory for bind mounts: where it is, and where the engine sees it. An original that has another root
    /// than we do tells where ours sees that root: `TARGET_ROOT`.
    pub fn shared_directory(&self) -> (PathBuf, PathBuf) {
        let ours = match std::env::var_os("TARGET_ROOT").filter(|_| self.is_original()) {
            Some(root) => Path::new(&root).join("tmp").join(&self.prefix),
            None => self.place.path().join("shared"),
        };
        fs::create_dir_all(&ours).unwrap();
        let root = std::env::var_os("TARGET_ROOT").unwrap_or_default();
        let seen = ours.strip_prefix(&root).map_or_else(|_| ours.clone(), |rest| Path::new("/").join(rest));
        (ours, seen)
    }

    /// The address for clients, whose answers are held against the schema.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path of the socket for clients.
    pub fn socket(&self) -> PathBuf {
        path_of(&self.host)
    }

    /// The engine's own address, for tests of the socket itself.
    pub fn own_host(&self) -> &str {
        &self.own_host
    }

    /// The path of the engine's own socket.
    pub fn own_socket(&self) -> PathBuf {
        path_of(&self.own_host)
    }

    /// Runs the docker command.
    pub fn docker(&self, arguments: &[&str]) -> Output {
        self.run("docker", arguments, None)
    }

    /// Runs the docker command with an input.
    pub fn docker_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        self.run("docker", arguments, Some(input))
    }

    /// Runs our own command.
    pub fn coracle(&self, arguments: &[&str]) -> Output {
        self.run(&programs().join("coracle").display().to_string(), arguments, None)
    }

    fn run(&self, program: &str, arguments: &[&str], input: Option<&[u8]>) -> Output {
        use std::io::Write;
        let mut child = self
            .command(program)
            .args(arguments)
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            // A command that has ended early takes no input; its output tells why.
            let _ = stdin.write_all(input);
        }
        let output = child.wait_with_output().unwrap();
        Output::new(
            format!("{} {}", program.rsplit('/').next().unwrap_or(program), arguments.join(" ")),
            &output,
        )
    }

    /// A command with the engine's address in its environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("DOCKER_HOST", &self.host).env("DOCKER_CONFIG", self.place.path().join("docker-config"));
        command.env_remove("CORACLE_HOST");
        command
    }

    /// Sends a request as `curl` would, and returns status and body.
    pub fn request(&self, method: &str, path: &str, body: Option<&str>) -> (u16, String) {
        use std::io::{Read, Write};
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        let body = body.unwrap_or_default();
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n{kind}Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        (status, if chunked { unchunk(body) } else { body.to_owned() })
    }

    /// Sends an archive, and returns status and answer.
    pub fn upload(&self, method: &str, path: &str, archive: &[u8]) -> (u16, String) {
        use std::io::{Read, Write};
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/x-tar\r\n\
             Content-Length: {}\r\n\r\n",
            archive.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        // An engine that has heard enough may answer and close; its answer tells why.
        let _ = stream.write_all(archive);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        (answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0), answer)
    }

    /// The process id of our engine.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("only our engine is killed").child.id()
    }

    /// Kills our engine as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) {
        let process = self.process.as_mut().expect("only our engine is killed");
        process.child.kill().unwrap();
        process.child.wait().unwrap();
    }

    /// Starts our engine again, with the same roots.
    pub fn start_again(&mut self) {
        self.begin_to_start_again();
        self.wait_until_it_answers();
    }

    /// The same, without waiting until it answers.
    pub fn begin_to_start_again(&mut self) {
        let host = self.own_host.clone();
        let place = self.place.path().to_owned();
        let process = self.process.as_mut().expect("only our engine is started again");
        process.child = spawn(&place, &host, &process.subnet, &process.more);
    }

    fn wait_until_it_answers(&self) {
        let socket = self.own_socket();
        wait_until("the engine answers", || is_answered(&socket).unwrap_or(false));
    }

    /// What the host's mount table holds of our engine.
    pub fn mounts_on_the_host(&self) -> Vec<String> {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let place = self.place.path().display().to_string();
        table.lines().filter(|line| line.contains(&place)).map(str::to_owned).collect()
    }

    /// What our engine has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.place.path().join("engine.log")).unwrap_or_default()
    }

    /// Removes everything, stops the engine, and fails if something of it is left.
    fn take_down(&mut self) {
        let all = self.docker(&["ps", "-aq", "--no-trunc", "--filter", &format!("name={}", self.prefix)]);
        let ours = if self.is_original() { all } else { self.docker(&["ps", "-aq", "--no-trunc"]) };
        let ids: Vec<String> = ours.stdout.split_whitespace().map(str::to_owned).collect();
        if !ids.is_empty() {
            let mut arguments = vec!["rm", "-fv"];
            arguments.extend(ids.iter().map(String::as_str));
            self.docker(&arguments);
        }
        let Some(mut process) = self.process.take() else { return };
        let bridge = leftovers::bridge_of(self.place.path());
        let trash = self.place.path().join("data/trash");
        let is_empty = || fs::read_dir(&trash).is_ok_and(|entries| entries.count() == 0);
        let limit = Instant::now() + if std::thread::panicking() { Duration::ZERO } else { PATIENCE };
        while !is_empty() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(5));
        }
        let deleted = is_empty();
        // A shim ends when it has let go of the layers, which is after the answer to who removed the container.
        let limit = Instant::now() + Duration::from_secs(5);
        let mut children = leftovers::children_of(process.child.id());
        while !children.is_empty() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(20));
            children = leftovers::children_of(process.child.id());
        }
        let pid = rustix::process::Pid::from_child(&process.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = process.child.wait().unwrap();
        // The kernel removes interfaces and groups of the last container when it has time.
        let find = || {
            let found = leftovers::find(self.place.path()).into_iter();
            found.filter(|found| !self.disk.as_ref().is_some_and(|disk| disk.is_told_of(found))).collect()
        };
        let mut found: Vec<String> = find();
        let limit = Instant::now() + Duration::from_secs(5);
        while !found.is_empty() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(20));
            found = find();
        }
        let table = leftovers::table(self.place.path());
        leftovers::remove_bridge(bridge.as_deref());
        if !std::thread::panicking() {
            assert!(status.success(), "the engine ended with {status}:\n{}", self.log());
            assert!(deleted, "what was removed is not deleted");
            assert_eq!(children, Vec::<String>::new(), "processes that the engine has not collected");
            assert_eq!(found, Vec::<String>::new(), "left behind");
            assert_eq!(table, process.table, "the firewall is as it was before the first container");
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprint_log(&self.log());
        }
        self.take_down();
        let violations: String =
            self.wiretap.iter().flat_map(Wiretap::violations).map(|found| format!("{found}\n")).collect();
        if let Some(list) = std::env::var_os("SCHEMA_FINDINGS") {
            write_down(Path::new(&list), &violations);
        } else if !std::thread::panicking() {
            assert!(violations.is_empty(), "answers that the schema does not allow:\n{violations}");
        }
    }
}

#[expect(clippy::print_stderr, reason = "what a failed test's engine said")]
fn eprint_log(log: &str) {
    if !log.is_empty() {
        eprintln!("--- the engine's log ---\n{log}");
    }
}

/// Adds to a list of all that a run of the suite found, for people.
fn write_down(list: &Path, lines: &str) {
    use std::io::Write;
    let mut file = File::options().create(true).append(true).open(list).unwrap();
    file.write_all(lines.as_bytes()).unwrap();
}

fn path_of(host: &str) -> PathBuf {
    PathBuf::from(host.strip_prefix("unix://").expect("the suite speaks over a unix socket"))
}

/// The content of a chunked body, which the original sends where it does not know the length.
fn unchunk(mut body: &str) -> String {
    let mut content = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        content.push_str(&rest[..size]);
        body = rest[size..].strip_prefix("\r\n").unwrap_or_default();
    }
    content
}

fn spawn(place: &Path, host: &str, subnet: &Subnet, more: &[String]) -> Child {
    let log = File::options().create(true).append(true).open(place.join("engine.log")).unwrap();
    users::command(place, &programs().join("coracle"))
        .arg("daemon")
        .args(["--data-root".as_ref(), place.join("data").as_os_str()])
        .args(["--exec-root".as_ref(), place.join("run").as_os_str()])
        .args(["--pidfile".as_ref(), place.join("pid").as_os_str()])
        .args(["--host", host, "--bip", &subnet.bip])
        .args(std::env::var("RUNTIME").iter().flat_map(|path| other_runtime(path)))
        .args(more)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("the programs are built: cargo test --workspace builds them")
}

/// Options for an engine whose containers another OCI runtime makes: with `RUNTIME=/usr/sbin/runc`, all that are not asked for
/// otherwise.
fn other_runtime(path: &str) -> [String; 4] {
    ["--add-runtime".to_owned(), format!("other={path}"), "--default-runtime".to_owned(), "other".to_owned()]
}

/// How long something may take on a machine that is busy with other things: deleting a Debian, for instance.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether an engine answers at `socket`. That somebody listens is not enough: what an engine was just starting when it
/// was killed holds its sockets until its own exec.
fn is_answered(socket: &Path) -> std::io::Result<bool> {
    use std::io::{Read, Write};
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(&status == b"HTTP/1.1 200")
}

/// Waits until something is so; a test does not wait for ever.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < limit, "it did not happen within a minute that {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
