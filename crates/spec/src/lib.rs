//! Names and documents as data: digests, references, platforms, ids, image manifests and image configurations, devices
//! of the Container Device Interface.
//!
//! Everything here parses and prints; nothing reads a file or a socket. What a client or a registry sends becomes a
//! type here first, and a value of such a type is proof that the grammar was checked.
#![forbid(unsafe_code)]

pub mod cdi;
pub mod digest;
pub mod id;
pub mod image;
mod lenient;
pub mod limits;
mod mode;
pub mod owners;
pub mod platform;
pub mod reference;
pub mod runtime;
pub mod size;
mod truth;
mod yaml;

pub use digest::Digest;
pub use id::{ContainerId, Name};
pub use mode::ModeChange;
pub use owners::Owners;
pub use platform::Platform;
pub use reference::{Reference, Tag};
pub use truth::truth;

/// Why a text is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text does not follow the grammar of what it should name.
    #[error("invalid {what} {text:?}: {reason}")]
    Grammar {
        /// What was parsed: `digest`, `reference`, `platform`.
        what: &'static str,
        /// The offending text, shortened.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A document is larger than a reader accepts.
    #[error("{what} of {size} bytes is larger than the {limit} allowed")]
    TooLarge {
        /// Which document.
        what: &'static str,
        /// Its size, in bytes, or its number of elements.
        size: usize,
        /// The bound, in the same unit.
        limit: usize,
    },
    /// A document is not the JSON that its kind demands.
    #[error("cannot parse {what}")]
    Json {
        /// Which document.
        what: &'static str,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A document contradicts itself or its media type.
    #[error("invalid {what}: {reason}")]
    Document {
        /// Which document.
        what: &'static str,
        /// The contradiction.
        reason: &'static str,
    },
    /// A specification of devices is none.
    #[error("invalid CDI specification: {reason}")]
    Devices {
        /// What is wrong with it, and where.
        reason: String,
    },
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    fn grammar(what: &'static str, text: &str, reason: &'static str) -> Self {
        let text = text.chars().take(limits::SHOWN).collect();
        Self::Grammar { what, text, reason }
    }
}

/// The text of an error with its causes, each after a colon; a cause that its effect ends with is not said twice.
pub fn full_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn an_error_is_told_with_its_causes_and_none_of_them_twice() {
        let layer = |text, source: Option<Layer>| Layer { text, source: source.map(Box::new) };
        let error = layer("open a: no such file", Some(layer("no such file", Some(layer("errno 2", None)))));
        assert_eq!(full_text(&error), "open a: no such file: errno 2");
    }
}
