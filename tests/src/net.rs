//! The least of HTTP, for tests that look at published ports from outside.

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
