//! Platforms of images: `linux/arm64/v8`, and which of them this machine runs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::lenient::{is_default, nullable};
use crate::{Error, Result};

/// What an image runs on (OCI image spec, `platform` of a descriptor). Names are Go's: `amd64`, `arm64`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The processor: `amd64`.
    #[serde(default, deserialize_with = "nullable")]
    pub architecture: String,
    /// The operating system: `linux`.
    #[serde(default, deserialize_with = "nullable")]
    pub os: String,
    /// The processor's variant: `v7` of `arm`.
    #[serde(default, deserialize_with = "nullable", skip_serializing_if = "is_default")]
    pub variant: String,
    /// The version of the operating system, which only Windows images have.
    #[serde(
        default,
        rename = "os.version",
        deserialize_with = "nullable",
        skip_serializing_if = "is_default"
    )]
    pub os_version: String,
    /// Features of the operating system that the image needs.
    #[serde(
        default,
        rename = "os.features",
        deserialize_with = "nullable",
        skip_serializing_if = "is_default"
    )]
    pub os_features: Vec<String>,
}

impl Platform {
    /// What this program was built for.
    pub fn host() -> Self {
        Self::named(std::env::consts::OS, std::env::consts::ARCH, "")
    }

    /// The same platform with aliases resolved (`aarch64` is `arm64`) and default variants left out or put in.
    pub fn normalized(&self) -> Self {
        let named = Self::named(&self.os, &self.architecture, &self.variant);
        Self { os_version: self.os_version.clone(), os_features: self.os_features.clone(), ..named }
    }

    /// How well an image of `self` runs on `host`: lower is better, `None` is not at all.
    ///
    /// An ARM processor also runs the images of older variants.
    pub fn rank_on(&self, host: &Self) -> Option<u32> {
        let (image, host) = (self.normalized(), host.normalized());
        if image.os != host.os || image.architecture != host.architecture {
            return None;
        }
        if image.variant == host.variant {
            return Some(0);
        }
        let older = version(&host.variant)?.checked_sub(version(&image.variant)?)?;
        matches!(host.architecture.as_str(), "arm" | "arm64" | "amd64").then_some(older)
    }

    fn named(os: &str, architecture: &str, variant: &str) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let lower = (architecture.to_ascii_lowercase(), variant.to_ascii_lowercase());
        let (architecture, variant) = match (lower.0.as_str(), lower.1.as_str()) {
            ("x86_64" | "x86-64" | "amd64", "" | "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
            ("i386" | "x86" | "386", _) => ("386", ""),
            ("aarch64" | "arm64", "" | "8" | "v8") => ("arm64", ""),
            ("aarch64" | "arm64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            ("powerpc64" | "ppc64le", variant) => ("ppc64le", variant),
            ("loongarch64", variant) => ("loong64", variant),
            (architecture, variant) => (architecture, variant),
        };
        Self { os, architecture: architecture.to_owned(), variant: variant.to_owned(), ..Self::default() }
    }
}

/// The number of a variant; the default variants of amd64 and arm64 are 1 and 8 and are handled alike.
fn version(variant: &str) -> Option<u32> {
    if variant.is_empty() { Some(0) } else { variant.strip_prefix('v')?.split('.').next()?.parse().ok() }
}

/// Operating systems that one word may be.
const SYSTEMS: [&str; 5] = ["linux", "windows", "darwin", "macos", "freebsd"];

/// What one word may be: by itself, anything would be an architecture, and a slip of the pen too.
const ARCHITECTURES: [&str; 17] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le",
    "riscv", "riscv64", "s390", "s390x", "sparc64", "wasm",
];

impl FromStr for Platform {
    type Err = Error;

    /// Reads `os`, `architecture`, `os/architecture` or `os/architecture/variant`; what is missing is this machine's.
    fn from_str(text: &str) -> Result<Self> {
        let part = |part: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
            part.starts_with(|first: char| first.is_ascii_alphanumeric())
                && part.len() <= 64
                && part.bytes().all(allowed)
        };
        let parts: Vec<_> = text.split('/').collect();
        if !parts.iter().all(|text| part(text)) {
            let reason =
                "a part is an invalid component: os/architecture/variant of letters, digits, _, . and -";
            return Err(Error::grammar("platform", text, reason));
        }
        match parts[..] {
            [os] if SYSTEMS.iter().any(|system| os.eq_ignore_ascii_case(system)) => {
                Ok(Self { os: Self::named(os, "", "").os, ..Self::host() })
            }
            [architecture] => {
                let platform = Self::named(std::env::consts::OS, architecture, "");
                if !ARCHITECTURES.contains(&platform.architecture.as_str()) {
                    return Err(Error::grammar("platform", text, "unknown operating system or architecture"));
                }
                Ok(platform)
            }
            [os, architecture] => Ok(Self::named(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::named(os, architecture, variant)),
            _ => Err(Error::grammar("platform", text, "not os/architecture/variant")),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_and_defaults_are_resolved() {
        let cases = [
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("linux/riscv64", "linux/riscv64"),
            ("Linux/AMD64", "linux/amd64"),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected, "{text}");
        }
        assert_eq!("linux".parse::<Platform>().unwrap(), Platform::host());
        assert_eq!("aarch64".parse::<Platform>().unwrap().to_string(), "linux/arm64");
        for bad in
            ["", "/", "linux/", "linux/amd64/", "a/b/c/d", "lin ux/amd64", "../amd64", "bogus", "amd46"]
        {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_nearest_older_variant_runs_and_nothing_else() {
        let rank = |image: &str, host: &str| {
            image.parse::<Platform>().unwrap().rank_on(&host.parse::<Platform>().unwrap())
        };
        assert_eq!(rank("linux/amd64", "linux/amd64"), Some(0));
        assert_eq!(rank("linux/arm/v6", "linux/arm/v7"), Some(1));
        assert_eq!(rank("linux/arm/v7", "linux/arm/v6"), None);
        assert_eq!(rank("linux/amd64/v3", "linux/amd64"), None);
        assert_eq!(rank("linux/arm64", "linux/amd64"), None);
        assert_eq!(rank("windows/amd64", "linux/amd64"), None);
    }
}
