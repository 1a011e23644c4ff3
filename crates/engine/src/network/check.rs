//! What was asked of a new network, and what it comes to. Pure.

use super::Pool;
use crate::config::NetworkDefaults;
use crate::error::{Error, Result};
use coracle_network::{Family, InterfaceName, Subnet, first_host, lowest, prefix};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// Smallest and largest size of packets that a bridge may have, in bytes (RFC 791, section 3.2; the kernel's `ETH_MAX_MTU`).
const MTUS: std::ops::RangeInclusive<u32> = 68..=65535;
/// Smallest size of packets with which the kernel speaks IPv6, in bytes (RFC 8200, section 5).
const LEAST_MTU_OF_IPV6: u32 = 1280;

/// A network to make, as the client wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// `bridge`, if empty.
    pub driver: String,
    /// Whether its containers have no addresses of IPv4.
    pub without_ipv4: bool,
    /// Whether they have addresses of IPv6.
    pub ipv6: bool,
    /// Where they get their addresses; a family of which nothing is said gets a free subnet.
    pub pools: Vec<WantedPool>,
    /// Whether nothing gets out of it nor into it.
    pub internal: bool,
    /// Whether services may be attached by hand.
    pub attachable: bool,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Where the containers of a network are to get their addresses of a family, as the client wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedPool {
    /// `ADDRESS/LENGTH`; a free one of IPv4 if empty.
    pub subnet: String,
    /// The bridge's address; the subnet's first if empty.
    pub gateway: String,
    /// `ADDRESS/LENGTH` within the subnet, from which containers get addresses; the whole subnet if empty.
    pub range: String,
    /// Addresses of others in the subnet, by the client's name for them.
    pub reserved: BTreeMap<String, String>,
}

/// The same, understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) name: String,
    /// What the client named.
    pub(super) pools: Vec<Pool>,
    /// Families that get a free subnet.
    pub(super) families: Vec<Family>,
    pub(super) bridge: Option<String>,
    pub(super) mtu: Option<u32>,
    pub(super) internal: bool,
    pub(super) attachable: bool,
    pub(super) options: BTreeMap<String, String>,
    pub(super) labels: BTreeMap<String, String>,
}

/// Refuses what cannot be.
pub(super) fn check(wanted: Wanted) -> Result<Checked> {
    check_name(&wanted.name)?;
    check_driver(&wanted.driver)?;
    let Options { bridge, mtu, .. } = read_options(&wanted.options)?;
    let pools = check_pools(&wanted)?;
    let is_missing = |family: &Family| {
        let is_asked = if *family == Family::V4 { !wanted.without_ipv4 } else { wanted.ipv6 };
        is_asked && !pools.iter().any(|pool| pool.subnet.family() == *family)
    };
    let families: Vec<_> = Family::BOTH.into_iter().filter(is_missing).collect();
    if pools.is_empty() && families.is_empty() {
        return Err(invalid("IPv4 or IPv6 must be enabled"));
    }
    Ok(Checked {
        name: wanted.name,
        pools,
        families,
        bridge,
        mtu,
        internal: wanted.internal,
        attachable: wanted.attachable,
        options: wanted.options,
        labels: wanted.labels,
    })
}

/// Those of which the client has named the subnet.
fn check_pools(wanted: &Wanted) -> Result<Vec<Pool>> {
    let mut pools: Vec<Pool> = Vec::new();
    for pool in &wanted.pools {
        let Some(pool) = check_pool(pool)? else { continue };
        let (subnet, family) = (pool.subnet, pool.subnet.family());
        let is_off = if family == Family::V4 { wanted.without_ipv4 } else { !wanted.ipv6 };
        if is_off {
            let (network, length) = (subnet.network(), subnet.length());
            return Err(invalid(format!(
                "{family} is not enabled on the network of subnet {network}/{length}"
            )));
        }
        if pools.iter().any(|other| other.subnet.family() == family) {
            return Err(Error::Unsupported(format!("a network has one {family} subnet; name one of them")));
        }
        pools.push(pool);
    }
    Ok(pools)
}

fn check_pool(wanted: &WantedPool) -> Result<Option<Pool>> {
    let subnet = check_subnet(wanted)?;
    let reserved = check_reserved(&wanted.reserved, subnet)?;
    let Some(subnet) = subnet else {
        return if wanted.range.is_empty() {
            Ok(None)
        } else {
            Err(invalid("an address range needs its subnet"))
        };
    };
    let range = match wanted.range.as_str() {
        "" => None,
        text => Some(check_range(text, subnet)?),
    };
    Ok(Some(Pool { subnet, shows_gateway: !wanted.gateway.is_empty(), range, reserved }))
}

fn invalid(text: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("invalid network config:\n{text}"))
}

/// Refuses IPv6 on a bridge whose packets, of so many bytes, are too small for it.
pub(super) fn check_mtu(network: &super::Network) -> Result<()> {
    if network.has(Family::V6) && network.mtu < LEAST_MTU_OF_IPV6 {
        let mtu = network.mtu;
        return Err(invalid(format!("invalid MTU {mtu}: IPv6 needs {LEAST_MTU_OF_IPV6} bytes")));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<()> {
    if super::PREDEFINED.contains(&name) || name == "default" {
        return Err(Error::Forbidden(format!("operation is not permitted on predefined {name} network ")));
    }
    // As lax as Docker; the prefix would make it unusable.
    if name.trim().is_empty() || name.starts_with("container:") {
        return Err(Error::Invalid(format!("invalid name: {name}")));
    }
    Ok(())
}

fn check_driver(driver: &str) -> Result<()> {
    match driver {
        "" | "bridge" | "default" => Ok(()),
        "host" | "null" => {
            Err(Error::Forbidden(format!("only one instance of \"{driver}\" network is allowed")))
        }
        "macvlan" | "ipvlan" | "overlay" => Err(Error::Unsupported(format!(
            "driver {driver:?} is not supported: this engine makes networks with bridges only; leave the driver out"
        ))),
        _ => Err(Error::Missing(format!("plugin {driver:?} not found"))),
    }
}

/// Refuses options of the driver bridge that would change nothing here, or make no sense.
///
/// # Errors
/// [`Error::Unsupported`] and [`Error::Invalid`].
pub fn check_options(options: &BTreeMap<String, String>) -> Result<()> {
    read_options(options).map(drop)
}

/// Docker's prefix of its driver's options.
const BRIDGE: &str = "com.docker.network.bridge.";
/// Whether what leaves the network has the host's address.
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
/// Whether containers of the network reach each other.
const ICC: &str = "com.docker.network.bridge.enable_icc";
/// Where ports are published that name no address.
const BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
/// Largest packet, in bytes.
const MTU: &str = "com.docker.network.driver.mtu";

/// Options of the driver, understood.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// The name of the bridge.
    pub(super) bridge: Option<String>,
    /// Largest packet, in bytes.
    pub(super) mtu: Option<u32>,
    /// Whether containers of the network do not reach each other, published ports excepted.
    pub(crate) isolated: bool,
    /// Whether what leaves it keeps the addresses of its containers.
    pub(super) unmasqueraded: bool,
    /// Where ports are published that name no address, if not wherever the engine publishes them.
    pub(crate) binding: Option<Ipv4Addr>,
}

/// The options of the default network, as Docker shows them.
pub(super) fn of_default(bridge: &str, mtu: u32, defaults: &NetworkDefaults) -> BTreeMap<String, String> {
    let named = [("default_bridge", "true".to_owned()), ("name", bridge.to_owned())];
    let own = [
        (ICC, defaults.icc.to_string()),
        (MASQUERADE, defaults.masquerade.to_string()),
        (MTU, mtu.to_string()),
    ];
    let named = named.map(|(name, value)| (format!("{BRIDGE}{name}"), value));
    named.into_iter().chain(own.map(|(name, value)| (name.to_owned(), value))).collect()
}

/// Reads options; refuses what would change nothing here.
pub(super) fn read_options(options: &BTreeMap<String, String>) -> Result<Options> {
    let mut read = Options::default();
    for (key, value) in options {
        let switch = || {
            let refused = || invalid(format!("invalid value {value:?} of {key}: it is true or false"));
            coracle_spec::truth(value).ok_or_else(refused)
        };
        match key.as_str() {
            "com.docker.network.bridge.name" => {
                let name = InterfaceName::new(value).map_err(|error| invalid(error.to_string()))?;
                read.bridge = Some(name.to_string());
            }
            "com.docker.network.bridge.default_bridge" if value == "true" => {}
            MTU => {
                let parsed = value.parse().ok().filter(|mtu| MTUS.contains(mtu));
                let refused = || invalid(format!("invalid MTU {value}: it is 68 to 65535"));
                read.mtu = Some(parsed.ok_or_else(refused)?);
            }
            ICC => read.isolated = !switch()?,
            MASQUERADE => read.unmasqueraded = !switch()?,
            BINDING => {
                let refused = |_| invalid(format!("invalid value {value:?} of {key}: it is an IPv4 address"));
                let address: Ipv4Addr = value.parse().map_err(refused)?;
                read.binding = Some(address).filter(|address| !address.is_unspecified());
            }
            _ => {
                let text = format!(
                    "network option {key}={value} is not supported: the driver bridge does not know it here"
                );
                return Err(Error::Unsupported(text));
            }
        }
    }
    Ok(read)
}

fn check_subnet(wanted: &WantedPool) -> Result<Option<Subnet>> {
    if wanted.subnet.is_empty() {
        if !wanted.gateway.is_empty() {
            return Err(invalid("a gateway needs its subnet"));
        }
        return Ok(None);
    }
    let text = &wanted.subnet;
    let (network, length) = prefix(text).ok_or_else(|| no_prefix("subnet", text))?;
    let first = lowest(network, length);
    if first != network {
        return Err(invalid(format!("invalid subnet {text}: it should be {first}/{length}")));
    }
    let gateway = match wanted.gateway.as_str() {
        "" => first_host(network, length),
        text => text.parse().map_err(|_| invalid(format!("invalid gateway {text}: invalid address")))?,
    };
    if Family::of(gateway) != Family::of(network) || lowest(gateway, length) != first {
        return Err(invalid(format!(
            "invalid gateway {gateway}: parent subnet {text} doesn't contain this address"
        )));
    }
    Subnet::new(gateway, length).map(Some).map_err(|error| invalid(error.to_string()))
}

fn no_prefix(what: &str, text: &str) -> Error {
    invalid(format!("invalid {what} {text}: invalid CIDR block notation"))
}

/// A range of addresses within a subnet.
///
/// # Errors
/// [`Error::Invalid`] for one that is not.
pub fn check_range(text: &str, subnet: Subnet) -> Result<String> {
    let (address, length) = prefix(text).ok_or_else(|| no_prefix("ip-range", text))?;
    let first = lowest(address, length);
    if first != address {
        return Err(invalid(format!("invalid ip-range {text}: it should be {first}/{length}")));
    }
    if length < subnet.length() || !subnet.contains(address) {
        let (network, length) = (subnet.network(), subnet.length());
        return Err(invalid(format!(
            "invalid ip-range {text}: parent subnet {network}/{length} doesn't contain this range"
        )));
    }
    Ok(text.to_owned())
}

fn check_reserved(
    wanted: &BTreeMap<String, String>,
    subnet: Option<Subnet>,
) -> Result<BTreeMap<String, IpAddr>> {
    let check = |(name, text): (&String, &String)| {
        let address = text.parse().map_err(|_| invalid(format!("invalid auxiliary address {text}")))?;
        if !subnet.is_some_and(|subnet| subnet.is_host(address)) {
            return Err(invalid(format!("no matching subnet for the auxiliary address {name}={text}")));
        }
        Ok((name.clone(), address))
    };
    wanted.iter().map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(change: impl FnOnce(&mut Wanted)) -> Result<Checked> {
        let mut wanted = Wanted { name: "backend".to_owned(), ..Wanted::default() };
        change(&mut wanted);
        check(wanted)
    }

    #[test]
    fn subnets_have_a_gateway_and_a_range_or_the_reason_why_not() {
        let net = |subnet: &str, gateway: &str, range: &str| {
            wanted(|wanted| {
                wanted.ipv6 = subnet.contains(':');
                let [subnet, gateway, range] = [subnet, gateway, range].map(str::to_owned);
                wanted.pools = vec![WantedPool { subnet, gateway, range, ..WantedPool::default() }];
            })
        };
        let bridge = |checked: Checked| checked.pools.first().map(|pool| pool.subnet.to_string());
        assert_eq!(net("", "", "").map(bridge).unwrap(), None);
        assert_eq!(net("10.0.0.0/24", "", "").map(bridge).unwrap().as_deref(), Some("10.0.0.1/24"));
        assert_eq!(net("fd00::/64", "", "").map(bridge).unwrap().as_deref(), Some("fd00::1/64"));
        assert_eq!(net("fd00::/64", "fd00::9", "").map(bridge).unwrap().as_deref(), Some("fd00::9/64"));
        let checked = net("10.0.0.0/24", "10.0.0.9", "10.0.0.64/28").unwrap();
        let pool = &checked.pools[0];
        assert_eq!((pool.shows_gateway, pool.range.as_deref()), (true, Some("10.0.0.64/28")));
        assert_eq!(bridge(checked).as_deref(), Some("10.0.0.9/24"));
        for (subnet, gateway, range, reason) in [
            ("x", "", "", "invalid subnet x: invalid CIDR block notation"),
            ("172.28.5.1/16", "", "", "it should be 172.28.0.0/16"),
            ("10.77.0.0/24", "10.78.0.1", "", "doesn't contain this address"),
            ("10.77.0.0/24", "fd00::1", "", "doesn't contain this address"),
            ("10.0.0.0/24", "x", "", "invalid gateway x"),
            ("10.0.0.0/31", "", "", "between 8 and 30"),
            ("fd00::/127", "", "", "between 8 and 126"),
            ("fd00::1/64", "", "", "it should be fd00::/64"),
            ("fd00::/129", "", "", "invalid CIDR block notation"),
            ("10.0.0.0/24", "", "10.0.1.0/28", "doesn't contain this range"),
            ("10.0.0.0/24", "", "fd00::/64", "doesn't contain this range"),
            ("fd00::/64", "", "fd00:0:0:1::/80", "doesn't contain this range"),
            ("10.0.0.0/24", "", "10.0.0.0/16", "doesn't contain this range"),
            ("10.0.0.0/24", "", "10.0.0.3/28", "it should be 10.0.0.0/28"),
            ("", "10.0.0.1", "", "needs its subnet"),
            ("", "", "10.0.0.0/24", "needs its subnet"),
        ] {
            let refused = net(subnet, gateway, range).unwrap_err().to_string();
            assert!(refused.contains(reason), "{subnet} {gateway} {range}: {refused}");
        }
    }

    #[test]
    fn each_family_that_is_enabled_has_one_subnet() {
        let net = |without_ipv4: bool, ipv6: bool, subnets: &[&str]| {
            let checked = wanted(|wanted| {
                (wanted.without_ipv4, wanted.ipv6) = (without_ipv4, ipv6);
                let pool =
                    |subnet: &&str| WantedPool { subnet: (*subnet).to_owned(), ..WantedPool::default() };
                wanted.pools = subnets.iter().map(pool).collect();
            });
            checked.map(|checked| (checked.pools.len(), checked.families)).map_err(|error| error.to_string())
        };
        use Family::{V4, V6};
        assert_eq!(net(false, false, &[]), Ok((0, vec![V4])));
        assert_eq!(net(false, true, &[]), Ok((0, vec![V4, V6])));
        assert_eq!(net(false, true, &["fd00::/64"]), Ok((1, vec![V4])));
        assert_eq!(net(false, true, &["fd00::/64", "10.0.0.0/24"]), Ok((2, vec![])));
        assert_eq!(net(true, true, &[]), Ok((0, vec![V6])));
        for (without_ipv4, ipv6, subnets, reason) in [
            (true, false, &[][..], "IPv4 or IPv6 must be enabled"),
            (false, false, &["fd00::/64"], "IPv6 is not enabled"),
            (true, true, &["10.0.0.0/24"], "IPv4 is not enabled"),
            (false, false, &["10.0.0.0/24", "10.0.1.0/24"], "one IPv4 subnet"),
            (false, true, &["fd00::/64", "fd01::/64"], "one IPv6 subnet"),
        ] {
            let refused = net(without_ipv4, ipv6, subnets).unwrap_err();
            assert!(refused.contains(reason), "{subnets:?}: {refused}");
        }
    }

    #[test]
    fn addresses_of_others_are_in_the_subnet() {
        let reserve = |subnet: &str, address: &str| {
            wanted(|wanted| {
                let reserved = BTreeMap::from([("router".to_owned(), address.to_owned())]);
                let pool = WantedPool { subnet: subnet.to_owned(), reserved, ..WantedPool::default() };
                wanted.pools.push(pool);
            })
        };
        let checked = reserve("10.0.0.0/24", "10.0.0.7").unwrap();
        assert_eq!(checked.pools[0].reserved["router"], Ipv4Addr::new(10, 0, 0, 7));
        for (subnet, address) in
            [("10.0.0.0/24", "10.0.1.7"), ("10.0.0.0/24", "x"), ("10.0.0.0/24", "fd00::7"), ("", "10.0.0.7")]
        {
            assert!(reserve(subnet, address).is_err(), "{subnet} {address}");
        }
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        for (key, value) in [
            ("com.docker.network.bridge.enable_icc", "maybe"),
            ("com.docker.network.bridge.enable_ip_masquerade", ""),
            ("com.docker.network.bridge.host_binding_ipv4", "::1"),
            ("com.docker.network.container_iface_prefix", "net"),
            ("parent", "eth0"),
        ] {
            let refused = wanted(|wanted| drop(wanted.options.insert(key.to_owned(), value.to_owned())));
            assert!(refused.unwrap_err().to_string().contains(key), "{key}");
        }
        for driver in ["macvlan", "ipvlan", "overlay", "host", "null", "nope"] {
            let refused = wanted(|wanted| driver.clone_into(&mut wanted.driver));
            assert!(refused.unwrap_err().to_string().contains(driver), "{driver}");
        }
        for name in ["", "  ", "bridge", "host", "none", "default", "container:x"] {
            assert!(wanted(|wanted| name.clone_into(&mut wanted.name)).is_err(), "{name}");
        }
        assert!(wanted(|wanted| " with space".clone_into(&mut wanted.name)).is_ok());
    }

    #[test]
    fn what_passes_is_as_the_options_say() {
        let read = |pairs: &[(&str, &str)]| {
            let named = pairs.iter().map(|(name, value)| (format!("{BRIDGE}{name}"), (*value).to_owned()));
            read_options(&named.collect()).unwrap()
        };
        assert_eq!(read(&[("enable_icc", "true"), ("host_binding_ipv4", "0.0.0.0")]), Options::default());
        let all =
            [("enable_icc", "0"), ("enable_ip_masquerade", "false"), ("host_binding_ipv4", "127.0.0.1")];
        let Options { isolated, unmasqueraded, binding, .. } = read(&all);
        assert!(isolated && unmasqueraded && binding == Some(Ipv4Addr::LOCALHOST));
        let defaults = NetworkDefaults { icc: false, ..NetworkDefaults::default() };
        let of_default = read_options(&of_default("docker0", 1400, &defaults)).unwrap();
        assert!(of_default.isolated && !of_default.unmasqueraded && of_default.mtu == Some(1400));
    }

    #[test]
    fn the_bridge_and_its_packets_can_be_named() {
        let option = |key: &str, value: &str| {
            wanted(|wanted| drop(wanted.options.insert(key.to_owned(), value.to_owned())))
        };
        let checked = option("com.docker.network.bridge.name", "sea0").unwrap();
        assert_eq!(checked.bridge.as_deref(), Some("sea0"));
        assert!(option("com.docker.network.bridge.name", "much-too-long-a-name").is_err());
        assert_eq!(option("com.docker.network.driver.mtu", "1400").unwrap().mtu, Some(1400));
        assert!(option("com.docker.network.driver.mtu", "12").is_err());
    }
}
