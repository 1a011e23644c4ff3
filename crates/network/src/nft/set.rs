//! Sets and maps, and their elements.

use std::net::IpAddr;

use coracle_sys::netlink::route::{Family, InterfaceName, from_octets, octets};
use coracle_sys::netlink::{Attributes, Message, Reply, flags, parse};

use super::{Transaction, attributes, is, message};
use crate::limits::ELEMENTS_PER_MESSAGE;
use crate::subnet::Subnet;

const NEWSET: u16 = 9;
const NEWSETELEM: u16 = 12;
const GETSETELEM: u16 = 13;
const DELSETELEM: u16 = 14;

const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_LENGTH: u16 = 5;
const SET_DATA_TYPE: u16 = 6;
const SET_DATA_LENGTH: u16 = 7;
const SET_ID: u16 = 10;
const SET_USERDATA: u16 = 13;
const FLAG_INTERVAL: u32 = 4;
const FLAG_MAP: u32 = 8;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_FLAGS: u16 = 3;
const FLAG_INTERVAL_END: u32 = 1;
const DATA_VALUE: u16 = 1;

/// nft's numbers of types; the kernel only keeps them, so that listings can be read.
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_SERVICE: u32 = 13;
const TYPE_INTERFACE: u32 = 41;
/// Key byte order is that of the host, without which nft prints interface names as empty.
const USERDATA_HOST_ORDER: [u8; 6] = [0, 4, 1, 0, 0, 0];

/// What a set's keys are, and a map's values.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SetKind {
    /// Names of interfaces.
    Interfaces,
    /// Pairs of names: input, output.
    Passages,
    /// Transport, address and port, to address and port.
    PortsByAddress,
    /// Transport and port, to address and port.
    Ports,
    /// Networks, as intervals of addresses.
    Networks,
}

/// A set or map of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) kind: SetKind,
}

/// An element of a set: a key, or the end of an interval that begins with the element before.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Element {
    pub(crate) key: Vec<u8>,
    /// A map's value; empty in a plain set.
    pub(crate) value: Vec<u8>,
    ends_interval: bool,
}

/// Elements of one set.
pub(crate) type Elements = Vec<Element>;

impl Element {
    /// An element of a plain set.
    pub(crate) fn member(key: Vec<u8>) -> Self {
        Self { key, value: Vec::new(), ends_interval: false }
    }

    /// An element of a map.
    pub(crate) fn entry(key: Vec<u8>, value: Vec<u8>) -> Self {
        Self { key, value, ends_interval: false }
    }
}

/// The elements that make up one network in [`SetKind::Networks`].
pub(crate) fn network_elements(subnet: Subnet) -> Elements {
    let mut elements = vec![Element::member(octets(subnet.network()))];
    // The first address behind it; the last network of all has none and stays open.
    if let Some(behind) = successor(octets(subnet.last())) {
        elements.push(Element { ends_interval: true, ..Element::member(behind) });
    }
    elements
}

/// The number that comes next, in network byte order.
fn successor(mut number: Vec<u8>) -> Option<Vec<u8>> {
    let least = number.iter().rposition(|octet| *octet != u8::MAX)?;
    number[least] += 1;
    number[least + 1..].fill(0);
    Some(number)
}

/// The key of [`SetKind::Interfaces`].
pub(crate) fn interface_key(name: &InterfaceName) -> Vec<u8> {
    let mut key = name.as_str().as_bytes().to_vec();
    key.resize(16, 0);
    key
}

/// The key of [`SetKind::PortsByAddress`]: each part padded to four bytes, as concatenations are.
pub(crate) fn address_port_key(transport: u8, address: IpAddr, port: u16) -> Vec<u8> {
    [vec![transport, 0, 0, 0], octets(address), padded(port)].concat()
}

/// The key of [`SetKind::Ports`].
pub(crate) fn port_key(transport: u8, port: u16) -> Vec<u8> {
    [vec![transport, 0, 0, 0], padded(port)].concat()
}

/// The value of both maps.
pub(crate) fn target_value(address: IpAddr, port: u16) -> Vec<u8> {
    [octets(address), padded(port)].concat()
}

/// The address in a value of both maps, in the table of a family.
pub(crate) fn target_address(family: Family, value: &[u8]) -> Option<IpAddr> {
    from_octets(value.get(..usize::from(family.width() / 8))?)
}

fn padded(port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![high, low, 0, 0]
}

/// nft writes the type of a concatenation as its parts' numbers, six bits each.
fn concatenated(parts: &[u32]) -> u32 {
    parts.iter().fold(0, |whole, part| whole << 6 | part)
}

impl Transaction<'_> {
    pub(crate) fn add_set(&mut self, set: Set, id: u32) {
        let (address, length) = match self.family {
            Family::V4 => (TYPE_IPV4, 4),
            Family::V6 => (TYPE_IPV6, 16),
        };
        let (key_type, key_length, flags) = match set.kind {
            SetKind::Interfaces => (TYPE_INTERFACE, 16, 0),
            SetKind::Passages => (concatenated(&[TYPE_INTERFACE, TYPE_INTERFACE]), 32, 0),
            SetKind::PortsByAddress => {
                (concatenated(&[TYPE_PROTOCOL, address, TYPE_SERVICE]), 8 + length, FLAG_MAP)
            }
            SetKind::Ports => (concatenated(&[TYPE_PROTOCOL, TYPE_SERVICE]), 8, FLAG_MAP),
            SetKind::Networks => (address, length, FLAG_INTERVAL),
        };
        let body = self.push("NFT_MSG_NEWSET", NEWSET, flags::CREATE, set.name);
        body.put_str(SET_NAME, set.name).put_be32(SET_FLAGS, flags);
        body.put_be32(SET_KEY_TYPE, key_type).put_be32(SET_KEY_LENGTH, key_length);
        if flags == FLAG_MAP {
            let data_type = concatenated(&[address, TYPE_SERVICE]);
            body.put_be32(SET_DATA_TYPE, data_type).put_be32(SET_DATA_LENGTH, length + 4);
        }
        body.put_be32(SET_ID, id);
        if matches!(set.kind, SetKind::Interfaces) {
            body.put(SET_USERDATA, &USERDATA_HOST_ORDER);
        }
    }

    /// Adds elements; fails with `EEXIST` where a key is there already.
    pub(crate) fn claim_elements(&mut self, set: &str, elements: &Elements) {
        self.elements("NFT_MSG_NEWSETELEM", NEWSETELEM, flags::CREATE | flags::EXCL, set, elements);
    }

    /// Adds elements that may be there already; fails where a key is there with another value.
    pub(crate) fn ensure_elements(&mut self, set: &str, elements: &Elements) {
        self.elements("NFT_MSG_NEWSETELEM", NEWSETELEM, flags::CREATE, set, elements);
    }

    /// Deletes elements; fails with `ENOENT` where one is not there.
    pub(crate) fn delete_elements(&mut self, set: &str, elements: &Elements) {
        self.elements("NFT_MSG_DELSETELEM", DELSETELEM, 0, set, elements);
    }

    fn elements(&mut self, call: &'static str, kind: u16, flags: u16, set: &str, elements: &Elements) {
        for some in elements.chunks(ELEMENTS_PER_MESSAGE) {
            let body = self.push(call, kind, flags, set);
            body.put_str(LIST_SET, set).nest(LIST_ELEMENTS, |list| {
                for element in some {
                    list.nest(LIST_ELEMENT, |nest| element.write(nest));
                }
            });
        }
    }
}

impl Element {
    fn write(&self, nest: &mut Attributes) {
        nest.nest(ELEMENT_KEY, |data| {
            data.put(DATA_VALUE, &self.key);
        });
        if !self.value.is_empty() {
            nest.nest(ELEMENT_DATA, |data| {
                data.put(DATA_VALUE, &self.value);
            });
        }
        if self.ends_interval {
            nest.put_be32(ELEMENT_FLAGS, FLAG_INTERVAL_END);
        }
    }

    fn parse(nest: &[u8]) -> Option<Self> {
        let value = |kind: u16| {
            let data = parse(nest).find(|a| a.kind == kind)?;
            Some(parse(data.value).find(|a| a.kind == DATA_VALUE)?.value.to_vec())
        };
        let flags = parse(nest).find(|a| a.kind == ELEMENT_FLAGS).and_then(|a| a.be32()).unwrap_or_default();
        Some(Self {
            key: value(ELEMENT_KEY)?,
            value: value(ELEMENT_DATA).unwrap_or_default(),
            ends_interval: flags & FLAG_INTERVAL_END != 0,
        })
    }
}

/// Lists the elements of a set; `ENOENT` if there is no such set. The replies read with [`parse_elements`].
pub(crate) fn list_elements(family: Family, table: &str, set: &str) -> Message {
    let mut list = message("NFT_MSG_GETSETELEM", GETSETELEM, 0, (family, table), set);
    list.body.put_str(LIST_SET, set);
    list
}

/// Reads the replies to [`list_elements`].
pub(crate) fn parse_elements(replies: &[Reply]) -> Elements {
    let lists = replies.iter().filter(|reply| is(reply, NEWSETELEM));
    let elements = lists
        .flat_map(|reply| parse(attributes(reply)).filter(|a| a.kind == LIST_ELEMENTS))
        .flat_map(|list| parse(list.value));
    elements.filter_map(|element| Element::parse(element.value)).collect()
}
