//! What a manifest describes: an image, or something else that registries keep.

use std::collections::BTreeSet;

use super::{Descriptor, Manifest, media_type};

impl Manifest {
    /// The type of what it describes if that is no image; `None` for an image.
    ///
    /// An image has an image's configuration (OCI image spec, "guidelines for artifact usage"). What gives its own type and
    /// has layers that are none is an artifact all the same.
    #[must_use]
    pub fn artifact_kind(&self) -> Option<&str> {
        let config = self.config.media_type.as_str();
        let own =
            self.other.get("artifactType").and_then(|kind| kind.as_str()).filter(|kind| !kind.is_empty());
        let is_config = matches!(config, media_type::CONFIG | media_type::DOCKER_CONFIG);
        if is_config && (own.is_none() || self.layers.iter().all(Descriptor::is_layer)) {
            return None;
        }
        Some(own.unwrap_or(config))
    }

    /// Everything that it describes, each blob once.
    #[must_use]
    pub fn blobs(&self) -> Vec<&Descriptor> {
        let mut seen = BTreeSet::new();
        let all = std::iter::once(&self.config).chain(&self.layers);
        all.filter(|blob| seen.insert(blob.digest)).collect()
    }
}

impl Descriptor {
    /// Whether it is a layer that a registry keeps and that can be unpacked, by what it says of itself.
    #[must_use]
    pub fn is_layer(&self) -> bool {
        self.urls.is_empty()
            && matches!(
                self.media_type.as_str(),
                media_type::LAYER
                    | media_type::LAYER_GZIP
                    | media_type::LAYER_ZSTD
                    | media_type::DOCKER_LAYER
                    | media_type::DOCKER_LAYER_GZIP
                    | media_type::DOCKER_LAYER_ZSTD
            )
    }

    /// Whether it is a manifest, or says nothing else.
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        matches!(self.media_type.as_str(), media_type::MANIFEST | media_type::DOCKER_MANIFEST | "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Digest;
    use serde_json::json;

    #[test]
    fn what_has_another_configuration_than_images_is_an_artifact() {
        let manifest = |config: &str, artifact: Option<&str>, layer: &str| -> Manifest {
            let digest = Digest::of(b"x");
            let mut value = json!({
                "schemaVersion": 2, "config": {"mediaType": config, "digest": digest, "size": 2},
                "layers": [{"mediaType": layer, "digest": digest, "size": 2}],
            });
            if let Some(kind) = artifact {
                value["artifactType"] = kind.into();
            }
            serde_json::from_value(value).unwrap()
        };
        let chart = "application/vnd.cncf.helm.config.v1+json";
        for (config, artifact, layer, expected) in [
            (media_type::CONFIG, None, media_type::LAYER_GZIP, None),
            (media_type::DOCKER_CONFIG, None, media_type::DOCKER_LAYER_GZIP, None),
            // A layer that cannot be unpacked makes no artifact of an image.
            (media_type::CONFIG, None, "application/vnd.in-toto+json", None),
            (media_type::CONFIG, Some("a/b"), media_type::LAYER_GZIP, None),
            (media_type::CONFIG, Some("a/b"), "application/vnd.in-toto+json", Some("a/b")),
            ("application/vnd.oci.empty.v1+json", Some("a/b"), "text/plain", Some("a/b")),
            (chart, None, "x/y", Some(chart)),
            ("", None, media_type::LAYER_GZIP, Some("")),
        ] {
            let manifest = manifest(config, artifact, layer);
            assert_eq!(manifest.artifact_kind(), expected, "{config} {artifact:?} {layer}");
            assert_eq!(manifest.blobs().len(), 1, "the same blob twice comes once");
        }
    }
}
