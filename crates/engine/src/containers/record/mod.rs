//! A container's record: what is known of it after the engine was killed.

mod settings;

use super::Description;
use super::health::HealthRecord;
use super::memberships::{self, Membership};
use super::settings::FixedAddresses;
use super::state::{State, Status};
use crate::volumes;
use coracle_network::{Address, Endpoint, InterfaceName, Published};
use coracle_spec::{ContainerId, Digest, Name};
use serde::{Deserialize, Serialize};
use settings::Transport;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use time::OffsetDateTime;

/// The version of the documents written here.
const VERSION: u32 = 1;

/// Why a record is not understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It is no such document.
    #[error("the record is damaged")]
    Damaged(#[from] serde_json::Error),
    /// A name or id in it is none.
    #[error("the record names something impossible")]
    Name(#[from] coracle_spec::Error),
    /// An interface or address in it is none.
    #[error("the record has an impossible endpoint")]
    Endpoint,
    /// A later release wrote it.
    #[error("the record has version {0}, this engine knows {VERSION}")]
    Version(u32),
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    id: String,
    name: String,
    created: i128,
    image: String,
    layers: Vec<String>,
    settings: settings::Settings,
    #[serde(default)]
    mounts: Vec<MountPoint>,
    state: RunState,
    /// Written by engines with one network, which had no `networks`.
    #[serde(default, skip_serializing)]
    endpoint: Option<EndpointRecord>,
    networks: Option<Vec<MembershipRecord>>,
}

#[derive(Serialize, Deserialize)]
struct MembershipRecord {
    network: String,
    name: String,
    aliases: Vec<String>,
    #[serde(default)]
    links: Vec<settings::Link>,
    address: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address_v6: Option<Ipv6Addr>,
    mac_address: String,
    endpoint: Option<EndpointRecord>,
    is_way_out: bool,
}

#[derive(Serialize, Deserialize)]
struct MountPoint {
    kind: String,
    name: String,
    source: String,
    destination: String,
    mode: String,
    writable: bool,
    propagation: String,
    driver: String,
    anonymous: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    subpath: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image: Option<MountedImage>,
    #[serde(default)]
    below: Below,
    #[serde(default)]
    backing: Backing,
}

#[derive(Serialize, Deserialize)]
struct MountedImage {
    id: String,
    layers: Vec<String>,
}

/// As [`crate::volumes::Backing`].
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Backing {
    #[default]
    Directory,
    FileSystem,
    Shared,
}

/// As [`super::Below`].
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Below {
    #[default]
    Alike,
    Writable,
    Absent,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct RunState {
    status: String,
    exit_code: i32,
    error: String,
    oom_killed: bool,
    started_at: Option<i128>,
    finished_at: Option<i128>,
    restart_count: u32,
    stopped_by_hand: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthRecord>,
}

#[derive(Serialize, Deserialize)]
struct EndpointRecord {
    interface: String,
    /// The first address, which was the only one once.
    #[serde(flatten)]
    address: AddressRecord,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    further: Vec<AddressRecord>,
    mac: String,
    host_interface: String,
    ports: Vec<Port>,
}

#[derive(Serialize, Deserialize)]
struct AddressRecord {
    ip: IpAddr,
    prefix_length: u8,
    gateway: IpAddr,
}

#[derive(Serialize, Deserialize)]
struct Port {
    protocol: Transport,
    container_port: u16,
    host_ip: IpAddr,
    host_port: u16,
}

/// The document of a container.
pub(crate) fn write(description: &Description) -> String {
    let record = Record {
        version: VERSION,
        id: description.id.to_string(),
        name: description.name.to_string(),
        created: description.created.unix_timestamp_nanos(),
        image: description.image.to_string(),
        layers: description.layers.iter().map(ToString::to_string).collect(),
        settings: description.settings.as_ref().clone().into(),
        mounts: description.mounts.iter().map(mount_record).collect(),
        state: state_record(&description.state),
        endpoint: None,
        networks: Some(description.networks.iter().map(membership_record).collect()),
    };
    serde_json::to_string(&record).expect("plain data has a document")
}

/// The container of a document. A container that ran is described as running; whether it still does is found out.
pub(crate) fn read(text: &str) -> Result<Description, Error> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let head: Head = serde_json::from_str(text)?;
    if head.version > VERSION {
        return Err(Error::Version(head.version));
    }
    let record: Record = serde_json::from_str(text)?;
    let id: ContainerId = record.id.parse()?;
    let settings: super::settings::Settings = record.settings.into();
    let networks = match record.networks {
        Some(networks) => {
            networks.into_iter().map(|network| membership_of(&id, network)).collect::<Result<_, _>>()?
        }
        None => {
            let endpoint = record.endpoint.map(|endpoint| endpoint_of(&id, endpoint)).transpose()?;
            memberships::of_old(&settings, endpoint)
        }
    };
    Ok(Description {
        name: record.name.parse::<Name>()?,
        created: moment(record.created),
        image: record.image.parse::<Digest>()?,
        layers: record.layers.iter().map(|layer| layer.parse()).collect::<Result<_, _>>()?,
        settings: std::sync::Arc::new(settings),
        mounts: record.mounts.into_iter().map(mount_of).collect::<Result<_, _>>()?,
        state: state_of(record.state),
        networks,
        id,
    })
}

fn moment(nanoseconds: i128) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn mount_record(mount: &super::MountPoint) -> MountPoint {
    let mount = mount.clone();
    let image = mount.image.map(|image| MountedImage {
        id: image.id.to_string(),
        layers: image.layers.iter().map(ToString::to_string).collect(),
    });
    MountPoint {
        kind: mount.kind,
        name: mount.name,
        source: mount.source,
        destination: mount.destination,
        mode: mount.mode,
        writable: mount.writable,
        propagation: mount.propagation,
        driver: mount.driver,
        anonymous: mount.anonymous,
        subpath: mount.subpath,
        image,
        below: match mount.below {
            super::Below::Alike => Below::Alike,
            super::Below::Writable => Below::Writable,
            super::Below::Absent => Below::Absent,
        },
        backing: match mount.backing {
            volumes::Backing::Directory => Backing::Directory,
            volumes::Backing::FileSystem => Backing::FileSystem,
            volumes::Backing::Shared => Backing::Shared,
        },
    }
}

fn mount_of(mount: MountPoint) -> Result<super::MountPoint, Error> {
    let image = mount.image.map(|image| {
        let layers = image.layers.iter().map(|layer| layer.parse()).collect::<Result<_, _>>()?;
        Ok::<_, Error>(super::MountedImage { id: image.id.parse()?, layers })
    });
    // Earlier engines had it in the mode.
    let was_absent = mount.mode == "nonrecursive";
    Ok(super::MountPoint {
        kind: mount.kind,
        is_engines: false,
        name: mount.name,
        source: mount.source,
        destination: mount.destination,
        mode: if was_absent { String::new() } else { mount.mode },
        writable: mount.writable,
        propagation: mount.propagation,
        driver: mount.driver,
        anonymous: mount.anonymous,
        subpath: mount.subpath,
        image: image.transpose()?,
        below: match mount.below {
            Below::Absent => super::Below::Absent,
            Below::Alike if was_absent => super::Below::Absent,
            Below::Alike => super::Below::Alike,
            Below::Writable => super::Below::Writable,
        },
        backing: match mount.backing {
            Backing::Directory => volumes::Backing::Directory,
            Backing::FileSystem => volumes::Backing::FileSystem,
            Backing::Shared => volumes::Backing::Shared,
        },
    })
}

fn state_record(state: &State) -> RunState {
    RunState {
        status: state.status.to_string(),
        exit_code: state.exit_code,
        error: state.error.clone(),
        oom_killed: state.oom_killed,
        started_at: state.started_at.map(OffsetDateTime::unix_timestamp_nanos),
        finished_at: state.finished_at.map(OffsetDateTime::unix_timestamp_nanos),
        restart_count: state.restart_count,
        stopped_by_hand: state.stopped_by_hand,
        health: state.health.as_deref().map(Into::into),
    }
}

fn state_of(record: RunState) -> State {
    let known =
        [Status::Created, Status::Running, Status::Paused, Status::Restarting, Status::Exited, Status::Dead];
    State {
        status: known.into_iter().find(|s| s.to_string() == record.status).unwrap_or(Status::Exited),
        pid: 0,
        exit_code: record.exit_code,
        error: record.error,
        oom_killed: record.oom_killed,
        started_at: record.started_at.map(moment),
        finished_at: record.finished_at.map(moment),
        restart_count: record.restart_count,
        stopped_by_hand: record.stopped_by_hand,
        health: record.health.map(|health| std::sync::Arc::new(health.into())),
    }
}

fn membership_record(membership: &Membership) -> MembershipRecord {
    MembershipRecord {
        network: membership.network.clone(),
        name: membership.name.clone(),
        aliases: membership.aliases.clone(),
        links: membership.links.iter().cloned().map(Into::into).collect(),
        address: membership.addresses.v4,
        address_v6: membership.addresses.v6,
        mac_address: membership.mac_address.clone(),
        endpoint: membership.endpoint.as_ref().map(endpoint_record),
        is_way_out: membership.is_way_out,
    }
}

fn membership_of(id: &ContainerId, record: MembershipRecord) -> Result<Membership, Error> {
    Ok(Membership {
        network: record.network,
        name: record.name,
        aliases: record.aliases,
        links: record.links.into_iter().map(Into::into).collect(),
        addresses: FixedAddresses { v4: record.address, v6: record.address_v6 },
        mac_address: record.mac_address,
        endpoint: record.endpoint.map(|endpoint| endpoint_of(id, endpoint)).transpose()?,
        is_way_out: record.is_way_out,
    })
}

fn endpoint_record(endpoint: &Endpoint) -> EndpointRecord {
    let port = |published: &Published| Port {
        protocol: published.protocol.into(),
        container_port: published.container_port,
        host_ip: published.host_ip,
        host_port: published.host_port,
    };
    let address = |address: &Address| AddressRecord {
        ip: address.ip,
        prefix_length: address.prefix_length,
        gateway: address.gateway,
    };
    let (first, further) = endpoint.addresses.split_first().expect("an endpoint has an address");
    EndpointRecord {
        interface: endpoint.interface.to_string(),
        address: address(first),
        further: further.iter().map(address).collect(),
        mac: endpoint.mac.to_string(),
        host_interface: endpoint.host_interface.to_string(),
        ports: endpoint.ports.iter().map(port).collect(),
    }
}

fn endpoint_of(id: &ContainerId, record: EndpointRecord) -> Result<Endpoint, Error> {
    let interface = |name: &str| InterfaceName::new(name).map_err(|_| Error::Endpoint);
    let port = |port: Port| Published {
        protocol: port.protocol.into(),
        container_port: port.container_port,
        host_ip: port.host_ip,
        host_port: port.host_port,
    };
    let address = |record: AddressRecord| Address {
        ip: record.ip,
        prefix_length: record.prefix_length,
        gateway: record.gateway,
    };
    Ok(Endpoint {
        container_id: id.to_string(),
        interface: interface(&record.interface)?,
        addresses: std::iter::once(record.address).chain(record.further).map(address).collect(),
        mac: super::network::parse_mac(&record.mac).ok_or(Error::Endpoint)?,
        host_interface: interface(&record.host_interface)?,
        ports: record.ports.into_iter().map(port).collect(),
    })
}
