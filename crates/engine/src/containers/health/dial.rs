//! A question that the engine asks itself: a connection in the container's network, without a process in the container.
//!
//! A socket belongs to the network namespace that it was made in. So a thread that ends at once makes it, and the rest
//! is done where everything else is.

use super::native::{Question, Target};
use super::probe::{Answer, Output};
use crate::error::{Attempt, Result, blocking};
use coracle_sys::netns;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Most that is read of an answer, in bytes: the longest header of common servers.
const ANSWER: usize = 8192;

/// Asks `target` in the network of the process `pid`.
pub(super) async fn ask(pid: i32, target: &Target, timeout: Duration) -> Answer {
    match tokio::time::timeout(timeout, put(pid, target)).await {
        Ok(Ok((works, said))) => Answer { exit_code: i32::from(!works), output: said },
        Ok(Err(error)) => Answer::failed(&error.chain()),
        Err(_) => Answer::late(timeout, &Output::default()),
    }
}

/// Whether it works, and what it has said.
async fn put(pid: i32, target: &Target) -> Result<(bool, Output)> {
    let socket = blocking({
        let address = target.address;
        move || socket_in(pid, address)
    })
    .await??;
    let connected = match TcpSocket::from_std_stream(socket.into()).connect(target.address).await {
        Ok(stream) => stream,
        Err(error) => return Ok((false, broken("connect to", target, &error))),
    };
    match &target.question {
        Question::Connection => Ok((true, Output::of(&format!("connected to {}", target.address)))),
        Question::Page { host, path } => match answer_of(connected, host, path).await {
            Ok(answer) => Ok(judge(&answer)),
            Err(error) => Ok((false, broken("ask", target, &error))),
        },
    }
}

fn broken(attempt: &str, target: &Target, error: &io::Error) -> Output {
    Output::of(&format!("cannot {attempt} {}: {error}", target.address))
}

/// A socket in the network namespace of a process. Blocks.
fn socket_in(pid: i32, address: SocketAddr) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/net");
    let netns = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .attempt(|| format!("open {path}"))?;
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    netns::inside(netns.as_fd(), || socket_with(family, SocketType::STREAM, flags, None))
        .attempt(|| "enter the container's network".to_owned())?
        .attempt(|| "make a socket in the container's network".to_owned())
}

/// The beginning of the answer to a GET, at least to the end of its header if that is short enough.
async fn answer_of(mut stream: TcpStream, host: &str, path: &str) -> io::Result<Vec<u8>> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: coracle-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = vec![0; ANSWER];
    let mut length = 0;
    while length < ANSWER && !answer[..length].windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut answer[length..]).await? {
            0 => break,
            count => length += count,
        }
    }
    answer.truncate(length);
    Ok(answer)
}

/// Whether an answer is one of a server that works; its status, and what of its body came with it.
fn judge(answer: &[u8]) -> (bool, Output) {
    let Some(status) = status(answer) else {
        return (false, Output::of("the answer is not one of HTTP"));
    };
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut said = Output::of(&String::from_utf8_lossy(line));
    if let Some(end) =
        answer.windows(4).position(|end| end == b"\r\n\r\n").filter(|end| end + 4 < answer.len())
    {
        said.add(b"\n\n");
        said.add(&answer[end + 4..]);
    }
    ((200..400).contains(&status), said)
}

/// The status of an answer (RFC 9112, section 4).
fn status(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.")?;
    let (minor, rest) = rest.split_first()?;
    let digits = rest.strip_prefix(b" ")?.get(..3)?;
    let ends = rest.get(4).is_none_or(|next| matches!(next, b' ' | b'\r'));
    let digits =
        std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    if minor.is_ascii_digit() && ends { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_from_200_to_399_are_of_servers_that_work() {
        for (answer, works) in [
            (&b"HTTP/1.1 200 OK\r\n\r\n"[..], true),
            (b"HTTP/1.0 399 \r\n\r\n", true),
            (b"HTTP/1.1 204\r\n\r\n", true),
            (b"HTTP/1.1 199 x\r\n\r\n", false),
            (b"HTTP/1.1 400 x\r\n\r\n", false),
            (b"HTTP/1.1 503 x\r\n\r\n", false),
            (b"HTTP/1.1 2000 x\r\n\r\n", false),
            (b"HTTP/1.1 +20 x\r\n\r\n", false),
            (b"HTTP/2 200\r\n", false),
            (b"SSH-2.0-x\r\n", false),
            (b"HTTP/1.1 20", false),
            (b"", false),
        ] {
            assert_eq!(judge(answer).0, works, "{}", String::from_utf8_lossy(answer));
        }
    }
}
