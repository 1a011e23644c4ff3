//! `--volumes-from`: the mounts of other containers.

use super::MountPoint;
use super::mount_mode::{self, Kind};
use super::registry::Registry;
use super::settings::Settings;
use crate::error::{Error, Result};

/// The mount points that a container gets of others, in the order in which they were named. A tmpfs is its container's
/// own, and not among them.
///
/// # Errors
/// [`Error::Invalid`] with Docker's words for a mode that is none, and for a container that is not there.
pub(super) fn shared_points(containers: &Registry, settings: &Settings) -> Result<Vec<MountPoint>> {
    let mut points = Vec::new();
    for text in &settings.host.volumes_from {
        let Source { container, is_writable } = Source::parse(text)?;
        // Docker answers 400 here, not 404.
        let other = containers.find(container).map_err(|error| Error::Invalid(error.to_string()))?.describe();
        points.extend(other.mounts.iter().map(|point| shared(point, is_writable)));
    }
    Ok(points)
}

fn shared(point: &MountPoint, is_writable: bool) -> MountPoint {
    // The client's options were for the other container.
    MountPoint { mode: String::new(), writable: point.writable && is_writable, ..point.clone() }
}

/// `CONTAINER[:MODE]`.
#[derive(Debug, PartialEq, Eq)]
struct Source<'a> {
    container: &'a str,
    is_writable: bool,
}

impl<'a> Source<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::Invalid("volumes-from specification cannot be an empty string".to_owned()));
        }
        let (container, mode) = text.split_once(':').unwrap_or((text, ""));
        if container.is_empty() {
            return Err(Error::Invalid("invalid name or ID supplied: \"\"".to_owned()));
        }
        // Propagation and copying are not for mounts that are there already.
        let own = |(kind, _): &(Kind, &str)| !matches!(kind, Kind::Propagation | Kind::Copying);
        let words = mount_mode::words(mode).filter(|words| words.iter().all(own));
        let words = words.ok_or_else(|| Error::Invalid(format!("invalid mode: {mode}")))?;
        Ok(Self { container, is_writable: !words.contains(&(Kind::Access, "ro")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_are_read_or_refused_as_docker_does() {
        for (text, container, is_writable) in [
            ("data", "data", true),
            ("data:", "data", true),
            ("data:rw", "data", true),
            ("data:ro,z", "data", false),
            ("data:Z,cached,ro", "data", false),
        ] {
            assert_eq!(Source::parse(text).unwrap(), Source { container, is_writable }, "{text}");
        }
        for (text, reason) in [
            ("", "cannot be an empty string"),
            (":ro", "invalid name or ID supplied: \"\""),
            ("data:xx", "invalid mode: xx"),
            ("data:ro:z", "invalid mode: ro:z"),
            ("data:ro,rw", "invalid mode: ro,rw"),
            ("data:z,Z", "invalid mode: z,Z"),
            ("data:ro,", "invalid mode: ro,"),
            ("data:rshared", "invalid mode: rshared"),
            ("data:nocopy", "invalid mode: nocopy"),
        ] {
            let error = Source::parse(text).unwrap_err();
            assert!(error.to_string().contains(reason), "{text:?}: {error}");
        }
    }
}
