//! `cp`: which side is which, and under which name what is copied arrives. Pure.

use super::{Invalid, invalid};

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Side {
    /// `-`
    Stream,
    Local(String),
    Container {
        name: String,
        path: String,
    },
}

impl Side {
    /// A path that is absolute or begins with `.` is local, whatever colons it has.
    pub(crate) fn parse(text: &str) -> Self {
        match text.split_once(':') {
            _ if text == "-" => Self::Stream,
            Some((name, path)) if !text.starts_with(['/', '.']) && !name.is_empty() => {
                // Paths of containers begin at their root.
                let path = format!("/{}", path.trim_start_matches('/'));
                Self::Container { name: name.to_owned(), path }
            }
            _ => Self::Local(text.to_owned()),
        }
    }
}

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// Last component of its path.
    pub(crate) name: String,
    pub(crate) is_directory: bool,
    /// Written with `/.` at its end: what is in it, not itself.
    pub(crate) content: bool,
}

/// What is at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    Nothing,
    Directory,
    File,
}

/// Where it arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// An existing directory.
    pub(crate) directory: String,
    /// The name there; empty when the content goes straight into it.
    pub(crate) name: String,
}

/// Docker's rules: into a directory that exists; else under the destination's name in its parent.
pub(crate) fn arrival(source: &Source, destination: &str, existing: Existing) -> Result<Arrival, Invalid> {
    match existing {
        Existing::Directory if source.content => {
            Ok(Arrival { directory: destination.to_owned(), name: String::new() })
        }
        Existing::Directory => Ok(Arrival { directory: destination.to_owned(), name: source.name.clone() }),
        Existing::File if source.is_directory => {
            invalid(format!("cannot copy a directory to the file {destination}"))
        }
        Existing::Nothing if !source.is_directory && destination.ends_with('/') => {
            invalid(format!("the directory {destination} does not exist"))
        }
        Existing::File | Existing::Nothing => {
            let (directory, name) = split(destination);
            Ok(Arrival { directory, name })
        }
    }
}

/// The parent and the last component.
pub(crate) fn split(path: &str) -> (String, String) {
    let path = path.trim_end_matches('/');
    match path.rsplit_once('/') {
        Some(("", name)) => ("/".into(), name.to_owned()),
        Some((directory, name)) => (directory.to_owned(), name.to_owned()),
        None => (".".into(), path.to_owned()),
    }
}

/// The path without `/.` at its end, and whether it had that.
pub(crate) fn without_dot(path: &str) -> (String, bool) {
    match path.strip_suffix("/.") {
        Some("") => ("/".into(), true),
        Some(path) => (path.to_owned(), true),
        None => (path.to_owned(), path == "."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart() {
        let container = |name: &str, path: &str| Side::Container { name: name.into(), path: path.into() };
        let local = |path: &str| Side::Local(path.into());
        let cases = [
            ("-", Side::Stream),
            ("c:/x", container("c", "/x")),
            ("c:x", container("c", "/x")),
            ("/a:b", local("/a:b")),
            ("./a:b", local("./a:b")),
            ("a", local("a")),
            (":a", local(":a")),
        ];
        for (text, expected) in cases {
            assert_eq!(Side::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_copied_arrives_where_docker_puts_it() {
        let source = |is_directory, content| Source { name: "s".into(), is_directory, content };
        let at = |source: &Source, destination: &str, existing| {
            arrival(source, destination, existing).ok().map(|arrival| (arrival.directory, arrival.name))
        };
        let expected = |directory: &str, name: &str| Some((directory.to_owned(), name.to_owned()));
        assert_eq!(at(&source(false, false), "/d", Existing::Directory), expected("/d", "s"));
        assert_eq!(at(&source(false, false), "/d/f", Existing::File), expected("/d", "f"));
        assert_eq!(at(&source(false, false), "/d/f", Existing::Nothing), expected("/d", "f"));
        assert_eq!(at(&source(false, false), "/d/f/", Existing::Nothing), None);
        assert_eq!(at(&source(true, false), "/d", Existing::Directory), expected("/d", "s"));
        assert_eq!(at(&source(true, true), "/d", Existing::Directory), expected("/d", ""));
        assert_eq!(at(&source(true, true), "/new/", Existing::Nothing), expected("/", "new"));
        assert_eq!(at(&source(true, false), "f", Existing::File), None);
        assert_eq!(at(&source(true, false), "new", Existing::Nothing), expected(".", "new"));
    }

    #[test]
    fn a_dot_at_the_end_means_the_content() {
        let cases = [("/a/.", ("/a", true)), ("/.", ("/", true)), (".", (".", true)), ("/a", ("/a", false))];
        for (path, (rest, content)) in cases {
            assert_eq!(without_dot(path), (rest.to_owned(), content), "{path}");
        }
    }
}
