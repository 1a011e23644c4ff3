//! Where an engine listens.

use std::fmt;
use std::path::PathBuf;

use crate::error::Error;
use crate::ssh::SshHost;

/// The socket of the engine of this machine.
pub const DEFAULT_SOCKET: &str = "/run/coracle/coracle.sock";

/// The address of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// Plain TCP.
    Tcp {
        /// Name or address.
        host: String,
        /// Port.
        port: u16,
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
        let refused = |reason| Error::Endpoint { text: text.to_owned(), reason };
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(("unix", _)) => Err(refused("the path of a unix socket must be absolute")),
            Some(("tcp" | "http", address)) => {
                parse_address(address.trim_end_matches('/')).ok_or_else(|| refused("it is not host:port"))
            }
            Some(("https", _)) => Err(refused("TLS is not supported yet; use a unix socket")),
            Some(("ssh", address)) => parse_ssh(address).map_err(refused),
            Some(("fd" | "npipe", _)) => Err(refused("this scheme is for daemons, or for Windows")),
            _ => Err(refused("it must begin with unix://, tcp:// or ssh://")),
        }
    }

    /// The endpoint that the environment names: `CORACLE_HOST`, else `DOCKER_HOST`, else [`DEFAULT_SOCKET`].
    ///
    /// # Errors
    /// As [`Self::parse`]; also when the environment asks for TLS.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let given = |name| variable(name).filter(|value| !value.is_empty());
        let Some(text) = given("CORACLE_HOST").or_else(|| given("DOCKER_HOST")) else {
            return Ok(Self::default());
        };
        let endpoint = Self::parse(&text)?;
        if matches!(endpoint, Self::Tcp { .. }) && given("DOCKER_TLS_VERIFY").is_some() {
            return Err(Error::Endpoint {
                text,
                reason: "DOCKER_TLS_VERIFY asks for TLS, which is not supported yet",
            });
        }
        Ok(endpoint)
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
            Self::Tcp { host, port } if host.contains(':') => write!(out, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(out, "tcp://{host}:{port}"),
            Self::Ssh { host, socket } => {
                write!(out, "ssh://{host}{}", socket.as_deref().unwrap_or_default())
            }
        }
    }
}

/// `host`, `host:port` or `[address]:port`; 2375 is Docker's port without TLS.
fn parse_address(address: &str) -> Option<Endpoint> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, if rest.is_empty() { "" } else { rest.strip_prefix(':')? })
        }
        None => address.split_once(':').unwrap_or((address, "")),
    };
    let port = if port.is_empty() { 2375 } else { port.parse().ok()? };
    let valid = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte));
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    valid.then(|| Endpoint::Tcp { host: host.to_owned(), port })
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

    fn ssh(user: Option<&str>, host: &str, port: Option<u16>, socket: Option<&str>) -> Option<Endpoint> {
        let host = SshHost { user: user.map(Into::into), host: host.into(), port };
        Some(Endpoint::Ssh { host, socket: socket.map(Into::into) })
    }

    fn tcp(host: &str, port: u16) -> Option<Endpoint> {
        Some(Endpoint::Tcp { host: host.into(), port })
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
    fn the_environment_names_the_endpoint_ours_first() {
        let with = |pairs: &[(&str, &str)]| {
            let find =
                |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            Endpoint::from_environment(find).map(|endpoint| endpoint.to_string()).ok()
        };
        assert_eq!(with(&[]).as_deref(), Some("unix:///run/coracle/coracle.sock"));
        assert_eq!(with(&[("DOCKER_HOST", "")]).as_deref(), Some("unix:///run/coracle/coracle.sock"));
        assert_eq!(with(&[("DOCKER_HOST", "unix:///d")]).as_deref(), Some("unix:///d"));
        let both = [("DOCKER_HOST", "unix:///d"), ("CORACLE_HOST", "tcp://[::1]:1")];
        assert_eq!(with(&both).as_deref(), Some("tcp://[::1]:1"));
        assert_eq!(with(&[("DOCKER_HOST", "tcp://h"), ("DOCKER_TLS_VERIFY", "1")]), None);
        assert_eq!(with(&[("DOCKER_HOST", "ssh://m@h:1/s")]).as_deref(), Some("ssh://m@h:1/s"));
    }
}
