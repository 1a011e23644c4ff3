//! Container networking on one host: a bridge, veth pairs, addresses of IPv4 and IPv6, and published ports as nftables map elements.
//!
//! [`Driver`] is one network; several drivers of one engine share its nftables table. What a container needs while
//! it runs is in the kernel and in descriptors handed to its shim; the driver can be dropped and opened again at any
//! moment, and [`Driver::adopt`] tells it what it had. Names live in the crate `names`, policy in the engine.
//!
//! ```text
//! driver      validate → reserve ports → address → veth → routes → map elements, undone in reverse
//! endpoint    the plain data that goes in and comes out         subnet, pool   prefixes and who has which address
//! namespace   a container's network namespace with its resolver sockets
//! bridge      the network's bridge                               ports          host ports, held by sockets
//! firewall    the table: installed, verified, healed             ruleset        its constant content
//! exceptions  two accept rules in another engine's filter table  conntrack      forgetting UDP flows
//! nft         nftables messages                                  files          /etc/hosts and its neighbours
//! ```

#![forbid(unsafe_code)]

mod bridge;
mod conntrack;
mod driver;
mod endpoint;
mod error;
mod exceptions;
pub mod files;
mod firewall;
pub mod limits;
mod namespace;
mod nft;
mod pool;
mod ports;
mod ruleset;
mod subnet;

pub use coracle_sys::netlink::route::{Family, InterfaceName, Mac};
pub use driver::{Addressing, Config, Driver, EngineId, Healed, Passage, Swept};
pub use endpoint::{
    Address, DefaultRoute, Endpoint, EndpointRequest, HostPort, Protocol, PublishRequest, Published,
};
pub use error::{Error, Result};
pub use namespace::{DnsSockets, Namespace, RESOLVER};
pub use ports::Held;
pub use subnet::{
    AddressPool, Subnet, claim_subnets, default_subnet, first_host, free_subnet, highest, lowest, prefix,
};
