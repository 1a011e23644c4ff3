//! Ids that the engine makes up, and names that people give.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Result, limits};

macro_rules! hex_id {
    ($(#[$doc:meta])* $id:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $id(String);

        impl $id {
            /// A new id that nothing else has.
            pub fn random() -> Self {
                Self(random_hex())
            }

            /// The 64 hex digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first 12 hex digits, as clients show it.
            pub fn short(&self) -> &str {
                &self.0[..12]
            }
        }

        impl FromStr for $id {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                    return Ok(Self(text.to_owned()));
                }
                Err(Error::grammar($what, text, "not 64 lower-case hex digits"))
            }
        }

        text_type!($id);
    };
}

/// Prints and serialises a type as the text that it wraps, and reads it through its `FromStr`.
macro_rules! text_type {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                crate::lenient::parsed(deserializer)
            }
        }
    };
}

hex_id!(
    /// The id of a container: 64 lower-case hex digits.
    ContainerId,
    "container id"
);
hex_id!(
    /// The id of a network: 64 lower-case hex digits.
    NetworkId,
    "network id"
);
hex_id!(
    /// The id of a command run in a container: 64 lower-case hex digits.
    ExecId,
    "exec id"
);

/// The name of a container or volume: a letter or digit, then at least one of letters, digits, `_`, `.` and `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |reason| Error::grammar("name", text, reason);
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        if text.len() > limits::NAME {
            return Err(wrong("longer than 255 characters"));
        }
        let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if first && text.len() >= 2 && text.bytes().all(rest) {
            return Ok(Self(text.to_owned()));
        }
        Err(wrong("only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"))
    }
}

text_type!(Name);

/// 64 random hex digits whose first 12 are not all decimal: those serve as a host name, and some programs take an
/// all-digit one for an address.
fn random_hex() -> String {
    loop {
        let mut bytes = [0_u8; 32];
        fill_random(&mut bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        if hex[..12].bytes().any(|byte| byte.is_ascii_lowercase()) {
            return hex;
        }
    }
}

fn fill_random(bytes: &mut [u8]) {
    let mut filled = 0;
    while filled < bytes.len() {
        // EINTR is possible only while the pool is not yet seeded (getrandom(2)).
        if let Ok(count) =
            rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
        {
            filled += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_parse_back() {
        let ids: Vec<_> = (0..1000).map(|_| ContainerId::random()).collect();
        let mut sorted = ids.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), ids.len());
        for id in ids {
            assert_eq!(id.as_str().parse::<ContainerId>().unwrap(), id);
            assert!(id.as_str().starts_with(id.short()) && id.short().parse::<u64>().is_err());
        }
    }

    #[test]
    fn only_64_lower_case_hex_digits_are_an_id() {
        let cases =
            [String::new(), "0".repeat(63), "0".repeat(65), "A".repeat(64), format!("../{}", "0".repeat(61))];
        for text in cases {
            assert!(text.parse::<ContainerId>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_follow_dockers_grammar() {
        for good in ["ab", "A1", "web_1", "0.-_", "a.b"] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        let long = "a".repeat(256);
        for bad in ["", "a", "_a", ".a", "-a", "a b", "a/b", "..", "aä", "a\0", "/ab", &long] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }
}
