//! What networks have that ask for nothing else.

use super::sources::Values;
use super::{Error, refused, switch};
use coracle_engine::config::{DefaultAddressing, NetworkDefaults};
use coracle_engine::network::{AddressPool, Family, Subnet, check_options, check_range, first_host, prefix};
use coracle_spec::full_text;
use serde::Deserialize;
use std::collections::BTreeMap;

const POOL: &str = "default-address-pool";
const OPTION: &str = "default-network-opt";

/// Reads `--default-address-pool` and `--default-network-opt`.
pub(super) fn defaults(all: &Values) -> Result<NetworkDefaults, Error> {
    let given = |name: &str| all.get(name).map(Vec::as_slice).unwrap_or_default();
    let is_off = |name| Ok::<_, Error>(all.contains_key(name) && !switch(all, name)?);
    Ok(NetworkDefaults {
        pools: pools(given(POOL))?,
        options: options(given(OPTION))?,
        icc: !is_off("icc")?,
        masquerade: !is_off("ip-masq")?,
    })
}

/// Reads `--bip` and `--fixed-cidr`.
pub(super) fn default_v4(all: &Values) -> Result<DefaultAddressing, Error> {
    addressing(all, Family::V4, "bip", "fixed-cidr")
}

/// Reads `--bip6` and `--fixed-cidr-v6`, which say something of `--ipv6` alone.
pub(super) fn default_v6(all: &Values) -> Result<Option<DefaultAddressing>, Error> {
    const OPTIONS: [&str; 2] = ["bip6", "fixed-cidr-v6"];
    if switch(all, "ipv6")? {
        return addressing(all, Family::V6, OPTIONS[0], OPTIONS[1]).map(Some);
    }
    match OPTIONS
        .into_iter()
        .find_map(|name| Some((name, all.get(name)?.last().filter(|text| !text.is_empty())?)))
    {
        Some((name, text)) => {
            Err(refused(name, text, "the default bridge has IPv6 addresses only with --ipv6"))
        }
        None => Ok(None),
    }
}

/// The bridge's address, and what is given out of its network; the latter alone is the network.
fn addressing(
    all: &Values,
    family: Family,
    address: &'static str,
    range: &'static str,
) -> Result<DefaultAddressing, Error> {
    let last = |name| all.get(name).and_then(|values| values.last()).filter(|text| !text.is_empty());
    let read = |name, text: &str| {
        let found = prefix(text).filter(|(address, _)| Family::of(*address) == family);
        found.ok_or_else(|| refused(name, text, &format!("it is no {family} address with a prefix length")))
    };
    let given = last(address).map(|text| {
        let (ip, length) = read(address, text)?;
        Subnet::new(ip, length).map_err(|error| refused(address, text, &error.to_string()))
    });
    let given = given.transpose()?;
    let Some(text) = last(range) else { return Ok(DefaultAddressing { subnet: given, range: None }) };
    let invalid = |reason: &str| refused(range, text, reason);
    let subnet = match given {
        Some(subnet) => subnet,
        None => {
            let (ip, length) = read(range, text)?;
            Subnet::new(first_host(ip, length), length).map_err(|error| invalid(&error.to_string()))?
        }
    };
    let checked = check_range(text, subnet).map_err(|error| invalid(&full_text(&error)))?;
    Ok(DefaultAddressing { subnet: Some(subnet), range: Some(checked) })
}

/// `{"base": "10.10.0.0/16", "size": 24}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pool {
    base: String,
    size: u8,
}

/// `base=10.10.0.0/16,size=24`, of which commas may have made two, or an object of the file.
fn pools(texts: &[String]) -> Result<Vec<AddressPool>, Error> {
    let invalid = |text: &str, reason: &str| refused(POOL, text, reason);
    let mut pools = Vec::new();
    let mut base: Option<&str> = None;
    for text in texts {
        if text.starts_with('{') {
            let Pool { base, size } =
                serde_json::from_str(text).map_err(|error| invalid(text, &error.to_string()))?;
            pools.push(pool(&base, size)?);
            continue;
        }
        for word in text.split(',') {
            match (word.split_once('='), base) {
                (Some(("base", value)), None) => base = Some(value),
                (Some(("size", value)), Some(range)) => {
                    let size = value.parse().map_err(|_| invalid(word, "the size is no number of bits"))?;
                    pools.push(pool(range, size)?);
                    base = None;
                }
                _ => return Err(invalid(text, "it is not base=ADDRESS/LENGTH,size=LENGTH")),
            }
        }
    }
    match base {
        Some(range) => Err(invalid(range, "its size is missing")),
        None => Ok(pools),
    }
}

fn pool(base: &str, size: u8) -> Result<AddressPool, Error> {
    let (address, length) =
        prefix(base).ok_or_else(|| refused(POOL, base, "it is no range of addresses as 10.10.0.0/16"))?;
    AddressPool::new(address, length, size).map_err(|error| refused(POOL, base, &full_text(&error)))
}

/// `bridge=OPTION=VALUE`, or `bridge={"OPTION": "VALUE"}`.
fn options(texts: &[String]) -> Result<BTreeMap<String, String>, Error> {
    let mut options = BTreeMap::new();
    for text in texts {
        let invalid = |reason: &str| refused(OPTION, text, reason);
        let (driver, option) =
            text.split_once('=').ok_or_else(|| invalid("it is not DRIVER=OPTION=VALUE"))?;
        if driver != "bridge" {
            return Err(invalid("this engine makes networks with the driver bridge only"));
        }
        if option.starts_with('{') {
            let several: BTreeMap<String, String> =
                serde_json::from_str(option).map_err(|error| invalid(&error.to_string()))?;
            options.extend(several);
            continue;
        }
        let (name, value) = option.split_once('=').ok_or_else(|| invalid("it is not DRIVER=OPTION=VALUE"))?;
        options.insert(name.to_owned(), value.to_owned());
    }
    check_options(&options).map_err(|error| refused(OPTION, &texts.join(","), &full_text(&error)))?;
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn pools_are_read_from_every_source() {
        let pool = |base: &str, length, size| AddressPool::new(base.parse().unwrap(), length, size).unwrap();
        let expected = [pool("10.10.0.0", 16, 24), pool("10.20.0.0", 16, 28)];
        for texts in [
            &["base=10.10.0.0/16,size=24", "base=10.20.0.0/16,size=28"][..],
            &["base=10.10.0.0/16", "size=24", "base=10.20.0.0/16", "size=28"],
            &[r#"{"base":"10.10.0.0/16","size":24}"#, r#"{"base":"10.20.0.0/16","size":28}"#],
        ] {
            assert_eq!(pools(&words(texts)).unwrap(), expected, "{texts:?}");
        }
        for text in [
            "10.0.0.0/8",
            "base=10.0.0.0/8",
            "size=24",
            "base=10.0.0.0/24,size=16",
            "base=10.0.0.0/8,size=31",
            "base=fd00::/8,size=127",
            r#"{"base":"10.0.0.0/8"}"#,
        ] {
            assert!(pools(&words(&[text])).is_err(), "{text}");
        }
    }

    #[test]
    fn pools_may_be_of_ipv6() {
        let expected = AddressPool::new("fd00:1::".parse().unwrap(), 32, 64).unwrap();
        assert_eq!(pools(&words(&["base=fd00:1::/32,size=64"])).unwrap(), [expected]);
    }

    #[test]
    fn the_default_bridge_has_the_network_that_it_is_given_and_gives_out_a_part_of_it() {
        let values = |given: &[(&'static str, &str)]| -> Values {
            given.iter().map(|(name, value)| (*name, vec![(*value).to_owned()])).collect()
        };
        let v6 = |given: &[(&'static str, &str)]| {
            let read = default_v6(&values(&[&[("ipv6", "true")], given].concat()));
            read.map(|read| {
                let DefaultAddressing { subnet, range } = read.expect("it is on");
                (subnet.map(|subnet| subnet.to_string()), range)
            })
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(v6(&[]).unwrap(), (None, None));
        assert_eq!(v6(&[("bip6", "fd00::9/64")]).unwrap(), (text("fd00::9/64"), None));
        let fixed = ("fixed-cidr-v6", "fd00::/80");
        assert_eq!(v6(&[fixed]).unwrap(), (text("fd00::1/80"), text("fd00::/80")));
        let both = v6(&[("bip6", "fd00::9/64"), fixed]).unwrap();
        assert_eq!(both, (text("fd00::9/64"), text("fd00::/80")));
        assert!(v6(&[("bip6", "fd01::9/64"), fixed]).is_err());
        assert!(v6(&[("bip6", "10.0.0.1/24")]).is_err());
        let v4 = default_v4(&values(&[("fixed-cidr", "10.9.0.0/24")])).unwrap();
        assert_eq!(v4.subnet.map(|subnet| subnet.to_string()), text("10.9.0.1/24"));
        assert_eq!(default_v6(&values(&[])).unwrap(), None);
        assert!(default_v6(&values(&[fixed])).is_err());
    }

    #[test]
    fn options_are_those_of_bridges_alone() {
        let expected = BTreeMap::from([("com.docker.network.driver.mtu".to_owned(), "1400".to_owned())]);
        for text in [
            "bridge=com.docker.network.driver.mtu=1400",
            r#"bridge={"com.docker.network.driver.mtu":"1400"}"#,
        ] {
            assert_eq!(options(&words(&[text])).unwrap(), expected, "{text}");
        }
        for text in ["overlay=a=b", "bridge", "bridge=nope=1", "bridge=com.docker.network.driver.mtu=1"] {
            assert!(options(&words(&[text])).is_err(), "{text}");
        }
    }
}
