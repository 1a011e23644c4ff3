//! A real ssh server of a test's own, on the loopback, and a client whose every connection goes through a wire that
//! counts, and that can be cut.

use crate::engine::{Engine, programs, wait_until};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

/// Debian's `openssh-server`, before the engine that it leads to.
pub struct Sshd {
    place: TempDir,
    process: Child,
    wire: Arc<Wire>,
}

/// What goes between client and server.
struct Wire {
    target: String,
    /// How many more bytes may go to the server.
    left: AtomicU64,
    /// How many went to the server.
    sent: AtomicU64,
    /// Where the client has its process id.
    pid: PathBuf,
}

impl Sshd {
    /// A server whose sessions find our programs, and `engine` as the machine's.
    pub fn before(engine: &Engine) -> Self {
        Self::with_programs_in(&programs(), engine)
    }

    /// A server whose sessions look for our programs there.
    pub fn with_programs_in(programs: &Path, engine: &Engine) -> Self {
        let place = tempfile::Builder::new().prefix("coracle-test-ssh-").tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        for name in ["host", "user"] {
            let key = path(name).display().to_string();
            let status =
                Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &key]).status();
            assert!(status.expect("the package openssh-client is installed").success());
        }
        fs::copy(path("user.pub"), path("authorized")).unwrap();
        let server = free_port();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {server}\nHostKey {host}\nAuthorizedKeysFile {authorized}\n\
             StrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n\
             PidFile none\nSetEnv PATH={programs}:/usr/bin:/bin CORACLE_HOST={engine}\n",
            host = path("host").display(),
            authorized = path("authorized").display(),
            programs = programs.display(),
            engine = engine.host(),
        );
        fs::write(path("sshd_config"), config).unwrap();
        let process = serve(place.path());
        let target = format!("127.0.0.1:{server}");
        wait_until("the ssh server listens", || TcpStream::connect(&target).is_ok());
        let wire = Arc::new(Wire {
            target,
            left: AtomicU64::new(u64::MAX),
            sent: AtomicU64::new(0),
            pid: path("client.pid"),
        });
        let port = Arc::clone(&wire).open();
        client(place.path(), port);
        Self { place, process, wire }
    }

    /// Runs our command with `ssh` leading here, to `ssh://peer`.
    pub fn command(&self, engine: &Engine, arguments: &[&str]) -> Command {
        let mut command = engine.command(&programs().join("coracle").display().to_string());
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.place.path().join("bin").display())).args(arguments);
        command
    }

    /// The same to its end.
    pub fn coracle(&self, engine: &Engine, arguments: &[&str]) -> crate::Output {
        let output = self.command(engine, arguments).stdin(Stdio::null()).output().unwrap();
        crate::Output::new(format!("coracle {}", arguments.join(" ")), &output)
    }

    /// How many bytes went to the server since the last call.
    pub fn take_sent(&self) -> u64 {
        self.wire.sent.swap(0, Ordering::SeqCst)
    }

    /// Kills the client when so many more bytes have gone.
    pub fn cut_after(&self, bytes: u64) {
        self.wire.left.store(bytes, Ordering::SeqCst);
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // It may have ended by itself, which its test has noticed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts the server in a mount namespace with a `/run` of its own: it wants a directory there.
fn serve(place: &Path) -> Child {
    let script = "mount -t tmpfs -o mode=755 tmpfs /run && mkdir -m 755 /run/sshd && exec \"$@\"";
    let log = File::create(place.join("sshd.log")).unwrap();
    let config = place.join("sshd_config").display().to_string();
    Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh", "/usr/sbin/sshd", "-D", "-e", "-f", &config])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .expect("the package openssh-server is installed")
}

/// Makes an `ssh` that knows the host `peer` on this port, and says which process it is.
fn client(place: &Path, port: u16) {
    let path = |name: &str| place.join(name).display().to_string();
    let key = fs::read_to_string(place.join("host.pub")).unwrap();
    fs::write(place.join("known"), format!("peer {key}")).unwrap();
    let config = format!(
        "Host peer\nHostName 127.0.0.1\nPort {port}\nUser root\nHostKeyAlias peer\nIdentitiesOnly yes\n\
         IdentityFile {}\nUserKnownHostsFile {}\nGlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\n",
        path("user"),
        path("known")
    );
    fs::write(place.join("ssh_config"), config).unwrap();
    fs::create_dir(place.join("bin")).unwrap();
    let script = format!(
        "#!/bin/sh\necho $$ > {}\nexec /usr/bin/ssh -F {} \"$@\"\n",
        path("client.pid"),
        path("ssh_config")
    );
    let program = place.join("bin/ssh");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Wire {
    /// Listens for clients, as long as the test's process runs; the port.
    fn open(self: Arc<Self>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let wire = Arc::clone(&self);
                std::thread::spawn(move || wire.connect(&client));
            }
        });
        port
    }

    fn connect(&self, client: &TcpStream) {
        let Ok(server) = TcpStream::connect(&self.target) else { return };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // A side that is gone ends both.
                let _ = std::io::copy(&mut &server, &mut &*client);
                let _ = client.shutdown(Shutdown::Both);
            });
            self.forward(client, &server);
            let _ = server.shutdown(Shutdown::Both);
        });
    }

    fn forward(&self, mut client: &TcpStream, mut server: &TcpStream) {
        let mut buffer = [0; 16 << 10];
        loop {
            let Ok(count @ 1..) = client.read(&mut buffer) else { return };
            let left = self.left.load(Ordering::SeqCst);
            let passed = count.min(usize::try_from(left).unwrap_or(usize::MAX));
            if server.write_all(&buffer[..passed]).is_err() {
                return;
            }
            self.left.fetch_sub(passed as u64, Ordering::SeqCst);
            self.sent.fetch_add(passed as u64, Ordering::SeqCst);
            if passed < count {
                let pid = fs::read_to_string(&self.pid).unwrap().trim().parse().unwrap();
                let pid = rustix::process::Pid::from_raw(pid).unwrap();
                rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
                self.left.store(u64::MAX, Ordering::SeqCst);
                return;
            }
        }
    }
}
