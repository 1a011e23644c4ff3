//! Which hosts are asked for an image, in order, and how. Pure.
//!
//! A registry is never spoken to without TLS unless it is on this machine or listed as insecure; a failed TLS connection
//! is no reason to try without (CVE-2014-5277).

use crate::Error;
use coracle_spec::Reference;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The registry that a name without a host means.
const DEFAULT_DOMAIN: &str = "docker.io";
/// The host that serves it.
pub(crate) const DEFAULT_HOST: &str = "registry-1.docker.io";

/// How a host is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// With TLS.
    Https,
    /// With TLS that need not be trusted.
    Unverified,
    /// With TLS that need not be trusted, or without.
    Insecure,
    /// Without TLS.
    Http,
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
    /// For each registry its mirrors, the one to ask first standing first.
    mirrors: BTreeMap<String, Vec<Endpoint>>,
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
    /// Reads what `--registry-mirror` and `--insecure-registry` say. A mirror of the default registry is an address
    /// (`https://mirror.test`), one of another registry has its name in front (`quay.io=https://mirror.test`).
    ///
    /// # Errors
    /// [`Error`] names the entry that is none.
    pub fn new(mirrors: &[String], insecure: &[String]) -> Result<Self, Error> {
        let mut hosts = Self {
            insecure: insecure.iter().map(|entry| read_insecure(entry)).collect::<Result<_, _>>()?,
            insecure_texts: insecure.to_vec(),
            mirror_texts: Vec::new(),
            mirrors: BTreeMap::new(),
        };
        for entry in mirrors {
            let (registry, address) = mirrored(entry)?;
            let endpoint = hosts.mirror(entry, address)?;
            if registry == DEFAULT_DOMAIN {
                hosts.mirror_texts.push(format!("{}/", address.trim_end_matches('/')));
            }
            hosts.mirrors.entry(registry).or_default().push(endpoint);
        }
        Ok(hosts)
    }

    /// The mirrors of the default registry, as clients are shown them: the API has no place for others.
    pub fn mirrors(&self) -> &[String] {
        &self.mirror_texts
    }

    /// The insecure registries, as they were configured.
    pub fn insecure(&self) -> &[String] {
        &self.insecure_texts
    }

    /// The hosts to ask for an image, the first one first: mirrors, and then the registry itself.
    pub fn endpoints(&self, reference: &Reference) -> Vec<Endpoint> {
        let domain = reference.domain();
        let mirrors = self.mirrors.get(domain).into_iter().flatten().cloned();
        mirrors.chain([self.origin(domain)]).collect()
    }

    /// The host that serves a registry itself.
    pub fn origin(&self, domain: &str) -> Endpoint {
        if domain == DEFAULT_DOMAIN {
            return Endpoint { host: DEFAULT_HOST.to_owned(), scheme: Scheme::Https };
        }
        Endpoint { host: domain.to_owned(), scheme: self.scheme(domain) }
    }

    fn mirror(&self, entry: &str, address: &str) -> Result<Endpoint, Error> {
        let invalid = |reason| Error::Mirror { entry: entry.to_owned(), reason };
        let (scheme, rest) = address.split_once("://").ok_or_else(|| invalid("it has no scheme"))?;
        let host = rest.trim_end_matches('/');
        if host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
            return Err(invalid("it must be a host alone, without path, query or user"));
        }
        let scheme = match (scheme, self.scheme(host)) {
            ("https", Scheme::Https) => Scheme::Https,
            ("https", _) => Scheme::Unverified,
            ("http", _) => Scheme::Http,
            _ => return Err(invalid("its scheme is neither http nor https")),
        };
        Ok(Endpoint { host: host.to_owned(), scheme })
    }

    /// How a host is spoken to: without trusted TLS only if it is on this machine or listed.
    pub(crate) fn scheme(&self, host: &str) -> Scheme {
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

/// Splits off the registry that a mirror is for.
fn mirrored(entry: &str) -> Result<(String, &str), Error> {
    let Some((registry, address)) = entry.split_once('=').filter(|(registry, _)| !registry.contains("://"))
    else {
        return Ok((DEFAULT_DOMAIN.to_owned(), entry));
    };
    // The grammar of references decides what a registry's name is.
    match format!("{registry}/a").parse::<Reference>() {
        Ok(reference) if reference.domain() == registry => Ok((registry.to_owned(), address)),
        Ok(reference) if registry == "index.docker.io" => Ok((reference.domain().to_owned(), address)),
        _ => Err(Error::Mirror { entry: entry.to_owned(), reason: "it is for no registry" }),
    }
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
    fn a_mirror_may_be_for_another_registry() {
        let list = ["quay.io=https://one.test", "quay.io=http://two.test:5000", "https://hub.test"];
        let hosts = hosts(&list, &[]).unwrap();
        let asked = |image: &str| -> Vec<(String, Scheme)> {
            let endpoints = hosts.endpoints(&image.parse().unwrap());
            endpoints.into_iter().map(|endpoint| (endpoint.host, endpoint.scheme)).collect()
        };
        let expected =
            [("one.test", Scheme::Https), ("two.test:5000", Scheme::Http), ("quay.io", Scheme::Https)];
        assert_eq!(asked("quay.io/a/b"), expected.map(|(host, scheme)| (host.to_owned(), scheme)));
        assert_eq!(asked("debian").len(), 2);
        assert_eq!(asked("other.test/a").len(), 1);
        assert_eq!(hosts.mirrors(), ["https://hub.test/"]);
    }

    #[test]
    fn entries_that_are_none_are_refused() {
        for entry in [
            "mirror.test",
            "ftp://mirror.test",
            "https://",
            "https://m.test/path",
            "https://u@m.test",
            "a b=https://m.test",
        ] {
            assert!(matches!(hosts(&[entry], &[]), Err(Error::Mirror { .. })), "{entry}");
        }
        for entry in ["http://plain.test", "", "-x", "10.0.0.0/33", "plain.test/path", "a b"] {
            assert!(matches!(hosts(&[], &[entry]), Err(Error::Insecure { .. })), "{entry}");
        }
    }
}
