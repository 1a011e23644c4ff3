//! Published ports of a container that runs, changed.
//!
//! ```text
//! kept      a port that satisfies what is wanted stays, its connections too
//! moved     a host port that is to lead to another port of the container: its socket is held on
//! added     reserved and published first, so that what is taken changes nothing
//! removed   withdrawn from the kernel at once, and given free by the shim when the record is written
//! ```

use super::network::{self, held};
use super::settings::Settings;
use super::task::Task;
use crate::error::{Error, Result};
use crate::network::Live;
use coracle_network::{Endpoint, HostPort, Protocol, PublishRequest, Published};
use coracle_runtime::protocol::{RELAYS, RelayedPort, Request};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// How many relayed ports one request to a shim tells of: a frame has a bound.
const RELAYS_PER_REQUEST: usize = 256;

/// A change of ports that can be taken back still.
pub(super) struct Republished {
    /// Which of the container's networks it is about.
    nth: usize,
    before: Endpoint,
    /// Ports whose sockets the shim was given.
    fresh: Vec<Published>,
    /// Ports whose sockets it holds for nothing once the change stays.
    removed: Vec<Published>,
}

/// How what is published becomes what is wanted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    /// Host ports that lead to another port of the container from now on: as they are, and as they will be.
    moved: Vec<(Published, Published)>,
    added: Vec<PublishRequest>,
    removed: Vec<Published>,
}

impl Difference {
    /// A port that is published already satisfies what leaves the choice to us. `has_ipv6` says whether the host has addresses of
    /// IPv6, on which a port appears that is to appear everywhere.
    fn between(current: &[Published], wanted: &[PublishRequest], has_ipv6: bool) -> Self {
        let mut left = current.to_vec();
        let mut requests: Vec<&PublishRequest> = wanted.iter().collect();
        // Who wants a certain port gets it before who takes any.
        requests.sort_by_key(|request| match request.host_port {
            HostPort::Exactly(1..) => 0,
            HostPort::Between(..) => 1,
            HostPort::Exactly(0) | HostPort::Random => 2,
        });
        let mut difference = Self::default();
        for request in requests {
            let same = left.iter().position(|port| satisfies(port, request));
            let found = same.or_else(|| left.iter().position(|port| is_host_port_of(port, request)));
            let Some(nth) = found else {
                difference.added.push(request.clone());
                continue;
            };
            let port = left.remove(nth);
            let twin = left.iter().position(|other| is_twin(other, &port, request));
            let twin = twin.map(|nth| left.remove(nth));
            if same.is_none() {
                let moved = |before| (before, Published { container_port: request.container_port, ..before });
                difference.moved.extend([Some(port), twin].into_iter().flatten().map(moved));
            }
            let is_everywhere = request.host_ip.is_none() && request.protocol != Protocol::Sctp;
            if is_everywhere && has_ipv6 && twin.is_none() {
                let (host_ip, host_port) = (Some(ANY_V6), HostPort::Exactly(port.host_port));
                difference.added.push(PublishRequest { host_ip, host_port, ..request.clone() });
            }
        }
        difference.removed = left;
        difference
    }

    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

const ANY_V6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Where a port is looked for: on the first of its addresses.
fn address(request: &PublishRequest) -> IpAddr {
    request.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// Whether `other` is what a request for every address made of `port` in IPv6.
fn is_twin(other: &Published, port: &Published, request: &PublishRequest) -> bool {
    request.host_ip.is_none() && *other == Published { host_ip: ANY_V6, ..*port }
}

fn satisfies(port: &Published, request: &PublishRequest) -> bool {
    let is_port = match request.host_port {
        HostPort::Random | HostPort::Exactly(0) => true,
        HostPort::Exactly(number) => port.host_port == number,
        HostPort::Between(first, last) => (first..=last).contains(&port.host_port),
    };
    is_port
        && port.protocol == request.protocol
        && port.container_port == request.container_port
        && port.host_ip == address(request)
}

/// Whether the very port of the host is asked for, wherever it leads.
fn is_host_port_of(port: &Published, request: &PublishRequest) -> bool {
    port.protocol == request.protocol
        && port.host_ip == address(request)
        && request.host_port == HostPort::Exactly(port.host_port)
}

/// Whether the host has addresses of IPv6.
fn has_ipv6() -> bool {
    std::path::Path::new("/proc/net/if_inet6").exists()
}

impl Task {
    /// Publishes what `settings` ask for, and nothing else any more: all of it, or nothing changes.
    pub(super) async fn republish(&mut self, settings: &Settings) -> Result<Option<Republished>> {
        let is_way_out = |on: &super::Membership| on.is_way_out && on.endpoint.is_some();
        let way_out = self.now.networks.iter().position(is_way_out);
        let through =
            way_out.map(|nth| self.shared.networks.find(&self.now.networks[nth].network)).transpose()?;
        let wanted = network::ports(settings, &self.shared.config, through.as_deref())?;
        let is_asked = !wanted.is_empty() && settings.host.ports != self.now.settings.host.ports;
        if self.live.is_some() && way_out.is_none() && is_asked {
            return Err(Error::Invalid(format!(
                "{} is on no network that leads out, through which ports could be published",
                self.now.name
            )));
        }
        let Some(nth) = way_out.filter(|_| self.live.is_some()) else { return Ok(None) };
        let Some(before) = self.now.networks[nth].endpoint.clone() else { return Ok(None) };
        let mut wanted = wanted;
        let has_relays = self.live()?.shim.can(RELAYS).await?;
        if !has_relays {
            // A shim of an earlier release would let who comes by IPv6 wait for ever.
            let everywhere = wanted.iter_mut().filter(|port| port.host_ip.is_none());
            everywhere.for_each(|port| port.host_ip = Some(Ipv4Addr::UNSPECIFIED.into()));
        }
        let difference = Difference::between(&before.ports, &wanted, has_relays && has_ipv6());
        if difference.is_nothing() {
            return Ok(None);
        }
        let removed = difference.removed.clone();
        let mut done = Republished { nth, before, fresh: Vec::new(), removed };
        match self.change_ports(&mut done, difference).await {
            Ok(()) => Ok(Some(done)),
            Err(error) => {
                self.take_ports_back(done).await;
                Err(network::with_name(error, self))
            }
        }
    }

    /// Does it step by step; how far it came stands in `done` and in the endpoint.
    async fn change_ports(&mut self, done: &mut Republished, difference: Difference) -> Result<()> {
        let live = self.network_of(done.nth)?;
        let (endpoint, reserved) = live.bridge.publish_ports(done.before.clone(), difference.added).await?;
        done.fresh = endpoint.ports[done.before.ports.len()..].to_vec();
        self.now.networks[done.nth].endpoint = Some(endpoint.clone());
        let (from, to): (Vec<_>, Vec<_>) = difference.moved.into_iter().unzip();
        let gone = [difference.removed, from].concat();
        let endpoint = live.bridge.withdraw_ports(endpoint, gone).await?;
        self.now.networks[done.nth].endpoint = Some(endpoint.clone());
        let changed = [&done.fresh[..], &to].concat();
        let endpoint = live.bridge.carry_ports(endpoint, to).await?;
        self.now.networks[done.nth].endpoint = Some(endpoint.clone());
        let sockets: Vec<_> = reserved.sockets.iter().map(AsFd::as_fd).collect();
        self.hold(&sockets, &network::relays(&Endpoint { ports: changed, ..endpoint })).await
    }

    /// Has the shim hold these sockets too, and relay what arrives at these ports.
    pub(super) async fn hold(&mut self, sockets: &[BorrowedFd<'_>], relays: &[RelayedPort]) -> Result<()> {
        let shim = &self.live()?.shim;
        if !relays.is_empty() && !shim.can(RELAYS).await? {
            let text = "the container was started by an earlier release, which does not relay what comes by IPv6: restart it";
            return Err(Error::Conflict(text.to_owned()));
        }
        let (first, further) = relays.split_at(relays.len().min(RELAYS_PER_REQUEST));
        let hold = |relays: &[RelayedPort]| Request::Ports { release: Vec::new(), relays: relays.to_vec() };
        shim.ask_for_change(&hold(first), sockets).await?;
        for some in further.chunks(RELAYS_PER_REQUEST) {
            shim.ask_for_change(&hold(some), &[]).await?;
        }
        Ok(())
    }

    /// Has the shim relay to where the container is now, if it relays at all.
    pub(super) async fn relay_to(&mut self, endpoint: &Endpoint) -> Result<()> {
        let relays = network::relays(endpoint);
        if relays.is_empty() || !self.live()?.shim.can(RELAYS).await? {
            return Ok(());
        }
        self.hold(&[], &relays).await
    }

    /// The change stays: what is not published any more is free for others.
    pub(super) async fn settle_ports(&mut self, done: Republished) {
        self.release(&done.removed).await;
    }

    /// Makes ports what they were.
    pub(super) async fn take_ports_back(&mut self, done: Republished) {
        let Some(now) = self.now.networks[done.nth].endpoint.clone() else { return };
        let without = |all: &[Published], others: &[Published]| -> Vec<Published> {
            all.iter().filter(|port| !others.contains(port)).copied().collect()
        };
        let (came, lost) = (without(&now.ports, &done.before.ports), without(&done.before.ports, &now.ports));
        let restored = match self.network_of(done.nth) {
            Ok(live) => match live.bridge.withdraw_ports(now, came).await {
                Ok(endpoint) => match live.bridge.carry_ports(endpoint, lost.clone()).await {
                    Ok(endpoint) => self.relay_to(&Endpoint { ports: lost, ..endpoint }).await,
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        if let Err(error) = restored {
            let error = error.chain();
            tracing::error!(container = %self.now.id, error, "its ports could not be made what they were");
        }
        self.release(&done.fresh).await;
        self.now.networks[done.nth].endpoint = Some(done.before);
    }

    fn network_of(&self, nth: usize) -> Result<Arc<Live>> {
        self.shared.networks.find(&self.now.networks[nth].network)
    }

    /// Has the shim close sockets.
    pub(super) async fn release(&self, ports: &[Published]) {
        let Some(live) = self.live.as_ref().filter(|_| !ports.is_empty()) else { return };
        let release = Request::Ports { release: ports.iter().map(held).collect(), relays: Vec::new() };
        if let Err(error) = live.shim.ask_for_change(&release, &[]).await {
            let error = error.chain();
            tracing::warn!(container = %self.now.id, error, "ports stay reserved until it ends");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_network::Protocol::{Tcp, Udp};

    fn port(container_port: u16, host_port: u16) -> Published {
        let host_ip = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Published { protocol: Tcp, container_port, host_ip, host_port }
    }

    fn request(container_port: u16, host_port: HostPort) -> PublishRequest {
        PublishRequest { protocol: Tcp, container_port, host_ip: None, host_port }
    }

    #[test]
    fn what_satisfies_stays_and_a_host_port_leads_elsewhere_without_being_given_up() {
        use HostPort::{Between, Exactly, Random};
        let current = [port(80, 8080), port(80, 9000), port(81, 8081)];
        let between = |wanted: &[PublishRequest]| Difference::between(&current, wanted, false);
        let same = [request(80, Random), request(80, Exactly(8080)), request(81, Between(8080, 8090))];
        assert!(between(&same).is_nothing());
        let elsewhere = [request(80, Random), request(82, Exactly(8080)), request(81, Exactly(8081))];
        let moved = vec![(port(80, 8080), port(82, 8080))];
        assert_eq!(between(&elsewhere), Difference { moved, ..Difference::default() });
        assert_eq!(between(&[]).removed, current);
        let udp = PublishRequest { protocol: Udp, ..request(80, Exactly(8080)) };
        let local =
            PublishRequest { host_ip: Some(Ipv4Addr::LOCALHOST.into()), ..request(81, Exactly(8081)) };
        let found = between(&[udp.clone(), local.clone()]);
        assert_eq!((found.added, found.removed.len()), (vec![udp, local], 3));
    }

    #[test]
    fn a_port_that_is_everywhere_is_one_of_each_family() {
        use HostPort::{Exactly, Random};
        let of_v6 = |port: Published| Published { host_ip: ANY_V6, ..port };
        let current = [port(80, 8080), of_v6(port(80, 8080))];
        let between = |wanted: PublishRequest| Difference::between(&current, &[wanted], true);
        assert!(between(request(80, Random)).is_nothing());
        let moved = between(request(81, Exactly(8080))).moved;
        let expected = [(port(80, 8080), port(81, 8080))];
        assert_eq!(moved, [expected[0], (of_v6(expected[0].0), of_v6(expected[0].1))]);
        let on = |host_ip: IpAddr| PublishRequest { host_ip: Some(host_ip), ..request(80, Exactly(8080)) };
        let of_v4 = between(on(Ipv4Addr::UNSPECIFIED.into()));
        assert_eq!((of_v4.removed, of_v4.added), (vec![of_v6(port(80, 8080))], vec![]));
        let back = Difference::between(&current[..1], &[request(80, Random)], true);
        assert_eq!((back.removed, back.added), (vec![], vec![on(ANY_V6)]));
        assert!(Difference::between(&current[..1], &[request(80, Random)], false).is_nothing());
    }
}
