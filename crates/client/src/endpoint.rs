//! Where an engine listens.

use std::fmt;
use std::path::PathBuf;

use crate::error::Error;
use crate::ssh::SshHost;
use crate::tls::Tls;

/// The socket of the engine of this machine.
pub const DEFAULT_SOCKET: &str = "/run/coracle/coracle.sock";

/// The address of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// TCP.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
        /// How to speak TLS over it; without, everything is in the clear.
        tls: Option<Tls>,
    },
    /// The engine of another machine, through ssh.
    Ssh {
        /// The machine.
        host: SshHost,
        /// Its engine's socket there; that engine's own choice without one.
        socket: Option<String>,
    },
}

impl Endpoint {
    /// Parses `unix:///path`, `tcp://host[:port]` or `ssh://[user@]host[:port][/path/of/socket]`.
    ///
    /// # Errors
    /// Other schemes, with the reason.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::parse_any(text, None)
    }

    /// The same for an address that is spoken to with TLS; without a port, the one that Docker has for that.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_secured(text: &str, tls: Tls) -> Result<Self, Error> {
        Self::parse_any(text, Some(tls))
    }

    fn parse_any(text: &str, tls: Option<Tls>) -> Result<Self, Error> {
        let refused = |reason| Error::Endpoint { text: text.to_owned(), reason };
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("unix", _)) => Err(refused("the path of a unix socket must be absolute")),
            Some(("tcp" | "http", address)) => parse_address(address.trim_end_matches('/'), tls)
                .ok_or_else(|| refused("it is not host:port")),
            Some(("https", _)) => Err(refused("say tcp://, and --tlsverify for TLS")),
            Some(("ssh", address)) => parse_ssh(address).map_err(refused),
            Some(("fd" | "npipe", _)) => Err(refused("this scheme is for daemons, or for Windows")),
            _ => Err(refused("it must begin with unix://, tcp:// or ssh://")),
        }
    }

    /// Whether `text` is the address of something that TLS can be spoken with.
    #[must_use]
    pub fn is_tcp(text: &str) -> bool {
        matches!(Self::parse(text), Ok(Self::Tcp { .. }))
    }
}

impl Default for Endpoint {
    fn default() -> Self {
        Self::Unix(DEFAULT_SOCKET.into())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(out, "unix://{}", path.display()),
            Self::Tcp { host, port, .. } if host.contains(':') => write!(out, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(out, "tcp://{host}:{port}"),
            Self::Ssh { host, socket } => {
                write!(out, "ssh://{host}{}", socket.as_deref().unwrap_or_default())
            }
        }
    }
}

/// `host`, `host:port` or `[address]:port`; without a port, Docker's.
fn parse_address(address: &str, tls: Option<Tls>) -> Option<Endpoint> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, if rest.is_empty() { "" } else { rest.strip_prefix(':')? })
        }
        None => address.split_once(':').unwrap_or((address, "")),
    };
    let usual = if tls.is_some() { 2376 } else { 2375 };
    let port = if port.is_empty() { usual } else { port.parse().ok()? };
    let valid = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte));
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    valid.then(|| Endpoint::Tcp { host: host.to_owned(), port, tls })
}

fn parse_ssh(address: &str) -> Result<Endpoint, &'static str> {
    let (authority, path) = address.find('/').map_or((address, ""), |slash| address.split_at(slash));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._".contains(&byte);
    if !path.bytes().all(is_plain) {
        return Err("the path of a socket behind ssh may hold letters, digits and / - . _");
    }
    let socket = (!matches!(path, "" | "/")).then(|| path.to_owned());
    Ok(Endpoint::Ssh { host: SshHost::parse(authority)?, socket })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Trust;

    fn ssh(user: Option<&str>, host: &str, port: Option<u16>, socket: Option<&str>) -> Option<Endpoint> {
        let host = SshHost { user: user.map(Into::into), host: host.into(), port };
        Some(Endpoint::Ssh { host, socket: socket.map(Into::into) })
    }

    fn tcp(host: &str, port: u16) -> Option<Endpoint> {
        Some(Endpoint::Tcp { host: host.into(), port, tls: None })
    }

    #[test]
    fn addresses_parse_or_are_refused() {
        let cases = [
            ("unix:///run/x.sock", Some(Endpoint::Unix("/run/x.sock".into()))),
            ("unix://x.sock", None),
            ("tcp://10.0.0.1:2375", tcp("10.0.0.1", 2375)),
            ("tcp://host", tcp("host", 2375)),
            ("tcp://:99/", tcp("127.0.0.1", 99)),
            ("tcp://[::1]:2375", tcp("::1", 2375)),
            ("tcp://[::1", None),
            ("tcp://host:x", None),
            ("tcp://a/b", None),
            ("tcp://a b", None),
            ("https://host", None),
            ("ssh://me@host", ssh(Some("me"), "host", None, None)),
            ("ssh://[::1]:22/", ssh(None, "::1", Some(22), None)),
            ("ssh://host/run/x.sock", ssh(None, "host", None, Some("/run/x.sock"))),
            ("ssh://host/run/$(id)", None),
            ("ssh://me:secret@host", None),
            ("ssh://-oProxyCommand=x", None),
            ("ssh://", None),
            ("/run/x.sock", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(Endpoint::parse(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn with_tls_the_port_is_another() {
        let tls = Tls::new(Trust::Anyone, None).expect("nothing can be wrong");
        let parse = |text| Endpoint::parse_secured(text, tls.clone()).expect(text);
        assert_eq!(parse("tcp://h"), Endpoint::Tcp { host: "h".into(), port: 2376, tls: Some(tls.clone()) });
        assert_eq!(parse("tcp://h:1").to_string(), "tcp://h:1");
        assert_eq!(parse("unix:///x"), Endpoint::Unix("/x".into()));
        assert!(Endpoint::is_tcp("tcp://h") && !Endpoint::is_tcp("ssh://h"));
    }
}
