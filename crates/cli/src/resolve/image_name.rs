//! Names of images as people type them.

/// A name taken apart: `host/path:tag@digest`. What is legal in it, the daemon says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageName {
    /// Without tag and digest.
    pub(crate) repository: String,
    pub(crate) tag: Option<String>,
    pub(crate) digest: Option<String>,
}

impl ImageName {
    /// Takes a name apart.
    pub(crate) fn parse(text: &str) -> Self {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.to_owned())),
            None => (text, None),
        };
        let path = name.rfind('/').map_or(0, |slash| slash + 1);
        let (repository, tag) = match name[path..].split_once(':') {
            Some((last, tag)) => (format!("{}{last}", &name[..path]), Some(tag.to_owned())),
            None => (name.to_owned(), None),
        };
        Self { repository, tag, digest }
    }

    /// What the API calls `tag`: the digest when there is one, else the tag, `latest` by default.
    pub(crate) fn reference(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }
}

/// The name with the tag it has or gets.
pub(crate) fn with_tag(text: &str) -> String {
    let name = ImageName::parse(text);
    match (&name.tag, &name.digest) {
        (None, None) => format!("{}:latest", name.repository),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart_at_the_right_colon() {
        let cases = [
            ("alpine", "alpine", "latest"),
            ("alpine:3", "alpine", "3"),
            ("host:5000/a/b", "host:5000/a/b", "latest"),
            ("host:5000/a/b:tag", "host:5000/a/b", "tag"),
            ("a@sha256:00", "a", "sha256:00"),
            ("a:tag@sha256:00", "a", "sha256:00"),
        ];
        for (text, repository, reference) in cases {
            let name = ImageName::parse(text);
            assert_eq!((name.repository.as_str(), name.reference()), (repository, reference), "{text}");
        }
    }
}
