//! What the Engine API's schema says of an answer: the operations, their parameters and their documents.
//!
//! `tests/schema/engine-api-1.53.json` holds it, made by `extract.py` beside it. What answers may have that it does not
//! allow, and why, is one table: `allowed.rs`. How connections are watched is in [`crate::wiretap`].

mod allowed;
mod exchange;
mod fault;
mod operation;
mod validate;

pub use exchange::{Answer, Exchange};
pub use fault::{Fault, Violation};
pub use operation::Operation;

use serde_json::Value;
use std::sync::OnceLock;

/// A version of the API: major and minor.
pub type Version = (u16, u16);

/// The newest version, which the schema describes.
pub const NEWEST: Version = (1, 53);

/// The schema of the Engine API.
#[derive(Debug)]
pub struct Schema {
    document: Value,
    operations: Vec<Operation>,
}

impl Schema {
    /// The schema, read once.
    pub fn get() -> &'static Self {
        static SCHEMA: OnceLock<Schema> = OnceLock::new();
        SCHEMA.get_or_init(|| {
            let document: Value =
                serde_json::from_str(include_str!("../../schema/engine-api-1.53.json")).unwrap();
            let operations = document["operations"].as_object().unwrap();
            let operations = operations.iter().map(|(name, node)| Operation::new(name, node)).collect();
            Self { document, operations }
        })
    }

    /// All operations.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The operation at a path that has no version in front.
    pub fn operation(&self, method: &str, path: &str) -> Option<&Operation> {
        let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let fitting = self.operations.iter().filter(|operation| operation.fits(method, &segments));
        // `/containers/json` is a list, and no container with that name.
        fitting.max_by_key(|operation| operation.literals())
    }

    /// A definition by its name.
    pub fn definition(&self, name: &str) -> &Value {
        let found = &self.document["definitions"][name];
        assert!(found.is_object(), "the schema has no definition {name}");
        found
    }
}

/// The version and the rest of a path: `/v1.44/info` is 1.44 and `/info`.
pub fn split_version(path: &str) -> (Version, &str) {
    let split = || {
        let (version, rest) = path.strip_prefix("/v")?.split_once('/')?;
        let (major, minor) = version.split_once('.')?;
        Some(((major.parse().ok()?, minor.parse().ok()?), &path[path.len() - rest.len() - 1..]))
    };
    split().unwrap_or((NEWEST, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_their_operations() {
        let schema = Schema::get();
        for (method, path, name) in [
            ("GET", "/containers/json", "GET /containers/json"),
            ("GET", "/containers/json/json", "GET /containers/{id}/json"),
            ("GET", "/containers/a/b/json", "GET /containers/{id}/json"),
            ("GET", "/images/localhost:5000/a/b:c/json", "GET /images/{name}/json"),
            ("DELETE", "/images/localhost/a", "DELETE /images/{name}"),
            ("GET", "/images/json", "GET /images/json"),
            ("GET", "/images/get", "GET /images/get"),
            ("POST", "/networks/create", "POST /networks/create"),
            ("GET", "/_ping", "GET /_ping"),
        ] {
            assert_eq!(schema.operation(method, path).unwrap().name(), name);
        }
        assert!(schema.operation("PATCH", "/info").is_none());
        assert!(schema.operation("GET", "/networks/a/b").is_none());
        assert_eq!(split_version("/v1.30/info"), ((1, 30), "/info"));
        assert_eq!(split_version("/info"), (NEWEST, "/info"));
        assert_eq!(split_version("/volumes/v1.2/x"), (NEWEST, "/volumes/v1.2/x"));
    }
}
