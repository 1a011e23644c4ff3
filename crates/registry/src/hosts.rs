//! Which hosts are asked for an image, in order, and how. Pure.
//!
//! A registry is never spoken to without TLS unless it is on this machine or listed as insecure; a failed TLS connection
//! is no reason to try without (CVE-2014-5277).

use crate::Error;
use coracle_spec::Reference;
use std::net::IpAddr;

/// The registry that a name without a host means.
const DEFAULT_DOMAIN: &str = "docker.io";
/// The host that serves it.
const DEFAULT_HOST: &str = "registry-1.docker.io";

/// How a host is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// With TLS.
    Https,
    /// With TLS that need not be trusted, or without.
    Insecure,
}

/// A host to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name and port.
    pub host: String,
    /// How it is spoken to.
    pub scheme: Scheme,
}

/// What is configured of registries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    mirrors: Vec<Endpoint>,
    mirror_texts: Vec<String>,
    insecure: Vec<Insecure>,
    insecure_texts: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Insecure {
    Host(String),
    Network(IpAddr, u8),
}

impl Hosts {
    /// Reads what `--registry-mirror` and `--insecure-registry` say.
    ///
    /// # Errors
    /// [`Error`] names the entry that is none.
    pub fn new(mirrors: &[String], insecure: &[String]) -> Result<Self, Error> {
        Ok(Self {
            mirrors: mirrors.iter().map(|entry| mirror(entry)).collect::<Result<_, _>>()?,
            mirror_texts: mirrors.iter().map(|entry| format!("{}/", entry.trim_end_matches('/'))).collect(),
            insecure: insecure.iter().map(|entry| read_insecure(entry)).collect::<Result<_, _>>()?,
            insecure_texts: insecure.to_vec(),
        })
    }

    /// The mirrors, as clients are shown them.
    pub fn mirrors(&self) -> &[String] {
        &self.mirror_texts
    }

    /// The insecure registries, as they were configured.
    pub fn insecure(&self) -> &[String] {
        &self.insecure_texts
    }

    /// The hosts to ask for an image, the first one first. Mirrors stand for the default registry only.
    pub fn endpoints(&self, reference: &Reference) -> Vec<Endpoint> {
        let domain = reference.domain();
        if domain != DEFAULT_DOMAIN {
            return vec![Endpoint { host: domain.to_owned(), scheme: self.scheme(domain) }];
        }
        let origin = Endpoint { host: DEFAULT_HOST.to_owned(), scheme: Scheme::Https };
        self.mirrors.iter().cloned().chain([origin]).collect()
    }

    fn scheme(&self, host: &str) -> Scheme {
        let name = host_name(host);
        let address: Option<IpAddr> = name.parse().ok();
        let listed = |entry: &Insecure| match entry {
            Insecure::Host(listed) => listed == host || listed == name,
            Insecure::Network(network, length) => address.is_some_and(|ip| contains(*network, *length, ip)),
        };
        let local = name == "localhost" || address.is_some_and(|ip| ip.is_loopback());
        if local || self.insecure.iter().any(listed) { Scheme::Insecure } else { Scheme::Https }
    }
}

/// A host without its port, and an IPv6 address without its brackets.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn mirror(entry: &str) -> Result<Endpoint, Error> {
    let invalid = |reason| Error::Mirror { entry: entry.to_owned(), reason };
    let (scheme, rest) = entry.split_once("://").ok_or_else(|| invalid("it has no scheme"))?;
    let scheme = match scheme {
        "https" => Scheme::Https,
        "http" => Scheme::Insecure,
        _ => return Err(invalid("its scheme is neither http nor https")),
    };
    let host = rest.trim_end_matches('/');
    if host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
        return Err(invalid("it must be a host alone, without path, query or user"));
    }
    Ok(Endpoint { host: host.to_owned(), scheme })
}

fn read_insecure(entry: &str) -> Result<Insecure, Error> {
    let invalid = |reason| Error::Insecure { entry: entry.to_owned(), reason };
    if entry.contains("://") {
        return Err(invalid("it must not have a scheme"));
    }
    if let Some((address, length)) = entry.split_once('/') {
        let address: IpAddr = address.parse().map_err(|_| invalid("it is no host, and no network either"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = length.parse().ok().filter(|length| *length <= most);
        return Ok(Insecure::Network(address, length.ok_or_else(|| invalid("its prefix length is none"))?));
    }
    if entry.is_empty() || entry.starts_with('-') || entry.contains([' ', '@']) {
        return Err(invalid("it is no host"));
    }
    Ok(Insecure::Host(entry.to_owned()))
}

fn contains(network: IpAddr, length: u8, address: IpAddr) -> bool {
    let leading = |bits: u128, width: u8| if length == 0 { 0 } else { bits >> (width - length) };
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            leading(network.to_bits().into(), 32) == leading(address.to_bits().into(), 32)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            leading(network.to_bits(), 128) == leading(address.to_bits(), 128)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(mirrors: &[&str], insecure: &[&str]) -> Result<Hosts, Error> {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        Hosts::new(&owned(mirrors), &owned(insecure))
    }

    #[test]
    fn a_host_is_spoken_to_with_tls_unless_it_is_local_or_listed() {
        let hosts = hosts(&[], &["plain.test:5000", "10.1.0.0/16", "fd00::/8"]).unwrap();
        for (image, scheme) in [
            ("plain.test:5000/a", Scheme::Insecure),
            ("plain.test/a", Scheme::Https),
            ("10.1.2.3:5000/a", Scheme::Insecure),
            ("10.2.2.3:5000/a", Scheme::Https),
            ("localhost:5000/a", Scheme::Insecure),
            ("127.0.0.1:5000/a", Scheme::Insecure),
            ("other.test/a", Scheme::Https),
        ] {
            let endpoints = hosts.endpoints(&image.parse().unwrap());
            assert_eq!(endpoints.len(), 1, "{image}");
            assert_eq!(endpoints[0].scheme, scheme, "{image}");
        }
    }

    #[test]
    fn mirrors_come_before_the_default_registry_and_for_nobody_else() {
        let hosts = hosts(&["https://mirror.test/"], &[]).unwrap();
        let asked: Vec<String> =
            hosts.endpoints(&"debian".parse().unwrap()).into_iter().map(|endpoint| endpoint.host).collect();
        assert_eq!(asked, ["mirror.test", DEFAULT_HOST]);
        assert_eq!(hosts.endpoints(&"other.test/a".parse().unwrap())[0].host, "other.test");
        assert_eq!(hosts.mirrors(), ["https://mirror.test/"]);
    }

    #[test]
    fn entries_that_are_none_are_refused() {
        for entry in
            ["mirror.test", "ftp://mirror.test", "https://", "https://mirror.test/path", "https://u@m.test"]
        {
            assert!(matches!(hosts(&[entry], &[]), Err(Error::Mirror { .. })), "{entry}");
        }
        for entry in ["http://plain.test", "", "-x", "10.0.0.0/33", "plain.test/path", "a b"] {
            assert!(matches!(hosts(&[], &[entry]), Err(Error::Insecure { .. })), "{entry}");
        }
    }
}
