//! The mode of a mount in the short form, `ro,z`: words, one of each kind at most. Pure.

/// What a word is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Access,
    /// SELinux relabelling, which means nothing where SELinux is off.
    Label,
    /// A matter of Docker Desktop.
    Consistency,
    Propagation,
    /// Whether a new volume begins with the image's content.
    Copying,
}

impl Kind {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "ro" | "rw" => Self::Access,
            "z" | "Z" => Self::Label,
            "consistent" | "cached" | "delegated" => Self::Consistency,
            "private" | "rprivate" | "slave" | "rslave" | "shared" | "rshared" => Self::Propagation,
            "nocopy" => Self::Copying,
            _ => return None,
        })
    }
}

/// The words of a mode, of which none means nothing and no two are about the same.
pub(super) fn words(mode: &str) -> Option<Vec<(Kind, &str)>> {
    if mode.is_empty() {
        return Some(Vec::new());
    }
    let words: Vec<(Kind, &str)> =
        mode.split(',').map(|word| Some((Kind::of(word)?, word))).collect::<Option<_>>()?;
    let mut kinds: Vec<Kind> = words.iter().map(|(kind, _)| *kind).collect();
    kinds.sort();
    kinds.dedup();
    (kinds.len() == words.len()).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_has_known_words_and_one_of_each_kind() {
        for (mode, expected) in [
            ("", Some(0)),
            ("ro", Some(1)),
            ("ro,z,rslave,cached,nocopy", Some(5)),
            ("ro,rw", None),
            ("z,Z", None),
            ("nocopy,nocopy", None),
            ("ro,", None),
            ("xx", None),
        ] {
            assert_eq!(words(mode).map(|words| words.len()), expected, "{mode:?}");
        }
    }
}
