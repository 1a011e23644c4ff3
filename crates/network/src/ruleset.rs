//! The constant content of an engine's tables, one for each family: no network and no container adds a rule, only elements.
//!
//! ```text
//! set bridges    { name of a bridge of ours }                 set passages { bridge . same bridge }
//! set networks   { addresses of its containers }             set foreign  { name of a bridge of Docker's }
//! set internal   { name of an internal network's bridge }     set unmasqueraded { name of one whose addresses others know }
//! map published  { transport . address . port : target }      map published_anywhere { transport . port : target }
//!
//! guard        prerouting, before conntrack: nobody but this host speaks to or as 127.0.0.0/8, in IPv4
//! prerouting   packets for this host → publish                output       likewise for this host's own
//! publish      by address, then by port                       postrouting  masquerade
//! forward      into a bridge: answers, the same bridge, published ports; nothing else. Into Docker's: published ports
//! ```
//!
//! `passages` has no bridge whose containers are kept apart: what they route to each other falls through to the last rules.
//!
//! A set whose kind changes between versions gets another name: older kernels keep the old definition in silence.
//!
//! In IPv6 there is no `route_localnet`: what is sent to `::1`, and by who has a link-local address only, is not translated, and
//! comes to the socket that the shim relays from. The kernel itself drops `::1` on every wire.
//!
//! The guard makes `route_localnet` on the bridges safe (CVE-2020-8558). `forward` keeps a port published on
//! 127.0.0.1 from a neighbour who routes to the container's own address (moby#45610). Only packets for this host are
//! translated (CVE-2025-67499).

use std::net::Ipv6Addr;

use coracle_sys::netlink::route::Family;

use crate::nft::{Chain, Ct, Header, Hook, Meta, Rule, Set, SetKind, Transaction, Verdict};

pub(crate) const BRIDGES: Set = Set { name: "bridges", kind: SetKind::Interfaces };
pub(crate) const PASSAGES: Set = Set { name: "passages", kind: SetKind::Passages };
pub(crate) const FOREIGN: Set = Set { name: "foreign", kind: SetKind::Interfaces };
pub(crate) const INTERNAL: Set = Set { name: "internal", kind: SetKind::Interfaces };
pub(crate) const UNMASQUERADED: Set = Set { name: "unmasqueraded", kind: SetKind::Interfaces };
pub(crate) const NETWORKS: Set = Set { name: "networks", kind: SetKind::Networks };
pub(crate) const PUBLISHED: Set = Set { name: "published", kind: SetKind::PortsByAddress };
pub(crate) const PUBLISHED_ANYWHERE: Set = Set { name: "published_anywhere", kind: SetKind::Ports };
pub(crate) const SETS: [Set; 8] =
    [BRIDGES, PASSAGES, FOREIGN, INTERNAL, UNMASQUERADED, NETWORKS, PUBLISHED, PUBLISHED_ANYWHERE];

const PRIORITY_RAW: i32 = -300;
const PRIORITY_DESTINATION: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE: i32 = 100;

const GUARD: Chain = Chain { name: "guard", base: Some(("filter", Hook::Prerouting, PRIORITY_RAW)) };
const PUBLISH: Chain = Chain { name: "publish", base: None };
const PREROUTING: Chain =
    Chain { name: "prerouting", base: Some(("nat", Hook::Prerouting, PRIORITY_DESTINATION)) };
const OUTPUT: Chain = Chain { name: "output", base: Some(("nat", Hook::Output, PRIORITY_DESTINATION)) };
const POSTROUTING: Chain =
    Chain { name: "postrouting", base: Some(("nat", Hook::Postrouting, PRIORITY_SOURCE)) };
const FORWARD: Chain = Chain { name: "forward", base: Some(("filter", Hook::Forward, PRIORITY_FILTER)) };
const CHAINS: [Chain; 6] = [GUARD, PUBLISH, PREROUTING, OUTPUT, POSTROUTING, FORWARD];

type Placed = (&'static str, Rule);

/// Every rule of the table of a family with its chain, in order.
pub(crate) fn rules(family: Family) -> impl Iterator<Item = Placed> {
    let new = move |comment| Rule::new(family, comment);
    let own = match family {
        Family::V4 => of_v4(new),
        Family::V6 => of_v6(new),
    };
    own.into_iter().chain(translation(new)).chain(masquerade(new)).chain(passage(new))
}

/// Nobody but this host speaks to or as 127.0.0.0/8, which containers' ports are published on all the same.
fn of_v4(new: impl Fn(&'static str) -> Rule) -> Vec<Placed> {
    vec![
        (
            GUARD.name,
            new("containers do not speak to 127.0.0.0/8 of the host")
                .interface_in(Meta::InputName, BRIDGES.name)
                .in_loopback_net(Header::Destination)
                .verdict(Verdict::Drop),
        ),
        (
            GUARD.name,
            new("containers do not speak as 127.0.0.0/8")
                .interface_in(Meta::InputName, BRIDGES.name)
                .in_loopback_net(Header::Source)
                .verdict(Verdict::Drop),
        ),
        (
            PREROUTING.name,
            new("127.0.0.0/8 belongs to this host alone")
                .not_from_loopback()
                .in_loopback_net(Header::Destination)
                .verdict(Verdict::Return),
        ),
        (
            POSTROUTING.name,
            new("a published port used through 127.0.0.1")
                .interface_in(Meta::OutputName, BRIDGES.name)
                .in_loopback_net(Header::Source)
                .masquerade(),
        ),
    ]
}

/// What cannot be translated stays here, where the shim relays it.
fn of_v6(new: impl Fn(&'static str) -> Rule) -> Vec<Placed> {
    vec![
        (
            PUBLISH.name,
            new("::1 belongs to this host alone")
                .destination_is(Ipv6Addr::LOCALHOST.into())
                .verdict(Verdict::Return),
        ),
        (
            PUBLISH.name,
            new("link-local addresses are not forwarded").source_is_link_local().verdict(Verdict::Return),
        ),
    ]
}

/// Packets for published ports go to containers.
fn translation(new: impl Fn(&'static str) -> Rule) -> [Placed; 4] {
    [
        (PUBLISH.name, new("ports published on one address").translate_by_address(PUBLISHED.name)),
        (PUBLISH.name, new("ports published everywhere").translate_by_port(PUBLISHED_ANYWHERE.name)),
        (PREROUTING.name, new("published ports").for_this_host().verdict(Verdict::Jump(PUBLISH.name))),
        (
            OUTPUT.name,
            new("published ports, from this host").for_this_host().verdict(Verdict::Jump(PUBLISH.name)),
        ),
    ]
}

/// Packets whose answers would not find back otherwise leave under the host's address.
fn masquerade(new: impl Fn(&'static str) -> Rule) -> [Placed; 2] {
    [
        (
            POSTROUTING.name,
            new("a published port used from a container")
                // By address: where br_netfilter is loaded, packets have no input interface here.
                .source_in(NETWORKS.name)
                .interface_in(Meta::OutputName, BRIDGES.name)
                .connection(Ct::DestinationTranslated)
                .masquerade(),
        ),
        (
            POSTROUTING.name,
            new("containers to the outside")
                .interface_in(Meta::InputName, BRIDGES.name)
                .interface_not_in(Meta::InputName, UNMASQUERADED.name)
                .interface_not_in(Meta::OutputName, BRIDGES.name)
                .masquerade(),
        ),
    ]
}

/// What may be forwarded into a bridge of ours, and by our containers into one of Docker's.
fn passage(new: impl Fn(&'static str) -> Rule) -> [Placed; 6] {
    [
        (FORWARD.name, new("within one bridge").passage_in(PASSAGES.name).verdict(Verdict::Accept)),
        (
            FORWARD.name,
            new("nothing leaves an internal network")
                .interface_in(Meta::InputName, INTERNAL.name)
                .verdict(Verdict::Drop),
        ),
        (
            FORWARD.name,
            new("nothing comes into an internal network")
                .interface_in(Meta::OutputName, INTERNAL.name)
                .verdict(Verdict::Drop),
        ),
        (
            FORWARD.name,
            new("answers to containers")
                .interface_in(Meta::OutputName, BRIDGES.name)
                .connection(Ct::Known)
                .verdict(Verdict::Accept),
        ),
        (
            FORWARD.name,
            new("everything but published ports")
                .interface_in(Meta::OutputName, BRIDGES.name)
                .connection_without(Ct::DestinationTranslated)
                .verdict(Verdict::Drop),
        ),
        (
            FORWARD.name,
            new("everything but ports that Docker published")
                .interface_in(Meta::InputName, BRIDGES.name)
                .interface_in(Meta::OutputName, FOREIGN.name)
                .connection_without(Ct::DestinationTranslated)
                .verdict(Verdict::Drop),
        ),
    ]
}

/// Creates what is missing of the table that the transaction has turned to, which is that of `family`, and replaces all rules,
/// at once: packets never meet half a table.
pub(crate) fn install(transaction: &mut Transaction<'_>, family: Family) {
    transaction.add_table();
    for (set, id) in SETS.into_iter().zip(1..) {
        transaction.add_set(set, id);
    }
    for chain in CHAINS {
        transaction.add_chain(chain);
    }
    for chain in CHAINS {
        transaction.flush_chain(chain.name);
    }
    for (chain, rule) in rules(family) {
        transaction.append_rule(chain, &rule);
    }
}
