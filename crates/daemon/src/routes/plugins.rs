//! The routes of managed plugins, of which this engine has none and takes none.

use super::not_found;
use crate::answer::{Answer, ok};
use crate::error::Failure;
use hyper::StatusCode;

/// Whether a call comes with a document, which Docker looks at before it looks for the plugin.
pub(super) fn has_document(method: &str, rest: &[&str]) -> bool {
    method == "POST" && matches!(rest, ["pull"] | [_, .., "set" | "upgrade"])
}

/// Answers a call.
pub(super) fn route(method: &str, rest: &[&str]) -> Answer {
    match (method, rest) {
        ("GET", []) => ok(&[(); 0]),
        ("GET", ["privileges"]) | ("POST", ["pull" | "create"]) => Err(Failure::new(
            StatusCode::NOT_IMPLEMENTED,
            "this engine takes no plugins: volumes are of the driver local, networks of the driver bridge",
        )),
        // Names of plugins may have slashes.
        ("GET", [name @ .., "json"])
        | ("POST", [name @ .., "enable" | "disable" | "push" | "set" | "upgrade"])
        | ("DELETE", name)
            if !name.is_empty() =>
        {
            Err(Failure::new(StatusCode::NOT_FOUND, format!("plugin \"{}\" not found", name.join("/"))))
        }
        _ => Err(not_found()),
    }
}
