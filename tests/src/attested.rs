//! Images with statements about them, in a registry.

use crate::Engine;
use crate::context::Context;
use crate::registry::Registry;
use serde_json::Value;
use std::fs;

/// What this machine is.
pub const HOST: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
/// What it is not.
pub const OTHER: &str = if cfg!(target_arch = "aarch64") { "amd64" } else { "arm64" };

/// Builds an image of one file for these architectures, each with its provenance, and pushes it.
pub fn push(engine: &Engine, name: &str, architectures: &[&str]) {
    push_content(engine, name, architectures, name.as_bytes());
}

/// The same with a file of this content.
pub fn push_content(engine: &Engine, name: &str, architectures: &[&str], content: &[u8]) {
    let context = Context::new("FROM scratch\nARG TARGETARCH\nCOPY f /$TARGETARCH\nCMD [\"/f\"]\n", &[]);
    fs::write(context.path().join("f"), content).unwrap();
    let platforms: Vec<String> =
        architectures.iter().map(|architecture| format!("linux/{architecture}")).collect();
    let options = ["--provenance=true", "--push", "-t", name, "--platform", &platforms.join(",")];
    engine.buildx(&context.path(), &options).ok();
    engine.docker(&["rmi", "-f", name]).ok();
}

/// What a tag of a registry stands for: its digest.
#[must_use]
pub fn tagged(registry: &Registry, repository: &str, tag: &str) -> String {
    let place = registry.data().join("docker/registry/v2/repositories").join(repository);
    fs::read_to_string(place.join("_manifests/tags").join(tag).join("current/link")).unwrap()
}

/// A document of a registry, by its digest.
#[must_use]
pub fn document(registry: &Registry, digest: &str) -> Value {
    let hex = digest.strip_prefix("sha256:").unwrap();
    let place = registry.data().join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex);
    serde_json::from_slice(&fs::read(place.join("data")).unwrap()).unwrap()
}

/// What an engine has behind a name: for each manifest its kind, whether it is here, and how many bytes of it.
#[must_use]
pub fn manifests(engine: &Engine, name: &str) -> Vec<(String, bool, u64)> {
    let (status, answer) = engine.request("GET", &format!("/v1.48/images/{name}/json?manifests=1"), None);
    assert_eq!(status, 200, "{answer}");
    let inspected: Value = serde_json::from_str(&answer).unwrap();
    let all = inspected["Manifests"].as_array().unwrap().iter();
    all.map(|manifest| {
        let kind = manifest["Kind"].as_str().unwrap().to_owned();
        let size = manifest["Size"]["Content"].as_u64().unwrap();
        (kind, manifest["Available"] == true, size)
    })
    .collect()
}
