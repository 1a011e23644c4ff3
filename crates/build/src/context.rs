//! Contexts by name: what a client puts in the place of images and stages.

use crate::error::{Error, Result};
use crate::scope::Wanted;
use coracle_spec::{Platform, Reference};

/// What stands between a name and the platform that it is meant for.
const FOR: &str = "::";
/// Names that always mean what they say.
const RESERVED: [&str; 2] = ["scratch", "context"];

/// The name of a context, the same for all ways to write it: `docker.io/library/alpine:latest` is `alpine`. It may be meant
/// for one platform alone: `alpine::linux/arm64`.
///
/// # Errors
/// [`Error::Value`] for what can be no name.
pub fn context_name(text: &str) -> Result<String> {
    let (name, platform) = text.split_once(FOR).map_or((text, None), |(name, rest)| (name, Some(rest)));
    let reference: Reference = name.parse().map_err(|_| Error::value("invalid context name", text))?;
    let platform = platform.map(str::parse::<Platform>).transpose();
    let platform = platform.map_err(|_| Error::value("invalid platform of a context", text))?;
    Ok(written(&reference, platform.as_ref()))
}

fn written(reference: &Reference, platform: Option<&Platform>) -> String {
    let name = reference.familiar();
    let name = name.strip_suffix(":latest").unwrap_or(&name);
    match platform {
        None => name.to_owned(),
        Some(platform) => format!("{name}{FOR}{}", platform.normalized()),
    }
}

impl Wanted {
    /// The context in the place of an image or a stage of this name, for a platform.
    pub(crate) fn context(&self, name: &str, platform: &Platform) -> Option<&str> {
        if RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            return None;
        }
        // What can be no name of a context is none.
        let reference: Reference = name.parse().ok()?;
        let names = [written(&reference, Some(platform)), written(&reference, None)];
        names.iter().find_map(|name| self.contexts.get(name)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_has_one_name() {
        for (text, name) in [
            ("alpine", "alpine"),
            ("alpine:latest", "alpine"),
            ("docker.io/library/alpine:latest", "alpine"),
            ("alpine:3", "alpine:3"),
            ("quay.io/a/b", "quay.io/a/b"),
            ("base::linux/arm64/v8", "base::linux/arm64"),
        ] {
            assert_eq!(context_name(text).unwrap(), name);
        }
        for text in ["", "UPPER", "a b", "a::x/y/z/w"] {
            assert!(context_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn one_for_the_platform_comes_first() {
        let contexts = ["alpine", "base::linux/arm64", "base", "only::linux/arm64", "scratch"];
        let wanted = Wanted { contexts: contexts.map(str::to_owned).into(), ..Wanted::default() };
        let (here, there): (Platform, Platform) =
            ("linux/amd64".parse().unwrap(), "linux/arm64".parse().unwrap());
        assert_eq!(wanted.context("docker.io/library/alpine:latest", &here), Some("alpine"));
        assert_eq!(wanted.context("base", &here), Some("base"));
        assert_eq!(wanted.context("base:latest", &there), Some("base::linux/arm64"));
        for (name, platform) in [("only", &here), ("alpine:3", &here), ("scratch", &here), ("$x", &there)] {
            assert_eq!(wanted.context(name, platform), None, "{name}");
        }
    }
}
