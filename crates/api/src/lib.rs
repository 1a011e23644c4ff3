//! The wire types of the Engine API: request bodies, response bodies, query parameters and the error body, with
//! Go's habits where clients rely on them. No IO, no types of the engine, no decisions.
//!
//! How a field is declared says what goes over the wire, as Go's struct tags do:
//!
//! | declaration | sent when empty | Go |
//! |---|---|---|
//! | `T` | `""`, `0`, `false`, `[]`, `{}` | a value, or a slice that the daemon always allocates |
//! | `Option<T>` | `null` | a pointer, slice or map without `omitempty` |
//! | either, with `skip_serializing_if` | nothing | `omitempty` |
//!
//! Bodies are read with [`from_slice`], never with `serde_json` directly: it matches keys without regard to case and
//! takes `null` for "not given", as Go's decoder does (see [`go`]). Enumerations of the API stay strings here; the
//! engine refuses what it does not know, in Docker's words.
#![forbid(unsafe_code)]

pub mod auth;
pub mod base64;
pub mod build;
pub mod container;
pub mod error;
pub mod filters;
pub mod go;
pub mod image;
pub mod network;
pub mod progress;
pub mod query;
pub mod system;
pub mod version;
pub mod volume;

pub use error::ErrorBody;
pub use filters::Filters;
pub use go::{Empty, from_slice, list_from_slice};
pub use progress::ProgressMessage;
pub use query::Query;
pub use version::ApiVersion;

/// Tells serde to leave a number out when it is zero.
pub(crate) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
