//! Addresses of `--host`, as Docker reads them.

use super::Error;
use std::path::PathBuf;

/// An address of `--host`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    /// A path.
    Unix(PathBuf),
    /// Address and port.
    Tcp(String),
    /// A socket of systemd's by its number, or all of them.
    Passed(Option<u32>),
}

impl Address {
    /// Reads it; a port that is not given is `port`.
    pub(super) fn parse(host: &str, port: u16) -> Result<Self, Error> {
        let invalid = || Error::Address(host.to_owned());
        match host.split_once("://") {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("fd", "" | "*")) => Ok(Self::Passed(None)),
            Some(("fd", number)) => Ok(Self::Passed(Some(number.parse().map_err(|_| invalid())?))),
            Some(("tcp", address)) => tcp_address(address, port).map(Self::Tcp).ok_or_else(invalid),
            // Docker takes an address alone for TCP.
            None if host.contains(':') => tcp_address(host, port).map(Self::Tcp).ok_or_else(invalid),
            _ => Err(invalid()),
        }
    }
}

/// Address and port with what is missing filled in as Docker does.
fn tcp_address(text: &str, default: u16) -> Option<String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.contains('/') {
        return None;
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse::<u16>().ok()?),
        _ => (text, default),
    };
    Some(format!("{}:{port}", if host.is_empty() { "localhost" } else { host }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_docker_reads_them() {
        let tcp = |text: &str| Some(Address::Tcp(text.into()));
        for (host, address) in [
            ("unix:///run/a.sock", Some(Address::Unix("/run/a.sock".into()))),
            ("tcp://127.0.0.1:4243", tcp("127.0.0.1:4243")),
            ("tcp://", tcp("localhost:2375")),
            ("tcp://:7", tcp("localhost:7")),
            ("tcp://[::1]", tcp("[::1]:2375")),
            ("tcp://[::1]:9/", tcp("[::1]:9")),
            ("0.0.0.0:2375", tcp("0.0.0.0:2375")),
            ("fd://", Some(Address::Passed(None))),
            ("fd://4", Some(Address::Passed(Some(4)))),
            ("unix://", None),
            ("fd://x", None),
            ("tcp://a:b", None),
            ("tcp://a:1/path", None),
            ("npipe://x", None),
            ("nothing", None),
        ] {
            assert_eq!(Address::parse(host, 2375).ok(), address, "{host}");
        }
    }
}
