//! The files of a container that its network decides: `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`.
//!
//! Pure text in, text out, but for [`read_resolv_conf`]. Names come from requests and images, so that every one is
//! checked before it becomes part of a line (CVE-2022-4318): a newline would be a line of its own.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

use crate::error::{Error, Result};
use crate::limits::RESOLV_CONF;
use crate::namespace::RESOLVER;

/// Longest host name that Linux keeps, in bytes (`HOST_NAME_MAX`).
const HOST_NAME: usize = 64;
/// Longest domain name, in bytes (RFC 1035, 2.3.4, as text).
const DOMAIN_NAME: usize = 253;

/// Where an extra host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtraAddress {
    /// At this address.
    Ip(IpAddr),
    /// At the host's end of the container's network: `host-gateway`.
    HostGateway,
}

/// What `/etc/hosts` of a container says.
#[derive(Debug, Clone, Default)]
pub struct Hosts<'a> {
    /// The container's host name.
    pub hostname: &'a str,
    /// Its domain; may be empty.
    pub domain: &'a str,
    /// Its addresses, the first network's first.
    pub addresses: &'a [IpAddr],
    /// Further hosts, in order.
    pub extra: &'a [(String, ExtraAddress)],
    /// What `host-gateway` stands for: the bridge's address, unless configured otherwise.
    pub gateway: Option<IpAddr>,
}

/// What a request says about name resolution; empty parts come from the host's own file.
#[derive(Debug, Clone, Copy, Default)]
pub struct Resolution<'a> {
    /// Servers, for a container without a resolver of ours. With one they are what the resolver asks.
    pub servers: &'a [IpAddr],
    /// Domains to search; a single `.` is none at all.
    pub search: &'a [String],
    /// Options, each as in resolv.conf(5).
    pub options: &'a [String],
}

const LOCAL_HOSTS: [(&str, &str); 6] = [
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::", "ip6-localnet"),
    ("ff00::", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
];

/// `/etc/hosts` of a container with a network of its own, or none.
///
/// # Errors
/// [`Error::Text`] for a name that is not a host name, or for `host-gateway` without a gateway.
pub fn hosts(hosts: &Hosts<'_>) -> Result<String> {
    let mut text = String::new();
    for (address, names) in LOCAL_HOSTS {
        line(&mut text, address, names);
    }
    text.push_str(&extra_hosts(hosts.extra, hosts.gateway)?);
    let names = own_names(hosts)?;
    for address in hosts.addresses {
        line(&mut text, address, &names);
    }
    Ok(text)
}

/// `/etc/hosts` of a container in the host's network: the host's own text, with further hosts behind it.
///
/// # Errors
/// As [`hosts`].
pub fn hosts_of_host(
    host: &str,
    extra: &[(String, ExtraAddress)],
    gateway: Option<IpAddr>,
) -> Result<String> {
    let mut text = host.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&extra_hosts(extra, gateway)?);
    Ok(text)
}

fn extra_hosts(extra: &[(String, ExtraAddress)], gateway: Option<IpAddr>) -> Result<String> {
    let mut text = String::new();
    for (name, address) in extra {
        check_domain("extra host", name)?;
        let address = match address {
            ExtraAddress::Ip(ip) => *ip,
            ExtraAddress::HostGateway => {
                gateway.ok_or_else(|| refused("host-gateway without a gateway for extra host", name))?
            }
        };
        line(&mut text, address, name);
    }
    Ok(text)
}

fn own_names(hosts: &Hosts<'_>) -> Result<String> {
    check_host_name(hosts.hostname)?;
    if hosts.domain.is_empty() {
        // Programs look for what stands before the first dot as well.
        return Ok(match hosts.hostname.split_once('.') {
            Some((short, _)) => format!("{} {short}", hosts.hostname),
            None => hosts.hostname.to_owned(),
        });
    }
    check_domain("domain name", hosts.domain)?;
    Ok(format!("{0}.{1} {0}", hosts.hostname, hosts.domain))
}

fn line(text: &mut String, address: impl std::fmt::Display, names: &str) {
    writeln!(text, "{address}\t{names}").expect("a String takes everything");
}

/// `/etc/hostname`.
///
/// # Errors
/// [`Error::Text`] if it is not a host name.
pub fn hostname(name: &str) -> Result<String> {
    check_host_name(name)?;
    Ok(format!("{name}\n"))
}

/// `/etc/resolv.conf` of a container whose shim answers names: domains and options as asked for, else the host's.
///
/// # Errors
/// [`Error::Text`] for a domain or option that would be more than one.
pub fn resolv_conf(host: &str, wanted: &Resolution<'_>) -> Result<String> {
    let mut options = options(host, wanted)?;
    // Names of containers have no dot; without this a search domain would be tried first.
    if !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push(String::from("ndots:0"));
    }
    Ok(render(&[IpAddr::V4(RESOLVER)], &search(host, wanted)?, &options))
}

/// `/etc/resolv.conf` of a container in the host's network or in none: the host's own text unless something is asked
/// for.
///
/// # Errors
/// As [`resolv_conf`].
pub fn resolv_conf_of_host(host: &str, wanted: &Resolution<'_>) -> Result<String> {
    if wanted.servers.is_empty() && wanted.search.is_empty() && wanted.options.is_empty() {
        return Ok(host.to_owned());
    }
    let own: Vec<IpAddr> = values(host, "nameserver").filter_map(|server| server.parse().ok()).collect();
    let servers = if wanted.servers.is_empty() { &own } else { wanted.servers };
    Ok(render(servers, &search(host, wanted)?, &options(host, wanted)?))
}

fn render(servers: &[IpAddr], search: &[String], options: &[String]) -> String {
    let mut text = String::new();
    for server in servers {
        writeln!(text, "nameserver {server}").expect("a String takes everything");
    }
    for (keyword, words) in [("search", search), ("options", options)] {
        if !words.is_empty() {
            writeln!(text, "{keyword} {}", words.join(" ")).expect("a String takes everything");
        }
    }
    text
}

fn search(host: &str, wanted: &Resolution<'_>) -> Result<Vec<String>> {
    match wanted.search {
        // The last line counts; `domain` is an older spelling of a list with one entry.
        [] => Ok(last_line(host, &["search", "domain"])),
        [root] if root == "." => Ok(Vec::new()),
        domains => domains.iter().map(|d| check_domain("search domain", d).map(|()| d.clone())).collect(),
    }
}

fn options(host: &str, wanted: &Resolution<'_>) -> Result<Vec<String>> {
    if wanted.options.is_empty() {
        return Ok(values(host, "options").map(str::to_owned).collect());
    }
    let check = |option: &String| {
        let one_word =
            !option.is_empty() && option.bytes().all(|b| b.is_ascii_graphic() && !b"#;".contains(&b));
        one_word.then(|| option.clone()).ok_or_else(|| refused("resolver option", option))
    };
    wanted.options.iter().map(check).collect()
}

/// The words behind a keyword, of all lines that begin with it.
fn values<'a>(text: &'a str, keyword: &'a str) -> impl Iterator<Item = &'a str> {
    lines(text)
        .filter(move |(found, _)| *found == keyword)
        .flat_map(|(_, words)| words.split_ascii_whitespace())
}

fn last_line(text: &str, keywords: &[&str]) -> Vec<String> {
    let found = lines(text).filter(|(keyword, _)| keywords.contains(keyword)).last();
    found.map(|(_, words)| words.split_ascii_whitespace().map(str::to_owned).collect()).unwrap_or_default()
}

/// Keyword and rest of each line that is not a comment.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', ';']))
        .filter_map(|line| line.split_once(|c: char| c.is_ascii_whitespace()))
}

/// Reads the host's resolv.conf, bounded. A host without one has no domains and no servers.
///
/// # Errors
/// When it is there and cannot be read.
pub fn read_resolv_conf(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(RESOLV_CONF).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Read { path: path.display().to_string(), source: error })
        }
        _ => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

fn check_host_name(name: &str) -> Result<()> {
    if name.len() <= HOST_NAME { check_domain("host name", name) } else { Err(refused("host name", name)) }
}

/// Letters, digits, `-`, `_` and dots between them: what is in use, more than RFC 1123 allows.
fn check_domain(what: &'static str, name: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if !name.is_empty() && name.len() <= DOMAIN_NAME && name.bytes().all(plain) && !name.starts_with('.') {
        Ok(())
    } else {
        Err(refused(what, name))
    }
}

fn refused(what: &'static str, value: &str) -> Error {
    Error::Text { what, value: value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "# made by hand\nnameserver 192.0.2.53\nnameserver 2001:db8::53\ndomain old.example\n\
                        search corp.example example.com\noptions edns0 trust-ad\n";

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|&w| w.to_owned()).collect()
    }

    #[test]
    fn hosts_lists_the_loopback_the_extra_hosts_and_the_container() {
        let extra = [
            (String::from("db"), ExtraAddress::Ip("10.0.0.5".parse().unwrap())),
            (String::from("host.docker.internal"), ExtraAddress::HostGateway),
        ];
        let text = hosts(&Hosts {
            hostname: "web",
            domain: "example.com",
            addresses: &["172.17.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            extra: &extra,
            gateway: Some("172.17.0.1".parse().unwrap()),
        })
        .unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "127.0.0.1\tlocalhost");
        assert_eq!(
            lines[6..],
            [
                "10.0.0.5\tdb",
                "172.17.0.1\thost.docker.internal",
                "172.17.0.2\tweb.example.com web",
                "fd00::2\tweb.example.com web"
            ]
        );
        let none = Hosts { hostname: "web", extra: &extra, ..Hosts::default() };
        assert!(hosts(&none).is_err(), "host-gateway without a gateway");
        assert_eq!(
            hosts_of_host("127.0.0.1 here", &extra[..1], None).unwrap(),
            "127.0.0.1 here\n10.0.0.5\tdb\n"
        );
    }

    #[test]
    fn domains_and_options_come_from_the_request_or_else_from_the_host() {
        let none = Resolution::default();
        assert_eq!(
            resolv_conf(HOST, &none).unwrap(),
            "nameserver 127.0.0.11\nsearch corp.example example.com\noptions edns0 trust-ad ndots:0\n"
        );
        let (search, options) = (words(&["a.example"]), words(&["ndots:2"]));
        let wanted = Resolution { search: &search, options: &options, ..none };
        assert_eq!(
            resolv_conf(HOST, &wanted).unwrap(),
            "nameserver 127.0.0.11\nsearch a.example\noptions ndots:2\n"
        );
        let root = words(&["."]);
        let wanted = Resolution { search: &root, options: &options, ..none };
        assert_eq!(resolv_conf(HOST, &wanted).unwrap(), "nameserver 127.0.0.11\noptions ndots:2\n");
        assert_eq!(resolv_conf("", &none).unwrap(), "nameserver 127.0.0.11\noptions ndots:0\n");
    }

    #[test]
    fn the_hosts_own_text_is_kept_unless_something_is_asked_for() {
        let none = Resolution::default();
        assert_eq!(resolv_conf_of_host(HOST, &none).unwrap(), HOST);
        let options = words(&["rotate"]);
        let wanted = Resolution { options: &options, ..none };
        assert_eq!(
            resolv_conf_of_host(HOST, &wanted).unwrap(),
            "nameserver 192.0.2.53\nnameserver 2001:db8::53\nsearch corp.example example.com\noptions rotate\n"
        );
        let servers = ["192.0.2.1".parse().unwrap()];
        let wanted = Resolution { servers: &servers, ..none };
        assert!(resolv_conf_of_host(HOST, &wanted).unwrap().starts_with("nameserver 192.0.2.1\nsearch"));
    }

    #[test]
    fn nothing_that_could_add_a_line_or_a_field_gets_through() {
        let long = "x".repeat(65);
        for bad in ["", "a b", "a\nb", "a\tb", "a\0b", "a#b", "a:b", "ä", ".a", &long] {
            assert!(hostname(bad).is_err(), "{bad:?}");
        }
        for bad in ["a b", "a\nnameserver 6.6.6.6", "a\0", "a\r"] {
            let words = words(&[bad]);
            let search = Resolution { search: &words, ..Resolution::default() };
            let options = Resolution { options: &words, ..Resolution::default() };
            assert!(resolv_conf(HOST, &search).is_err(), "{bad:?}");
            assert!(resolv_conf(HOST, &options).is_err(), "{bad:?}");
            let extra = [(bad.to_owned(), ExtraAddress::Ip("10.0.0.5".parse().unwrap()))];
            assert!(hosts(&Hosts { hostname: "web", extra: &extra, ..Hosts::default() }).is_err(), "{bad:?}");
            assert!(hosts(&Hosts { hostname: "web", domain: bad, ..Hosts::default() }).is_err(), "{bad:?}");
        }
        assert_eq!(hostname("my_host-1.example").unwrap(), "my_host-1.example\n");
    }

    #[test]
    fn the_hosts_file_is_read_up_to_a_bound_and_may_be_absent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        assert_eq!(read_resolv_conf(&path).unwrap(), "");
        std::fs::write(&path, "x".repeat(100_000)).unwrap();
        assert_eq!(read_resolv_conf(&path).unwrap().len() as u64, RESOLV_CONF);
        assert!(read_resolv_conf(directory.path()).is_err());
    }
}
