//! API versions, their negotiation bounds and the headers that carry them.

use std::fmt;
use std::str::FromStr;

/// `Api-Version`: the daemon's newest API version, on every response.
pub const API_VERSION_HEADER: &str = "Api-Version";
/// `Ostype`: the daemon's operating system, on every response.
pub const OS_TYPE_HEADER: &str = "Ostype";
/// `Docker-Experimental`: whether experimental features are on, on every response.
pub const EXPERIMENTAL_HEADER: &str = "Docker-Experimental";
/// `Builder-Version`: the preferred builder, on `/_ping`: `1` classic, `2` BuildKit.
pub const BUILDER_VERSION_HEADER: &str = "Builder-Version";
/// `Swarm`: the node's swarm state, on `/_ping`.
pub const SWARM_HEADER: &str = "Swarm";
/// `X-Registry-Auth`: credentials of one registry, base64url of an [`crate::auth::AuthConfig`].
pub const REGISTRY_AUTH_HEADER: &str = "X-Registry-Auth";
/// `X-Registry-Config`: credentials of several registries, for builds.
pub const REGISTRY_CONFIG_HEADER: &str = "X-Registry-Config";
/// `X-Docker-Container-Path-Stat`: base64 of a [`crate::container::PathStat`].
pub const PATH_STAT_HEADER: &str = "X-Docker-Container-Path-Stat";
/// Content type of a raw (terminal) stream.
pub const RAW_STREAM: &str = "application/vnd.docker.raw-stream";
/// Content type of a stream with stdout and stderr in frames.
pub const MULTIPLEXED_STREAM: &str = "application/vnd.docker.multiplexed-stream";

/// A version of the Engine API, `major.minor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    major: u16,
    minor: u16,
}

/// Why a text is not an API version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidVersion(String);

impl ApiVersion {
    /// The oldest version served: clients of Docker 1.12.
    pub const MIN: Self = Self::new(1, 24);
    /// The newest version served.
    pub const MAX: Self = Self::new(1, 53);

    /// `major.minor`.
    #[must_use]
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// Whether this version is between [`Self::MIN`] and [`Self::MAX`].
    #[must_use]
    pub fn is_served(self) -> bool {
        (Self::MIN..=Self::MAX).contains(&self)
    }

    /// The version a client speaks with a daemon whose newest version is `daemon`: the smaller maximum. A daemon that
    /// names none predates negotiation and speaks 1.24.
    #[must_use]
    pub fn negotiate(daemon: Option<Self>) -> Self {
        daemon.unwrap_or(Self::MIN).min(Self::MAX)
    }

    /// Splits `/v1.45/containers/json` into its version and `/containers/json`; a path without a version is whole.
    #[must_use]
    pub fn split_path(path: &str) -> (Option<Self>, &str) {
        let Some(rest) = path.strip_prefix("/v") else { return (None, path) };
        let end = rest.find('/').unwrap_or(rest.len());
        match rest[..end].parse() {
            Ok(version) => (Some(version), if end == rest.len() { "/" } else { &rest[end..] }),
            Err(_) => (None, path),
        }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for ApiVersion {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let number =
            |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten();
        text.split_once('.')
            .and_then(|(major, minor)| Some(Self::new(number(major)?, number(minor)?)))
            .ok_or_else(|| InvalidVersion(text.to_owned()))
    }
}

impl fmt::Display for InvalidVersion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} is not an API version such as {}", self.0, ApiVersion::MAX)
    }
}

impl std::error::Error for InvalidVersion {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_by_number_and_print_as_they_parse() {
        for text in ["1.9", "1.24", "1.53", "2.0"] {
            assert_eq!(text.parse::<ApiVersion>().map(|version| version.to_string()), Ok(text.into()));
        }
        assert!(ApiVersion::new(1, 9) < ApiVersion::new(1, 24));
        for text in ["", "1", "1.", ".1", "1.2.3", "v1.2", "+1.2", "1.-2", "1.99999"] {
            assert!(text.parse::<ApiVersion>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_bounds_are_served_and_their_neighbours_are_not() {
        for (minor, served) in [(23, false), (24, true), (53, true), (54, false)] {
            assert_eq!(ApiVersion::new(1, minor).is_served(), served, "1.{minor}");
        }
    }

    #[test]
    fn negotiation_takes_the_smaller_maximum() {
        let negotiated = |daemon| ApiVersion::negotiate(daemon).to_string();
        assert_eq!(negotiated(Some(ApiVersion::new(1, 45))), "1.45");
        assert_eq!(negotiated(Some(ApiVersion::new(1, 99))), "1.53");
        assert_eq!(negotiated(None), "1.24");
    }

    #[test]
    fn a_path_gives_up_its_version_only_when_it_has_one() {
        let cases = [
            ("/v1.45/containers/json", Some(ApiVersion::new(1, 45)), "/containers/json"),
            ("/v1.24", Some(ApiVersion::new(1, 24)), "/"),
            ("/volumes", None, "/volumes"),
            ("/version", None, "/version"),
            ("/v1.x/info", None, "/v1.x/info"),
        ];
        for (path, version, rest) in cases {
            assert_eq!(ApiVersion::split_path(path), (version, rest), "{path}");
        }
    }
}
