//! Rules as chains of expressions, each a step of the kernel's small virtual machine.

use std::net::IpAddr;

use coracle_sys::netlink::Attributes;
use coracle_sys::netlink::route::{Family, InterfaceName, octets};

const LIST_ELEMENT: u16 = 1;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USERDATA: u16 = 7;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const USERDATA_COMMENT: u8 = 0;

/// The verdict register.
const VERDICT: u32 = 0;
/// The first 16-byte register; [`WORD`] is its first 4 bytes.
const FIRST: u32 = 1;
const SECOND: u32 = 2;
/// The first 4-byte register.
const WORD: u32 = 8;

const COMPARE_EQUAL: u32 = 0;
const COMPARE_DIFFERENT: u32 = 1;
const LOOKUP_INVERTED: u32 = 1;
const PAYLOAD_NETWORK: u32 = 1;
const PAYLOAD_TRANSPORT: u32 = 2;
const FIB_ADDRESS_TYPE: u32 = 3;
const FIB_DESTINATION: u32 = 2;
const ADDRESS_TYPE_LOCAL: u32 = 2;
const NAT_DESTINATION: u32 = 1;

/// A property of the packet that is not in its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Meta {
    InputName = 6,
    OutputName = 7,
    Transport = 16,
}

/// A property of the packet's connection, with the bits that match.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ct {
    /// The connection is established or related to one that is.
    Known,
    /// The connection's destination was translated.
    DestinationTranslated,
}

/// What happens to a packet that a rule matches.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(&'static str),
}

/// Which address of a packet's header.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Header {
    Source,
    Destination,
}

impl Header {
    /// Where it is in the header, and its length, in bytes.
    fn place(self, family: Family) -> (u32, u32) {
        match (family, self) {
            (Family::V4, Self::Source) => (12, 4),
            (Family::V4, Self::Destination) => (16, 4),
            (Family::V6, Self::Source) => (8, 16),
            (Family::V6, Self::Destination) => (24, 16),
        }
    }
}

/// One rule of a table of one family: matches in order, then what to do. The comment names it in listings and when it is
/// looked for.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    family: Family,
    expressions: Attributes,
    pub(crate) comment: String,
}

impl Rule {
    pub(crate) fn new(family: Family, comment: impl Into<String>) -> Self {
        Self { family, expressions: Attributes::default(), comment: comment.into() }
    }

    /// The interface's name is in a set of names.
    pub(crate) fn interface_in(mut self, which: Meta, set: &str) -> Self {
        self.load_meta(which, FIRST);
        self.lookup(set, FIRST, None, 0);
        self
    }

    /// The interface's name is not in a set of names; also when there is no interface.
    pub(crate) fn interface_not_in(mut self, which: Meta, set: &str) -> Self {
        self.load_meta(which, FIRST);
        self.lookup(set, FIRST, None, LOOKUP_INVERTED);
        self
    }

    /// The pair of input and output names is in a set of pairs.
    pub(crate) fn passage_in(mut self, set: &str) -> Self {
        self.load_meta(Meta::InputName, FIRST);
        self.load_meta(Meta::OutputName, SECOND);
        self.lookup(set, FIRST, None, 0);
        self
    }

    /// The interface has this name. Compares the name and its NUL, as iptables does, so that it can list the rule.
    pub(crate) fn interface_is(mut self, which: Meta, name: &InterfaceName) -> Self {
        self.load_meta(which, FIRST);
        let mut bytes = name.as_str().as_bytes().to_vec();
        bytes.push(0);
        self.compare(FIRST, COMPARE_EQUAL, &bytes);
        self
    }

    /// The packet did not come in through the loopback.
    pub(crate) fn not_from_loopback(mut self) -> Self {
        self.load_meta(Meta::InputName, FIRST);
        self.compare(FIRST, COMPARE_DIFFERENT, b"lo\0");
        self
    }

    /// An address of the header is in 127.0.0.0/8, which is IPv4's alone.
    pub(crate) fn in_loopback_net(mut self, which: Header) -> Self {
        let (offset, _) = which.place(self.family);
        self.load_payload(PAYLOAD_NETWORK, offset, 1, FIRST);
        self.compare(FIRST, COMPARE_EQUAL, &[127]);
        self
    }

    /// The source address is in fe80::/10, which no packet that is forwarded has (RFC 4291, 2.5.6).
    pub(crate) fn source_is_link_local(mut self) -> Self {
        let (offset, _) = Header::Source.place(self.family);
        self.load_payload(PAYLOAD_NETWORK, offset, 2, FIRST);
        self.expression("bitwise", |data| {
            data.put_be32(1, FIRST).put_be32(2, FIRST).put_be32(3, 2);
            data.nest(4, |mask| {
                mask.put(DATA_VALUE, &[0xff, 0xc0]);
            });
            data.nest(5, |xor| {
                xor.put(DATA_VALUE, &[0; 2]);
            });
        });
        self.compare(FIRST, COMPARE_EQUAL, &[0xfe, 0x80]);
        self
    }

    /// The source address is in a set of networks.
    pub(crate) fn source_in(mut self, set: &str) -> Self {
        self.load_address(Header::Source, FIRST);
        self.lookup(set, FIRST, None, 0);
        self
    }

    /// The destination address is this one.
    pub(crate) fn destination_is(mut self, address: IpAddr) -> Self {
        self.load_address(Header::Destination, FIRST);
        self.compare(FIRST, COMPARE_EQUAL, &octets(address));
        self
    }

    /// The transport and its destination port are these.
    pub(crate) fn port_is(mut self, transport: u8, port: u16) -> Self {
        self.load_meta(Meta::Transport, FIRST);
        self.compare(FIRST, COMPARE_EQUAL, &[transport]);
        self.load_payload(PAYLOAD_TRANSPORT, 2, 2, FIRST);
        self.compare(FIRST, COMPARE_EQUAL, &port.to_be_bytes());
        self
    }

    /// The destination is an address of this host.
    pub(crate) fn for_this_host(mut self) -> Self {
        self.expression("fib", |data| {
            data.put_be32(1, FIRST).put_be32(2, FIB_ADDRESS_TYPE).put_be32(3, FIB_DESTINATION);
        });
        self.compare(FIRST, COMPARE_EQUAL, &ADDRESS_TYPE_LOCAL.to_ne_bytes());
        self
    }

    /// The connection has this property.
    pub(crate) fn connection(self, which: Ct) -> Self {
        self.connection_bits(which, COMPARE_DIFFERENT)
    }

    /// The connection does not have this property.
    pub(crate) fn connection_without(self, which: Ct) -> Self {
        self.connection_bits(which, COMPARE_EQUAL)
    }

    fn connection_bits(mut self, which: Ct, against_zero: u32) -> Self {
        // NFT_CT_STATE with established | related; NFT_CT_STATUS with IPS_DST_NAT. Both in host byte order.
        let (key, bits) = match which {
            Ct::Known => (0, 2 | 4u32),
            Ct::DestinationTranslated => (2, 1 << 5),
        };
        self.expression("ct", |data| {
            data.put_be32(1, FIRST).put_be32(2, key);
        });
        self.expression("bitwise", |data| {
            data.put_be32(1, FIRST).put_be32(2, FIRST).put_be32(3, 4);
            data.nest(4, |mask| {
                mask.put(DATA_VALUE, &bits.to_ne_bytes());
            });
            data.nest(5, |xor| {
                xor.put(DATA_VALUE, &[0; 4]);
            });
        });
        self.compare(FIRST, against_zero, &[0; 4]);
        self
    }

    /// Counts packets; iptables expects it in its tables.
    pub(crate) fn counted(mut self) -> Self {
        self.expression("counter", |_| {});
        self
    }

    /// Decides.
    pub(crate) fn verdict(mut self, verdict: Verdict) -> Self {
        let (code, chain) = match verdict {
            Verdict::Drop => (0, None),
            Verdict::Accept => (1, None),
            Verdict::Jump(chain) => (-3, Some(chain)),
            Verdict::Return => (-5, None),
        };
        self.expression("immediate", |data| {
            data.put_be32(1, VERDICT).nest(2, |nest| {
                nest.nest(DATA_VERDICT, |value| {
                    value.put_be32(VERDICT_CODE, i32::cast_unsigned(code));
                    if let Some(chain) = chain {
                        value.put_str(VERDICT_CHAIN, chain);
                    }
                });
            });
        });
        self
    }

    /// Redirects to the address and port that the map has for transport, destination address and port.
    pub(crate) fn translate_by_address(mut self, map: &str) -> Self {
        self.load_meta(Meta::Transport, WORD);
        self.load_address(Header::Destination, WORD + 1);
        self.load_payload(PAYLOAD_TRANSPORT, 2, 2, WORD + 1 + self.words());
        self.lookup(map, WORD, Some(WORD), 0);
        self.translate();
        self
    }

    /// Redirects to the address and port that the map has for transport and destination port.
    pub(crate) fn translate_by_port(mut self, map: &str) -> Self {
        self.load_meta(Meta::Transport, WORD);
        self.load_payload(PAYLOAD_TRANSPORT, 2, 2, WORD + 1);
        self.lookup(map, WORD, Some(WORD), 0);
        self.translate();
        self
    }

    /// Redirects to a constant address and port.
    pub(crate) fn translate_to(mut self, address: IpAddr, port: u16) -> Self {
        self.load(WORD, &octets(address));
        self.load(WORD + self.words(), &port.to_be_bytes());
        self.translate();
        self
    }

    /// Gives the packet the address of the interface it leaves by.
    pub(crate) fn masquerade(mut self) -> Self {
        self.expression("masq", |_| {});
        self
    }

    /// Destination translation with the address in [`WORD`] and the port in the register after it.
    fn translate(&mut self) {
        let (family, port) = (self.family.number().into(), WORD + self.words());
        self.expression("nat", |data| {
            data.put_be32(1, NAT_DESTINATION).put_be32(2, family);
            data.put_be32(3, WORD).put_be32(5, port);
        });
    }

    /// How many registers of 4 bytes an address takes.
    fn words(&self) -> u32 {
        u32::from(self.family.width()) / 32
    }

    fn load_address(&mut self, which: Header, register: u32) {
        let (offset, length) = which.place(self.family);
        self.load_payload(PAYLOAD_NETWORK, offset, length, register);
    }

    fn load(&mut self, register: u32, value: &[u8]) {
        self.expression("immediate", |data| {
            data.put_be32(1, register).nest(2, |nest| {
                nest.put(DATA_VALUE, value);
            });
        });
    }

    fn load_meta(&mut self, key: Meta, register: u32) {
        self.expression("meta", |data| {
            data.put_be32(1, register).put_be32(2, key as u32);
        });
    }

    fn load_payload(&mut self, base: u32, offset: u32, length: u32, register: u32) {
        self.expression("payload", |data| {
            data.put_be32(1, register).put_be32(2, base).put_be32(3, offset).put_be32(4, length);
        });
    }

    fn compare(&mut self, register: u32, operator: u32, value: &[u8]) {
        self.expression("cmp", |data| {
            data.put_be32(1, register).put_be32(2, operator).nest(3, |nest| {
                nest.put(DATA_VALUE, value);
            });
        });
    }

    fn lookup(&mut self, set: &str, register: u32, result: Option<u32>, flags: u32) {
        self.expression("lookup", |data| {
            data.put_str(1, set).put_be32(2, register);
            if let Some(result) = result {
                data.put_be32(3, result);
            }
            if flags != 0 {
                data.put_be32(5, flags);
            }
        });
    }

    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Attributes)) {
        self.expressions.nest(LIST_ELEMENT, |element| {
            element.put_str(EXPRESSION_NAME, name).nest(EXPRESSION_DATA, fill);
        });
    }

    pub(super) fn write(&self, body: &mut Attributes) {
        body.nest(RULE_EXPRESSIONS, |list| {
            list.raw(self.expressions.as_bytes());
        });
        let mut comment = vec![USERDATA_COMMENT, 0];
        comment.extend_from_slice(self.comment.as_bytes());
        comment.push(0);
        comment[1] = u8::try_from(comment.len() - 2).expect("comments are shorter than 128 bytes");
        body.put(RULE_USERDATA, &comment);
    }
}

/// The comment in a rule's user data: one byte of type, one of length, the text with its NUL.
pub(crate) fn comment_of(userdata: &[u8]) -> Option<String> {
    let mut rest = userdata;
    while let [kind, length, tail @ ..] = rest {
        let value = tail.get(..usize::from(*length))?;
        if *kind == USERDATA_COMMENT {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return std::str::from_utf8(text).ok().map(str::to_owned);
        }
        rest = &tail[value.len()..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_reads_back_behind_other_user_data_and_garbage_has_none() {
        assert_eq!(comment_of(&[0, 3, b'a', b'b', 0]).as_deref(), Some("ab"));
        assert_eq!(comment_of(&[7, 2, 0, 0, 0, 2, b'a', 0]).as_deref(), Some("a"));
        for garbage in [&[][..], &[0], &[0, 9, 1], &[5, 0], &[0, 1, 0xff]] {
            assert_eq!(comment_of(garbage), None, "{garbage:?}");
        }
    }
}
