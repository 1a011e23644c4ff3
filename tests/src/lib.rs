//! The end-to-end suite: the unmodified docker command against an engine, which is ours or, with `TARGET=unix:///…`, the
//! original.
//!
//! Each test starts an engine with a data root, an exec root, a socket, a bridge and a cgroup of its own, and takes it
//! down again; [`engine::Engine`] checks then that nothing is left. Against the original each test uses names of its own.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a test that cannot go on fails"
)]

pub mod attested;
pub mod context;
pub mod door;
pub mod engine;
pub mod image;
pub mod layers;
pub mod leftovers;
pub mod lender;
pub mod moving;
pub mod mutation;
pub mod net;
pub mod output;
pub mod pipe;
pub mod plugins;
pub mod prepared;
pub mod pulse;
pub mod recipe;
pub mod registry;
pub mod schema;
pub mod shelf;
pub mod ssh;
pub mod users;
pub mod vendor;
pub mod web;
pub mod wiretap;

pub use engine::Engine;
pub use output::Output;

/// How often a test tries to win a race: `CORACLE_RACE_ITERATIONS`, or `few` where nobody asks for more.
pub fn race_iterations(few: u32) -> u32 {
    std::env::var("CORACLE_RACE_ITERATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}
