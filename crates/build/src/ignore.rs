//! Ignore files: which of a context's files are left out.
//!
//! Each line is a pattern of paths from the context's root; one that begins with `!` takes files back. The last pattern that
//! matches a path, or a directory above it, counts.

use crate::error::{Error, Result};
use crate::limits;
use crate::pattern::Pattern;

/// The patterns of an ignore file.
#[derive(Clone, Debug, Default)]
pub struct Ignored(Vec<Rule>);

#[derive(Clone, Debug)]
struct Rule {
    /// As it was given, cleaned.
    path: String,
    pattern: Pattern,
    takes_back: bool,
}

impl Ignored {
    /// Reads an ignore file.
    ///
    /// # Errors
    /// [`Error::Value`] for a malformed pattern, [`Error::TooLarge`].
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > limits::TEXT {
            return Err(Error::TooLarge { what: "ignore file, in bytes,", limit: limits::TEXT });
        }
        let lines = text.trim_start_matches('\u{feff}').lines();
        let patterns =
            lines.filter(|line| !line.starts_with('#')).map(str::trim).filter(|line| !line.is_empty());
        Self::of_patterns(patterns)
    }

    /// Patterns that come as such, as those of `COPY --exclude` do.
    ///
    /// # Errors
    /// As [`Ignored::parse`].
    pub fn of_patterns<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut rules = Vec::new();
        for text in patterns {
            let (path, takes_back) = match text.strip_prefix('!') {
                Some(path) => (path.trim(), true),
                None => (text, false),
            };
            let malformed = || Error::value("malformed pattern of an ignore file", text);
            if takes_back && path.is_empty() {
                return Err(malformed());
            }
            // What is outside of the context, or the context itself, is left out by no pattern.
            let Some(path) = within(path).filter(|path| !path.is_empty()) else { continue };
            let pattern = Pattern::of_path(&path).ok_or_else(malformed)?;
            rules.push(Rule { path, pattern, takes_back });
            if rules.len() > limits::PATTERNS {
                return Err(Error::TooLarge { what: "number of patterns", limit: limits::PATTERNS });
            }
        }
        Ok(Self(rules))
    }

    /// Whether there is nothing that it leaves out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The patterns, for somebody else who goes by them.
    pub fn patterns(&self) -> Vec<String> {
        let written = |rule: &Rule| format!("{}{}", if rule.takes_back { "!" } else { "" }, rule.path);
        self.0.iter().map(written).collect()
    }

    /// Whether a path, from the context's root and without a slash at its beginning, is left out.
    pub fn leaves_out(&self, path: &str) -> bool {
        let mut left_out = false;
        // The context itself is always there, whatever `*` says.
        for rule in self.0.iter().filter(|_| !path.is_empty()) {
            if left_out == rule.takes_back && rule.pattern.matches_or_holds(path) {
                left_out = !rule.takes_back;
            }
        }
        left_out
    }

    /// Whether something below a directory that is left out may be taken back, so that it has to be looked into.
    pub fn may_take_back_below(&self) -> bool {
        self.0.iter().any(|rule| rule.takes_back)
    }
}

/// A pattern without empty components, `.` and `..`; `None` for one that leads out of the context.
fn within(pattern: &str) -> Option<String> {
    let mut depth = 0_usize;
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            // From the root it would lead to the root again.
            ".." if depth == 0 && !pattern.starts_with('/') => return None,
            ".." => depth = depth.saturating_sub(1),
            _ => depth += 1,
        }
    }
    Some(clean(pattern))
}

/// A path without empty components, `.` and `..` (Go's `filepath.Clean`, from the root).
pub(crate) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_pattern_that_matches_counts() {
        let cases: [(&str, &[&str], &[&str]); 16] = [
            ("", &[], &["a"]),
            ("# a\n\n  b  \n", &["b", "b/c"], &["a", "# a"]),
            ("*/temp*", &["a/temp", "a/temporary.txt"], &["temp", "a/b/temp"]),
            ("temp?", &["tempa", "tempb/x"], &["temp", "a/tempa"]),
            ("**/*.go", &["x.go", "a/b/x.go"], &["x.c"]),
            ("*.md\n!README.md", &["a.md"], &["README.md"]),
            ("*.md\n!README*.md\nREADME-secret.md", &["README-secret.md", "a.md"], &["README-x.md"]),
            (
                "node_modules\n!node_modules/keep",
                &["node_modules/x"],
                &["node_modules/keep", "node_modules/keep/y"],
            ),
            ("/foo/bar/\n./x/../y", &["foo/bar", "foo/bar/z", "y"], &["foo", "x"]),
            ("*\n!src", &["a", "b/c"], &["src", "src/main.rs", ""]),
            ("**\n!**/*.c", &["a", "b/c"], &["a.c", "b/c/d.c", ""]),
            ("a/b", &["a/b", "a/b/c/d"], &["a", "a/bc", "a/bc/d"]),
            ("../a\n..\nb/../../c", &[], &["a", "c", "x"]),
            ("/../a\n a \t\n", &["a", "a/b"], &["b"]),
            (" # no comment\n! a\n", &["# no comment"], &["a"]),
            ("*\n!.env*\n.env.local\n**/.git", &["a", ".env.local", "x/.git/y"], &[".env", ".env.dev"]),
        ];
        for (text, out, kept) in cases {
            let ignored = Ignored::parse(text).unwrap();
            for path in out {
                assert!(ignored.leaves_out(path), "{text:?} {path}");
            }
            for path in kept {
                assert!(!ignored.leaves_out(path), "{text:?} {path}");
            }
        }
        for malformed in ["[", "a\n!", r"\"] {
            assert!(Ignored::parse(malformed).is_err(), "{malformed}");
        }
    }
}
