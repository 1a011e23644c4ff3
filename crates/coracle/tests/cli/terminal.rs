//! Sessions on a terminal: raw mode and back, sizes, detach keys.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::target::{Container, Target, target, unique_name};

/// How long anything may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A command on a terminal of its own.
struct Session {
    child: Child,
    master: File,
    /// Kept open, so that the terminal's modes can be asked for after the command's end.
    slave: File,
    output: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Session {
    fn start(target: &Target, arguments: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pty");
        grantpt(&master).expect("grants");
        unlockpt(&master).expect("unlocks");
        let path = ptsname(&master, Vec::new()).expect("a name");
        let slave =
            OpenOptions::new().read(true).write(true).open(path.to_str().expect("text")).expect("opens");
        let master = File::from(master);
        tcsetwinsize(&master, size(33, 77)).expect("sets");
        let side = || Stdio::from(slave.try_clone().expect("duplicates"));
        let child =
            target.command(arguments).stdin(side()).stdout(side()).stderr(side()).spawn().expect("starts");
        let (sender, output) = channel();
        let mut reader = master.try_clone().expect("duplicates");
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { child, master, slave, output, seen: Vec::new() }
    }

    /// Waits until `text` was shown, and forgets everything up to it.
    fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.seen.windows(text.len()).position(|window| window == text.as_bytes()) {
                self.seen.drain(..at + text.len());
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.seen.extend(bytes),
                Err(_) => panic!("waited for {text:?}, saw {:?}", String::from_utf8_lossy(&self.seen)),
            }
        }
    }

    fn send(&mut self, keys: &[u8]) {
        self.master.write_all(keys).expect("writes");
    }

    fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.master, size(rows, columns)).expect("sets");
        // Not the controlling terminal of the command, so the kernel does not say it.
        kill_process(Pid::from_child(&self.child), Signal::WINCH).expect("it runs");
    }

    /// The exit code, after checking that the terminal is as it was.
    fn end(mut self) -> Option<i32> {
        let status = self.child.wait().expect("ends");
        let modes = tcgetattr(&self.slave).expect("a terminal").local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG), "restored");
        status.code()
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

#[test]
fn a_shell_has_the_size_of_the_terminal_and_follows_it() {
    let target = target();
    let mut session = Session::start(&target, &["run", "--rm", "-it", target.image(), "sh"]);
    session.expect("# ");
    // The size is told after the start; the shell is asked until it knows.
    session.send(
        b"until stty size | head -n1 | { read r c; [ $r = 33 ]; }; do :; done; echo first-$(stty size)\r",
    );
    session.expect("first-33 77");
    session.resize(40, 100);
    session.send(b"until stty size | { read r c; [ $r = 40 ]; }; do :; done; echo then-$(stty size)\r");
    session.expect("then-40 100");
    session.send(b"exit 9\r");
    assert_eq!(session.end(), Some(9));
}

#[test]
fn detach_keys_leave_the_container_running_and_attach_comes_back() {
    let target = target();
    let name = unique_name();
    let _container = Container::named(&target, &name);
    let mut session = Session::start(&target, &["run", "--name", &name, "-it", target.image(), "sh"]);
    session.expect("# ");
    session.send(b"x=kept\r");
    session.expect("# ");
    session.send(b"\x10\x11");
    assert_eq!(session.end(), Some(0));
    assert_eq!(target.ok(&["inspect", "-f", "{{.State.Running}}", &name]), "true");
    let mut session = Session::start(&target, &["attach", &name]);
    session.send(b"echo $x-$((40+2))\r");
    session.expect("kept-42");
    session.send(b"exit 4\r");
    assert_eq!(session.end(), Some(4));
}

#[test]
fn control_c_goes_through_the_terminal_and_a_signal_to_the_command_restores_it() {
    let target = target();
    let script = "trap 'exit 12' INT; trap 'exit 21' TERM; echo ready; while :; do sleep 0.05; done";
    let mut session = Session::start(&target, &["run", "--rm", "-it", target.image(), "sh", "-c", script]);
    session.expect("ready");
    session.send(b"\x03");
    assert_eq!(session.end(), Some(12));
    let mut session = Session::start(&target, &["run", "--rm", "-it", target.image(), "sh", "-c", script]);
    session.expect("ready");
    kill_process(Pid::from_child(&session.child), Signal::TERM).expect("it runs");
    assert_eq!(session.end(), Some(21));
}

#[test]
fn a_session_whose_signals_stay_here_ends_by_them_with_the_terminal_restored() {
    let target = target();
    let name = unique_name();
    let _container = Container::named(&target, &name);
    let arguments =
        ["run", "--name", &name, "-it", "--sig-proxy=false", target.image(), "sh", "-c", "echo ready; cat"];
    let mut session = Session::start(&target, &arguments);
    session.expect("ready");
    kill_process(Pid::from_child(&session.child), Signal::TERM).expect("it runs");
    assert_eq!(session.end(), Some(143));
}

#[test]
fn exec_has_a_terminal_of_its_own() {
    let target = target();
    let container = target.container(&[], &["sleep", "1000"]);
    let mut session = Session::start(&target, &["exec", "-it", &container.name, "sh"]);
    session.expect("# ");
    session.send(b"until stty size | { read r c; [ $r = 33 ]; }; do :; done; echo size-$(stty size)\r");
    session.expect("size-33 77");
    session.send(b"exit 6\r");
    assert_eq!(session.end(), Some(6));
}
