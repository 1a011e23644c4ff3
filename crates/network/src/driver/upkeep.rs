//! Comparing the network with the kernel: restoring what somebody removed, removing what nobody owns.

use std::sync::atomic::Ordering;

use coracle_sys::netlink::Socket;
use coracle_sys::netlink::route::{self, InterfaceName, Link};

use super::{Driver, elements};
use crate::bridge;
use crate::error::{Attempt, Result};

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
    /// Removes what belongs to no endpoint: ports and interfaces of containers that ended while no engine ran. To be
    /// called when all endpoints are adopted, and off the path of requests.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn sweep(&self) -> Result<Swept> {
        let _alone = self.whole.write();
        let state = self.state();
        let is_ours = |target| self.bridge.subnets.iter().any(|subnet| subnet.contains(target));
        let ports = self.firewall.withdraw_unknown(&elements(&state), is_ours)?;
        let links = self
            .route
            .dump(&route::list_links())
            .attempt(|| format!("list the ports of bridge {}", self.bridge.name))?;
        let index = self.bridge_index.load(Ordering::Relaxed);
        let mut interfaces = 0;
        for link in links.iter().filter_map(Link::parse).filter(|link| link.master == Some(index)) {
            let Ok(name) = InterfaceName::new(link.name) else { continue };
            if is_port_of_ours(&name) && !state.endpoints.contains_key(&name) {
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

    /// [`Driver::heal`] for a caller that holds the lock shared.
    pub(super) fn restore(&self) -> Result<Healed> {
        let state = self.state();
        let ensured = self.bridge.ensure(&self.route)?;
        if self.bridge_index.swap(ensured.index, Ordering::Relaxed) != ensured.index {
            state.endpoints.keys().try_for_each(|port| self.reconnect(port, ensured.index))?;
        }
        let firewall = self.firewall.heal(&elements(&state), || foreign_bridges(&self.route))?;
        Ok(Healed { bridge: ensured.changed, firewall })
    }

    /// Makes a container's interface a port of a bridge that was made again.
    pub(super) fn reconnect(&self, port: &InterfaceName, index: u32) -> Result<()> {
        match self.route.request(&[route::set_master(port, index), self.bridge.port(port)]) {
            // A container that is ending has no interface any more.
            Err(error) if error.errno() == Some(rustix::io::Errno::NODEV) => Ok(()),
            done => done.map(drop).attempt(|| format!("connect {port} to bridge {}", self.bridge.name)),
        }
    }
}

/// The bridges of Docker's networks. A rule of ours in Docker's chain accepts what comes from our containers, so that
/// our own chain has to keep them out of Docker's.
pub(super) fn foreign_bridges(route: &Socket) -> Result<Vec<InterfaceName>> {
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

pub(super) fn is_port_of_ours(name: &InterfaceName) -> bool {
    let name = name.as_str();
    name.len() == 15 && name.starts_with('v') && name.bytes().skip(1).all(|b| b.is_ascii_hexdigit())
}
