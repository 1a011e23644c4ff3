//! Image references as people type them and as registries know them.
//!
//! Grammar and normalisation are those of the distribution project: `ubuntu` is `docker.io/library/ubuntu`, and a
//! first component counts as a registry only if it has a dot, a colon or an upper-case letter, or is `localhost`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Digest, Error, Result, limits};

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library/";

/// A reference to an image: a repository with, perhaps, a tag and a digest. Always in the normalised form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

/// A tag: up to 128 letters, digits, `_`, `.` and `-`, not beginning with the last two.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

impl Reference {
    /// The registry: `docker.io` where none was named.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry: `library/ubuntu`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, where there is one.
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The digest, where there is one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Registry and repository without tag and digest: `docker.io/library/ubuntu`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The name as people write it: `ubuntu`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        let official = self.path.strip_prefix(OFFICIAL).filter(|rest| !rest.contains('/'));
        official.unwrap_or(&self.path).to_owned()
    }

    /// The whole reference as people write it: `ubuntu:24.04`.
    pub fn familiar(&self) -> String {
        self.with_suffixes(self.familiar_name())
    }

    /// The whole reference with everything spelt out: `docker.io/library/ubuntu:24.04`.
    pub fn canonical(&self) -> String {
        self.with_suffixes(self.name())
    }

    /// The same repository with this tag and no digest.
    pub fn with_tag(mut self, tag: Tag) -> Self {
        self.tag = Some(tag);
        self.digest = None;
        self
    }

    /// The same repository and tag with this digest.
    pub fn with_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// With the tag `latest`, where there is neither a tag nor a digest.
    pub fn or_latest(self) -> Self {
        if self.tag.is_some() || self.digest.is_some() { self } else { self.with_tag(Tag::latest()) }
    }

    fn with_suffixes(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text = format!("{text}:{tag}");
        }
        if let Some(digest) = &self.digest {
            text = format!("{text}@{digest}");
        }
        text
    }
}

impl Tag {
    /// The tag that is meant where none is named.
    pub fn latest() -> Self {
        Self("latest".to_owned())
    }

    /// The tag's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |reason| Error::grammar("reference", text, reason);
        if text.is_empty() {
            return Err(wrong("it is empty"));
        }
        if text.len() == 64 && text.bytes().all(is_lower_hex) {
            return Err(wrong("64 hex digits are an id, not a repository"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let (domain, rest) = split_domain(rest);
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag.parse()?)),
            None => (rest, None),
        };
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(wrong("repository name must be lowercase"));
        }
        if !is_domain(domain) {
            return Err(wrong("the registry is not host or host:port"));
        }
        if !path.split('/').all(is_path_component) {
            return Err(wrong("not a repository, perhaps with :tag and @digest"));
        }
        let official = domain == DEFAULT_DOMAIN && !path.contains('/');
        let path = if official { format!("{OFFICIAL}{path}") } else { path.to_owned() };
        if path.len() > limits::REPOSITORY {
            return Err(wrong("repository name must not be more than 255 characters"));
        }
        Ok(Self { domain: domain.to_owned(), path, tag, digest })
    }
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let first = text.bytes().next().is_some_and(word);
        let rest = text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
        if first && rest && text.len() <= 128 {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::grammar("tag", text, "not up to 128 letters, digits, '_', '.' and '-'"))
    }
}

/// Splits off the registry, which is the default one unless the first component looks like a host.
fn split_domain(text: &str) -> (&str, &str) {
    let (domain, rest) = match text.split_once('/') {
        Some((first, rest)) if looks_like_host(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, text),
    };
    (if domain == LEGACY_DEFAULT_DOMAIN { DEFAULT_DOMAIN } else { domain }, rest)
}

fn looks_like_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if is_v6(address) => {
                ("v6", port.strip_prefix(':').or(Some("0").filter(|_| port.is_empty())))
            }
            _ => return false,
        },
        None => match domain.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (domain, Some("0")),
        },
    };
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    host.split('.').all(is_host_component) && port.is_some_and(digits)
}

fn is_v6(address: &str) -> bool {
    !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':')
}

fn is_host_component(component: &str) -> bool {
    let inner = component.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    inner && !component.is_empty() && !component.starts_with('-') && !component.ends_with('-')
}

/// Runs of lower-case letters and digits, joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    let joined = bytes.split(|byte| plain(*byte)).all(|separator| {
        matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|byte| *byte == b'-')
    });
    plain(*first) && plain(*last) && joined
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

impl fmt::Display for Reference {
    /// As people write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.familiar())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Reference {
    /// With everything spelt out.
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.canonical())
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        crate::lenient::parsed(deserializer)
    }
}

#[cfg(test)]
#[path = "reference_tests.rs"]
mod tests;
