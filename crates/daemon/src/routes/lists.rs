//! `/coracle/registry/manifest`: endpoints of our own, by which our command makes lists of manifests. Docker's does that
//! by itself.

use crate::answer::{self, Answer};
use crate::convert::transfer;
use crate::error::Failure;
use crate::input;
use crate::server::Call;
use coracle_api::base64;
use coracle_api::image as api;
use coracle_engine::images::{ManifestRequest, NewManifest, Security};
use coracle_spec::Reference;
use hyper::HeaderMap;

/// `GET`: what a registry has.
pub(super) async fn get(call: &Call) -> Answer {
    let name = call.query.get("name").unwrap_or_default();
    let request = request(name, call.query.is_on("insecure"), call.request.headers())?;
    let found = call.engine().images().registry_manifest(request).await?;
    let mut descriptor = found.descriptor;
    descriptor.platform = found.platform;
    answer::ok(&api::RegistryManifest {
        descriptor: serde_json::to_value(&descriptor).unwrap_or_default(),
        content: base64::encode(&found.content),
    })
}

/// `POST`: what a registry is to have.
pub(super) async fn put(call: Call) -> Answer {
    let (context, headers) = (call.context, call.request.headers().clone());
    let new: api::NewManifest = input::required(call.request).await?;
    let request = request(&new.name, new.insecure, &headers)?;
    let content = base64::decode(&new.content).ok_or_else(|| Failure::invalid("the content is no base64"))?;
    let from = Some(new.from.as_str()).filter(|from| !from.is_empty()).map(reference).transpose()?;
    let new = NewManifest { media_type: new.media_type, content, from };
    let digest = context.engine.images().put_registry_manifest(request, new).await?;
    answer::ok(&api::ManifestPut { digest: digest.to_string() })
}

fn request(name: &str, insecure: bool, headers: &HeaderMap) -> Result<ManifestRequest, Failure> {
    Ok(ManifestRequest {
        reference: reference(name)?,
        credentials: transfer::credentials(headers),
        security: if insecure { Security::Insecure } else { Security::Configured },
    })
}

fn reference(name: &str) -> Result<Reference, Failure> {
    name.parse().map_err(|_| Failure::invalid("invalid reference format"))
}
