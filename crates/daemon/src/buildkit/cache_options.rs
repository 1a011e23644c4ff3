//! Caches that a client gives a build, and those that it wants of it, as clients write them. Pure.
//!
//! A cache that cannot be used is no reason to fail: the build goes on without, and says so. One that cannot be written as
//! asked is refused before anything is done.

use coracle_buildkit::proto::moby::buildkit::v1::SolveRequest;
use coracle_engine::build::{CacheMode, CacheSource};
use coracle_spec::{Digest, Reference, truth};
use serde::Deserialize;
use std::collections::HashMap;
use tonic::Status;

type Attributes = HashMap<String, String>;

/// Caches that a build is given, and what a person should know of those that it cannot use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Imports {
    pub(super) sources: Vec<CacheSource>,
    pub(super) notes: Vec<String>,
}

/// A cache that is wanted of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Export {
    /// The image is one as well.
    Inline,
    /// Elsewhere.
    Elsewhere {
        place: Place,
        mode: CacheMode,
        /// Whether a build succeeds whose cache cannot be written.
        is_optional: bool,
    },
}

/// Where a cache goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// To a registry, under this name.
    Registry(Reference),
    /// To a store of the client.
    Client(String),
}

impl Imports {
    /// Adds one; the same twice is one.
    pub(super) fn add(&mut self, kind: &str, attributes: &Attributes) {
        let attribute = |name: &str| attributes.get(name).map(String::as_str).unwrap_or_default();
        let source = match kind {
            "registry" => reference(attribute("ref")).map(CacheSource::Named),
            "local" => local(attribute("src"), attribute("digest")),
            other => Err(format!("caches of type {other} are not supported: there are registry and local")),
        };
        match source {
            Ok(source) if self.sources.contains(&source) => {}
            Ok(source) => self.sources.push(source),
            Err(reason) => self.note(format!("a cache is not used: {reason}")),
        }
    }

    /// Adds those of a document, as options have them.
    pub(super) fn add_document(&mut self, text: &str) {
        #[derive(Deserialize)]
        struct Entry {
            #[serde(rename = "Type", alias = "type", default)]
            kind: String,
            #[serde(rename = "Attrs", alias = "attrs", default)]
            attributes: Option<Attributes>,
        }
        match serde_json::from_str::<Option<Vec<Entry>>>(text) {
            Ok(entries) => entries
                .into_iter()
                .flatten()
                .for_each(|entry| self.add(&entry.kind, &entry.attributes.unwrap_or_default())),
            Err(error) => self.note(format!("caches are not used: their list is malformed: {error}")),
        }
    }

    /// Adds a name alone, as older clients have it.
    pub(super) fn add_name(&mut self, name: &str) {
        self.add("registry", &[("ref".to_owned(), name.to_owned())].into());
    }

    pub(super) fn extend(&mut self, other: Self) {
        for source in other.sources {
            if !self.sources.contains(&source) {
                self.sources.push(source);
            }
        }
        other.notes.into_iter().for_each(|note| self.note(note));
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

fn reference(name: &str) -> Result<Reference, String> {
    if name.is_empty() {
        return Err("one of type registry needs ref=NAME".to_owned());
    }
    let reference = name.parse::<Reference>().map_err(|error| format!("{name}: {error}"))?;
    Ok(reference.or_latest())
}

fn local(directory: &str, digest: &str) -> Result<CacheSource, String> {
    if directory.is_empty() {
        return Err("one of type local needs src=DIRECTORY".to_owned());
    }
    let digest = digest.parse::<Digest>();
    let manifest = digest.map_err(|_| format!("the directory {directory} has no cache of this digest"))?;
    Ok(CacheSource::Client { store: store(directory), manifest })
}

/// What a client calls the store of a directory.
fn store(directory: &str) -> String {
    format!("local:{directory}")
}

/// The caches that the request itself gives its build.
pub(super) fn imports(request: &SolveRequest) -> Imports {
    let mut imports = Imports::default();
    if let Some(cache) = &request.cache {
        cache.imports.iter().for_each(|entry| imports.add(&entry.r#type, &entry.attrs));
        cache.import_refs_deprecated.iter().for_each(|name| imports.add_name(name));
    }
    imports
}

/// The caches that are wanted.
///
/// # Errors
/// What cannot be done, by its name.
pub(super) fn exports(request: &SolveRequest) -> Result<Vec<Export>, Status> {
    let mut exports = Vec::new();
    if let Some(cache) = &request.cache {
        if !cache.export_ref_deprecated.is_empty() {
            let mut attributes = cache.export_attrs_deprecated.clone();
            attributes.insert("ref".to_owned(), cache.export_ref_deprecated.clone());
            exports.push(export("registry", &attributes)?);
        }
        for entry in &cache.exports {
            exports.push(export(&entry.r#type, &entry.attrs)?);
        }
    }
    Ok(exports)
}

fn refused(what: impl Into<String>) -> Status {
    Status::unknown(what)
}

fn export(kind: &str, attributes: &Attributes) -> Result<Export, Status> {
    let attribute = |name: &str| attributes.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let own: &[&str] = match kind {
        "inline" => &["mode"],
        "registry" => &["ref"],
        // The tag is the client's business.
        "local" => &["dest", "tag"],
        other => {
            return Err(refused(format!(
                "unknown cache exporter: {other:?}: this engine has inline, registry and local"
            )));
        }
    };
    let common: &[&str] = match kind {
        "inline" => &[],
        _ => &[
            "mode",
            "ignore-error",
            "compression",
            "compression-level",
            "force-compression",
            "oci-mediatypes",
            "image-manifest",
        ],
    };
    let mut names: Vec<&String> = attributes.keys().collect();
    names.sort_unstable();
    if let Some(name) =
        names.into_iter().find(|name| !own.contains(&name.as_str()) && !common.contains(&name.as_str()))
    {
        return Err(refused(format!(
            "the option {name} of a cache of type {kind} is not supported by this engine"
        )));
    }
    check_form(kind, attribute)?;
    let mode = match attribute("mode") {
        None | Some("min") => CacheMode::Min,
        Some("max") if kind == "inline" => {
            return Err(refused("an inline cache has mode=min: the image has no layers of other stages"));
        }
        Some("max") => CacheMode::Max,
        Some(other) => {
            return Err(refused(format!("invalid mode {other:?} of a cache: there are min and max")));
        }
    };
    let needs = |name: &str| {
        attribute(name).ok_or_else(|| refused(format!("a cache of type {kind} needs the option {name}")))
    };
    let place = match kind {
        "inline" => return Ok(Export::Inline),
        "registry" => Place::Registry(reference(needs("ref")?).map_err(refused)?),
        _ => Place::Client(store(needs("dest")?)),
    };
    Ok(Export::Elsewhere {
        place,
        mode,
        is_optional: flag("ignore-error", attribute("ignore-error"))? == Some(true),
    })
}

/// Refuses other forms than the one that there is: an OCI manifest, and layers as a push has them.
fn check_form<'a>(kind: &str, attribute: impl Fn(&str) -> Option<&'a str>) -> Result<(), Status> {
    let refuse = |name: &str, why: &str| {
        let value = attribute(name).unwrap_or_default();
        Err(refused(format!("the option {name}={value} of a cache of type {kind} is not supported: {why}")))
    };
    if !matches!(attribute("compression"), None | Some("gzip")) {
        return refuse("compression", "layers that the engine compresses are gzip, as those of a push");
    }
    if attribute("compression-level").is_some() {
        return refuse("compression-level", "layers are compressed once, for every push and cache alike");
    }
    if flag("force-compression", attribute("force-compression"))? == Some(true) {
        return refuse("force-compression", "layers that came compressed go as they came");
    }
    for name in ["oci-mediatypes", "image-manifest"] {
        if flag(name, attribute(name))? == Some(false) {
            return refuse(name, "a cache is an OCI image manifest");
        }
    }
    Ok(())
}

fn flag(name: &str, text: Option<&str>) -> Result<Option<bool>, Status> {
    let wrong = |text| refused(format!("invalid value {text:?} of the option {name}: it is true or false"));
    text.map(|text| truth(text).ok_or_else(|| wrong(text))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_buildkit::proto::moby::buildkit::v1::{CacheOptions, CacheOptionsEntry};

    fn attributes(pairs: &[(&str, &str)]) -> Attributes {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn named(name: &str) -> CacheSource {
        CacheSource::Named(name.parse::<Reference>().unwrap().or_latest())
    }

    #[test]
    fn caches_are_given_in_several_ways() {
        let digest = Digest::of(b"x");
        let entry = |kind: &str, pairs: &[(&str, &str)]| CacheOptionsEntry {
            r#type: kind.to_owned(),
            attrs: attributes(pairs),
        };
        let cache = CacheOptions {
            imports: vec![
                entry("registry", &[("ref", "host:5000/a:c")]),
                entry("local", &[("src", "/c"), ("digest", &digest.to_string())]),
            ],
            import_refs_deprecated: vec!["old".to_owned()],
            ..CacheOptions::default()
        };
        let mut found = imports(&SolveRequest { cache: Some(cache), ..SolveRequest::default() });
        found.add_document(
            r#"[{"Type":"registry","Attrs":{"ref":"b"}},{"Type":"registry","Attrs":{"ref":"old"}}]"#,
        );
        found.add_document("null");
        let client = CacheSource::Client { store: "local:/c".into(), manifest: digest };
        assert_eq!(found.sources, [named("host:5000/a:c"), client, named("old"), named("b")]);
        assert!(found.notes.is_empty(), "{:?}", found.notes);
    }

    #[test]
    fn a_cache_that_cannot_be_used_is_said_and_no_more() {
        let mut found = Imports::default();
        found.add_document("{");
        found.add("gha", &Attributes::new());
        found.add("registry", &attributes(&[("ref", "UPPER")]));
        found.add("registry", &Attributes::new());
        found.add("local", &attributes(&[("src", "/c")]));
        assert_eq!((found.sources.len(), found.notes.len()), (0, 5), "{:?}", found.notes);
        assert!(found.notes[1].contains("type gha"), "{:?}", found.notes);
    }

    #[test]
    fn what_is_wanted_of_a_build() {
        let elsewhere = |place, mode, is_optional| Export::Elsewhere { place, mode, is_optional };
        let registry = || Place::Registry("h:1/a".parse::<Reference>().unwrap().or_latest());
        for (kind, pairs, expected) in [
            ("inline", &[][..], Export::Inline),
            ("inline", &[("mode", "min")], Export::Inline),
            ("registry", &[("ref", "h:1/a")], elsewhere(registry(), CacheMode::Min, false)),
            (
                "registry",
                &[
                    ("ref", "h:1/a"),
                    ("mode", "max"),
                    ("ignore-error", "true"),
                    ("compression", "gzip"),
                    ("image-manifest", "true"),
                    ("oci-mediatypes", "1"),
                ],
                elsewhere(registry(), CacheMode::Max, true),
            ),
            (
                "local",
                &[("dest", "/d"), ("tag", "x")],
                elsewhere(Place::Client("local:/d".into()), CacheMode::Min, false),
            ),
        ] {
            assert_eq!(export(kind, &attributes(pairs)).unwrap(), expected, "{kind} {pairs:?}");
        }
        for (kind, pairs, words) in [
            ("gha", &[][..], "unknown cache exporter: \"gha\""),
            ("inline", &[("mode", "max")], "an inline cache has mode=min"),
            ("inline", &[("ref", "x")], "the option ref of a cache of type inline"),
            ("registry", &[], "needs the option ref"),
            ("registry", &[("ref", "UPPER")], "UPPER"),
            ("registry", &[("ref", "a"), ("mode", "some")], "invalid mode"),
            ("registry", &[("ref", "a"), ("compression", "zstd")], "compression=zstd"),
            ("registry", &[("ref", "a"), ("compression-level", "3")], "compression-level=3"),
            ("registry", &[("ref", "a"), ("force-compression", "true")], "force-compression=true"),
            ("registry", &[("ref", "a"), ("image-manifest", "false")], "image-manifest=false"),
            ("registry", &[("ref", "a"), ("ignore-error", "maybe")], "invalid value \"maybe\""),
            ("local", &[("dest", "/d"), ("src", "/d")], "the option src"),
            ("local", &[], "needs the option dest"),
        ] {
            let refusal = export(kind, &attributes(pairs)).unwrap_err();
            assert!(refusal.message().contains(words), "{}", refusal.message());
        }
    }
}
