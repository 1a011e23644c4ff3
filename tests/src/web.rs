//! A web server on this machine, with files and Git repositories.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

/// When every file was changed last, as the server says: the second 1,000,000,000 of 1970's.
pub const MODIFIED: &str = "Sun, 09 Sep 2001 01:46:40 GMT";

/// A server for as long as the test runs.
#[derive(Debug)]
pub struct Web {
    port: u16,
    root: PathBuf,
    headers: Arc<Mutex<HashMap<String, String>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Web {
    /// Serves what is in `root`.
    pub fn start(root: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let web = Self {
            port: listener.local_addr().unwrap().port(),
            root: root.to_owned(),
            headers: Arc::default(),
            asked: Arc::default(),
        };
        let (root, headers, asked) = (web.root.clone(), Arc::clone(&web.headers), Arc::clone(&web.asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (root, headers, asked) = (root.clone(), Arc::clone(&headers), Arc::clone(&asked));
                // A client that goes is none of the test's business.
                std::thread::spawn(move || answer(&stream, &root, &headers, &asked));
            }
        });
        web
    }

    /// The address of a path.
    pub fn address(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// Lets the answer for a path have a header besides its own; `Location` makes it a redirect.
    pub fn with_header(&self, path: &str, header: &str) {
        self.headers.lock().unwrap().insert(format!("/{path}"), header.to_owned());
    }

    /// The request lines so far, with the header `Authorization` behind them where there was one.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Makes a bare repository of the directory `work` with a branch `main`, served without any program of git's.
    pub fn publish(&self, work: &Path, name: &str) -> PathBuf {
        let bare = self.root.join(name);
        git(self.root.as_path(), &["clone", "--quiet", "--bare", &work.display().to_string(), name]);
        git(&bare, &["update-server-info"]);
        bare
    }
}

fn answer(
    mut stream: &TcpStream,
    root: &Path,
    headers: &Mutex<HashMap<String, String>>,
    asked: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let request = lines.next()?;
    let own: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let authorization = own.iter().find(|line| line.to_ascii_lowercase().starts_with("authorization:"));
    asked
        .lock()
        .ok()?
        .push(format!("{request} {}", authorization.map_or("", String::as_str)).trim().to_owned());
    let path = request.split(' ').nth(1)?.split('?').next()?.to_owned();
    let more = headers.lock().ok()?.get(&path).cloned().unwrap_or_default();
    let body = fs::read(root.join(path.trim_start_matches('/'))).ok();
    let status = match &body {
        _ if more.starts_with("Location:") => "302 Found",
        Some(_) => "200 OK",
        None => "404 Not Found",
    };
    let body = body.unwrap_or_default();
    let more = if more.is_empty() { String::new() } else { format!("{more}\r\n") };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nLast-Modified: {MODIFIED}\r\nConnection: close\r\n{more}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&body).ok()
}

/// Runs git in a directory, as nobody in particular.
pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(directory).env("HOME", directory).env("GIT_CONFIG_NOSYSTEM", "1");
    for (name, value) in [("NAME", "test"), ("EMAIL", "test@example.com"), ("DATE", "2001-09-09T01:46:40Z")] {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    let settings = ["-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main"];
    let output = command.args(settings).args(arguments).output().expect("the package git is installed");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {}: {complaint}", arguments.join(" "));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A server of git's own protocol for the repositories in a directory.
#[derive(Debug)]
pub struct GitDaemon {
    child: Child,
    port: u16,
}

impl GitDaemon {
    /// Starts it.
    pub fn start(root: &Path) -> Self {
        // Nobody else gets this port soon: the kernel hands them out in turn.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let exec_path = git(root, &["--exec-path"]);
        let child = Command::new(Path::new(&exec_path).join("git-daemon"))
            .args(["--reuseaddr", "--export-all", "--listen=127.0.0.1"])
            .arg(format!("--port={port}"))
            .arg(format!("--base-path={}", root.display()))
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        crate::engine::wait_until("git-daemon answers", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { child, port }
    }

    /// The address of a repository.
    pub fn address(&self, path: &str) -> String {
        format!("git://127.0.0.1:{}/{path}", self.port)
    }
}

impl Drop for GitDaemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
