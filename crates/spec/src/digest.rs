//! Content digests: `sha256:` or `sha512:` and lower-case hex of the exact length (OCI image spec, descriptor).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256, Sha512};

use crate::{Error, Result};

/// The digest of some content. Exists only in the checked form, so that it can safely name a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Sum);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Sum {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

/// How a digest is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-256, which everything uses.
    Sha256,
    /// SHA-512, which the specification registers too.
    Sha512,
}

impl Digest {
    /// The SHA-256 digest of `content`.
    pub fn of(content: &[u8]) -> Self {
        Self(Sum::Sha256(Sha256::digest(content).into()))
    }

    /// The algorithm it was computed with.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Sum::Sha256(_) => Algorithm::Sha256,
            Sum::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The part behind the colon: 64 or 128 lower-case hex digits.
    pub fn hex(&self) -> String {
        let bytes: &[u8] = match &self.0 {
            Sum::Sha256(bytes) => bytes,
            Sum::Sha512(bytes) => bytes,
        };
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).expect("a nibble is below 16");
        bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }

    /// The first 12 hex digits, as clients show an image's id.
    pub fn short(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(12);
        hex
    }
}

impl Algorithm {
    /// As it stands before the colon, and as the directory of an OCI layout is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }
}

/// Computes a digest piece by piece.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// A hasher that has seen nothing yet.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Adds the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of all pieces.
    pub fn finish(self) -> Digest {
        Digest(match self.0 {
            State::Sha256(state) => Sum::Sha256(state.finalize().into()),
            State::Sha512(state) => Sum::Sha512(state.finalize().into()),
        })
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(Error::grammar("digest", text, "no colon"));
        };
        let sum = match algorithm {
            "sha256" => decode(hex).map(Sum::Sha256),
            "sha512" => decode(hex).map(Sum::Sha512),
            _ => return Err(Error::grammar("digest", text, "neither sha256 nor sha512")),
        };
        let wrong = || Error::grammar("digest", text, "not lower-case hex of the algorithm's length");
        sum.map(Self).ok_or_else(wrong)
    }
}

fn decode<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if hex.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().name(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        crate::lenient::parsed(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_grammar_is_a_digest() {
        let good = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(good.parse::<Digest>().unwrap().to_string(), good);
        let long = format!("sha512:{}", "f".repeat(128));
        assert_eq!(long.parse::<Digest>().unwrap().to_string(), long);
        let bad = [
            String::new(),
            ":".to_owned(),
            "sha256:".to_owned(),
            "sha256:../../x".to_owned(),
            format!("sha256:{}", "0A".repeat(32)),
            format!("sha256:{}", "0".repeat(63)),
            format!("sha256:{}", "0".repeat(65)),
            format!("sha512:{}", "0".repeat(64)),
            format!("md5:{}", "0".repeat(32)),
            format!("SHA256:{}", "0".repeat(64)),
            format!("sha256:{}\0", "0".repeat(63)),
            format!("sha256: {}", "0".repeat(63)),
            format!("sha256:{}", "٣".repeat(32)),
            "0".repeat(64),
            "a".repeat(10 << 20),
        ];
        for text in bad {
            let error = text.parse::<Digest>().unwrap_err().to_string();
            assert!(error.len() < 300, "{error:.400}");
        }
    }

    #[test]
    fn pieces_and_whole_have_the_same_digest() {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(b"hello ");
        hasher.update(b"world");
        let digest = hasher.finish();
        assert_eq!(digest, Digest::of(b"hello world"));
        assert_eq!(digest.hex(), "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9");
        assert_eq!(digest.short(), "b94d27b9934d");
        let empty = Hasher::new(Algorithm::Sha512).finish().to_string();
        assert!(empty.starts_with("sha512:cf83e1357eefb8bd"), "{empty}");
    }
}
