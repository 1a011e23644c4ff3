//! One network: its bridge, its addresses and its part of the engine's table.

use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use coracle_sys::netlink::route::{self, InterfaceName, Link, Veth};
use coracle_sys::netlink::{self, Socket};
use coracle_sys::undo::Undo;

use crate::bridge::{self, Bridge, mac_of};
use crate::endpoint::{DefaultRoute, Endpoint, EndpointRequest};
use crate::error::{Attempt, Error, Result};
use crate::firewall::{self, Firewall, PortElements};
use crate::namespace::Namespace;
use crate::pool::Pool;
use crate::ports::{self, Held};
use crate::subnet::Ipv4Net;

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
    /// The bridge's address and the network; see [`crate::default_subnet`].
    pub subnet: Ipv4Net,
    /// Largest packet, in bytes.
    pub mtu: u32,
}

/// A network of the calling thread's namespace: methods that bind host ports must be called in that namespace too.
#[derive(Debug)]
pub struct Driver {
    bridge: Bridge,
    bridge_index: AtomicU32,
    route: Socket,
    firewall: Firewall,
    state: Mutex<State>,
    /// Held shared while an endpoint changes, and alone while the whole is compared with the kernel: an endpoint half
    /// attached would look like one to sweep away.
    whole: RwLock<()>,
}

#[derive(Debug)]
struct State {
    pool: Pool,
    /// Keyed by the host's end of the veth pair.
    endpoints: HashMap<InterfaceName, Endpoint>,
}

/// What [`Driver::heal`] found missing and restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Healed {
    /// The bridge, its address, or containers' connection to it.
    pub bridge: bool,
    /// The table, elements of it, or the exceptions in another engine's table.
    pub firewall: bool,
}

/// What [`Driver::sweep`] removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Published ports of containers that no longer exist.
    pub ports: usize,
    /// Interfaces of containers that no longer exist.
    pub interfaces: usize,
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
        let bridge = Bridge { name: config.bridge.clone(), subnet: config.subnet, mtu: config.mtu };
        // The table first: from the moment the bridge has an address it is guarded.
        let firewall = Firewall::open(format!("coracle-{}", config.engine), config.bridge, config.subnet)?;
        firewall.install(&foreign_bridges(&route)?)?;
        let index = bridge.ensure(&route)?.index;
        let state = State { pool: Pool::new(config.subnet), endpoints: HashMap::new() };
        Ok(Self {
            bridge,
            bridge_index: AtomicU32::new(index),
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

    /// The bridge's address and network.
    pub fn subnet(&self) -> Ipv4Net {
        self.bridge.subnet
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
        let host_interface = host_interface(&request.container_id, &self.bridge.name)?;
        let (ports, held) = ports::reserve(&request.ports)?;
        let mut undo = Undo::new();
        let ip = self.take_address(request.ip)?;
        undo.push("release address", move || {
            self.state().pool.release(ip);
            Ok::<(), Error>(())
        });
        let endpoint = Endpoint {
            container_id: request.container_id.clone(),
            interface: request.interface.clone(),
            ip,
            prefix_length: self.bridge.subnet.length(),
            gateway: self.bridge.subnet.address(),
            mac: request.mac.unwrap_or_else(|| mac_of(ip)),
            host_interface,
            ports,
        };
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
                state.pool.release(endpoint.ip);
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
        namespace
            .route
            .request(&[route::add_default_route(endpoint.gateway)])
            .attempt(|| format!("route through {} by default", endpoint.interface))?;
        Ok(())
    }

    /// Removes the host's end of a detached endpoint if it survived its namespace. Slow: not while somebody waits.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove_interface(&self, endpoint: &Endpoint) -> Result<()> {
        bridge::remove_link(&self.route, &endpoint.host_interface)
    }

    /// Takes over an endpoint that an earlier engine attached: its address is in use, its ports are published.
    ///
    /// # Errors
    /// When another endpoint has its address, or the kernel refuses.
    pub fn adopt(&self, endpoint: &Endpoint) -> Result<()> {
        let _shared = self.whole.read();
        let mut state = self.state();
        if state.endpoints.contains_key(&endpoint.host_interface) {
            return Ok(());
        }
        state.pool.take_exactly(endpoint.ip)?;
        state.endpoints.insert(endpoint.host_interface.clone(), endpoint.clone());
        drop(state);
        self.firewall.ensure(&PortElements::of(endpoint))
    }

    /// Removes what belongs to no endpoint: ports and interfaces of containers that ended while no engine ran. To be
    /// called when all endpoints are adopted, and off the path of requests.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn sweep(&self) -> Result<Swept> {
        let _alone = self.whole.write();
        let state = self.state();
        let subnet = self.bridge.subnet;
        let ports = self.firewall.withdraw_unknown(&elements(&state), |target| subnet.contains(target))?;
        let links = self
            .route
            .dump(&route::list_links())
            .attempt(|| format!("list the ports of bridge {}", self.bridge.name))?;
        let index = self.bridge_index.load(Ordering::Relaxed);
        let mut interfaces = 0;
        for link in links.iter().filter_map(Link::parse).filter(|link| link.master == Some(index)) {
            let Ok(name) = InterfaceName::new(link.name) else { continue };
            if is_ours(&name) && !state.endpoints.contains_key(&name) {
                bridge::remove_link(&self.route, &name)?;
                interfaces += 1;
            }
        }
        Ok(Swept { ports, interfaces })
    }

    /// Restores what somebody removed: the bridge and its ports, the table and its elements, the exceptions. Cheap
    /// when nothing changed, so that it can be called every few seconds.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn heal(&self) -> Result<Healed> {
        let _alone = self.whole.write();
        self.restore()
    }

    fn restore(&self) -> Result<Healed> {
        let state = self.state();
        let ensured = self.bridge.ensure(&self.route)?;
        if self.bridge_index.swap(ensured.index, Ordering::Relaxed) != ensured.index {
            self.reconnect(&state, ensured.index)?;
        }
        let firewall = self.firewall.heal(&elements(&state), || foreign_bridges(&self.route))?;
        Ok(Healed { bridge: ensured.changed, firewall })
    }

    /// Removes the network: the bridge, its elements and exceptions, and the table with the engine's last network.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove(self) -> Result<()> {
        self.firewall.remove(&elements(&self.state()))?;
        self.bridge.remove(&self.route)
    }

    fn take_address(&self, wanted: Option<Ipv4Addr>) -> Result<Ipv4Addr> {
        let mut state = self.state();
        match wanted {
            Some(ip) => state.pool.take_exactly(ip).map(|()| ip),
            None => state.pool.take(),
        }
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
        let messages = [route::create_veth(&veth), route::set_hairpin(port), route::get_link(port)];
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

    fn publish(&self, endpoint: &Endpoint) -> Result<()> {
        let elements = PortElements::of(endpoint);
        if elements.is_empty() {
            return Ok(());
        }
        let mut published = self.firewall.publish(&elements);
        if published.as_ref().is_err_and(|error| error.errno() == Some(rustix::io::Errno::NOENT)) {
            // Somebody flushed the table since it was last healed.
            self.restore()?;
            published = self.firewall.publish(&elements);
        }
        published.map_err(|error| firewall::refusal(error, &endpoint.ports))?;
        self.firewall.forget_flows(endpoint).inspect_err(|_| {
            // The endpoint is being undone; the failure reported is the first.
            let _ = self.firewall.withdraw(&elements);
        })
    }

    /// Makes containers' interfaces ports of a bridge that was made again.
    fn reconnect(&self, state: &State, index: u32) -> Result<()> {
        for port in state.endpoints.keys() {
            let messages = [route::set_master(port, index), route::set_hairpin(port)];
            match self.route.request(&messages) {
                Err(error) if error.errno() != Some(rustix::io::Errno::NODEV) => {
                    return Err(error).attempt(|| format!("connect {port} to bridge {}", self.bridge.name));
                }
                // A container that is ending has no interface any more.
                _ => {}
            }
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of it is a single call, which a panic elsewhere cannot leave half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Switches on the container's end and gives it its address and default route, in one send.
fn address(namespace: &Namespace, endpoint: &Endpoint, index: u32, default: DefaultRoute) -> Result<()> {
    let mut messages =
        vec![route::set_up(index), route::add_address(index, endpoint.ip, endpoint.prefix_length)];
    if default == DefaultRoute::Here {
        messages.push(route::add_default_route(endpoint.gateway));
    }
    namespace
        .route
        .request(&messages)
        .attempt(|| format!("give {} address {}", endpoint.interface, endpoint.ip))?;
    Ok(())
}

fn elements(state: &State) -> PortElements {
    let mut elements = PortElements::default();
    for endpoint in state.endpoints.values() {
        elements.add(endpoint);
    }
    elements
}

/// The bridges of Docker's networks. A rule of ours in Docker's chain accepts what comes from our containers, so that
/// our own chain has to keep them out of Docker's.
fn foreign_bridges(route: &Socket) -> Result<Vec<InterfaceName>> {
    let links = route.dump(&route::list_links()).attempt(|| String::from("list the host's interfaces"))?;
    let bridges = links.iter().filter_map(Link::parse).filter(|link| link.kind.as_deref() == Some("bridge"));
    let names = bridges.filter(|link| is_dockers(&link.name)).map(|link| InterfaceName::new(link.name));
    Ok(names.filter_map(coracle_sys::Result::ok).collect())
}

/// `docker0`, or `br-` and the first 12 digits of a network's id; not `br-lan`, by which a router reaches its LAN.
fn is_dockers(name: &str) -> bool {
    let id = name.strip_prefix("br-").unwrap_or_default();
    name == "docker0" || id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The host's end is named `v`, the beginning of the container's id, and four digits for the network.
fn host_interface(container_id: &str, bridge: &InterfaceName) -> Result<InterfaceName> {
    // FNV-1a, folded: told apart are the few networks of one container.
    let hash = bridge
        .as_str()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let id: String = container_id.chars().take(10).collect();
    let name = format!("v{id}{:04x}", (hash >> 16) ^ (hash & 0xffff));
    InterfaceName::new(name).attempt(|| format!("name an interface for container {container_id}"))
}

fn is_ours(name: &InterfaceName) -> bool {
    let name = name.as_str();
    name.len() == 15 && name.starts_with('v') && name.bytes().skip(1).all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_of_one_container_on_two_bridges_differ_and_are_recognised() {
        let bridge = |name: &str| InterfaceName::new(name).unwrap();
        let id = "0123456789abcdef".repeat(4);
        let (one, two) =
            (host_interface(&id, &bridge("br0")).unwrap(), host_interface(&id, &bridge("br1")).unwrap());
        assert_ne!(one, two);
        assert!(is_ours(&one) && is_ours(&two));
        assert!(one.as_str().starts_with("v0123456789"));
        assert!(!is_ours(&bridge("veth0123456789a")) && !is_ours(&bridge("vnet0")));
    }

    #[test]
    fn engine_ids_are_eight_hexadecimal_digits() {
        assert!("0a1b2c3d".parse::<EngineId>().is_ok());
        for bad in ["", "0a1b2c3", "0a1b2c3d4", "0A1B2C3D", "0a1b2c3g"] {
            assert!(bad.parse::<EngineId>().is_err(), "{bad}");
        }
    }
}
