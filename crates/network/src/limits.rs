//! The bounds of this crate, all in one place.

/// Published ports of one endpoint: each is a descriptor in its shim and an element in the kernel.
pub const PORTS_PER_ENDPOINT: usize = 16_384;

/// Largest network, as the length of its prefix: nothing that routes has more.
pub const SHORTEST_PREFIX: u8 = 8;

/// Bits for hosts of the smallest network: it has a gateway and a container.
pub const HOST_BITS: u8 = 2;

/// Elements in one `NFT_MSG_NEWSETELEM`: the list is an attribute, whose length has 16 bits.
pub const ELEMENTS_PER_MESSAGE: usize = 1000;

/// The most that is read of the host's resolv.conf, in bytes.
pub const RESOLV_CONF: u64 = 64 << 10;

/// Connections that may wait for the shim to relay them.
pub const RELAY_BACKLOG: i32 = 128;

/// How often a random host port is drawn again when another socket listens on it already.
pub const RANDOM_PORT_TRIES: usize = 16;
