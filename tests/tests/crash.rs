//! What is left of an operation on images when the engine is killed in the middle of it: all of it or nothing.
//!
//! An engine is killed at random moments of a pull, a load, a commit and a removal: after a random time, or when a thread
//! of it enters the n-th call of a kind that changes the disk, which also meets the moments between two steps that no
//! clock finds. Then another starts on the same root without help, sometimes after one that was killed while it started,
//! and everything is looked at. A few moments in every run; two hundred with `CORACLE_LONG=1`. `CORACLE_SEED` repeats a
//! run's choices.
//!
//! These promises are ours alone; the original is not killed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use coracle_tests::registry::Registry;
use coracle_tests::{Engine, Output};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Calls that change what is on the disk, or make it last.
const CHANGING: &str = "renameat2,renameat,rename,linkat,mkdir,mkdirat,unlink,unlinkat,ftruncate,pwrite64,write,fsync,\
                        fdatasync,syncfs";

/// About how long a start takes in which the engine may be killed again.
const START: Duration = Duration::from_millis(150);

/// What is done while the engine is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Pull,
    Load,
    Commit,
    Remove,
}

const OPERATIONS: [Operation; 4] = [Operation::Pull, Operation::Load, Operation::Commit, Operation::Remove];

/// When the engine is killed.
#[derive(Clone, Debug)]
enum Moment {
    /// So long after the client was started.
    After(Duration),
    /// When any thread enters this call for the n-th time.
    At(String, usize),
}

/// How an operation goes when nobody is killed.
struct Course {
    length: Duration,
    /// Most calls of each kind that one thread makes.
    calls: Vec<(String, usize)>,
}

/// Numbers that look random (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    fn moment(&mut self, course: &Course) -> Moment {
        if self.below(2) == 0 {
            let micros = usize::try_from(course.length.as_micros()).unwrap();
            return Moment::After(Duration::from_micros(self.below(micros) as u64));
        }
        let (call, most) = &course.calls[self.below(course.calls.len())];
        Moment::At(call.clone(), 1 + self.below(*most))
    }
}

/// An engine, and what the operations work on.
struct Scene {
    engine: Engine,
    registry: Registry,
    /// The image that is pulled, loaded and removed.
    image: String,
    id: String,
    /// What [`Scene::content_of`] says of it.
    content: String,
    /// A running container, and what it is committed to.
    container: String,
    committed: String,
    committed_content: String,
}

impl Scene {
    fn new() -> Self {
        let (engine, registry) = (Engine::start(), Registry::start());
        let (image, container, committed) =
            (registry.name("crash/app:v1"), engine.name("writer"), engine.name("committed"));
        let write = |seed: &str| {
            format!(
                "mkdir -p /payload/{seed}; for i in $(seq 1 150); do echo {seed} $i > /payload/{seed}/$i; done; \
                 head -c 3000000 /dev/urandom > /payload/{seed}/large; ln /payload/{seed}/1 /payload/{seed}/hard; \
                 rm -rf /etc/plain"
            )
        };
        let made = engine.name("made");
        for (base, seed, what) in [(SMALL, "one", "crash-half"), ("crash-half", "two", image.as_str())] {
            engine
                .docker(&["run", "--name", &made, "--network", "none", base, "sh", "-c", &write(seed)])
                .ok();
            engine.docker(&["commit", &made, what]).ok();
            engine.docker(&["rm", &made]).ok();
        }
        engine.docker(&["push", &image]).ok();
        engine.docker(&["save", "-o", &archive(&engine), &image]).ok();
        let id = engine.docker(&["inspect", "-f", "{{.Id}}", &image]).ok();
        let script = format!("{}; echo ready; exec sleep 1000000", write("three"));
        engine
            .docker(&["run", "-d", "--name", &container, "--network", "none", SMALL, "sh", "-c", &script])
            .ok();
        wait_until("the container has written", || engine.docker(&["logs", &container]).ok() == "ready");
        let mut scene = Self {
            engine,
            registry,
            image,
            id,
            content: String::new(),
            container,
            committed,
            committed_content: String::new(),
        };
        scene.content = scene.content_of(&scene.image);
        // What it is made of goes with it: everything that a pull or a load brings is new.
        scene.engine.docker(&["rmi", &scene.image, "crash-half"]).ok();
        scene.engine.docker(&["commit", &scene.container, &scene.committed]).ok();
        scene.committed_content = scene.content_of(&scene.committed);
        scene.engine.docker(&["rmi", &scene.committed]).ok();
        scene
    }

    /// Runs a container of an image, which tells what is in its files.
    fn content_of(&self, image: &str) -> String {
        let script = "find /bin /etc /payload -xdev -type f | grep -v -e /etc/host -e /etc/resolv | sort | xargs sha256sum \
                      | sha256sum; stat -c %h /payload/*/1; ls /etc";
        self.engine.docker(&["run", "--rm", "--network", "none", image, "sh", "-c", script]).ok()
    }

    fn arguments(&self, operation: Operation) -> Vec<String> {
        let words: &[&str] = match operation {
            Operation::Pull => &["pull", &self.image],
            Operation::Load => &["load", "-i", &archive(&self.engine)],
            Operation::Commit => &["commit", &self.container, &self.committed],
            Operation::Remove => &["rmi", &self.image],
        };
        words.iter().map(ToString::to_string).collect()
    }

    /// What the operation is about.
    fn subject(&self, operation: Operation) -> (&str, &str) {
        match operation {
            Operation::Commit => (&self.committed, &self.committed_content),
            _ => (&self.image, &self.content),
        }
    }

    /// Makes the world as the operation needs it.
    fn prepare(&self, operation: Operation) {
        if operation == Operation::Remove {
            self.engine.docker(&["load", "-i", &archive(&self.engine)]).ok();
        }
    }

    /// Makes the world as it was.
    fn clean(&self, operation: Operation) {
        if operation != Operation::Remove {
            self.engine.docker(&["rmi", self.subject(operation).0]).ok();
        }
    }

    fn start(&self, operation: Operation) -> Child {
        let mut command = self.engine.command("docker");
        command.args(self.arguments(operation)).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn run(&self, operation: Operation) {
        let arguments = self.arguments(operation);
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.engine.docker(&words).ok();
    }

    /// How an operation goes when nobody is killed.
    fn course(&self, operation: Operation) -> Course {
        self.prepare(operation);
        let begun = Instant::now();
        self.run(operation);
        let length = begun.elapsed();
        self.clean(operation);
        self.prepare(operation);
        let trace = self.engine.directory().join("trace");
        let mut strace =
            attach(&self.engine, &["-o", &trace.display().to_string(), "-e", &format!("trace={CHANGING}")]);
        self.run(operation);
        let pid = rustix::process::Pid::from_child(&strace);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        strace.wait().unwrap();
        self.clean(operation);
        Course { length, calls: most_by_a_thread(&fs::read_to_string(trace).unwrap()) }
    }

    /// Kills the engine at a moment of an operation; what its client said of it.
    fn kill_during(&mut self, operation: Operation, moment: &Moment) -> Output {
        let strace = match moment {
            Moment::After(_) => None,
            Moment::At(call, count) => {
                let inject = format!("inject={call}:signal=KILL:when={count}");
                Some(attach(
                    &self.engine,
                    &["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject],
                ))
            }
        };
        let client = self.start(operation);
        if let Moment::After(delay) = moment {
            // The moment itself is what is random.
            std::thread::sleep(*delay);
            self.engine.kill();
        }
        let output = client.wait_with_output().unwrap();
        // Where it has survived its operation.
        self.engine.kill();
        if let Some(mut strace) = strace {
            strace.wait().unwrap();
        }
        Output::new(self.arguments(operation).join(" "), &output)
    }

    /// Looks at everything after the engine was killed; whether the operation has been done.
    fn look(&self, operation: Operation, acknowledged: bool) -> bool {
        let tmp: Vec<_> =
            fs::read_dir(self.data("tmp")).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(tmp.is_empty(), "left in tmp: {tmp:?}");
        let checked = self.engine.coracle(&["system", "check"]);
        assert_eq!((checked.code, checked.stdout.as_str()), (0, ""), "{checked:?}");
        let (name, content) = self.subject(operation);
        let found = self.engine.docker(&["image", "inspect", "-f", "{{.Id}}", name]);
        let present = found.code == 0;
        if acknowledged {
            assert_eq!(present, operation != Operation::Remove, "it was acknowledged: {found:?}");
        }
        if present {
            assert_eq!(self.content_of(name), content);
            if operation != Operation::Commit {
                assert_eq!(found.ok(), self.id);
            }
        }
        let state = self.engine.docker(&["inspect", "-f", "{{.State.Status}}", &self.container]).ok();
        assert_eq!(state, "running", "the container that was committed");
        assert_eq!(self.engine.docker(&["exec", &self.container, "echo", "alive"]).ok(), "alive");
        self.look_for_leftovers(operation);
        present == (operation != Operation::Remove)
    }

    /// What no image needs is deleted soon, but for what a pull that is to go on has brought.
    fn look_for_leftovers(&self, operation: Operation) {
        wait_until("what was left is deleted", || fs::read_dir(self.data("trash")).unwrap().count() == 0);
        if operation == Operation::Pull {
            return;
        }
        let mut needed = BTreeSet::new();
        for id in self.engine.docker(&["images", "-aq", "--no-trunc"]).ok().lines() {
            let layers =
                self.engine.docker(&["image", "inspect", "-f", "{{json .RootFS.Layers}}", id]).json();
            needed.extend(
                layers.as_array().unwrap().iter().map(|layer| layer.as_str().unwrap()[7..].to_owned()),
            );
        }
        let there = || -> BTreeSet<String> {
            let entries = fs::read_dir(self.data("layers/sha256")).unwrap().flatten();
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
        };
        wait_until(&format!("the layers are those of the images: {needed:?}"), || there() == needed);
        let partial = self.data("partial");
        wait_until("nothing is kept for a pull", || fs::read_dir(&partial).unwrap().count() == 0);
    }

    fn data(&self, below: &str) -> std::path::PathBuf {
        self.engine.directory().join("data").join(below)
    }

    /// One moment of an operation, and where it is given, one of the start that follows; whether the client heard that the
    /// operation was done.
    fn moment(&mut self, operation: Operation, moment: &Moment, of_start: Option<Duration>) -> bool {
        self.prepare(operation);
        let output = self.kill_during(operation, moment);
        if let Some(delay) = of_start {
            self.engine.begin_to_start_again();
            std::thread::sleep(delay);
            self.engine.kill();
        }
        self.engine.start_again();
        let done = self.look(operation, output.code == 0);
        // Again, it succeeds; where it was done, also a second time.
        if !(done && operation == Operation::Remove) {
            self.run(operation);
        }
        let (name, content) = self.subject(operation);
        if operation == Operation::Remove {
            assert_ne!(self.engine.docker(&["image", "inspect", name]).code, 0);
        } else {
            assert_eq!(self.content_of(name), content);
        }
        self.clean(operation);
        output.code == 0
    }
}

fn archive(engine: &Engine) -> String {
    engine.directory().join("app.tar").display().to_string()
}

/// Attaches strace to every thread of the engine.
fn attach(engine: &Engine, arguments: &[&str]) -> Child {
    let strace = Command::new("strace")
        .args(["-f", "-qq"])
        .args(arguments)
        .args(["-p", &engine.pid().to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the package strace is installed");
    let tasks = Path::new("/proc").join(engine.pid().to_string()).join("task");
    wait_until("strace is attached", || {
        fs::read_dir(&tasks).unwrap().flatten().all(|task| {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
            tracer.is_some_and(|pid| pid.trim() != "0")
        })
    });
    strace
}

/// Of a trace, how many calls of each kind the busiest thread made.
fn most_by_a_thread(trace: &str) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for line in trace.lines().filter(|line| !line.contains("resumed>")) {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, _)) = rest.trim_start().split_once('(') else { continue };
        *counts.entry((call, thread)).or_default() += 1;
    }
    let mut most: BTreeMap<&str, usize> = BTreeMap::new();
    for ((call, _), count) in counts {
        let entry = most.entry(call).or_default();
        *entry = count.max(*entry);
    }
    most.into_iter().map(|(call, count)| (call.to_owned(), count)).collect()
}

/// Whether the kernel holds the processes of a container's cgroup, on either layout.
fn is_frozen(pid: &str) -> bool {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let path = |marker: &str| {
        let line = groups.lines().find(|line| line.contains(marker));
        line.and_then(|line| line.splitn(3, ':').nth(2)).map(|path| path.trim_start_matches('/').to_owned())
    };
    let state = match path(":freezer:") {
        Some(path) => Path::new("/sys/fs/cgroup/freezer").join(path).join("freezer.state"),
        None => Path::new("/sys/fs/cgroup").join(path("0::").unwrap()).join("cgroup.freeze"),
    };
    matches!(fs::read_to_string(state).unwrap().trim(), "FROZEN" | "1")
}

#[test]
fn a_container_goes_on_when_the_engine_was_killed_while_it_was_committed() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let mut engine = Engine::start();
    let name = engine.name("writer");
    engine.docker(&["run", "-d", "--name", &name, "--network", "none", SMALL, "sleep", "1000000"]).ok();
    let pid = engine.docker(&["inspect", "-f", "{{.State.Pid}}", &name]).ok();
    // The layer is on its way to the disk.
    let injected = ["-o", "/dev/null", "-e", "trace=syncfs", "-e", "inject=syncfs:signal=KILL:when=1"];
    let mut strace = attach(&engine, &injected);
    assert_ne!(engine.docker(&["commit", &name]).code, 0);
    strace.wait().unwrap();
    engine.kill();
    assert!(is_frozen(&pid), "it stood still for the commit");
    // The second time, nothing tells of the commit any more.
    for start in ["first", "second"] {
        engine.start_again();
        assert!(!is_frozen(&pid), "{start}");
        assert_eq!(engine.docker(&["inspect", "-f", "{{.State.Status}}", &name]).ok(), "running", "{start}");
        engine.kill();
    }
    engine.start_again();
    assert_eq!(engine.docker(&["exec", &name, "echo", "alive"]).ok(), "alive");
    // One that somebody has paused stays as it is.
    engine.docker(&["pause", &name]).ok();
    engine.kill();
    engine.start_again();
    assert_eq!(engine.docker(&["inspect", "-f", "{{.State.Status}}", &name]).ok(), "paused");
    assert!(is_frozen(&pid));
    engine.docker(&["rm", "-f", &name]).ok();
}

#[test]
#[expect(clippy::print_stderr, reason = "what a long run did")]
fn an_engine_that_is_killed_leaves_an_operation_done_or_undone() {
    if std::env::var_os("TARGET").is_some() {
        return;
    }
    let moments = if std::env::var_os("CORACLE_LONG").is_some() { 200 } else { 12 };
    let seed = std::env::var("CORACLE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    let mut dice = Dice(seed);
    let mut scene = Scene::new();
    let courses: Vec<Course> = OPERATIONS.iter().map(|operation| scene.course(*operation)).collect();
    let mut acknowledged = BTreeMap::new();
    for number in 0..moments {
        let at = number % OPERATIONS.len();
        let moment = dice.moment(&courses[at]);
        let of_start = (dice.below(4) == 0).then(|| START.mul_f64(dice.below(1000) as f64 / 1000.0));
        // Shown by the test harness where it fails.
        eprintln!("seed {seed}, moment {number}: {:?} {moment:?}, then {of_start:?}", OPERATIONS[at]);
        let done = scene.moment(OPERATIONS[at], &moment, of_start);
        let counts: &mut (usize, usize) = acknowledged.entry(OPERATIONS[at]).or_default();
        counts.0 += 1;
        counts.1 += usize::from(done);
    }
    eprintln!("moments, and how many the client took for done: {acknowledged:?}");
    scene.engine.docker(&["rm", "-f", &scene.container]).ok();
    drop(scene.registry);
}
