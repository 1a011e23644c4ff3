//! What networks have that ask for nothing else.

use super::sources::Values;
use super::{Error, refused, switch};
use coracle_engine::config::NetworkDefaults;
use coracle_engine::network::{AddressPool, check_options};
use coracle_spec::full_text;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

const POOL: &str = "default-address-pool";
const OPTION: &str = "default-network-opt";

/// Reads `--default-address-pool` and `--default-network-opt`.
pub(super) fn defaults(all: &Values) -> Result<NetworkDefaults, Error> {
    let given = |name: &str| all.get(name).map(Vec::as_slice).unwrap_or_default();
    let pools = pools(given(POOL))?;
    let is_off = |name| Ok::<_, Error>(all.contains_key(name) && !switch(all, name)?);
    Ok(NetworkDefaults {
        pools: if pools.is_empty() { NetworkDefaults::default().pools } else { pools },
        options: options(given(OPTION))?,
        icc: !is_off("icc")?,
        masquerade: !is_off("ip-masq")?,
    })
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
    let range = base
        .split_once('/')
        .and_then(|(address, length)| Some((address.parse::<Ipv4Addr>().ok()?, length.parse::<u8>().ok()?)));
    let (address, length) =
        range.ok_or_else(|| refused(POOL, base, "it is no range of IPv4 addresses as 10.10.0.0/16"))?;
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
        let expected = [
            AddressPool::new(Ipv4Addr::new(10, 10, 0, 0), 16, 24).unwrap(),
            AddressPool::new(Ipv4Addr::new(10, 20, 0, 0), 16, 28).unwrap(),
        ];
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
            "base=fd00::/8,size=64",
            r#"{"base":"10.0.0.0/8"}"#,
        ] {
            assert!(pools(&words(&[text])).is_err(), "{text}");
        }
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
