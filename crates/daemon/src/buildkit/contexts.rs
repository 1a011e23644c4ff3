//! Contexts by name, as clients write them: `context:NAME` says what is in the place of an image or a stage. What another
//! build has made comes as a definition beside the options, which only this door has given out.

use super::builds::Builds;
use coracle_buildkit::proto::pb::Definition;
use coracle_buildkit::{Failure, result_of};
use coracle_engine::build::{NamedContext, Product, context_name};
use coracle_spec::image::{ImageConfig, RunConfig};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// How options begin that name a context.
const CONTEXT: &str = "context:";
/// How options begin that describe what another build has made.
const METADATA: &str = "input-metadata:";
/// What the configuration of an image is called in such a description.
const CONFIG: &str = "containerimage.config";

/// What a name stands for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Named {
    /// An image.
    Image(String),
    /// A directory that the client lends by this name.
    Directory(String),
    /// A repository or a file at an address.
    Address(String),
    /// What another build has made.
    Input {
        /// What its definition is called beside the options.
        name: String,
        /// The configuration of its image, where the client has said that; nothing is set in what begins with it else.
        config: Box<RunConfig>,
    },
}

/// Whether an option belongs to a context.
pub(super) fn is_one(key: &str) -> bool {
    key.starts_with(CONTEXT) || key.starts_with(METADATA)
}

/// The contexts that options name.
///
/// # Errors
/// What cannot be one, by its name.
pub(super) fn read(attributes: &HashMap<String, String>) -> Result<BTreeMap<String, Named>, Failure> {
    let mut contexts = BTreeMap::new();
    for (key, value) in attributes {
        let Some(name) = key.strip_prefix(CONTEXT) else { continue };
        let known = context_name(name).map_err(|error| Failure::new(error.to_string()))?;
        contexts.insert(known, one(name, value, attributes)?);
    }
    Ok(contexts)
}

fn one(name: &str, value: &str, attributes: &HashMap<String, String>) -> Result<Named, Failure> {
    let invalid = || Failure::new(format!("invalid context specifier {value} for {name}"));
    let (scheme, rest) = value.split_once(':').ok_or_else(invalid)?;
    match scheme {
        "docker-image" => Ok(Named::Image(rest.trim_start_matches("//").to_owned())),
        "local" => Ok(Named::Directory(rest.to_owned())),
        "input" => Ok(Named::Input { name: rest.to_owned(), config: Box::new(config_of(rest, attributes)?) }),
        "oci-layout" => Err(Failure::new(format!(
            "the context {name} is an OCI layout, which this engine does not read from a client: load it first (docker \
             load), and name the image with docker-image://"
        ))),
        "http" | "https" | "git" | "ssh" => Ok(Named::Address(value.to_owned())),
        scheme if scheme.starts_with("git@") => Ok(Named::Address(value.to_owned())),
        other => Err(Failure::new(format!("unsupported context source {other} for {name}"))),
    }
}

/// What the client has heard of the configuration of what another build has made, and passes on.
fn config_of(name: &str, attributes: &HashMap<String, String>) -> Result<RunConfig, Failure> {
    let Some(text) = attributes.get(&format!("{METADATA}{name}")) else { return Ok(RunConfig::default()) };
    let invalid = |reason: String| Failure::new(format!("invalid description of the input {name}: {reason}"));
    let described: HashMap<String, String> =
        serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
    let Some(encoded) = described.get(CONFIG) else { return Ok(RunConfig::default()) };
    let document =
        coracle_api::base64::decode(encoded).ok_or_else(|| invalid(format!("{CONFIG} is no base64")))?;
    let config = ImageConfig::parse(&document).map_err(|error| invalid(error.to_string()))?;
    Ok(config.config)
}

impl Builds {
    /// The result that a definition stands for; `what` it is called in refusals.
    ///
    /// # Errors
    /// For a definition that is none of this door's, and for the result of a build that is over.
    pub(super) fn defined(&self, definition: &Definition, what: &str) -> Result<Arc<Product>, Failure> {
        let result = result_of(definition).ok_or_else(|| {
            Failure::new(format!(
                "{what} is a definition of low-level operations, which this engine does not carry out: only results of \
                 its own builds can be given to it"
            ))
        })?;
        let gone = || Failure::new(format!("{what} is the result of a build that is over"));
        self.result(&result).ok_or_else(gone)
    }
}

/// What other builds have made, as definitions beside the options of this one.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) definitions: &'a HashMap<String, Definition>,
    pub(super) builds: &'a Builds,
}

impl Inputs<'_> {
    /// What is called so; `None` where nothing is.
    ///
    /// # Errors
    /// For a definition that is none of this door's, and for the result of a build that is over.
    pub(super) fn find(&self, name: &str) -> Result<Option<Arc<Product>>, Failure> {
        let Some(definition) = self.definitions.get(name) else { return Ok(None) };
        self.builds.defined(definition, &format!("the build input {name}")).map(Some)
    }

    /// What the engine is to put in the place of images and stages.
    pub(super) fn resolve(
        &self,
        contexts: BTreeMap<String, Named>,
    ) -> Result<BTreeMap<String, NamedContext>, Failure> {
        contexts.into_iter().map(|(name, named)| Ok((name.clone(), self.one(&name, named)?))).collect()
    }

    fn one(&self, context: &str, named: Named) -> Result<NamedContext, Failure> {
        Ok(match named {
            Named::Image(image) => NamedContext::Image(image),
            Named::Directory(name) => NamedContext::Client(name),
            Named::Address(address) => NamedContext::Address(address),
            Named::Input { name, config } => {
                let missing = || Failure::new(format!("invalid input {name} for {context}"));
                NamedContext::Product(self.find(&name)?.ok_or_else(missing)?, config)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contexts(pairs: &[(&str, &str)]) -> Result<BTreeMap<String, Named>, String> {
        let attributes = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        read(&attributes).map_err(|failure| failure.to_proto().message)
    }

    #[test]
    fn a_name_stands_for_what_the_client_says() {
        let config = coracle_api::base64::encode(
            br#"{"os": "linux", "architecture": "amd64", "config": {"User": "me"}, "rootfs": {"type": "layers", "diff_ids": []}}"#,
        );
        let metadata = format!("{{\"containerimage.config\": {config:?}}}");
        let read = contexts(&[
            ("context:docker.io/library/base:latest", "docker-image://alpine:3"),
            ("context:src::linux/arm64", "local:_src"),
            ("context:git", "https://example.com/x.git#v1"),
            ("context:short", "git@example.com:x.git"),
            ("context:made", "input:context:made"),
            ("input-metadata:context:made", &metadata),
            ("context:bare", "input:bare"),
            ("context", "https://example.com/other.git"),
        ])
        .unwrap();
        let user = RunConfig { user: "me".into(), ..RunConfig::default() };
        let expected = [
            ("bare", Named::Input { name: "bare".into(), config: Box::default() }),
            ("base", Named::Image("alpine:3".into())),
            ("git", Named::Address("https://example.com/x.git#v1".into())),
            ("made", Named::Input { name: "context:made".into(), config: Box::new(user) }),
            ("short", Named::Address("git@example.com:x.git".into())),
            ("src::linux/arm64", Named::Directory("_src".into())),
        ];
        assert_eq!(read, expected.map(|(name, named)| (name.to_owned(), named)).into());
    }

    #[test]
    fn what_cannot_be_a_context_is_refused_by_name() {
        for (key, value, words) in [
            ("context:UPPER", "docker-image://a", "UPPER"),
            ("context:x", "nothing", "invalid context specifier nothing for x"),
            ("context:x", "teleport://y", "unsupported context source teleport for x"),
            ("context:x", "oci-layout://store@sha256:abc", "the context x is an OCI layout"),
        ] {
            let refusal = contexts(&[(key, value)]).unwrap_err();
            assert!(refusal.contains(words), "{refusal}");
        }
        let refusal = contexts(&[("context:x", "input:x"), ("input-metadata:x", "no document")]).unwrap_err();
        assert!(refusal.contains("description of the input x"), "{refusal}");
    }
}
