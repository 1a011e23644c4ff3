//! Forgetting UDP flows: the kernel decides at a flow's first packet where it goes, and UDP flows have no end.

use std::net::IpAddr;

use coracle_sys::netlink::route::{Family, from_octets};
use coracle_sys::netlink::{Attributes, Message, Reply, Socket, flags, parse};
use rustix::io::Errno;

const SUBSYSTEM: u16 = 1;
const NEW: u16 = 0;
const GET: u16 = 1;
const DELETE: u16 = 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const FILTER: u16 = 25;
const FILTER_ORIGINAL_FLAGS: u16 = 1;
const FILTER_BY_PROTOCOL: u32 = 1 << 3;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const IPV4_SOURCE: u16 = 1;
const IPV6_SOURCE: u16 = 3;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_DESTINATION_PORT: u16 = 3;
const UDP: u8 = 17;

/// A UDP flow.
#[derive(Debug)]
pub(crate) struct Flow {
    /// The port it was sent to.
    pub(crate) port: u16,
    /// Who answers: after translation, the container.
    pub(crate) target: IpAddr,
    /// What identifies it, as the kernel wrote it.
    original: Vec<u8>,
}

/// Forgets the UDP flows of a family that `concerns` picks.
pub(crate) fn forget_udp(
    socket: &Socket,
    family: Family,
    concerns: impl Fn(&Flow) -> bool,
) -> coracle_sys::Result<()> {
    let flows = socket.dump(&list_udp(family))?;
    let chosen = flows.iter().filter_map(Flow::parse).filter(concerns);
    for delete in chosen.map(|flow| flow.delete(family)) {
        match socket.request(&[delete]) {
            Err(error) if error.errno() != Some(Errno::NOENT) => return Err(error),
            // Also when it ended by itself in between.
            _ => {}
        }
    }
    Ok(())
}

fn message(call: &'static str, kind: u16, flags: u16, family: Family) -> Message {
    let body = Attributes::with_header(&[family.number(), 0, 0, 0]);
    Message { call, subject: String::from("UDP flows"), kind: SUBSYSTEM << 8 | kind, flags, body }
}

/// The kernel filters by protocol since 5.8.
fn list_udp(family: Family) -> Message {
    let mut list = message("IPCTNL_MSG_CT_GET", GET, 0, family);
    list.body.nest(TUPLE_ORIGINAL, |tuple| {
        tuple.nest(TUPLE_PROTOCOL, |protocol| {
            protocol.put_u8(PROTOCOL_NUMBER, UDP);
        });
    });
    list.body.nest(FILTER, |filter| {
        filter.put_u32(FILTER_ORIGINAL_FLAGS, FILTER_BY_PROTOCOL);
    });
    list
}

impl Flow {
    fn parse(reply: &Reply) -> Option<Self> {
        if reply.kind != SUBSYSTEM << 8 | NEW {
            return None;
        }
        let tuple = |kind| parse(reply.body.get(4..).unwrap_or_default()).find(move |a| a.kind == kind);
        let (original, answer) = (tuple(TUPLE_ORIGINAL)?.value, tuple(TUPLE_REPLY)?.value);
        if field(original, TUPLE_PROTOCOL, PROTOCOL_NUMBER)? != [UDP] {
            return None;
        }
        let port = field(original, TUPLE_PROTOCOL, PROTOCOL_DESTINATION_PORT)?;
        let source = |kind| field(answer, TUPLE_IP, kind);
        let target = from_octets(source(IPV4_SOURCE).or_else(|| source(IPV6_SOURCE))?)?;
        let port = u16::from_be_bytes(port.try_into().ok()?);
        Some(Self { port, target, original: original.to_vec() })
    }

    fn delete(&self, family: Family) -> Message {
        let mut delete = message("IPCTNL_MSG_CT_DELETE", DELETE, flags::ACK, family);
        delete.body.nest(TUPLE_ORIGINAL, |tuple| {
            tuple.raw(&self.original);
        });
        delete
    }
}

fn field(tuple: &[u8], outer: u16, inner: u16) -> Option<&[u8]> {
    let list = parse(tuple).find(|a| a.kind == outer)?;
    Some(parse(list.value).find(|a| a.kind == inner)?.value)
}
