//! What somebody means who names an image.

use super::catalogue::{Catalogue, Known};
use crate::error::{Error, Result};
use coracle_spec::{Digest, Reference};
use std::sync::Arc;

impl Catalogue {
    /// Finds an image. A whole id is an id; then names count, and what is no name may be the beginning of an id.
    pub(super) fn find(&self, wanted: &str) -> Result<&Arc<Known>> {
        if let Some(id) = whole_id(wanted) {
            return self.get(&id).ok_or_else(|| not_found(wanted));
        }
        let reference = parse(wanted)?;
        let named = self.named(&key(reference.clone()));
        let found = named.or_else(|| beginning(wanted).and_then(|hex| self.beginning_with(hex)));
        found.ok_or_else(|| not_found(&reference.or_latest().familiar()))
    }
}

/// Whether a name that led to `id` is a beginning of that id, and not one of its names.
pub(super) fn is_beginning_of(id: &Digest, wanted: &str) -> bool {
    beginning(wanted).is_some_and(|hex| id.hex().starts_with(hex))
}

/// A reference as people type it.
pub(super) fn parse(text: &str) -> Result<Reference> {
    text.parse().map_err(|error| match error {
        coracle_spec::Error::Grammar { reason: "repository name must be lowercase", .. } => {
            let name = text.split([':', '@']).next().unwrap_or_default();
            let path = if name.contains('/') { name.to_owned() } else { format!("library/{name}") };
            Error::Invalid(format!("invalid reference format: repository name ({path}) must be lowercase"))
        }
        coracle_spec::Error::Grammar { reason, .. } => {
            Error::Invalid(format!("invalid reference format: {reason}"))
        }
        error => Error::Invalid(error.to_string()),
    })
}

/// Under what a reference is kept: with its tag, or with its digest, which makes a tag beside it meaningless.
pub(super) fn key(reference: Reference) -> Reference {
    match reference.digest() {
        None => reference.or_latest(),
        Some(digest) => {
            let name = reference.name().parse::<Reference>().expect("the name of a reference is one");
            name.with_digest(digest)
        }
    }
}

fn whole_id(text: &str) -> Option<Digest> {
    let with_algorithm = || format!("sha256:{text}").parse().ok().filter(|_| text.len() == 64);
    text.parse().ok().or_else(with_algorithm)
}

/// The hex digits of what may be the beginning of an id.
fn beginning(text: &str) -> Option<&str> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let digits = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (!hex.is_empty() && digits).then_some(hex)
}

fn not_found(name: &str) -> Error {
    Error::NotFound { kind: "image", name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::OnceLock;

    fn known(content: &str, names: &[&str]) -> Known {
        Known {
            id: Digest::of(content.as_bytes()),
            created: None,
            layers: Vec::new(),
            labels: BTreeMap::new(),
            parent: None,
            last_tagged: None,
            manifests: Vec::new(),
            references: names.iter().map(|name| key(name.parse().unwrap())).collect(),
            targets: BTreeMap::new(),
            indexes: BTreeMap::new(),
            artifact: None,
            config: OnceLock::new(),
        }
    }

    #[test]
    fn images_are_found_by_names_ids_and_beginnings_of_ids() {
        let manifest = Digest::of(b"manifest");
        let digested = format!("foo@{manifest}");
        let mut catalogue = Catalogue::default();
        catalogue.put(known("a", &["foo", "reg.example:5000/x/y:v1", &digested]));
        catalogue.put(known("b", &["ca9", "foo:old"]));
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        // ca978112… and 3e23e816…
        let (hex, cases) = (
            a.hex(),
            [
                ("foo".to_owned(), Ok(a)),
                ("foo:latest".to_owned(), Ok(a)),
                ("docker.io/library/foo".to_owned(), Ok(a)),
                ("foo:old".to_owned(), Ok(b)),
                ("reg.example:5000/x/y:v1".to_owned(), Ok(a)),
                ("reg.example:5000/x/y".to_owned(), Err("No such image: reg.example:5000/x/y:latest")),
                (digested.clone(), Ok(a)),
                (format!("foo:any@{manifest}"), Ok(a)),
                (a.to_string(), Ok(a)),
                (a.hex(), Ok(a)),
                (a.short(), Ok(a)),
                ("c".to_owned(), Ok(a)),
                ("sha256:ca97".to_owned(), Ok(a)),
                // A name comes before the beginning of an id.
                ("ca9".to_owned(), Ok(b)),
                ("nope".to_owned(), Err("No such image: nope:latest")),
                (
                    "Foo".to_owned(),
                    Err("invalid reference format: repository name (library/Foo) must be lowercase"),
                ),
                ("sha256:".to_owned(), Err("invalid reference format: ")),
                ("".to_owned(), Err("invalid reference format: ")),
            ],
        );
        assert!(hex.starts_with("ca9781"));
        for (name, expected) in cases {
            match (catalogue.find(&name), expected) {
                (Ok(image), Ok(id)) => assert_eq!(image.id, id, "{name}"),
                (Err(error), Err(text)) => assert!(error.to_string().starts_with(text), "{name}: {error}"),
                (found, expected) => panic!("{name}: {found:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn a_beginning_that_several_ids_share_finds_none() {
        let mut catalogue = Catalogue::default();
        for number in 0..40 {
            catalogue.put(known(&number.to_string(), &[]));
        }
        let shared = (0..16).map(|digit| format!("{digit:x}"));
        let ambiguous =
            shared.filter(|hex| catalogue.all().filter(|image| image.id.hex().starts_with(hex)).count() > 1);
        for hex in ambiguous {
            assert!(matches!(catalogue.find(&hex), Err(Error::NotFound { .. })), "{hex}");
        }
    }
}
