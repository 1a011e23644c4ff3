//! An image in a list, and the list as a registry gets it: both byte by byte as Docker's command writes them.

use coracle_api::base64;
use coracle_spec::image::{Descriptor, media_type};
use coracle_spec::{Digest, Platform};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::layout::{compact, escaped, indented};

/// An image in a list.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Its name, spelt out.
    pub(crate) reference: String,
    /// Its manifest, and what it runs on.
    pub(crate) descriptor: Descriptor,
    /// Its manifest, byte by byte.
    pub(crate) raw: Vec<u8>,
}

/// The list as a registry gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ManifestList {
    pub(crate) media_type: &'static str,
    pub(crate) content: String,
}

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    #[serde(rename = "Ref")]
    reference: String,
    #[serde(rename = "Descriptor")]
    descriptor: StoredDescriptor,
    #[serde(rename = "Raw", default, skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
    #[serde(rename = "SchemaV2Manifest", default, skip_serializing_if = "Option::is_none", borrow)]
    docker: Option<&'a RawValue>,
    #[serde(rename = "OCIManifest", default, skip_serializing_if = "Option::is_none", borrow)]
    oci: Option<&'a RawValue>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredDescriptor {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    platform: Option<OrderedPlatform>,
}

/// A platform with its fields in the order of Go's.
#[derive(Serialize, Deserialize)]
struct OrderedPlatform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(rename = "os.version", default, skip_serializing_if = "String::is_empty")]
    os_version: String,
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    os_features: Vec<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    variant: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<ListedManifest>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedManifest {
    media_type: String,
    size: u64,
    digest: Digest,
    platform: OrderedPlatform,
}

impl From<&Platform> for OrderedPlatform {
    fn from(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            os_version: platform.os_version.clone(),
            os_features: platform.os_features.clone(),
            variant: platform.variant.clone(),
        }
    }
}

impl From<OrderedPlatform> for Platform {
    fn from(platform: OrderedPlatform) -> Self {
        Self {
            architecture: platform.architecture,
            os: platform.os,
            variant: platform.variant,
            os_version: platform.os_version,
            os_features: platform.os_features,
        }
    }
}

impl Member {
    /// Reads a file of the store.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let stored: Stored<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let manifest = stored.docker.or(stored.oci).map(|manifest| manifest.get().as_bytes().to_vec());
        let raw = match &stored.raw {
            Some(text) => Some(base64::decode(text).ok_or("its bytes are no base64")?),
            // Older versions of Docker kept only this.
            None => manifest,
        };
        let StoredDescriptor { media_type, digest, size, platform } = stored.descriptor;
        let mut descriptor = Descriptor::new(&media_type, digest, size);
        descriptor.platform = platform.map(Platform::from);
        Ok(Self { reference: stored.reference, descriptor, raw: raw.ok_or("it has no manifest")? })
    }

    /// As a file of the store.
    pub(super) fn to_json(&self) -> String {
        let text = String::from_utf8_lossy(&self.raw);
        let manifest = RawValue::from_string(compact(&text)).ok();
        let is_docker = self.descriptor.media_type == media_type::DOCKER_MANIFEST;
        let stored = Stored {
            reference: self.reference.clone(),
            descriptor: StoredDescriptor {
                media_type: self.descriptor.media_type.clone(),
                digest: self.descriptor.digest,
                size: self.descriptor.size,
                platform: self.descriptor.platform.as_ref().map(OrderedPlatform::from),
            },
            raw: Some(base64::encode(&self.raw)),
            docker: manifest.as_deref().filter(|_| is_docker),
            oci: manifest.as_deref().filter(|_| !is_docker),
        };
        escaped(&serde_json::to_string(&stored).expect("plain data"))
    }

    /// Its manifest for people.
    pub(crate) fn shown(&self) -> String {
        indented(&String::from_utf8_lossy(&self.raw), "\t")
    }

    /// Everything about it for people.
    pub(crate) fn shown_in_full(&self) -> String {
        indented(&self.to_json(), "\t")
    }
}

/// Everything about several images, for people.
pub(crate) fn shown_in_full(members: &[Member]) -> String {
    let all: Vec<String> = members.iter().map(Member::to_json).collect();
    indented(&format!("[{}]", all.join(",")), "\t")
}

impl ManifestList {
    /// A list of these manifests.
    pub(crate) fn of<'a>(descriptors: impl IntoIterator<Item = &'a Descriptor>) -> Self {
        let manifests: Vec<ListedManifest> = descriptors
            .into_iter()
            .map(|descriptor| ListedManifest {
                media_type: descriptor.media_type.clone(),
                size: descriptor.size,
                digest: descriptor.digest,
                platform: descriptor.platform.as_ref().unwrap_or(&Platform::default()).into(),
            })
            .collect();
        let is_oci = manifests.first().is_some_and(|first| first.media_type == media_type::MANIFEST);
        let media_type = if is_oci { media_type::INDEX } else { media_type::DOCKER_INDEX };
        let list = Listed { schema_version: 2, media_type, manifests };
        let json = escaped(&serde_json::to_string(&list).expect("plain data"));
        Self { media_type, content: indented(&json, "   ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(kind: &str, variant: &str) -> Descriptor {
        let mut descriptor = Descriptor::new(kind, Digest::of(b"x"), 7);
        let variant = variant.to_owned();
        let os_version = "1<2".to_owned();
        let platform = Platform {
            os: "linux".into(),
            architecture: "arm64".into(),
            variant,
            os_version,
            os_features: Vec::new(),
        };
        descriptor.platform = Some(platform);
        descriptor
    }

    #[test]
    fn a_list_is_laid_out_as_docker_lays_it_out() {
        let list = ManifestList::of([&descriptor(media_type::MANIFEST, "v8")]);
        let expected = "{\n   \"schemaVersion\": 2,\n   \"mediaType\": \"application/vnd.oci.image.index.v1+json\",\n   \"manifests\": [\n      {\n         \"mediaType\": \"application/vnd.oci.image.manifest.v1+json\",\n         \"size\": 7,\n         \"digest\": \"DIGEST\",\n         \"platform\": {\n            \"architecture\": \"arm64\",\n            \"os\": \"linux\",\n            \"os.version\": \"1\\u003c2\",\n            \"variant\": \"v8\"\n         }\n      }\n   ]\n}";
        assert_eq!(list.content, expected.replace("DIGEST", &Digest::of(b"x").to_string()));
        assert_eq!(list.media_type, media_type::INDEX);
        let docker = [descriptor(media_type::DOCKER_MANIFEST, ""), descriptor(media_type::MANIFEST, "")];
        assert_eq!(ManifestList::of(&docker).media_type, media_type::DOCKER_INDEX);
    }
}
