//! Manifests in registries, asked for and put there by the engine. Only Coracle has these requests.

use coracle_api::Query;
use coracle_api::image::{ManifestPut, NewManifest, RegistryManifest};
use hyper::header::HeaderValue;

use crate::Result;
use crate::images::registry_auth;
use crate::transport::{Call, Client};

/// # Errors
/// Every method fails when the daemon refuses, in its words, or cannot be reached.
impl Client {
    /// A manifest or an index from a registry. `auth` is the content of `X-Registry-Auth`.
    pub async fn registry_manifest(
        &self,
        name: &str,
        insecure: bool,
        auth: Option<&str>,
    ) -> Result<RegistryManifest> {
        let query = Query::new().with("name", name).with_flag("insecure", insecure);
        self.json(with_auth(Call::get("/coracle/registry/manifest").query(query), auth)).await
    }

    /// Puts a manifest or an index into a registry.
    pub async fn put_registry_manifest(&self, new: &NewManifest, auth: Option<&str>) -> Result<ManifestPut> {
        self.json(with_auth(Call::post("/coracle/registry/manifest").json(new), auth)).await
    }
}

fn with_auth(call: Call, auth: Option<&str>) -> Call {
    match auth.and_then(|text| HeaderValue::from_str(text).ok()) {
        Some(auth) => call.header(registry_auth(), auth),
        None => call,
    }
}
