//! A network's record.

use super::{Network, Pool};
use crate::error::{Attempt, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use time::OffsetDateTime;

/// The version of the documents written here.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    id: String,
    name: String,
    /// Nanoseconds since 1970.
    created: i128,
    bridge: String,
    /// The first one, which was the only one once.
    #[serde(flatten)]
    pool: PoolRecord,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    further: Vec<PoolRecord>,
    mtu: u32,
    internal: bool,
    attachable: bool,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct PoolRecord {
    /// The bridge's address and the length of the prefix.
    subnet: String,
    shows_gateway: bool,
    range: Option<String>,
    #[serde(default)]
    reserved: BTreeMap<String, IpAddr>,
}

fn pool_record(pool: &Pool) -> PoolRecord {
    PoolRecord {
        subnet: pool.subnet.to_string(),
        shows_gateway: pool.shows_gateway,
        range: pool.range.clone(),
        reserved: pool.reserved.clone(),
    }
}

fn pool_of(record: PoolRecord) -> Result<Pool> {
    Ok(Pool {
        subnet: record.subnet.parse().attempt(|| "read the record of a network".to_owned())?,
        shows_gateway: record.shows_gateway,
        range: record.range,
        reserved: record.reserved,
    })
}

/// The document of a network that a user made.
pub(super) fn write(network: &Network) -> String {
    let (first, further) = network.pools.split_first().expect("who makes a network gives it a subnet");
    let record = Record {
        version: VERSION,
        id: network.id.clone(),
        name: network.name.clone(),
        created: network.created.map_or(0, OffsetDateTime::unix_timestamp_nanos),
        bridge: network.bridge.clone(),
        pool: pool_record(first),
        further: further.iter().map(pool_record).collect(),
        mtu: network.mtu,
        internal: network.internal,
        attachable: network.attachable,
        options: network.options.clone(),
        labels: network.labels.clone(),
    };
    serde_json::to_string(&record).expect("plain data has a document")
}

/// The network of a document.
pub(super) fn read(text: &str) -> Result<Network> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let reading = || "read the record of a network".to_owned();
    let head: Head = serde_json::from_str(text).attempt(reading)?;
    if head.version > VERSION {
        return Err(Error::Unsupported(format!(
            "the record of a network has version {} and this engine knows {VERSION}: start the newer one",
            head.version
        )));
    }
    let record: Record = serde_json::from_str(text).attempt(reading)?;
    let created = OffsetDateTime::from_unix_timestamp_nanos(record.created);
    Ok(Network {
        id: record.id.parse::<coracle_spec::ContainerId>().attempt(reading)?.to_string(),
        name: record.name,
        created: Some(created.unwrap_or(OffsetDateTime::UNIX_EPOCH)),
        bridge: record.bridge,
        pools: std::iter::once(record.pool).chain(record.further).map(pool_of).collect::<Result<_>>()?,
        mtu: record.mtu,
        internal: record.internal,
        attachable: record.attachable,
        options: record.options,
        labels: record.labels,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_reads_back_as_it_was_written() {
        let v4 = Pool {
            subnet: "10.0.0.1/24".parse().unwrap(),
            shows_gateway: true,
            range: Some("10.0.0.64/26".to_owned()),
            reserved: BTreeMap::from([("router".to_owned(), "10.0.0.7".parse().unwrap())]),
        };
        let v6 = Pool::whole("fd00::1/64".parse().unwrap());
        let network = Network {
            id: "ab".repeat(32),
            name: "backend".to_owned(),
            created: Some(OffsetDateTime::UNIX_EPOCH),
            bridge: "cn-abababababab".to_owned(),
            pools: vec![v4.clone(), v6.clone()],
            mtu: 1400,
            internal: true,
            attachable: true,
            options: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            labels: BTreeMap::from([("c".to_owned(), "d".to_owned())]),
        };
        assert_eq!(read(&write(&network)).unwrap(), network);
        let of_v6 = Network { pools: vec![v6], ..network.clone() };
        assert_eq!(read(&write(&of_v6)).unwrap(), of_v6);
        assert!(
            read("{}").is_err() && read(&write(&network).replace("\"version\":1", "\"version\":9")).is_err()
        );
        // As releases wrote it whose networks had one subnet.
        let before = format!(
            r#"{{"version":1,"id":"{}","name":"backend","created":0,"bridge":"cn-abababababab","subnet":"10.0.0.1/24",
                "shows_gateway":true,"range":"10.0.0.64/26","reserved":{{"router":"10.0.0.7"}},"mtu":1400,"internal":true,
                "attachable":true,"options":{{"a":"b"}},"labels":{{"c":"d"}}}}"#,
            network.id
        );
        assert_eq!(read(&before).unwrap(), Network { pools: vec![v4], ..network });
    }
}
