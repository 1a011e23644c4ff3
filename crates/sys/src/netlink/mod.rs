//! Netlink, the part every protocol shares: attributes, messages and the socket; and rtnetlink's messages.
//!
//! What lives here knows how to ask and how to read an answer. nftables and conntrack messages are built with the
//! same [`Attributes`] by the crate that owns the firewall, not here.

mod attributes;
pub mod route;
mod socket;

pub use attributes::{Attribute, Attributes, parse};
pub use socket::{Protocol, Socket};

/// Flags of a message header, from `linux/netlink.h`.
pub mod flags {
    /// It is a request.
    pub const REQUEST: u16 = 0x1;
    /// Answer with an acknowledgement even when it succeeds.
    pub const ACK: u16 = 0x4;
    /// List all objects.
    pub const DUMP: u16 = 0x300;
    /// Fail if the object exists.
    pub const EXCL: u16 = 0x200;
    /// Create the object if it does not exist.
    pub const CREATE: u16 = 0x400;
    /// Add at the end of a list.
    pub const APPEND: u16 = 0x800;
}

/// One request: a protocol's fixed header followed by attributes.
#[derive(Debug, Clone)]
pub struct Message {
    /// The message type, as the protocol's header spells it; for errors.
    pub call: &'static str,
    /// What it is about; for errors.
    pub subject: String,
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`; [`flags::REQUEST`] is added when it is sent.
    pub flags: u16,
    /// The protocol's fixed header and the attributes.
    pub body: Attributes,
}

/// One message of an answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// `nlmsg_type`.
    pub kind: u16,
    /// Everything behind the netlink header.
    pub body: Vec<u8>,
}
