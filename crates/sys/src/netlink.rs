//! Netlink sockets and messages.
