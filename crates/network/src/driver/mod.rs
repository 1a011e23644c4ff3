//! One network: its bridge, its addresses and its part of the engine's table.
//!
//! Here: opening and removing it, attaching and detaching containers. In [`publishing`]: their ports, changed while they
//! run. In [`upkeep`]: comparing the whole with the kernel.

mod publishing;
mod upkeep;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use coracle_sys::netlink::route::{self, Family, InterfaceName, Link, Veth};
use coracle_sys::netlink::{self, Socket};
use coracle_sys::undo::Undo;

use crate::bridge::{self, Bridge, find_link, mac_of};
use crate::endpoint::{Address, DefaultRoute, Endpoint, EndpointRequest};
use crate::error::{Attempt, Error, Result};
use crate::firewall::{Firewall, PortElements};
use crate::namespace::Namespace;
use crate::pool::Pool;
use crate::ports::{self, Held};
use crate::subnet::Subnet;
use coracle_sys::error::Context as _;

use upkeep::foreign_bridges;
pub use upkeep::{Healed, Swept};

/// Which engine of the host: 8 hexadecimal digits, from which its table is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineId(String);

impl FromStr for EngineId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 8 && text.bytes().all(hexadecimal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::EngineId { text: text.to_owned() })
        }
    }
}

impl fmt::Display for EngineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A network.
#[derive(Debug, Clone)]
pub struct Config {
    /// The engine it belongs to.
    pub engine: EngineId,
    /// Its bridge.
    pub bridge: InterfaceName,
    /// Where its containers get their addresses: one of a family at most.
    pub addressing: Vec<Addressing>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// What passes between its containers and everybody else.
    pub passage: Passage,
}

/// Where the containers of a network get their addresses of a family.
#[derive(Debug, Clone)]
pub struct Addressing {
    /// The bridge's address and the network; see [`crate::default_subnet`].
    pub subnet: Subnet,
    /// The first and the last address for containers that ask for no certain one; all if absent.
    pub range: Option<(IpAddr, IpAddr)>,
    /// Addresses of others in the network, which no container gets.
    pub reserved: Vec<IpAddr>,
}

/// What passes between the containers of a network and everybody else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passage {
    /// Whether nothing gets out of the network nor into it.
    pub internal: bool,
    /// Whether its containers do not reach each other, published ports excepted.
    pub isolated: bool,
    /// Whether what leaves it keeps the addresses of its containers, because others know the way back to them.
    pub unmasqueraded: bool,
}

/// A network of the calling thread's namespace: methods that bind host ports must be called in that namespace too.
#[derive(Debug)]
pub struct Driver {
    bridge: Bridge,
    bridge_index: AtomicU32,
    /// Whether the bridge was made here: the interfaces of containers that were there before are no ports of it.
    is_new: bool,
    route: Socket,
    firewall: Firewall,
    state: Mutex<State>,
    /// Held shared while an endpoint changes, and alone while the whole is compared with the kernel: an endpoint half
    /// attached would look like one to sweep away.
    whole: RwLock<()>,
}

#[derive(Debug)]
struct State {
    /// One for each family that the network has, that of IPv4 first.
    pools: Vec<Pool>,
    /// Keyed by the host's end of the veth pair.
    endpoints: HashMap<InterfaceName, Endpoint>,
}

impl Driver {
    /// Puts the network in place, or adopts what an earlier engine left of it. Safe to repeat; established
    /// connections do not notice.
    ///
    /// # Errors
    /// When an interface with the bridge's name is something else, or the kernel refuses.
    pub fn open(config: Config) -> Result<Self> {
        let route = Socket::open(netlink::Protocol::Route)
            .attempt(|| String::from("speak to the kernel's network configuration"))?;
        let mut pools: Vec<_> = config
            .addressing
            .iter()
            .map(|place| Pool::new(place.subnet, place.range, &place.reserved))
            .collect();
        pools.sort_by_key(|pool| pool.subnet().family());
        let subnets: Vec<_> = pools.iter().map(Pool::subnet).collect();
        let bridge = Bridge {
            name: config.bridge.clone(),
            subnets: subnets.clone(),
            mtu: config.mtu,
            isolated: config.passage.isolated,
        };
        // The table first: from the moment the bridge has an address it is guarded.
        let firewall =
            Firewall::open(format!("coracle-{}", config.engine), config.bridge, subnets, config.passage)?;
        firewall.install(&foreign_bridges(&route)?)?;
        let ensured = bridge.ensure(&route)?;
        let state = State { pools, endpoints: HashMap::new() };
        Ok(Self {
            bridge,
            bridge_index: AtomicU32::new(ensured.index),
            is_new: ensured.changed,
            route,
            firewall,
            state: Mutex::new(state),
            whole: RwLock::new(()),
        })
    }

    /// A new network namespace with a loopback and the resolver's sockets, not attached to anything.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create_namespace(&self) -> Result<Namespace> {
        Namespace::create()
    }

    /// Whether a container is attached.
    pub fn is_in_use(&self) -> bool {
        !self.state().endpoints.is_empty()
    }

    /// How often the driver has sent to the kernel: tests hold it against a budget.
    pub fn sent(&self) -> u64 {
        self.route.sent() + self.firewall.sent()
    }

    /// Attaches a namespace: host ports, address, veth pair, routes and published ports, or nothing of it.
    ///
    /// # Errors
    /// [`Error::PortTaken`] and its neighbours for ports, [`Error::AddressTaken`] and its neighbours for addresses,
    /// [`Error::Kernel`] for the rest.
    pub fn attach(&self, namespace: &Namespace, request: &EndpointRequest) -> Result<(Endpoint, Held)> {
        let _shared = self.whole.read();
        let host_interface = host_interface(&request.container_id)?;
        let mut undo = Undo::new();
        let addresses = self.take_addresses(&request.ips)?;
        let taken = addresses.clone();
        undo.push("release addresses", move || {
            self.state().release(&taken);
            Ok::<(), Error>(())
        });
        let mut endpoint = Endpoint {
            container_id: request.container_id.clone(),
            interface: request.interface.clone(),
            mac: request.mac.unwrap_or_else(|| mac_of(addresses[0].ip)),
            addresses,
            host_interface,
            ports: Vec::new(),
        };
        let (ports, held) = ports::reserve(&request.ports, &endpoint)?;
        endpoint.ports = ports;
        let peer = self.connect(namespace, &endpoint)?;
        let port = endpoint.host_interface.clone();
        undo.push("remove veth pair", move || bridge::remove_link(&self.route, &port));
        address(namespace, &endpoint, peer, request.default_route)?;
        self.publish(&endpoint)?;
        undo.disarm();
        self.state().endpoints.insert(endpoint.host_interface.clone(), endpoint.clone());
        Ok((endpoint, held))
    }

    /// Takes an endpoint out: its ports and its address. The veth pair ends with the namespace, because removing it
    /// here would keep the caller waiting for tens of milliseconds; see [`Driver::remove_interface`].
    ///
    /// # Errors
    /// When the kernel refuses; the address is released all the same.
    pub fn detach(&self, endpoint: &Endpoint) -> Result<()> {
        let _shared = self.whole.read();
        {
            let mut state = self.state();
            if state.endpoints.remove(&endpoint.host_interface).is_some() {
                state.release(&endpoint.addresses);
            }
        }
        self.firewall.withdraw(&PortElements::of(endpoint))?;
        self.firewall.forget_flows(endpoint)
    }

    /// Makes this network the way to everywhere for a container that had another or none.
    ///
    /// # Errors
    /// When the container has such a way already, or the kernel refuses.
    pub fn add_default_route(&self, namespace: &Namespace, endpoint: &Endpoint) -> Result<()> {
        let attempt = || format!("route through {} by default", endpoint.interface);
        let missing = || coracle_sys::Error::Unexpected {
            subject: endpoint.interface.to_string(),
            expected: "an interface of the container still",
        };
        let link = find_link(&namespace.route, &endpoint.interface)?.ok_or_else(missing).attempt(attempt)?;
        let routes = endpoint.addresses.iter().map(|a| route::add_default_route(a.gateway, link.index));
        namespace.route.request(&routes.collect::<Vec<_>>()).attempt(attempt)?;
        Ok(())
    }

    /// Removes the host's end of a detached endpoint if it survived its namespace. Slow: not while somebody waits.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove_interface(&self, endpoint: &Endpoint) -> Result<()> {
        bridge::remove_link(&self.route, &endpoint.host_interface)
    }

    /// Takes over an endpoint that an earlier engine attached: its address is in use, its ports are published, and where
    /// the bridge has been lost meanwhile it is a port of the new one.
    ///
    /// # Errors
    /// When another endpoint has its address, or the kernel refuses.
    pub fn adopt(&self, endpoint: &Endpoint) -> Result<()> {
        let _shared = self.whole.read();
        let mut state = self.state();
        if state.endpoints.contains_key(&endpoint.host_interface) {
            return Ok(());
        }
        state.take_exactly(&endpoint.addresses)?;
        state.endpoints.insert(endpoint.host_interface.clone(), endpoint.clone());
        drop(state);
        if self.is_new {
            self.reconnect(&endpoint.host_interface, self.bridge_index.load(Ordering::Relaxed))?;
        }
        self.firewall.ensure(&PortElements::of(endpoint))
    }

    /// Removes the network: the bridge, its elements and exceptions, and the table with the engine's last network.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(&self) -> Result<()> {
        let _alone = self.whole.write();
        self.firewall.remove(&elements(&self.state()))?;
        self.bridge.remove(&self.route)
    }

    /// An address of each family: one of `wanted`, or the next that is free.
    fn take_addresses(&self, wanted: &[IpAddr]) -> Result<Vec<Address>> {
        let mut state = self.state();
        if let Some(&address) = wanted.iter().find(|address| state.pool(**address).is_none()) {
            return Err(Error::NoFamily { address, family: Family::of(address) });
        }
        let mut addresses: Vec<Address> = Vec::with_capacity(state.pools.len());
        for nth in 0..state.pools.len() {
            let pool = &mut state.pools[nth];
            let subnet = pool.subnet();
            let certain = wanted.iter().find(|address| Family::of(**address) == subnet.family());
            let taken = match certain {
                Some(&ip) => pool.take_exactly(ip).map(|()| ip),
                None => pool.take(),
            };
            match taken {
                Ok(ip) => {
                    addresses.push(Address { ip, prefix_length: subnet.length(), gateway: subnet.address() });
                }
                Err(error) => {
                    state.release(&addresses);
                    return Err(error);
                }
            }
        }
        Ok(addresses)
    }

    /// Creates the veth pair in one send; returns the number of the container's end.
    fn connect(&self, namespace: &Namespace, endpoint: &Endpoint) -> Result<u32> {
        let attempt = || format!("connect {} to bridge {}", endpoint.host_interface, self.bridge.name);
        let port = &endpoint.host_interface;
        let veth = Veth {
            name: port,
            bridge: self.bridge_index.load(Ordering::Relaxed),
            peer: &endpoint.interface,
            peer_mac: endpoint.mac,
            netns: namespace.as_fd(),
            mtu: self.bridge.mtu,
        };
        let messages = [route::create_veth(&veth), self.bridge.port(port), route::get_link(port)];
        let replies = self.route.request(&messages).inspect_err(|error| {
            // The pair may exist although a later message failed. Its name was free before, so it is ours.
            if error.errno() != Some(rustix::io::Errno::EXIST) {
                // The failure reported is the one that matters; what is left here the next sweep finds.
                let _ = bridge::remove_link(&self.route, port);
            }
        });
        let link = replies.attempt(attempt)?.iter().find_map(Link::parse);
        let missing = || coracle_sys::Error::Unexpected {
            subject: port.to_string(),
            expected: "described by the kernel that just made it",
        };
        let link = link.ok_or_else(missing).attempt(attempt)?;
        // The kernel leaves the peer's number out where it equals the interface's own.
        Ok(link.peer.unwrap_or(link.index))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of it is a single call, which a panic elsewhere cannot leave half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The addresses of the family that `address` is of.
    fn pool(&mut self, address: IpAddr) -> Option<&mut Pool> {
        self.pools.iter_mut().find(|pool| pool.subnet().family() == Family::of(address))
    }

    fn release(&mut self, addresses: &[Address]) {
        for address in addresses {
            if let Some(pool) = self.pool(address.ip) {
                pool.release(address.ip);
            }
        }
    }

    /// Takes certain addresses, all or none.
    fn take_exactly(&mut self, addresses: &[Address]) -> Result<()> {
        for (nth, Address { ip, .. }) in addresses.iter().enumerate() {
            let none = Error::NoFamily { address: *ip, family: Family::of(*ip) };
            let taken = self.pool(*ip).map_or(Err(none), |pool| pool.take_exactly(*ip));
            if let Err(error) = taken {
                self.release(&addresses[..nth]);
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Switches on the container's end and gives it its addresses and default routes, in one send.
fn address(namespace: &Namespace, endpoint: &Endpoint, index: u32, default: DefaultRoute) -> Result<()> {
    let attempt = || {
        let all: Vec<_> = endpoint.ips().map(|ip| ip.to_string()).collect();
        format!("give {} address {}", endpoint.interface, all.join(" and "))
    };
    if endpoint.address(Family::V6).is_some() {
        namespace.switch_on_ipv6(&endpoint.interface).attempt(attempt)?;
    }
    let mut messages = vec![route::set_up(index)];
    messages.extend(endpoint.addresses.iter().map(|a| route::add_address(index, a.ip, a.prefix_length)));
    if default == DefaultRoute::Here {
        messages.extend(endpoint.addresses.iter().map(|a| route::add_default_route(a.gateway, index)));
    }
    namespace.route.request(&messages).attempt(attempt)?;
    Ok(())
}

fn elements(state: &State) -> PortElements {
    let mut elements = PortElements::default();
    for endpoint in state.endpoints.values() {
        elements.add(endpoint);
    }
    elements
}

/// A name that no interface has: the one of the container's last run may be on its way out still, as the kernel removes
/// it when it has time.
fn host_interface(container_id: &str) -> Result<InterfaceName> {
    let attempt = || format!("name an interface for container {container_id}");
    let mut random = [0; 4];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .context("getrandom", "an interface's name")
        .attempt(attempt)?;
    let id: String = container_id.chars().take(6).collect();
    InterfaceName::new(format!("v{id}{:08x}", u32::from_ne_bytes(random))).attempt(attempt)
}

#[cfg(test)]
mod tests {
    use super::upkeep::is_port_of_ours;
    use super::*;

    #[test]
    fn interfaces_of_one_container_differ_each_time_and_are_recognised() {
        let name = |name: &str| InterfaceName::new(name).unwrap();
        let id = "0123456789abcdef".repeat(4);
        let (one, two) = (host_interface(&id).unwrap(), host_interface(&id).unwrap());
        assert_ne!(one, two);
        assert!(is_port_of_ours(&one) && is_port_of_ours(&two));
        assert!(one.as_str().starts_with("v012345"));
        assert!(!is_port_of_ours(&name("veth0123456789a")) && !is_port_of_ours(&name("vnet0")));
    }

    #[test]
    fn engine_ids_are_eight_hexadecimal_digits() {
        assert!("0a1b2c3d".parse::<EngineId>().is_ok());
        for bad in ["", "0a1b2c3", "0a1b2c3d4", "0A1B2C3D", "0a1b2c3g"] {
            assert!(bad.parse::<EngineId>().is_err(), "{bad}");
        }
    }
}
