//! Names that can be looked up: lower case, bounded, and safe as the name of a file.

use std::fmt;

use crate::error::{Error, Result};
use crate::limits::{LABEL, NAME};

/// A host name: parts of letters, digits, `-` and `_`, separated by dots. Upper case is lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Checks a name; a final dot is dropped.
    ///
    /// # Errors
    /// [`Error::Name`] when no query could ask for it, or it could not be the name of a file.
    pub fn parse(text: &str) -> Result<Self> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.len() <= NAME && name.split('.').all(is_label) {
            Ok(Self(name.to_ascii_lowercase()))
        } else {
            Err(Error::Name { text: text.to_owned() })
        }
    }

    /// What stands before `suffix` and its dot, if the name ends so.
    pub(crate) fn before(&self, suffix: &Self) -> Option<Self> {
        let rest = self.0.strip_suffix(suffix.as_str())?.strip_suffix('.')?;
        (!rest.is_empty()).then(|| Self(rest.to_owned()))
    }

    /// The name, without a final dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_label(label: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=LABEL).contains(&label.len()) && label.bytes().all(plain)
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_is_whole_parts_and_never_all() {
        let name = |text| Name::parse(text).unwrap();
        for (text, suffix, expected) in [
            ("web.net", "net", Some("web")),
            ("c1.net1.br.net1", "br.net1", Some("c1.net1")),
            ("webnet", "net", None),
            ("net", "net", None),
            ("web.net.example", "net", None),
        ] {
            assert_eq!(name(text).before(&name(suffix)), expected.map(name), "{text}");
        }
    }

    #[test]
    fn names_are_lower_case_and_never_paths() {
        for (text, name) in [("Web", "web"), ("web.", "web"), ("my_db-1.net.Example", "my_db-1.net.example")]
        {
            assert_eq!(Name::parse(text).unwrap().as_str(), name);
        }
        let (label, name) = ("x".repeat(64), format!("{}x", "x.".repeat(127)));
        for bad in ["", ".", "..", "a..b", ".a", "a/b", "../a", "a b", "a\0", "a\n", "ä", "*", &label, &name]
        {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
    }
}
