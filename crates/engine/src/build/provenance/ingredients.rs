//! What a build is made of, noted while it is made: base images, what was fetched, which secrets were asked for.

use super::super::history::without_passwords;
use coracle_build::{Command, MountKind};
use coracle_spec::{Digest, Platform, Reference};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Something that a build was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Material {
    /// Where it is, without passwords.
    pub uri: String,
    /// The algorithm and the digits of its digest.
    pub digest: (String, String),
}

/// What a build was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ingredients {
    /// Images and what was fetched.
    pub materials: Vec<Material>,
    /// The context, where that was fetched.
    pub context: Option<Material>,
    /// Ids of secrets, and whether the build would do without.
    pub secrets: BTreeMap<String, bool>,
    /// The same of SSH agents.
    pub agents: BTreeMap<String, bool>,
    /// Stages and instructions, in order.
    pub steps: Vec<(String, String)>,
    /// The Dockerfile.
    pub recipe: String,
}

/// Where ingredients are noted.
#[derive(Debug, Default)]
pub(in crate::build) struct Notes(Mutex<Ingredients>);

impl Material {
    /// A file of a web server.
    pub(in crate::build) fn file(address: &str, digest: Digest) -> Self {
        Self { uri: without_passwords(address), digest: digits(&digest) }
    }

    /// A commit of a repository.
    pub(in crate::build) fn commit(address: &str, commit: &str) -> Self {
        let algorithm = if commit.len() == 64 { "sha256" } else { "sha1" };
        Self { uri: without_passwords(address), digest: (algorithm.to_owned(), commit.to_owned()) }
    }

    /// An image.
    fn image(name: &str, platform: &Platform, digest: Digest) -> Self {
        let uri =
            name.parse::<Reference>().map_or_else(|_| name.to_owned(), |name| package_url(&name, platform));
        Self { uri, digest: digits(&digest) }
    }
}

pub(super) fn digits(digest: &Digest) -> (String, String) {
    (digest.algorithm().name().to_owned(), digest.hex())
}

/// The name of an image as a package (package-url specification, type `docker`).
pub(super) fn package_url(name: &Reference, platform: &Platform) -> String {
    let name = name.clone().or_latest();
    let tag = name.tag().map(|tag| format!("@{tag}")).unwrap_or_default();
    let digest = name.digest().map(|digest| format!("digest={digest}&")).unwrap_or_default();
    let platform = platform.to_string().replace('/', "%2F");
    format!("pkg:docker/{}{tag}?{digest}platform={platform}", name.familiar_name())
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, Ingredients> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::build) fn image(&self, name: &str, platform: &Platform, digest: Digest) {
        self.add(Material::image(name, platform, digest));
    }

    pub(in crate::build) fn add(&self, material: Material) {
        let mut noted = self.lock();
        if !noted.materials.contains(&material) {
            noted.materials.push(material);
        }
    }

    pub(in crate::build) fn command(&self, command: &Command) {
        let mut noted = self.lock();
        for (mount, _) in &command.mounts {
            let target = mount.target.as_deref().and_then(|path| path.rsplit('/').next());
            match mount.kind {
                MountKind::Secret => {
                    let id = mount.id.as_deref().or(target).unwrap_or_default().to_owned();
                    noted.secrets.insert(id, !mount.required);
                }
                MountKind::Ssh => {
                    let id = mount.id.as_deref().unwrap_or("default").to_owned();
                    noted.agents.insert(id, !mount.required);
                }
                _ => {}
            }
        }
    }

    /// Everything that was noted, in an order that does not depend on which step came first.
    pub(in crate::build) fn take(&self) -> Ingredients {
        let mut noted = std::mem::take(&mut *self.lock());
        noted.materials.sort_by(|one, other| one.uri.cmp(&other.uri));
        noted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_packages() {
        let platform: Platform = "linux/arm/v7".parse().unwrap();
        for (name, expected) in [
            ("alpine", "pkg:docker/alpine@latest?platform=linux%2Farm%2Fv7"),
            ("localhost:5000/a/b:1", "pkg:docker/localhost:5000/a/b@1?platform=linux%2Farm%2Fv7"),
        ] {
            assert_eq!(package_url(&name.parse().unwrap(), &platform), expected);
        }
        let digest = Digest::of(b"x");
        let pinned = package_url(&format!("alpine@{digest}").parse().unwrap(), &platform);
        assert!(pinned.starts_with(&format!("pkg:docker/alpine?digest={digest}&platform=")), "{pinned}");
    }
}
