//! How far inside a network an address is, and a resolver that does not lead further inside than it may.
//!
//! A registry names other hosts: in redirects, upload locations and token realms. None of these may make the engine
//! talk to services that only this machine can reach, such as the metadata service of a cloud (CVE-2026-33540).

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Who can reach an address. Ordered from outside to inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reach {
    /// Everyone.
    Public,
    /// A site (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// This machine or its link, where metadata services are; also what is no host's address.
    Local,
}

impl Reach {
    /// Who can reach `address`.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => {
                let first = v6.segments()[0];
                if v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || first & 0xffc0 == 0xfe80 {
                    Self::Local
                } else if first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfec0 {
                    Self::Private
                } else {
                    Self::Public
                }
            }
        }
    }

    fn of_v4(v4: Ipv4Addr) -> Self {
        let [first, second, ..] = v4.octets();
        let no_host = first == 0 || v4.is_multicast() || v4.is_broadcast();
        if v4.is_loopback() || v4.is_link_local() || no_host {
            Self::Local
        } else if v4.is_private() || (first == 100 && second & 0xc0 == 64) {
            Self::Private
        } else {
            Self::Public
        }
    }

    /// Who can reach the host of `url`, as far as its text says; a name is known only once it is resolved.
    pub(crate) fn of_url(url: &Url) -> Self {
        let host = url.host_str().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Self::of(address);
        }
        if is_this_machine(bare) { Self::Local } else { Self::Public }
    }
}

/// Whether a name, without port, means this machine wherever it is used (RFC 6761).
pub(crate) fn is_this_machine(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Resolves names to addresses that are no further inside than `limit`.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub(crate) limit: Reach,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let limit = self.limit;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let permitted: Vec<SocketAddr> =
                found.into_iter().filter(|address| Reach::of(address.ip()) <= limit).collect();
            if permitted.is_empty() {
                let text = format!("{} has no address that a registry may send to", name.as_str());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, text).into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_known_by_who_can_reach_them() {
        for (address, reach) in [
            ("93.184.216.34", Reach::Public),
            ("2606:2800::1", Reach::Public),
            ("10.0.0.1", Reach::Private),
            ("172.16.0.1", Reach::Private),
            ("172.32.0.1", Reach::Public),
            ("192.168.1.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("fd00:ec2::254", Reach::Private),
            ("169.254.169.254", Reach::Local),
            ("127.0.0.1", Reach::Local),
            ("127.1.2.3", Reach::Local),
            ("0.0.0.0", Reach::Local),
            ("0.1.2.3", Reach::Local),
            ("224.0.0.1", Reach::Local),
            ("255.255.255.255", Reach::Local),
            ("::1", Reach::Local),
            ("::", Reach::Local),
            ("fe80::1", Reach::Local),
            ("ff02::1", Reach::Local),
            ("::ffff:127.0.0.1", Reach::Local),
            ("::ffff:10.0.0.1", Reach::Private),
        ] {
            assert_eq!(Reach::of(address.parse().unwrap()), reach, "{address}");
        }
    }

    #[tokio::test]
    async fn a_name_leads_no_further_inside_than_the_resolver_may() {
        let resolve = |limit| Resolver { limit }.resolve("localhost".parse().unwrap());
        let found: Vec<SocketAddr> = resolve(Reach::Local).await.unwrap().collect();
        assert!(found.iter().all(|address| address.ip().is_loopback()) && !found.is_empty());
        for limit in [Reach::Public, Reach::Private] {
            let Err(error) = resolve(limit).await else { panic!("{limit:?}") };
            assert!(error.to_string().contains("may send to"), "{error}");
        }
    }

    #[test]
    fn a_url_is_judged_by_its_text_in_every_spelling() {
        for (url, reach) in [
            ("https://example.test/", Reach::Public),
            ("https://localhost/", Reach::Local),
            ("https://LOCALHOST./", Reach::Local),
            ("https://a.localhost/", Reach::Local),
            ("https://[::1]:5000/", Reach::Local),
            ("https://2130706433/", Reach::Local),
            ("https://0x7f.1/", Reach::Local),
            ("https://169.254.169.254/latest", Reach::Local),
            ("https://10.1.1.1/", Reach::Private),
        ] {
            assert_eq!(Reach::of_url(&url.parse().unwrap()), reach, "{url}");
        }
    }
}
