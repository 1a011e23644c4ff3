//! The networks of an engine: the default one, and those that users make.
//!
//! ```text
//! check    what was asked for → what it comes to, pure          record   a network on disk
//! bridge   one network in the kernel, and the names on it       here     which there are: made, found, removed
//! ```
//!
//! A network's id never changes and is all that containers remember. Its bridge is made when the network is, taken over or
//! made again when the engine starts, and gone before its record is: a removal that was interrupted leaves a network that
//! is whole.

mod bridge;
mod check;
mod record;

use crate::config::Config;
use crate::error::{Attempt, Error, Result, blocking};
use crate::events::Bus;
use crate::index::Index;
use coracle_network::{Addressing, InterfaceName, Passage};
use coracle_spec::{ContainerId, Digest};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use time::OffsetDateTime;

pub(crate) use bridge::Bridge;
pub use check::{Wanted, WantedPool, check_options, check_range};
pub use coracle_network::{
    AddressPool, Endpoint, Family, HostPort, Protocol, PublishRequest, Published, Subnet, first_host, prefix,
};

/// The name of the default network.
pub const BRIDGE: &str = "bridge";
/// The networks that every engine has.
pub const PREDEFINED: [&str; 3] = [BRIDGE, "host", "none"];

/// The id of a predefined network: the same in every engine, as there is one of each name.
pub fn predefined_id(name: &str) -> String {
    Digest::of(format!("network {name}").as_bytes()).hex()
}

/// What a network is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made; the default network has always been there.
    pub created: Option<OffsetDateTime>,
    /// Its bridge on the host.
    pub bridge: String,
    /// Where containers get their addresses: one of a family, IPv4 first; none where the configuration wants no default network.
    pub pools: Vec<Pool>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Whether nothing gets out of it nor into it.
    pub internal: bool,
    /// Whether services of a swarm may be attached by hand: shown again, as there is no swarm.
    pub attachable: bool,
    /// Options of the driver, as they were given.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Where the containers of a network get their addresses of a family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The bridge's address and the network.
    pub subnet: Subnet,
    /// Whether the client named the bridge's address, or left the whole subnet to the engine; others are not shown one.
    pub shows_gateway: bool,
    /// What of it is given out, `ADDRESS/LENGTH`; all if absent.
    pub range: Option<String>,
    /// Addresses of others in the subnet, by the client's name for them.
    pub reserved: BTreeMap<String, IpAddr>,
}

impl Pool {
    /// A subnet that the engine has chosen.
    fn whole(subnet: Subnet) -> Self {
        Self { subnet, shows_gateway: true, range: None, reserved: BTreeMap::new() }
    }
}

impl Network {
    /// Its subnets, that of IPv4 first.
    pub fn subnets(&self) -> impl Iterator<Item = Subnet> + '_ {
        self.pools.iter().map(|pool| pool.subnet)
    }

    /// Whether its containers have addresses of a family.
    pub fn has(&self, family: Family) -> bool {
        self.subnets().any(|subnet| subnet.family() == family)
    }

    /// Whether it was always there.
    pub fn is_predefined(&self) -> bool {
        self.created.is_none()
    }
}

/// A network and what there is of it in the kernel.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) network: Network,
    /// The network's options, understood.
    pub(crate) options: check::Options,
    pub(crate) bridge: Bridge,
}

/// All networks that have a bridge.
pub(crate) struct Networks {
    default: Arc<Live>,
    /// Those that users made, by id.
    own: RwLock<BTreeMap<String, Arc<Live>>>,
    /// Held while one is made or removed: their names and subnets must not meet.
    changing: tokio::sync::Mutex<()>,
    config: Config,
    index: Arc<Index>,
    events: Arc<Bus>,
}

impl Networks {
    /// Makes the default bridge, or takes over the one that is there; the same for all that users made.
    pub(crate) async fn open(config: &Config, index: Arc<Index>, events: Arc<Bus>) -> Result<Self> {
        let default = Arc::new(open_default(config).await?);
        let mut own = BTreeMap::new();
        for text in index.networks().await? {
            // One whose options are not understood would let through what it should not.
            match record::read(&text).and_then(|network| live(config, network)) {
                Ok(live) => {
                    let live = Arc::new(live);
                    if let Err(error) = live.bridge.ready().await {
                        // Tried again whenever somebody needs it.
                        let name = &live.network.name;
                        tracing::error!(
                            network = name,
                            error = error.chain(),
                            "a network could not be set up"
                        );
                    }
                    own.insert(live.network.id.clone(), live);
                }
                Err(error) => {
                    tracing::error!(
                        error = error.chain(),
                        record = text,
                        "a network cannot be read and is left out"
                    );
                }
            }
        }
        let (own, changing) = (RwLock::new(own), tokio::sync::Mutex::default());
        Ok(Self { default, own, changing, config: config.clone(), index, events })
    }

    /// The default network.
    pub(crate) fn default(&self) -> &Arc<Live> {
        &self.default
    }

    /// All, the default one first, the others by age.
    pub(crate) fn all(&self) -> Vec<Arc<Live>> {
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = own.values().cloned().collect();
        all.sort_by_key(|live| live.network.created);
        all.insert(0, Arc::clone(&self.default));
        all
    }

    /// Finds a network by its whole id, its name, or an unambiguous beginning of its id.
    pub(crate) fn find(&self, wanted: &str) -> Result<Arc<Live>> {
        if self.default.network.id == wanted {
            return Ok(Arc::clone(&self.default));
        }
        if let Some(live) = self.own.read().unwrap_or_else(PoisonError::into_inner).get(wanted) {
            return Ok(Arc::clone(live));
        }
        let all = self.all();
        let exactly = |live: &&Arc<Live>| live.network.name == wanted;
        if let Some(live) = all.iter().find(exactly) {
            return Ok(Arc::clone(live));
        }
        let missing = || Error::NotFound { kind: "network", name: wanted.to_owned() };
        if wanted.is_empty() {
            return Err(missing());
        }
        let mut matching = all.iter().filter(|live| live.network.id.starts_with(wanted));
        match (matching.next(), matching.next()) {
            (Some(live), None) => Ok(Arc::clone(live)),
            (None, _) => Err(missing()),
            (Some(_), Some(_)) => {
                Err(Error::Invalid(format!("network {wanted} is ambiguous: several ids begin so")))
            }
        }
    }

    /// Makes a network.
    ///
    /// # Errors
    /// [`Error::Conflict`] for a taken name, [`Error::Forbidden`] for a subnet that another network has,
    /// [`Error::Invalid`] and [`Error::Unsupported`] for what cannot be. Nothing is left of it then.
    pub(crate) async fn create(&self, mut wanted: Wanted) -> Result<Network> {
        for (option, value) in &self.config.networks.options {
            wanted.options.entry(option.clone()).or_insert_with(|| value.clone());
        }
        let checked = check::check(wanted)?;
        let _changing = self.changing.lock().await;
        let all = self.all();
        if all.iter().any(|live| live.network.name == checked.name) {
            return Err(Error::Conflict(format!("network with name {} already exists", checked.name)));
        }
        let taken: Vec<Subnet> = all.iter().flat_map(|live| live.network.subnets()).collect();
        checked.pools.iter().try_for_each(|pool| refuse_taken_subnet(pool.subnet, &taken))?;
        // The claim is held until the bridge has its addresses.
        let (found, _claim) = find_subnets(&self.config, checked.families, taken).await?;
        let mut pools = checked.pools;
        pools.extend(found.into_iter().map(Pool::whole));
        pools.sort_by_key(|pool| pool.subnet.family());
        let id = ContainerId::random().to_string();
        let bridge = match checked.bridge {
            Some(bridge) => {
                refuse_taken_bridge(&bridge)?;
                bridge
            }
            None => format!("cn-{}", &id[..12]),
        };
        let network = Network {
            id,
            name: checked.name,
            created: Some(OffsetDateTime::now_utc()),
            bridge,
            pools,
            mtu: checked.mtu.unwrap_or(self.config.mtu),
            internal: checked.internal,
            attachable: checked.attachable,
            options: checked.options,
            labels: checked.labels,
        };
        self.add(live(&self.config, network.clone())?).await?;
        self.tell(&network, "create", None);
        Ok(network)
    }

    /// Sets a network up that was not there before.
    async fn add(&self, live: Live) -> Result<()> {
        let network = &live.network;
        // The record first: whatever there is in the kernel is somebody's.
        self.index.put_network(&network.id, &network.name, record::write(network)).await?;
        if let Err(error) = live.bridge.ready().await {
            if let Err(left) = live.bridge.remove().await {
                tracing::warn!(network = network.name, error = left.chain(), "a part of its bridge is left");
            }
            self.index.remove_network(&network.id).await?;
            return Err(error);
        }
        let id = network.id.clone();
        self.own.write().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::new(live));
        Ok(())
    }

    /// Removes a network to which no running container is connected.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for one that is used or was always there, [`Error::NotFound`].
    pub(crate) async fn remove(&self, wanted: &str) -> Result<Network> {
        let _changing = self.changing.lock().await;
        let predefined = |name: &&&str| **name == wanted || predefined_id(name) == wanted;
        if let Some(name) = PREDEFINED.iter().find(predefined) {
            return Err(Error::Forbidden(format!("{name} is a pre-defined network and cannot be removed")));
        }
        let live = self.find(wanted)?;
        if live.network.is_predefined() {
            let name = &live.network.name;
            return Err(Error::Forbidden(format!("{name} is a pre-defined network and cannot be removed")));
        }
        if !live.bridge.remove().await? {
            let (name, id) = (&live.network.name, &live.network.id);
            return Err(Error::Forbidden(format!(
                "error while removing network: network {name} id {id} has active endpoints"
            )));
        }
        self.index.remove_network(&live.network.id).await?;
        self.own.write().unwrap_or_else(PoisonError::into_inner).remove(&live.network.id);
        self.tell(&live.network, "destroy", None);
        Ok(live.network.clone())
    }

    /// Removes what containers left that nobody has adopted, and repairs what others have damaged.
    pub(crate) async fn sweep(&self) {
        for live in self.all() {
            if let Err(error) = live.bridge.sweep().await {
                let name = &live.network.name;
                tracing::error!(network = name, error = error.chain(), "what containers left there stays");
            }
        }
    }

    /// Repairs rules and bridges where somebody flushed or removed them.
    pub(crate) async fn heal(&self) {
        for live in self.all() {
            if let Err(error) = live.bridge.heal().await {
                let name = &live.network.name;
                tracing::error!(network = name, error = error.chain(), "the network could not be repaired");
            }
        }
    }

    /// Where the names of a network are.
    pub(crate) fn names(&self, id: &str) -> PathBuf {
        names(&self.config, if id == self.default.network.id { BRIDGE } else { id })
    }

    /// Tells of something that happens to a container that has the host's network, or none.
    pub(crate) fn tell_of_predefined(&self, name: &str, action: &str, container: &ContainerId) {
        // As Docker calls the driver of no network.
        let driver = if name == "none" { "null" } else { name };
        let attributes = [("name", name), ("type", driver), ("container", container.as_str())];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.events.tell("network", action, &predefined_id(name), attributes.into());
    }

    /// Tells of something that happened to a network, or to a container on it.
    pub(crate) fn tell(&self, network: &Network, action: &str, container: Option<&ContainerId>) {
        let mut attributes = BTreeMap::from([
            ("name".to_owned(), network.name.clone()),
            ("type".to_owned(), BRIDGE.to_owned()),
        ]);
        attributes.extend(container.map(|id| ("container".to_owned(), id.to_string())));
        self.events.tell("network", action, &network.id, attributes);
    }
}

fn names(config: &Config, directory: &str) -> PathBuf {
    config.exec_root.join("networks").join(directory)
}

fn refuse_taken_subnet(subnet: Subnet, taken: &[Subnet]) -> Result<()> {
    if taken.iter().any(|other| other.meets(&subnet)) {
        return Err(Error::Forbidden("Pool overlaps with other one on this address space".to_owned()));
    }
    Ok(())
}

/// A subnet of each of `families` that neither the machine nor a network in `taken` has, and the claim to them.
async fn find_subnets(
    config: &Config,
    families: Vec<Family>,
    taken: Vec<Subnet>,
) -> Result<(Vec<Subnet>, Option<OwnedFd>)> {
    if families.is_empty() {
        return Ok((Vec::new(), None));
    }
    let pools = config.pools();
    let all: Vec<_> = families.iter().map(ToString::to_string).collect();
    let find = move || {
        let claim = coracle_network::claim_subnets()?;
        let free = |family: &Family| coracle_network::free_subnet(&pools, &taken, *family);
        let found = families.iter().map(free).collect::<coracle_network::Result<Vec<_>>>()?;
        Ok::<_, coracle_network::Error>((found, Some(claim)))
    };
    blocking(find).await?.attempt(|| {
        format!(
            "could not find an available, non-overlapping {} address pool among the defaults to assign to the network",
            all.join(" or ")
        )
    })
}

/// A bridge of that name belongs to somebody, whose addresses would be replaced.
fn refuse_taken_bridge(bridge: &str) -> Result<()> {
    if Path::new("/sys/class/net").join(bridge).exists() {
        return Err(Error::Conflict(format!(
            "interface {bridge} exists: name another with com.docker.network.bridge.name, or remove it"
        )));
    }
    Ok(())
}

async fn open_default(config: &Config) -> Result<Live> {
    let bridge = config.bridge_name();
    let pools = match bridge.as_str() {
        "none" => Vec::new(),
        name => default_pools(config, name).await?,
    };
    let network = Network {
        id: predefined_id(BRIDGE),
        name: BRIDGE.to_owned(),
        created: None,
        options: check::of_default(&bridge, config.mtu, &config.networks),
        bridge,
        pools,
        mtu: config.mtu,
        internal: false,
        attachable: false,
        labels: BTreeMap::new(),
    };
    let live = live(config, network)?;
    if live.bridge.exists() {
        live.bridge.ready().await?;
    }
    Ok(live)
}

/// Where the containers of the default network get their addresses.
async fn default_pools(config: &Config, bridge: &str) -> Result<Vec<Pool>> {
    let subject = || format!("set up the network {bridge}");
    let interface = InterfaceName::new(bridge).attempt(subject)?;
    let mut pools = Vec::new();
    for (family, setting) in
        [(Family::V4, Some(&config.default_v4)), (Family::V6, config.default_v6.as_ref())]
    {
        let Some(setting) = setting else { continue };
        let subnet = match setting.subnet {
            Some(subnet) => subnet,
            None => {
                let (interface, all) = (interface.clone(), config.pools());
                let find = move || coracle_network::default_subnet(&interface, &all, family);
                blocking(find).await?.attempt(subject)?
            }
        };
        pools.push(Pool { range: setting.range.clone(), ..Pool::whole(subnet) });
    }
    Ok(pools)
}

/// What there is of a network in the kernel, which is not looked at yet.
fn live(config: &Config, network: Network) -> Result<Live> {
    let subject = || format!("set up the network {}", network.name);
    let options = check::read_options(&network.options)?;
    check::check_mtu(&network)?;
    let addressing = network.pools.iter().map(addressing).collect::<Result<Vec<_>>>()?;
    let setup = match addressing.is_empty() {
        true => None,
        false => Some(coracle_network::Config {
            engine: config.engine_id().parse().attempt(subject)?,
            bridge: InterfaceName::new(&network.bridge).attempt(subject)?,
            addressing,
            mtu: network.mtu,
            passage: Passage {
                internal: network.internal,
                isolated: options.isolated,
                unmasqueraded: options.unmasqueraded,
            },
        }),
    };
    let directory = if network.is_predefined() { BRIDGE } else { network.id.as_str() };
    let bridge = Bridge::new(&network.name, setup, names(config, directory))?;
    Ok(Live { network, options, bridge })
}

fn addressing(pool: &Pool) -> Result<Addressing> {
    let range = |text: &String| {
        let (address, length) = coracle_network::prefix(text)
            .filter(|(address, _)| pool.subnet.contains(*address))
            .ok_or_else(|| Error::Invalid(format!("invalid range {text}")))?;
        Ok((coracle_network::lowest(address, length), coracle_network::highest(address, length)))
    };
    Ok(Addressing {
        subnet: pool.subnet,
        range: pool.range.as_ref().map(range).transpose()?,
        reserved: pool.reserved.values().copied().collect(),
    })
}
