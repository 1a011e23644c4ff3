//! A real registry of a test's own, on the loopback, and a wire to it that can be cut.

use crate::engine::wait_until;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

/// The account that a registry with a password knows.
pub const USER: &str = "me";
/// Its password.
pub const PASSWORD: &str = "secret";
/// The same as the registry's file has it.
const HTPASSWD: &str = "me:$2b$04$xYbkt66U81Ll1ITwFtxItOlskHVPxqcUAXofmMZTP0h0zhStR0oYe\n";

/// Without these, the registry gives manifests in its oldest form or not at all.
const ACCEPTED: &str =
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// Debian's `docker-registry`.
pub struct Registry {
    place: TempDir,
    process: Child,
    host: String,
}

impl Registry {
    /// A registry that lets everybody in.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// A registry that asks for [`USER`] and [`PASSWORD`].
    pub fn start_with_password() -> Self {
        Self::start_with("auth: {htpasswd: {realm: tests, path: HTPASSWD}}")
    }

    fn start_with(more: &str) -> Self {
        let place = tempfile::Builder::new().prefix("coracle-test-registry-").tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        fs::write(path("htpasswd"), HTPASSWD).unwrap();
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '127.0.0.1:0', secret: tests}}\n{}\n",
            path("data").display(),
            more.replace("HTPASSWD", &path("htpasswd").display().to_string()),
        );
        fs::write(path("config.yml"), config).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(path("config.yml"))
            .stdin(Stdio::null())
            .stdout(File::create(path("access.log")).unwrap())
            .stderr(File::create(path("log")).unwrap())
            .spawn()
            .expect("the package docker-registry is installed");
        let mut host = None;
        wait_until("the registry listens", || {
            let log = fs::read_to_string(path("log")).unwrap_or_default();
            let after = log.split("listening on ").nth(1).unwrap_or_default();
            host = after.split('"').next().filter(|_| after.contains('"')).map(str::to_owned);
            host.is_some()
        });
        Self { host: host.unwrap(), place, process }
    }

    /// Its address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The name of an image in it.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }

    /// Every request so far: method, path and status.
    pub fn requests(&self) -> Vec<String> {
        // What was answered before this is logged before this.
        let marker = format!("/v2/marker{}/tags/list", self.log().len());
        self.request("GET", &marker, "", &[]);
        wait_until("the registry has logged its requests", || self.log().contains(&marker));
        let log = self.log();
        let lines = log.lines().filter(|line| !line.contains("/v2/marker"));
        lines
            .filter_map(|line| {
                let (request, rest) = line.split_once('"')?.1.split_once('"')?;
                let mut words = request.split(' ');
                Some(format!("{} {} {}", words.next()?, words.next()?, rest.split_whitespace().next()?))
            })
            .collect()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.place.path().join("access.log")).unwrap_or_default()
    }

    /// Sends a request, and returns status and answer.
    pub fn request(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: {kind}\r\nAccept: {ACCEPTED}\r\n\
             Content-Length: {}\r\n\r\n",
            self.host,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        (answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0), answer)
    }

    /// Where its files are.
    pub fn data(&self) -> PathBuf {
        self.place.path().join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself, which its test has noticed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A way to a registry that breaks after so many bytes have come from it.
pub struct Wire {
    host: String,
    state: Arc<State>,
}

struct State {
    target: String,
    /// How many bytes may still come.
    left: AtomicU64,
    /// How many came.
    passed: AtomicU64,
}

impl Wire {
    /// A wire to `registry` that breaks after `bytes`.
    pub fn new(registry: &Registry, bytes: u64) -> Self {
        Self::at("127.0.0.1", registry, bytes)
    }

    /// The same at another address of this machine.
    pub fn at(address: &str, registry: &Registry, bytes: u64) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let target = registry.host().to_owned();
        let state = Arc::new(State { target, left: AtomicU64::new(bytes), passed: AtomicU64::new(0) });
        let shared = Arc::clone(&state);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || state.connect(&client));
            }
        });
        Self { host, state }
    }

    /// The name of an image behind it.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host)
    }

    /// Whether it is broken.
    pub fn is_broken(&self) -> bool {
        self.state.left.load(Ordering::SeqCst) == 0
    }

    /// Lets so many bytes through from now on.
    pub fn mend(&self, bytes: u64) {
        self.state.left.store(bytes, Ordering::SeqCst);
    }

    /// How many bytes came since the last call.
    pub fn take_passed(&self) -> u64 {
        self.state.passed.swap(0, Ordering::SeqCst)
    }
}

impl State {
    fn connect(&self, client: &TcpStream) {
        if self.left.load(Ordering::SeqCst) == 0 {
            return;
        }
        let Ok(registry) = TcpStream::connect(&self.target) else { return };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // A side that is gone ends both.
                let _ = std::io::copy(&mut &*client, &mut &registry);
                let _ = registry.shutdown(Shutdown::Both);
            });
            self.answer(&registry, client);
            let _ = client.shutdown(Shutdown::Both);
            let _ = registry.shutdown(Shutdown::Both);
        });
    }

    fn answer(&self, mut registry: &TcpStream, mut client: &TcpStream) {
        let mut buffer = [0; 16 << 10];
        loop {
            let Ok(count @ 1..) = registry.read(&mut buffer) else { return };
            let left = self.left.load(Ordering::SeqCst);
            let count = count.min(usize::try_from(left).unwrap_or(usize::MAX));
            if count == 0 || client.write_all(&buffer[..count]).is_err() {
                return;
            }
            self.left.fetch_sub(count as u64, Ordering::SeqCst);
            self.passed.fetch_add(count as u64, Ordering::SeqCst);
        }
    }
}
