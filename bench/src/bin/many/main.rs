//! Many containers: what a list of them takes, what each costs the engine in memory, and what it costs to give statistics of
//! all of them every second.
//!
//! ```text
//! cargo build --release && cargo run --release -p bench --bin many [-- CREATED RUNNING]
//! PEER_DOCKER=unix:///path/docker.sock   a running dockerd to compare with
//! ```
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command for people")]

use bench::raw;
use coracle_tests::Engine;
use coracle_tests::image::SMALL;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

/// How many containers are created, unless the command line says otherwise.
const CREATED: usize = 1000;
/// How many run.
const RUNNING: usize = 200;
/// How often each list is asked for.
const LISTS: usize = 11;
/// How long statistics are followed.
const FOLLOWED: Duration = Duration::from_secs(20);

/// An engine, the process that it is, and the containers made in it.
struct Contestant {
    name: &'static str,
    engine: Engine,
    pid: u32,
    ids: Vec<String>,
}

impl Contestant {
    fn new(name: &'static str, engine: Engine) -> Self {
        let stream = UnixStream::connect(engine.own_socket()).expect("the engine's socket");
        let peer = rustix::net::sockopt::socket_peercred(&stream).expect("the engine's process");
        let pid = u32::try_from(peer.pid.as_raw_nonzero().get()).expect("a process id");
        Self { name, engine, pid, ids: Vec::new() }
    }

    fn request(&self, method: &str, path: &str, body: Option<&str>) -> String {
        raw::request(&self.socket(), method, path, body.unwrap_or_default())
    }

    /// The engine's own, without anybody who looks at answers.
    fn socket(&self) -> String {
        self.engine.own_socket().display().to_string()
    }

    fn command(&self, program: &str, arguments: &[&str]) -> usize {
        let output = Command::new(program).args(["-H", self.engine.own_host()]).args(arguments).output();
        let output = output.expect("a command");
        assert!(output.status.success(), "{}: {program} {arguments:?}: {output:?}", self.name);
        output.stdout.iter().filter(|byte| **byte == b'\n').count()
    }

    fn create(&mut self, count: usize, command: &str) {
        for _ in 0..count {
            let body = format!(
                r#"{{"Image":"{SMALL}","Cmd":{command},"HostConfig":{{"NetworkMode":"none"}},"StopTimeout":0}}"#
            );
            let answer = self.request("POST", "/v1.44/containers/create", Some(&body));
            let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
            self.ids.push(answer["Id"].as_str().expect("an id").to_owned());
        }
    }

    fn start_all(&self) {
        for id in &self.ids {
            self.request("POST", &format!("/v1.44/containers/{id}/start"), None);
        }
    }

    fn wait_all(&self) {
        for id in &self.ids {
            self.request("POST", &format!("/v1.44/containers/{id}/wait"), None);
        }
    }

    fn remove_all(&mut self) {
        let socket = self.socket();
        for id in self.ids.drain(..) {
            raw::request(&socket, "DELETE", &format!("/v1.44/containers/{id}?force=1"), "");
        }
    }

    /// Processor time that the engine's process has taken.
    fn processor(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).expect("the engine's threads");
        let nanoseconds = tasks.flatten().filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanoseconds.sum())
    }
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|number| number.parse().ok());
    let (created, running) = (numbers.next().unwrap_or(CREATED), numbers.next().unwrap_or(RUNNING));
    let mut contestants = vec![Contestant::new("coracle", Engine::start())];
    if let Ok(host) = std::env::var("PEER_DOCKER") {
        let engine = Engine::at(&host);
        engine.import_small();
        contestants.push(Contestant::new("docker", engine));
    }
    memory(&mut contestants, created);
    lists(&contestants, created);
    stopped(&mut contestants[0]);
    for contestant in &mut contestants {
        contestant.remove_all();
    }
    println!("\nstatistics of {running} that run, followed for {} s", FOLLOWED.as_secs());
    for contestant in &mut contestants {
        contestant.create(running, r#"["sleep","10000"]"#);
        contestant.start_all();
        statistics(contestant);
        contestant.remove_all();
    }
}

/// What each container that was created costs its engine.
fn memory(contestants: &mut [Contestant], count: usize) {
    for contestant in contestants {
        // Whatever the first needs is needed once.
        contestant.create(1, r#"["true"]"#);
        contestant.request("GET", "/v1.44/containers/json?all=1", None);
        let before = kilobytes(contestant.pid);
        contestant.create(count - 1, r#"["true"]"#);
        let after = kilobytes(contestant.pid);
        println!(
            "{}: {before:.0} KB PSS, with {count} created {after:.0} KB: {:.1} KB each",
            contestant.name,
            (after - before) / (count - 1) as f64
        );
    }
}

/// What each costs when it has run.
fn stopped(contestant: &mut Contestant) {
    let count = contestant.ids.len() as f64;
    contestant.start_all();
    contestant.wait_all();
    let before = kilobytes(contestant.pid);
    contestant.remove_all();
    let after = kilobytes(contestant.pid);
    println!(
        "\n{}: {before:.0} KB PSS when they have run, {after:.0} KB when they are removed: {:.1} KB each",
        contestant.name,
        (before - after) / count
    );
}

/// How long a list of all takes, by each command and without one, the contestants in turn.
fn lists(contestants: &[Contestant], count: usize) {
    println!("\na list of {count}, medians of {LISTS} in milliseconds");
    let ours = &contestants[0];
    let own = coracle_tests::engine::programs().join("coracle").display().to_string();
    let mut ways: Vec<(String, Box<dyn Fn()>)> = vec![(
        "coracle ps against coracle".to_owned(),
        Box::new(|| assert_eq!(ours.command(&own, &["ps", "-a"]), count + 1)),
    )];
    for contestant in contestants {
        ways.push((
            format!("docker ps against {}", contestant.name),
            Box::new(|| {
                assert!(contestant.command("docker", &["ps", "-a"]) > count);
            }),
        ));
        ways.push((
            format!("the API of {}", contestant.name),
            Box::new(|| {
                contestant.request("GET", "/v1.44/containers/json?all=1", None);
            }),
        ));
    }
    let mut times = vec![Vec::new(); ways.len()];
    for _ in 0..LISTS {
        for ((_, way), times) in ways.iter().zip(&mut times) {
            let begin = Instant::now();
            way();
            times.push(begin.elapsed());
        }
    }
    for ((name, _), times) in ways.iter().zip(&mut times) {
        times.sort_unstable();
        println!("  {name:<30} {:>8.1}", times[times.len() / 2].as_secs_f64() * 1000.0);
    }
}

/// What statistics of all cost that a client follows, which is what `docker stats` does.
fn statistics(contestant: &Contestant) {
    let readers: Vec<_> = contestant
        .ids
        .iter()
        .map(|id| {
            let mut stream = UnixStream::connect(contestant.engine.own_socket()).expect("a connection");
            let request = format!("GET /v1.44/containers/{id}/stats?stream=1 HTTP/1.1\r\nHost: d\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("a request");
            let to_end = stream.try_clone().expect("a connection");
            let reader = std::thread::spawn(move || {
                let mut text = Vec::new();
                let _ = stream.read_to_end(&mut text);
                String::from_utf8_lossy(&text).matches("\"cpu_stats\"").count()
            });
            (to_end, reader)
        })
        .collect();
    let before = contestant.processor();
    let begin = Instant::now();
    std::thread::sleep(FOLLOWED);
    let (used, passed) = (contestant.processor().saturating_sub(before), begin.elapsed());
    for (stream, _) in &readers {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
    let samples: usize = readers.into_iter().map(|(_, reader)| reader.join().unwrap_or_default()).sum();
    println!(
        "  {:<10} {:.1} % of a core, {samples} samples",
        contestant.name,
        100.0 * used.as_secs_f64() / passed.as_secs_f64()
    );
}

/// The proportional set size of a process.
fn kilobytes(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let size = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    size.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN)
}
