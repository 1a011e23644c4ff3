//! The servers that are asked for what no table knows: given, read from a resolv.conf whenever it changes, or none.

use std::fs::{File, Metadata};
use std::io::Read;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketType, netdevice, socket};

use crate::limits::{RESOLV_CONF, SERVERS};

const PORT: u16 = 53;

/// Servers to ask, from the network namespace of the process that runs the [`crate::Service`].
#[derive(Debug)]
pub struct Upstream(Source);

#[derive(Debug)]
enum Source {
    Given(Vec<SocketAddr>),
    File { path: PathBuf, seen: Option<Version>, servers: Vec<SocketAddr> },
}

/// What tells two states of a file apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl Upstream {
    /// Nobody is asked: a container of an internal network must not reach the outside by way of names (CVE-2024-29018).
    pub fn none() -> Self {
        Self(Source::Given(Vec::new()))
    }

    /// These servers, in this order.
    pub fn servers(mut servers: Vec<SocketAddr>) -> Self {
        servers.truncate(SERVERS);
        Self(Source::Given(servers))
    }

    /// The servers of a resolv.conf, which is read again when it has changed.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File { path: path.into(), seen: None, servers: Vec::new() })
    }

    /// The servers as of now. A file that is gone or cannot be read keeps what it said last: it is being replaced.
    pub(crate) fn current(&mut self) -> &[SocketAddr] {
        match &mut self.0 {
            Source::Given(servers) => servers,
            Source::File { path, seen, servers } => {
                let version = std::fs::metadata(&*path).ok().map(|metadata| Version::of(&metadata));
                let changed = version.is_some() && version != *seen;
                if let Some(read) = changed.then(|| read(path)).flatten() {
                    *servers = read;
                    *seen = version;
                }
                servers
            }
        }
    }
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

fn read(path: &Path) -> Option<Vec<SocketAddr>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(RESOLV_CONF).read_to_end(&mut bytes).ok()?;
    Some(parse(&String::from_utf8_lossy(&bytes)))
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        words.next().filter(|&keyword| keyword == "nameserver")?;
        address(words.next()?)
    };
    text.lines().filter_map(server).take(SERVERS).collect()
}

/// An address, for link-local ones with an interface: `fe80::1%eth0`.
fn address(word: &str) -> Option<SocketAddr> {
    let Some((ip, scope)) = word.split_once('%') else {
        return Some(SocketAddr::new(word.parse::<IpAddr>().ok()?, PORT));
    };
    let ip: Ipv6Addr = ip.parse().ok()?;
    let index = scope.parse().ok().or_else(|| {
        let any = socket(AddressFamily::INET6, SocketType::DGRAM, None).ok()?;
        netdevice::name_to_index(&any, scope).ok()
    })?;
    Some(SocketAddrV6::new(ip, PORT, 0, index).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_in_order_and_what_is_no_address_is_skipped() {
        let text = "# nameserver 1.1.1.1\nnameserver 192.0.2.53\n nameserver  2001:db8::53 # second\nnameserver\n\
                    nameserver example.com\nsearch nameserver\nnameserver fe80::1%lo\nnameserver fe80::1%absent\n";
        let servers: Vec<_> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.53:53", "[2001:db8::53]:53", "[fe80::1%1]:53"]);
        assert_eq!(parse(&"nameserver 192.0.2.1\n".repeat(20)).len(), SERVERS);
    }

    #[test]
    fn a_file_is_read_again_when_it_was_replaced_and_remembered_when_it_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        let mut upstream = Upstream::file(&path);
        assert!(upstream.current().is_empty());
        for server in ["192.0.2.1", "192.0.2.2"] {
            let aside = directory.path().join("aside");
            std::fs::write(&aside, format!("nameserver {server}\n")).unwrap();
            std::fs::rename(&aside, &path).unwrap();
            assert_eq!(upstream.current()[0].ip().to_string(), server);
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(upstream.current()[0].ip().to_string(), "192.0.2.2");
        assert!(Upstream::none().current().is_empty());
    }
}
