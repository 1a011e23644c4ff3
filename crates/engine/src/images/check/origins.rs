//! Whether what an image came with says what is known of it: its manifests, the indexes that have it, what its names
//! stand for.

use super::super::catalogue::Known;
use super::Check;
use coracle_spec::Digest;
use coracle_spec::image::Document;

impl Check<'_> {
    /// What is wrong with where an image came from.
    pub(super) fn origin_problems(&self, image: &Known) -> Vec<String> {
        let mut problems = Vec::new();
        for (index, member) in &image.indexes {
            match self.inner.described(*index) {
                Some((_, Document::Index(document))) => {
                    if !document.manifests.iter().any(|entry| entry.digest == member.manifest) {
                        problems.push(format!(
                            "its index {index} does not name its manifest {}",
                            member.manifest
                        ));
                    }
                }
                Some((_, Document::Manifest(_))) => problems.push(format!("its index {index} is none")),
                None => problems.push(format!("its index {index} cannot be read")),
            }
            if !self.is_manifest_of(&member.manifest, image) {
                problems.push(format!("{} is not its manifest", member.manifest));
            }
        }
        for (name, target) in &image.targets {
            if !image.manifests.contains(target) {
                problems.push(format!(
                    "its name {} stands for {target}, which it does not have",
                    name.familiar()
                ));
            }
        }
        if image.artifact.is_some() {
            problems.extend(self.artifact_problems(image));
        }
        problems
    }

    fn is_manifest_of(&self, digest: &Digest, image: &Known) -> bool {
        match self.inner.described(*digest) {
            Some((_, Document::Manifest(manifest))) => {
                *digest == image.id || manifest.config.digest == image.id
            }
            _ => false,
        }
    }

    fn artifact_problems(&self, image: &Known) -> Vec<String> {
        let Some((_, Document::Manifest(manifest))) = self.inner.described(image.id) else {
            return vec!["its manifest cannot be used".to_owned()];
        };
        let blobs = manifest.blobs().into_iter().filter(|blob| !image.manifests.contains(&blob.digest));
        blobs.map(|blob| format!("its record lacks blob {}", blob.digest)).collect()
    }
}
