//! Networks that a container joins and leaves after it was made, whether it runs or not.
//!
//! The way to everywhere and the published ports of a running container stay on the network where they are, even when it
//! joins one whose name comes first. When it leaves that network, they go to the first by name of those that are left; if none
//! of those leads anywhere, nothing is published until it joins one that does.

use super::memberships::Membership;
use super::modes::NetworkMode;
use super::network::{self, Place};
use super::settings::{FixedAddresses, Join};
use super::start;
use super::task::{Command, Task};
use crate::engine::Engine;
use crate::error::{Attempt, Error, Result, blocking};
use crate::index::Durability;
use crate::network::{PREDEFINED, predefined_id};
use coracle_network::{Endpoint, InterfaceName, Namespace, Published};
use coracle_runtime::protocol::{RELAYS, RelayedPort, Request};
use rustix::fs::{Mode, OFlags};
use std::os::fd::AsFd;

impl Engine {
    /// Connects a container to a further network.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`] when it is on it already, [`Error::Invalid`] when its network mode or the
    /// network does not allow it, and the driver's.
    pub async fn connect(&self, network: &str, container: &str, join: Join) -> Result<()> {
        refuse_predefined(network)?;
        let live = self.shared.networks.find(network)?;
        let container = self.shared.containers.find(container)?;
        if live.network.is_predefined() && join.addresses != FixedAddresses::default() {
            return Err(Error::Invalid(
                "user specified IP address is supported on user defined networks only".to_owned(),
            ));
        }
        let membership = Membership::new(&live, join)?;
        container.ask(|reply| Command::Connect { membership, reply }).await
    }

    /// Disconnects a container from a network.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`] when it is not on it, and the driver's.
    pub async fn disconnect(&self, network: &str, container: &str) -> Result<()> {
        refuse_predefined(network)?;
        let container = self.shared.containers.find(container)?;
        // The network may be gone already while a stopped container is still on it.
        let network = match self.shared.networks.find(network) {
            Ok(live) => live.network.id.clone(),
            Err(error) => {
                let now = container.describe();
                let gone = now.networks.iter().find(|on| on.network == network || on.name == network);
                gone.map(|on| on.network.clone()).ok_or(error)?
            }
        };
        container.ask(|reply| Command::Disconnect { network, reply }).await
    }
}

fn refuse_predefined(network: &str) -> Result<()> {
    let is = |name: &str| network == name || network == predefined_id(name);
    if is(PREDEFINED[1]) {
        let text = "container cannot be disconnected from host network or connected to host network";
        return Err(Error::Invalid(text.to_owned()));
    }
    if is(PREDEFINED[2]) {
        let text = "container cannot be connected to multiple networks with one of the networks in private (none) mode";
        return Err(Error::Invalid(text.to_owned()));
    }
    Ok(())
}

impl Task {
    /// Joins a network.
    pub(super) async fn connect(&mut self, membership: Membership) -> Result<()> {
        self.refuse_without_networks()?;
        let present = self.now.networks.iter().position(|on| on.network == membership.network);
        if self.live.is_none() {
            match present {
                // As Docker: it is told anew how to join.
                Some(nth) => self.now.networks[nth] = membership,
                None => self.now.networks.push(membership),
            }
            return self.keep_networks().await;
        }
        if present.is_some() {
            return Err(Error::Forbidden(format!(
                "endpoint with name {} already exists in network {}",
                self.now.name, membership.name
            )));
        }
        let live = self.shared.networks.find(&membership.network)?;
        let is_way_out = !live.network.internal && !self.now.networks.iter().any(|on| on.is_way_out);
        // Until now there was nowhere to publish them.
        let ports = if is_way_out {
            network::ports(&self.now.settings, &self.shared.config, Some(&live))?
        } else {
            Vec::new()
        };
        let place = Place { interface: self.free_interface()?, is_way_out, ports };
        let namespace = self.namespace().await?;
        let attached = network::attach_one(self, &membership, place, namespace).await;
        let (_, endpoint, held) = attached.map_err(|error| network::with_name(error, self))?;
        let sockets: Vec<_> = held.sockets.iter().map(AsFd::as_fd).collect();
        let relays = network::relays(&endpoint);
        if !(sockets.is_empty() && relays.is_empty())
            && let Err(error) = self.hold(&sockets, &relays).await
        {
            live.bridge.disconnect(endpoint).await?;
            return Err(error);
        }
        self.now.networks.push(Membership { endpoint: Some(endpoint), is_way_out, ..membership });
        start::publish_names(self).await;
        let told = self.tell_resolver().await;
        self.keep_networks().await?;
        self.shared.networks.tell(&live.network, "connect", Some(&self.now.id));
        told
    }

    /// Leaves a network.
    pub(super) async fn disconnect(&mut self, network: &str) -> Result<()> {
        let Some(nth) = self.now.networks.iter().position(|on| on.network == network) else {
            let name = self.shared.networks.find(network).map(|live| live.network.name.clone());
            return Err(Error::Forbidden(format!(
                "container {} is not connected to network {}",
                self.now.id,
                name.unwrap_or_else(|_| network.to_owned())
            )));
        };
        let Membership { endpoint, is_way_out, .. } = self.now.networks.remove(nth);
        let Some(endpoint) = endpoint else { return self.keep_networks().await };
        let ports = endpoint.ports.clone();
        let live = self.shared.networks.find(network)?;
        // Everything is tried; the first failure is told.
        let withdrawn = live.bridge.withdraw(self.now.id.as_str()).await;
        let told = self.tell_resolver().await;
        // Before somebody else gets the address.
        let relayed = if is_way_out { self.lead_relays_away(&endpoint).await } else { Ok(()) };
        let detached = live.bridge.disconnect(endpoint).await;
        let routed = if is_way_out { self.find_way_out(ports).await } else { Ok(()) };
        self.keep_networks().await?;
        self.shared.networks.tell(&live.network, "disconnect", Some(&self.now.id));
        withdrawn.and(told).and(relayed).and(detached).and(routed)
    }

    fn refuse_without_networks(&self) -> Result<()> {
        match &self.now.settings.host.network {
            NetworkMode::Default | NetworkMode::Bridge | NetworkMode::Named(_) => Ok(()),
            NetworkMode::None => refuse_predefined(PREDEFINED[2]),
            NetworkMode::Host | NetworkMode::Container(_) => Err(Error::Invalid(
                "container sharing network namespace with another container or host cannot be connected to any other network"
                    .to_owned(),
            )),
        }
    }

    /// Has the shim relay nothing any more to where the container is left from. Ports go with the way out, and are free where
    /// no network is the next one.
    async fn lead_relays_away(&mut self, left: &Endpoint) -> Result<()> {
        let next = network::way_out(&self.shared.networks, &self.now.networks)?;
        let Some(next) = next.and_then(|nth| self.now.networks[nth].endpoint.clone()) else {
            self.release(&left.ports).await;
            return Ok(());
        };
        if !self.live()?.shim.can(RELAYS).await? {
            return Ok(());
        }
        let relayed: Vec<_> = left.relays().map(|(port, _)| port).collect();
        let target = |port: &Published| {
            next.relayed_to(port).map(|target| RelayedPort { port: network::held(port), target })
        };
        let (led, lost): (Vec<_>, Vec<_>) = relayed.into_iter().partition(|port| target(port).is_some());
        self.release(&lost).await;
        if led.is_empty() {
            return Ok(());
        }
        self.hold(&[], &led.iter().filter_map(target).collect::<Vec<_>>()).await
    }

    /// Makes the first network that leads anywhere the way to everywhere, and to the container's ports.
    async fn find_way_out(&mut self, ports: Vec<Published>) -> Result<()> {
        let Some(nth) = network::way_out(&self.shared.networks, &self.now.networks)? else {
            // Nothing is published any more, and others may have the ports.
            self.release(&ports).await;
            return Ok(());
        };
        let membership = &self.now.networks[nth];
        let live = self.shared.networks.find(&membership.network)?;
        let Some(endpoint) = membership.endpoint.clone() else { return Ok(()) };
        let endpoint = live.bridge.lead_out(self.namespace().await?, endpoint, ports).await?;
        self.now.networks[nth].endpoint = Some(endpoint.clone());
        self.now.networks[nth].is_way_out = true;
        self.relay_to(&endpoint).await
    }

    /// The running container's network namespace.
    async fn namespace(&self) -> Result<Namespace> {
        let path = format!("/proc/{}/ns/net", self.now.state.pid);
        blocking(move || {
            let opened = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            let netns = opened.attempt(|| format!("open {path}"))?;
            Namespace::open(netns).attempt(|| format!("enter {path}"))
        })
        .await?
    }

    /// The first name of an interface that the container does not have.
    fn free_interface(&self) -> Result<InterfaceName> {
        let mut nth = 0;
        loop {
            let name = network::interface(nth)?;
            if !self.now.endpoints().any(|endpoint| endpoint.interface == name) {
                return Ok(name);
            }
            nth += 1;
        }
    }

    /// Has the resolver answer from the tables of the networks that the container is on now.
    pub(super) async fn tell_resolver(&mut self) -> Result<()> {
        let names = network::names(&self.shared, &self.now);
        self.live()?.shim.ask(&Request::Names(names), &[]).await.map(drop)
    }

    async fn keep_networks(&mut self) -> Result<()> {
        self.save(Durability::Durable).await?;
        self.publish();
        Ok(())
    }
}
