//! The command line against a daemon: `TARGET=unix:///… cargo test -p coracle`, where the daemon may be Coracle's or
//! Docker's. Without `TARGET` each test says that it was skipped. They need root's busybox at `/bin/busybox`, static.

mod containers;
mod images;
mod objects;
mod target;
mod terminal;
