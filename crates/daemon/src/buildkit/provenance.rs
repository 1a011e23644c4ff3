//! What a client wants said of where the result of a build comes from: `--provenance`, `--attest type=provenance`.
//!
//! Clients ask for the least of it on their own account wherever it can be had. Docker's store of images keeps none of that,
//! and neither do we: what is said is said when a person asks.

use super::builds::Build;
use super::results::Results;
use crate::server::Context;
use coracle_buildkit::proto::moby::buildkit::v1::SolveRequest;
use coracle_engine::build::{Attested, ProvenanceMode, ProvenanceRequest};
use coracle_spec::Reference;
use std::collections::{BTreeMap, HashMap};
use time::OffsetDateTime;
use tonic::Status;

/// The option that asks for it.
const OPTION: &str = "attest:provenance";

/// What is wanted.
#[derive(Clone, Debug)]
pub(super) struct Provenance {
    mode: ProvenanceMode,
    builder: String,
    reproducible: bool,
    /// The options of the build.
    attributes: BTreeMap<String, String>,
    frontend: String,
    begun: OffsetDateTime,
}

/// What the option says: mode, builder, and whether the build claims to be reproducible.
type Said = (ProvenanceMode, String, bool);

fn refused(what: impl Into<String>) -> Status {
    Status::unknown(what)
}

/// What a request asks for, which its outputs must be able to hold.
///
/// # Errors
/// What cannot be done, by its name.
pub(super) fn of_request(request: &SolveRequest) -> Result<Option<Provenance>, Status> {
    let Some((mode, builder, reproducible)) = read(&request.frontend_attrs)? else { return Ok(None) };
    let kinds = request.exporters.iter().map(|exporter| exporter.r#type.as_str());
    let older = Some(request.exporter_deprecated.as_str()).filter(|_| request.exporters.is_empty());
    if let Some(kind) = kinds.chain(older).find(|kind| matches!(*kind, "docker" | "local" | "tar")) {
        return Err(refused(format!(
            "provenance with the output {kind} is not supported by this engine: use an image, type=oci, or \
             --provenance=false"
        )));
    }
    let frontend = Some(request.frontend.clone()).filter(|name| !name.is_empty());
    Ok(Some(Provenance {
        mode,
        builder,
        reproducible,
        attributes: request.frontend_attrs.clone().into_iter().collect(),
        frontend: frontend.unwrap_or_else(|| "dockerfile.v0".to_owned()),
        begun: OffsetDateTime::now_utc(),
    }))
}

/// What options ask for.
///
/// # Errors
/// What cannot be done, by its name.
pub(super) fn read(attributes: &HashMap<String, String>) -> Result<Option<Said>, Status> {
    let Some(text) = attributes.get(OPTION) else { return Ok(None) };
    let (mut mode, mut builder, mut reproducible, mut asked) =
        (ProvenanceMode::Min, String::new(), false, true);
    for field in text.split(',').filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once('=').unwrap_or((field, "true"));
        match (name, value) {
            ("type", "provenance") => {}
            ("mode", "min") => mode = ProvenanceMode::Min,
            ("mode", "max") => mode = ProvenanceMode::Max,
            ("builder-id", value) => value.clone_into(&mut builder),
            ("reproducible", "true" | "false") => reproducible = value == "true",
            // See above.
            ("disabled" | "inline-only", "true" | "1") => asked = false,
            ("disabled" | "inline-only", "false" | "0") => {}
            ("version", "v0.2") => {}
            _ => {
                return Err(refused(format!(
                    "{name}={value} of a provenance is not supported by this engine: there are mode=min and mode=max, \
                     builder-id, reproducible and version=v0.2"
                )));
            }
        }
    }
    Ok(asked.then_some((mode, builder, reproducible)))
}

/// Says of a result that will be called so where it comes from, if that is wanted.
///
/// # Errors
/// The engine's.
pub(super) async fn attest(
    context: &Context,
    build: &Build,
    results: &Results,
    names: &[Reference],
) -> Result<Option<Attested>, Status> {
    let Some(wanted) = &build.provenance else { return Ok(None) };
    let attribute = |name: &str| wanted.attributes.get(name).filter(|text| !text.is_empty()).cloned();
    let local = |name: &str, usual: &str| attribute(name).unwrap_or_else(|| usual.to_owned());
    let products = results.products();
    let is_fetched = products.iter().all(|product| product.ingredients().context.is_some());
    let mut locals = match attribute("context") {
        // What was fetched is a material; what the client has read from its standard input is its own.
        Some(_) if is_fetched => Vec::new(),
        Some(upload) => vec![upload],
        None => vec![local("contextkey", "context"), local("dockerfilekey", "dockerfile")],
    };
    // Whatever these are, not all of it is among the materials.
    let named = wanted.attributes.keys().filter_map(|key| key.strip_prefix("context:"));
    locals.extend(named.map(str::to_owned));
    let request = ProvenanceRequest {
        mode: wanted.mode,
        builder: wanted.builder.clone(),
        reproducible: wanted.reproducible,
        id: build.id.clone(),
        frontend: wanted.frontend.clone(),
        attributes: wanted.attributes.clone(),
        entry_point: local("filename", "Dockerfile"),
        locals,
        begun: wanted.begun,
    };
    let attested = context.engine.attest_products(&products, &request, names).await;
    attested.map(Some).map_err(|error| Status::unknown(error.chain()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_buildkit::proto::moby::buildkit::v1::Exporter;

    fn asked(value: &str) -> Result<Option<Said>, String> {
        let attributes = [(OPTION.to_owned(), value.to_owned())].into();
        read(&attributes).map_err(|status| status.message().to_owned())
    }

    #[test]
    fn it_is_said_when_a_person_asks() {
        let min = |builder: &str| Ok(Some((ProvenanceMode::Min, builder.to_owned(), false)));
        for (value, expected) in [
            ("", min("")),
            ("type=provenance,disabled=false", min("")),
            ("mode=min,builder-id=https://ci/1,version=v0.2", min("https://ci/1")),
            ("mode=max,reproducible=true", Ok(Some((ProvenanceMode::Max, String::new(), true)))),
            ("mode=min,inline-only=true", Ok(None)),
            ("type=provenance,disabled=true", Ok(None)),
        ] {
            assert_eq!(asked(value), expected, "{value}");
        }
        for (value, words) in
            [("mode=some", "mode=some"), ("version=v1", "version=v1"), ("filename=x", "filename=x")]
        {
            assert!(asked(value).unwrap_err().contains(words), "{value}");
        }
        assert_eq!(read(&HashMap::new()).unwrap(), None);
    }

    #[test]
    fn outputs_that_cannot_hold_it_are_refused() {
        for (kind, is_refused) in
            [("moby", false), ("oci", false), ("docker", true), ("local", true), ("tar", true)]
        {
            let request = SolveRequest {
                frontend_attrs: [(OPTION.to_owned(), String::new())].into(),
                exporters: vec![Exporter { r#type: kind.into(), ..Exporter::default() }],
                ..SolveRequest::default()
            };
            assert_eq!(of_request(&request).is_err(), is_refused, "{kind}");
        }
    }
}
