//! The command line against an engine: each test starts one of its own, or uses the one that `TARGET=unix:///…` names,
//! which may be Docker's.

mod auto_start;
mod containers;
mod images;
mod objects;
mod target;
mod terminal;
