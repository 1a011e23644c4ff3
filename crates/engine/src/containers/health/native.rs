//! Health checks that need no program in the container: a URL in the place of a command. Pure; `dial.rs` asks it.
//!
//! What is meant is said by the whole text: no program is called `tcp://:80`, while `http://:80/x || exit 1` is a line
//! for a shell and stays one.

use crate::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// Bytes of a URL (RFC 3986, section 2) but for those of fragments, which are not sent.
const OTHER: &[u8] = b"-._~:/?[]@!$&'()*+,;=%";

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// In the container's network.
    pub(super) address: SocketAddr,
    pub(super) question: Question,
}

/// What is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// That it takes a connection.
    Connection,
    /// That it answers a GET with a status from 200 to 399.
    Page {
        /// What comes into the header `Host`.
        host: String,
        /// Path and query.
        path: String,
    },
}

impl Target {
    /// Whether a text is such a URL, or was meant to be one.
    pub(super) fn is_meant(text: &str) -> bool {
        let url = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || OTHER.contains(&byte));
        url && ["tcp://", "http://", "https://"].iter().any(|scheme| text.starts_with(scheme))
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = |why: &str| Error::Invalid(format!("health check {text}: {why}"));
        let (scheme, rest) = text.split_once("://").ok_or_else(|| refused("it is no URL"))?;
        let (authority, path) = rest.find(['/', '?']).map_or((rest, ""), |begin| rest.split_at(begin));
        let (host, port) =
            split(authority).ok_or_else(|| refused("its port is not a number from 1 to 65535"))?;
        let ip = address(host).ok_or_else(|| {
            refused("the host has to be an address, localhost, or left out: names are not resolved")
        })?;
        let question = match scheme {
            "tcp" if !path.is_empty() => return Err(refused("a TCP connection has no path")),
            "tcp" => Question::Connection,
            "http" => Question::Page {
                host: if host.is_empty() { format!("localhost{authority}") } else { authority.to_owned() },
                path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
            },
            _ => return Err(refused("only tcp:// and http:// are asked; run a command for anything else")),
        };
        let port = match (port, &question) {
            (Some(port), _) => port,
            (None, Question::Page { .. }) => 80,
            (None, Question::Connection) => return Err(refused("it needs a port, as in tcp://:6379")),
        };
        Ok(Self { address: SocketAddr::new(ip, port), question })
    }
}

/// Host and port, which may both be missing; `None` when the port is none.
fn split(authority: &str) -> Option<(&str, Option<u16>)> {
    // The colons of an address in brackets are none before a port, also where a bracket is missing.
    let begin = if authority.starts_with('[') { authority.find(']').unwrap_or(authority.len()) } else { 0 };
    let Some(colon) = authority[begin..].find(':').map(|at| begin + at) else {
        return Some((authority, None));
    };
    let digits = &authority[colon + 1..];
    let port =
        digits.parse().ok().filter(|port| *port > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()));
    port.map(|port| (&authority[..colon], Some(port)))
}

fn address(host: &str) -> Option<IpAddr> {
    match host {
        "" | "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        _ => match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']')?.parse().ok().map(IpAddr::V6),
            None => host.parse().ok().map(IpAddr::V4),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(host: &str, path: &str) -> Question {
        Question::Page { host: host.to_owned(), path: path.to_owned() }
    }

    #[test]
    fn urls_say_where_and_what() {
        for (text, address, question) in [
            ("tcp://:6379", "127.0.0.1:6379", Question::Connection),
            ("tcp://10.0.0.7:1", "10.0.0.7:1", Question::Connection),
            ("tcp://[::1]:53", "[::1]:53", Question::Connection),
            ("http://:8080/healthz", "127.0.0.1:8080", page("localhost:8080", "/healthz")),
            ("http://localhost", "127.0.0.1:80", page("localhost", "/")),
            ("http://", "127.0.0.1:80", page("localhost", "/")),
            ("http://[::1]:81?q=a/b&c", "[::1]:81", page("[::1]:81", "/?q=a/b&c")),
        ] {
            assert!(Target::is_meant(text), "{text}");
            let target: Target = text.parse().unwrap();
            assert_eq!(
                (target.address.to_string(), target.question),
                (address.to_owned(), question),
                "{text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_asked_is_refused_with_a_reason() {
        for (text, why) in [
            ("tcp://", "needs a port"),
            ("tcp://:0", "port"),
            ("tcp://:+1", "port"),
            ("tcp://:99999", "port"),
            ("tcp://:80/x", "no path"),
            ("tcp://db:5432", "names are not resolved"),
            ("http://user@127.0.0.1/", "names are not resolved"),
            ("http://[::1/", "names are not resolved"),
            ("http://[127.0.0.1]/", "names are not resolved"),
            ("https://:443/", "only tcp:// and http://"),
        ] {
            assert!(Target::is_meant(text), "{text}");
            let error = text.parse::<Target>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_line_for_a_shell_is_none() {
        for text in [
            "curl http://:80/",
            "http://:80/ || exit 1",
            "http://:80/\r\nX: y",
            "tcp",
            "/tcp://:80",
            "http://é/",
        ] {
            assert!(!Target::is_meant(text), "{text:?}");
        }
    }
}
