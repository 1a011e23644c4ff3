//! Names of entries as places below a root, and the meaning of whiteout names (OCI image spec, layer).

use crate::limits;

/// Marks a name as the removal of the rest of it.
pub(crate) const WHITEOUT: &[u8] = b".wh.";
/// Removes everything that lower layers have in the same directory.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";
/// Begins names that AUFS used for itself and that mean nothing here.
const AUFS: &[u8] = b".wh..wh.";

/// Where an entry belongs: relative, without `.`, `..`, empty components or NUL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place(Vec<u8>);

/// What an entry's name asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Make what the entry describes here.
    Make(Place),
    /// Hide what lower layers have here.
    Whiteout(Place),
    /// Hide everything that lower layers have in this directory.
    Opaque(Place),
    /// Nothing: a leftover of AUFS.
    Ignore,
}

impl Place {
    /// Reads a name. A leading `/` only says that it is below the root; `..` is refused, as GNU tar does.
    pub(crate) fn parse(name: &[u8]) -> Result<Self, &'static str> {
        if name.is_empty() {
            return Err("the name is empty");
        }
        if name.len() > limits::PATH {
            return Err("the name is longer than a path can be");
        }
        if name.contains(&0) {
            return Err("the name holds NUL");
        }
        let mut path = Vec::with_capacity(name.len());
        for component in name.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err("the name leads upwards"),
                _ if component.len() > limits::NAME => return Err("a component of the name is too long"),
                _ => {}
            }
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(component);
        }
        Ok(Self(path))
    }

    /// The top itself.
    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path, relative; empty for the root.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The directory that holds it, and its name; `None` for the root.
    pub(crate) fn split(&self) -> Option<(Place, &[u8])> {
        if self.is_root() {
            return None;
        }
        let (parent, name) = match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (&[][..], &self.0[..]),
        };
        Some((Self(parent.to_vec()), name))
    }

    /// The root's children first: every directory above it and itself.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = Place> {
        let ends = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let last = (!self.is_root()).then_some(self.0.len());
        ends.chain(last).map(|end| Self(self.0[..end].to_vec()))
    }

    fn join(&self, name: &[u8]) -> Self {
        if self.is_root() { Self(name.to_vec()) } else { Self([&self.0, &b"/"[..], name].concat()) }
    }
}

/// What `place` means in a layer.
pub(crate) fn meaning(place: Place) -> Result<Meaning, &'static str> {
    let Some((parent, name)) = place.split() else { return Ok(Meaning::Make(place)) };
    let mut above = parent.0.split(|byte| *byte == b'/');
    if above.clone().any(|component| component.starts_with(AUFS) && component != OPAQUE) {
        return Ok(Meaning::Ignore);
    }
    if above.any(|component| component.starts_with(WHITEOUT)) {
        return Err("a directory on the way is a whiteout");
    }
    if name == OPAQUE {
        return Ok(Meaning::Opaque(parent));
    }
    if name.starts_with(AUFS) && name != AUFS {
        return Ok(Meaning::Ignore);
    }
    match name.strip_prefix(WHITEOUT) {
        None => Ok(Meaning::Make(place)),
        Some(b"" | b"." | b"..") => Err("the whiteout names nothing"),
        Some(hidden) if hidden.starts_with(WHITEOUT) => Err("the whiteout hides a whiteout"),
        Some(hidden) => Ok(Meaning::Whiteout(parent.join(hidden))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Place {
        Place(path.as_bytes().to_vec())
    }

    #[test]
    fn names_become_places_below_the_root_or_are_refused() {
        let cases = [
            ("a", Some("a")),
            ("./a/b/", Some("a/b")),
            ("/abs", Some("abs")),
            ("//abs//x", Some("abs/x")),
            ("./.", Some("")),
            ("/", Some("")),
            ("a\\..\\b", Some("a\\..\\b")),
            ("...", Some("...")),
            ("", None),
            ("..", None),
            ("../x", None),
            ("a/../../x", None),
            ("a/../b", None),
            ("./../", None),
            ("a\0b", None),
        ];
        for (name, expected) in cases {
            assert_eq!(Place::parse(name.as_bytes()).ok(), expected.map(place), "{name:?}");
        }
        assert!(Place::parse(&[b'a'; 255]).is_ok());
        assert!(Place::parse(&[b'a'; 256]).is_err());
        assert!(Place::parse(&b"a/".repeat(2049)).is_err());
    }

    #[test]
    fn whiteout_names_mean_what_the_specification_says() {
        let cases = [
            ("a", Some(Meaning::Make(place("a")))),
            (".wh.a", Some(Meaning::Whiteout(place("a")))),
            ("d/.wh.a", Some(Meaning::Whiteout(place("d/a")))),
            (".wh..wh..opq", Some(Meaning::Opaque(place("")))),
            ("d/.wh..wh..opq", Some(Meaning::Opaque(place("d")))),
            (".wh..wh.plnk", Some(Meaning::Ignore)),
            (".wh..wh.plnk/1.2", Some(Meaning::Ignore)),
            (".wh..wh.aufs", Some(Meaning::Ignore)),
            (".wh...x", Some(Meaning::Whiteout(place("..x")))),
            (".wh.", None),
            (".wh..", None),
            (".wh...", None),
            (".wh..wh.", None),
            (".wh..wh..opq/x", None),
            (".wh.a/b", None),
            (".wh./x", None),
        ];
        for (name, expected) in cases {
            assert_eq!(meaning(place(name)).ok(), expected, "{name:?}");
        }
    }

    #[test]
    fn a_place_knows_what_is_above_it() {
        let all: Vec<_> = place("a/b/c").prefixes().collect();
        assert_eq!(all, [place("a"), place("a/b"), place("a/b/c")]);
        assert_eq!(place("").prefixes().count(), 0);
        assert_eq!(place("a/b").split().unwrap(), (place("a"), &b"b"[..]));
    }
}
