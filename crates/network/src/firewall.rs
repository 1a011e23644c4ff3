//! The engine's nftables tables, one for each family, as this network uses them: installed, verified, healed, removed; and their elements.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use coracle_sys::netlink::route::{Family, InterfaceName};
use coracle_sys::netlink::{self, Message, Reply, Socket};
use rustix::io::Errno;

use crate::bridge::frames_can_be_filtered;
use crate::conntrack::{self, Flow};
use crate::driver::Passage;
use crate::endpoint::{Endpoint, Published};
use crate::error::{Attempt, Error, Result};
use crate::exceptions::Exceptions;
use crate::nft::{self, Element, Elements, ListedRule, Transaction};
use crate::ruleset::{
    self, BRIDGES, FOREIGN, INTERNAL, NETWORKS, PASSAGES, PUBLISHED, PUBLISHED_ANYWHERE, UNMASQUERADED,
};
use crate::subnet::Subnet;

/// The engine's tables, for one of its bridges.
#[derive(Debug)]
pub(crate) struct Firewall {
    socket: Socket,
    table: String,
    bridge: InterfaceName,
    /// One of each family that the network has.
    subnets: Vec<Subnet>,
    passage: Passage,
    exceptions: Exceptions,
    /// The generation of rules at which everything was found in place. A change of our own advances both it and the
    /// kernel's count by one; anybody else's makes them differ.
    settled: Mutex<Option<u32>>,
}

/// The elements of some published ports.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct PortElements {
    v4: FamilyElements,
    v6: FamilyElements,
}

/// Those in the table of one family.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct FamilyElements {
    by_address: Elements,
    anywhere: Elements,
}

impl PortElements {
    /// The elements of one endpoint.
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        let mut elements = Self::default();
        elements.add(endpoint);
        elements
    }

    /// Adds those of one more endpoint.
    pub(crate) fn add(&mut self, endpoint: &Endpoint) {
        for port in &endpoint.ports {
            let family = Family::of(port.host_ip);
            // Where the container has no such address, the shim relays.
            let Some(target) = endpoint.reached_at(family) else { continue };
            let (transport, value) = (port.protocol.number(), nft::target_value(target, port.container_port));
            let elements = match family {
                Family::V4 => &mut self.v4,
                Family::V6 => &mut self.v6,
            };
            if port.host_ip.is_unspecified() {
                elements.anywhere.push(Element::entry(nft::port_key(transport, port.host_port), value));
            } else {
                let key = nft::address_port_key(transport, port.host_ip, port.host_port);
                elements.by_address.push(Element::entry(key, value));
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        Family::BOTH.into_iter().flat_map(|family| self.sets(family)).all(|(_, elements)| elements.is_empty())
    }

    fn sets(&self, family: Family) -> [(&'static str, &Elements); 2] {
        let elements = match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        };
        [(PUBLISHED.name, &elements.by_address), (PUBLISHED_ANYWHERE.name, &elements.anywhere)]
    }
}

impl Firewall {
    /// Opens the calling thread's namespace's firewall; changes nothing yet.
    pub(crate) fn open(
        table: String,
        bridge: InterfaceName,
        subnets: Vec<Subnet>,
        passage: Passage,
    ) -> Result<Self> {
        let socket = Socket::open(netlink::Protocol::Netfilter)
            .attempt(|| String::from("speak to the kernel's firewall"))?;
        let exceptions = Exceptions::new(&table, &bridge);
        Ok(Self { socket, table, bridge, subnets, passage, exceptions, settled: Mutex::new(None) })
    }

    /// How many times the socket has sent.
    pub(crate) fn sent(&self) -> u64 {
        self.socket.sent()
    }

    /// Puts the constant content and this bridge in place, and the exceptions in another engine's table.
    pub(crate) fn install(&self, foreign: &[InterfaceName]) -> Result<()> {
        self.restore(&PortElements::default(), foreign)?;
        self.ensure_exceptions()?;
        Ok(())
    }

    /// The families that are filtered: those of the network, and IPv6 as well where containers that are kept apart could speak it
    /// to each other by addresses that the kernel gives them, and nothing but the firewall is in the way.
    fn families(&self) -> Vec<Family> {
        let has = |family| self.subnets.iter().any(|subnet| subnet.family() == family);
        let speaks_v6 = self.passage.isolated && frames_can_be_filtered(Family::V6);
        let is_filtered = |family: &Family| has(*family) || *family == Family::V6 && speaks_v6;
        Family::BOTH.into_iter().filter(is_filtered).collect()
    }

    /// Whether any exception was missing.
    fn ensure_exceptions(&self) -> Result<bool> {
        let mut added = false;
        for family in self.families() {
            added |= self.exceptions.ensure(&self.socket, family)?;
        }
        Ok(added)
    }

    /// Changes the elements of ports in all tables.
    fn change_ports(
        &self,
        elements: &PortElements,
        change: impl Fn(&mut Transaction<'_>, &'static str, &Elements),
    ) -> Result<(), coracle_sys::Error> {
        let mut transaction = Transaction::new(&self.table);
        for family in Family::BOTH {
            transaction.turn_to(family);
            elements.sets(family).into_iter().for_each(|(set, elements)| {
                change(&mut transaction, set, elements);
            });
        }
        self.commit(transaction)
    }

    /// Publishes ports that nobody else has: all of them or none.
    pub(crate) fn publish(&self, elements: &PortElements) -> Result<(), coracle_sys::Error> {
        self.change_ports(elements, |transaction, set, elements| transaction.claim_elements(set, elements))
    }

    /// Publishes ports that may be published already.
    pub(crate) fn ensure(&self, elements: &PortElements) -> Result<()> {
        self.change_ports(elements, |transaction, set, elements| transaction.ensure_elements(set, elements))
            .attempt(|| format!("publish ports in table {}", self.table))
    }

    /// Withdraws ports; those that somebody removed already are no failure.
    pub(crate) fn withdraw(&self, elements: &PortElements) -> Result<()> {
        let withdrawn = self
            .change_ports(elements, |transaction, set, elements| transaction.delete_elements(set, elements));
        match absent(withdrawn).attempt(|| format!("withdraw ports from table {}", self.table))? {
            Some(()) => Ok(()),
            None => Family::BOTH.into_iter().try_for_each(|family| self.withdraw_remaining(elements, family)),
        }
    }

    /// Some elements are missing: adds those of a family and deletes all in one transaction. Without the table nothing is left.
    fn withdraw_remaining(&self, elements: &PortElements, family: Family) -> Result<()> {
        let mut transaction = Transaction::new(&self.table);
        transaction.turn_to(family);
        for (set, elements) in elements.sets(family) {
            transaction.ensure_elements(set, elements);
            transaction.delete_elements(set, elements);
        }
        absent(self.commit(transaction)).attempt(|| format!("withdraw ports from table {}", self.table))?;
        Ok(())
    }

    /// Restores what is missing of the tables, of this bridge's `ports` and of the exceptions. Asks one question when
    /// nobody has changed any rule of the host.
    pub(crate) fn heal(
        &self,
        ports: &PortElements,
        foreign: impl FnOnce() -> Result<Vec<InterfaceName>>,
    ) -> Result<bool> {
        let now = self.generation()?;
        // What is verified and restored from here on holds for this generation, plus our own changes since.
        if self.lock().replace(now) == Some(now) {
            return Ok(false);
        }
        foreign().and_then(|foreign| self.verify(ports, &foreign)).inspect_err(|_| *self.lock() = None)
    }

    fn verify(&self, ports: &PortElements, foreign: &[InterfaceName]) -> Result<bool> {
        let whole = self.is_whole(ports, foreign)?;
        if !whole {
            self.restore(ports, foreign)?;
        }
        let added = self.ensure_exceptions()?;
        Ok(!whole || added)
    }

    fn is_whole(&self, ports: &PortElements, foreign: &[InterfaceName]) -> Result<bool> {
        for family in self.families() {
            if !self.is_table_whole(family, ports, foreign)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_table_whole(
        &self,
        family: Family,
        ports: &PortElements,
        foreign: &[InterfaceName],
    ) -> Result<bool> {
        let listed = self.list(&nft::list_rules(family, &self.table, None))?;
        let mut found: Vec<_> = listed.iter().filter_map(ListedRule::parse).collect();
        let expected: Vec<_> = ruleset::rules(family).collect();
        // The kernel lists chain by chain; within a chain the order counts.
        let position = |chain: &str| expected.iter().position(|(name, _)| *name == chain);
        found.sort_by_key(|rule| position(&rule.chain));
        let mut wanted: Vec<_> =
            expected.iter().map(|(chain, rule)| (*chain, rule.comment.as_str())).collect();
        wanted.sort_by_key(|(chain, _)| position(chain));
        let same = found.len() == wanted.len()
            && found.iter().zip(&wanted).all(|(rule, (chain, comment))| {
                rule.chain == *chain && rule.comment.as_deref() == Some(*comment)
            });
        let own = self.own_sets(family);
        let own = own.iter().map(|(set, elements)| (*set, elements));
        let foreign = foreign_elements(foreign);
        for (set, elements) in own.chain(ports.sets(family)).chain([(FOREIGN.name, &foreign)]) {
            if !same || !self.has(family, set, elements)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn has(&self, family: Family, set: &str, wanted: &Elements) -> Result<bool> {
        if wanted.is_empty() {
            return Ok(true);
        }
        let present: std::collections::HashSet<_> = self.elements(family, set)?.into_iter().collect();
        Ok(wanted.iter().all(|element| present.contains(element)))
    }

    /// The elements of a set; none if there is no such set.
    fn elements(&self, family: Family, set: &str) -> Result<Elements> {
        Ok(nft::parse_elements(&self.list(&nft::list_elements(family, &self.table, set))?))
    }

    /// The ports whose target `is_ours` but that are not in `known`, withdrawn: what containers left that ended while
    /// no engine ran. Returns how many.
    pub(crate) fn withdraw_unknown(
        &self,
        known: &PortElements,
        is_ours: impl Fn(IpAddr) -> bool,
    ) -> Result<usize> {
        let stale = |family| {
            let known: std::collections::HashSet<_> =
                known.sets(family).into_iter().flat_map(|(_, elements)| elements).collect();
            let of_set = |set| -> Result<Elements> {
                let mut elements = self.elements(family, set)?;
                elements.retain(|element| {
                    let target = nft::target_address(family, &element.value);
                    target.is_some_and(&is_ours) && !known.contains(element)
                });
                Ok(elements)
            };
            Ok::<_, Error>(FamilyElements {
                by_address: of_set(PUBLISHED.name)?,
                anywhere: of_set(PUBLISHED_ANYWHERE.name)?,
            })
        };
        let stale = PortElements { v4: stale(Family::V4)?, v6: stale(Family::V6)? };
        if !stale.is_empty() {
            self.withdraw(&stale)?;
        }
        Ok(Family::BOTH.into_iter().flat_map(|family| stale.sets(family)).map(|(_, e)| e.len()).sum())
    }

    /// Takes this bridge out, and each table with it of which it was the last.
    pub(crate) fn remove(&self, ports: &PortElements) -> Result<()> {
        self.withdraw(ports)?;
        Family::BOTH.into_iter().try_for_each(|family| self.remove_from(family))
    }

    fn remove_from(&self, family: Family) -> Result<()> {
        self.exceptions.remove(&self.socket, family)?;
        let mut transaction = Transaction::new(&self.table);
        transaction.turn_to(family);
        for (set, elements) in self.own_sets(family) {
            transaction.ensure_elements(set, &elements);
            transaction.delete_elements(set, &elements);
        }
        let attempt = || format!("remove bridge {} from table {}", self.bridge, self.table);
        if absent(self.commit(transaction)).attempt(attempt)?.is_some()
            && self.elements(family, BRIDGES.name)?.is_empty()
        {
            let mut transaction = Transaction::new(&self.table);
            transaction.turn_to(family);
            transaction.delete_table();
            self.commit(transaction).attempt(|| format!("delete table {}", self.table))?;
        }
        Ok(())
    }

    /// Forgets UDP flows that concern the ports of an endpoint: a flow keeps going where its first packet went.
    /// Returns at once when the endpoint publishes no UDP port.
    pub(crate) fn forget_flows(&self, endpoint: &Endpoint) -> Result<()> {
        let udp = |port: &&Published| port.protocol == crate::Protocol::Udp;
        let ports: std::collections::HashSet<_> =
            endpoint.ports.iter().filter(udp).map(|port| port.host_port).collect();
        if ports.is_empty() {
            return Ok(());
        }
        for address in &endpoint.addresses {
            let concerns = |flow: &Flow| flow.target == address.ip || ports.contains(&flow.port);
            conntrack::forget_udp(&self.socket, Family::of(address.ip), concerns)
                .attempt(|| format!("forget UDP flows of {}", address.ip))?;
        }
        Ok(())
    }

    fn restore(&self, ports: &PortElements, foreign: &[InterfaceName]) -> Result<()> {
        let attempt = || format!("install table {}", self.table);
        let mut transaction = Transaction::new(&self.table);
        for family in self.families() {
            transaction.turn_to(family);
            self.fill(&mut transaction, family, ports, foreign);
        }
        if self.commit(transaction).is_ok() {
            return Ok(());
        }
        // Left by another version, or changed by hand into something that cannot become ours: begin again.
        let mut transaction = Transaction::new(&self.table);
        for family in self.families() {
            transaction.turn_to(family);
            transaction.add_table();
            transaction.delete_table();
            self.fill(&mut transaction, family, ports, foreign);
        }
        self.commit(transaction).attempt(attempt)
    }

    fn fill(
        &self,
        transaction: &mut Transaction<'_>,
        family: Family,
        ports: &PortElements,
        foreign: &[InterfaceName],
    ) {
        ruleset::install(transaction, family);
        transaction.ensure_elements(FOREIGN.name, &foreign_elements(foreign));
        let own = self.own_sets(family);
        for (set, elements) in own.iter().map(|(set, e)| (*set, e)).chain(ports.sets(family)) {
            transaction.ensure_elements(set, elements);
        }
    }

    /// The elements of this network in the table of a family, whatever is attached to it.
    fn own_sets(&self, family: Family) -> [(&'static str, Elements); 5] {
        let key = nft::interface_key(&self.bridge);
        let within = [key.as_slice(), &key].concat();
        let only_if = |holds: bool, key: &[u8]| {
            let member = holds.then(|| Element::member(key.to_vec()));
            member.into_iter().collect::<Elements>()
        };
        let of_family = self.subnets.iter().filter(|subnet| subnet.family() == family);
        [
            (INTERNAL.name, only_if(self.passage.internal, &key)),
            (UNMASQUERADED.name, only_if(self.passage.unmasqueraded, &key)),
            (PASSAGES.name, only_if(!self.passage.isolated, &within)),
            (BRIDGES.name, vec![Element::member(key)]),
            (NETWORKS.name, of_family.flat_map(|subnet| nft::network_elements(*subnet)).collect()),
        ]
    }

    fn commit(&self, transaction: Transaction<'_>) -> Result<(), coracle_sys::Error> {
        if transaction.is_empty() {
            return Ok(());
        }
        let mut settled = self.lock();
        self.socket.request(&transaction.finish())?;
        *settled = settled.map(|generation| generation.wrapping_add(1));
        Ok(())
    }

    fn generation(&self) -> Result<u32> {
        let replies = self
            .socket
            .request(&[nft::get_generation()])
            .attempt(|| String::from("ask for the generation of the firewall's rules"))?;
        // A kernel that sends something else is treated as one that has changed.
        Ok(nft::parse_generation(&replies).unwrap_or_default())
    }

    fn list(&self, message: &Message) -> Result<Vec<Reply>> {
        let listed = absent(self.socket.dump(message)).attempt(|| format!("list table {}", self.table))?;
        Ok(listed.unwrap_or_default())
    }

    fn lock(&self) -> MutexGuard<'_, Option<u32>> {
        // A number is whole even if a holder panicked.
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn foreign_elements(bridges: &[InterfaceName]) -> Elements {
    bridges.iter().map(|name| Element::member(nft::interface_key(name))).collect()
}

/// `None` when the object asked about does not exist.
pub(crate) fn absent<T>(result: coracle_sys::Result<T>) -> coracle_sys::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.errno() == Some(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a refusal to publish means that another endpoint has one of the ports.
pub(crate) fn is_taken(error: &coracle_sys::Error) -> bool {
    matches!(error.errno(), Some(Errno::EXIST | Errno::BUSY))
}

/// The refusal to publish `ports`, as the caller sees it.
pub(crate) fn refusal(error: coracle_sys::Error, ports: &[Published]) -> Error {
    match ports {
        [first, ..] if is_taken(&error) => Error::PortTaken { address: first.host_ip, port: first.host_port },
        _ => Error::Kernel { attempt: String::from("publish ports"), source: error },
    }
}
