//! Images on their way from engine to engine, without a registry: over a pipe that ssh or anything else makes.
//!
//! ```text
//! sender    hello  image, documents            data…  data…            end
//! receiver  hello                   wanted                   here…  done
//! ```
//!
//! The sender names an image and what it consists of; the receiver asks for the layers that it lacks, each from where an
//! earlier attempt broke off; what comes is unpacked while it comes. Neither trusts the other: `receive.rs` believes
//! nothing that its digest does not prove, and `send.rs` gives nothing but what it has offered (`offer.rs`, `parcel.rs`).
//! `wire.rs` has the frames.

mod meant;
mod offer;
mod parcel;
mod receive;
mod send;
#[cfg(test)]
mod tests;
mod wire;

pub use send::{SendRequest, Sending};

use crate::error::Error;

/// What the other side says of its failure, or does not say.
fn other_side(text: &str) -> Error {
    Error::Missing(format!("the other side: {text}"))
}

/// The other side does what no honest one does.
fn broken(reason: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("the other side does not keep to the protocol: {reason}"))
}
