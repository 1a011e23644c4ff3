//! Networks of tests, containers on them that answer, and the least of HTTP to look at published ports from outside.

use crate::Engine;
use crate::image::SMALL;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Longest time to wait for a connection or an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The page at `address` (`HOST:PORT`), without its last newline; nothing unless it is answered with 200.
pub fn get(address: &str) -> Option<String> {
    request(address, "GET", "/", "", "")
}

/// What is answered to a request, without its last newline; nothing unless with a status of 2xx. `head` has whole lines.
pub fn request(address: &str, method: &str, path: &str, head: &str, body: &str) -> Option<String> {
    let address = address.to_socket_addrs().ok()?.next()?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: test\r\n{head}{length}\r\n{body}").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?;
    status.starts_with('2').then(|| body.trim_end().to_owned())
}

/// Serves its own host name on port 80, by both families.
pub const SERVE: &str = "mkdir /www; hostname > /www/index.html; exec httpd -f -p 80 -h /www";

/// A network, which is removed with the test.
pub struct Net<'a> {
    engine: &'a Engine,
    /// What it is called.
    pub name: String,
}

impl<'a> Net<'a> {
    /// Makes one, with options of `network create`.
    pub fn create(engine: &'a Engine, name: &str, options: &[&str]) -> Self {
        let name = engine.name(name);
        engine.docker(&[&["network", "create"], options, &[name.as_str()]].concat()).ok();
        Self { engine, name }
    }

    /// One that somebody else makes; it is removed with the test as well.
    pub fn of(engine: &'a Engine, name: String) -> Self {
        Self { engine, name }
    }

    /// What it is.
    pub fn inspect(&self) -> Value {
        let shown = self.engine.docker(&["network", "inspect", &self.name]).ok();
        serde_json::from_str::<Value>(&shown).expect("JSON")[0].clone()
    }
}

impl Drop for Net<'_> {
    fn drop(&mut self) {
        let inside = format!("network={}", self.name);
        let ids = self.engine.docker(&["ps", "-aq", "--filter", &inside]).stdout;
        for id in ids.split_whitespace() {
            self.engine.docker(&["rm", "-f", id]);
        }
        self.engine.docker(&["network", "rm", &self.name]);
    }
}

/// Runs a container on a network that serves its name, and returns that.
pub fn serve(engine: &Engine, name: &str, network: &Net<'_>, options: &[&str]) -> String {
    let name = engine.name(name);
    let run = ["run", "-d", "--name", &name, "--hostname", &name, "--network", &network.name];
    engine.docker(&[&run, options, &[SMALL, "sh", "-c", SERVE]].concat()).ok();
    name
}

/// What a running container gets from a server, without its last newline.
pub fn fetch(engine: &Engine, from: &str, server: &str) -> String {
    let url = format!("http://{server}/");
    engine.docker(&["exec", from, "timeout", "2", "wget", "-qO-", &url]).stdout.trim().to_owned()
}
