//! Patterns, matched in a time that is bounded whatever they are: those of ignore files and of `${NAME#pattern}`.

use crate::error::{Error, Result};
use crate::ignore::clean;
use crate::limits;

/// A pattern taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Piece>);

/// A pattern of paths, as `COPY` takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    pattern: Pattern,
    literal: Option<String>,
}

impl PathPattern {
    /// Reads a pattern. Empty components, `.` and `..` mean nothing in it: it leads down from the root.
    ///
    /// # Errors
    /// [`Error::Value`] for a malformed one.
    pub fn parse(text: &str) -> Result<Self> {
        let pattern =
            Pattern::of_path(&clean(text)).ok_or_else(|| Error::value("malformed pattern of files", text))?;
        let letters = pattern.0.iter().map(|piece| match piece {
            Piece::Exactly(letter) => Some(*letter),
            _ => None,
        });
        let literal = letters.collect();
        Ok(Self { pattern, literal })
    }

    /// The only path that it matches, if there is only one.
    pub fn literal(&self) -> Option<&str> {
        self.literal.as_deref()
    }

    /// Whether it matches all of a path.
    pub fn matches(&self, path: &str) -> bool {
        self.pattern.matches(path)
    }

    /// Whether it may match something in a directory.
    pub fn may_match_in(&self, directory: &str) -> bool {
        self.pattern.may_match_in(directory)
    }

    /// Components that it has, where their number is the same for everything that it matches.
    pub fn depth(&self) -> Option<usize> {
        let slashes = self.pattern.0.iter().filter(|piece| **piece == Piece::Exactly('/')).count();
        let is_fixed =
            !self.pattern.0.iter().any(|piece| matches!(piece, Piece::Anything | Piece::Components));
        is_fixed.then_some(if self.pattern.0.is_empty() { 0 } else { slashes + 1 })
    }
}

/// Whether a pattern matches all of a text (Go's `path.Match`): `*` and `?` stop at a slash, `[a-z]` and `[^a]` are classes, a
/// backslash takes the next character as it is. A malformed pattern matches nothing.
pub fn matches_name(pattern: &str, text: &str) -> bool {
    Pattern::of_names(pattern, false).is_some_and(|pattern| pattern.matches(text))
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// Any number of any characters.
    Anything,
    /// Any number of characters but slashes.
    AnyName,
    /// Any number of whole components with the slash behind each: `**/`.
    Components,
    /// One character but a slash.
    OneOfName,
    /// One character.
    One,
    Exactly(char),
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// How much is matched where there is a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Shortest,
    Longest,
}

impl Pattern {
    /// A shell's pattern: `*` and `?` match every character.
    pub(crate) fn of_shell(text: &str) -> Self {
        let mut characters = text.chars();
        let mut pieces = Vec::new();
        while let Some(character) = characters.next() {
            pieces.push(match character {
                '*' => Piece::Anything,
                '?' => Piece::One,
                '\\' => Piece::Exactly(characters.next().unwrap_or('\\')),
                other => Piece::Exactly(other),
            });
        }
        Self(pieces)
    }

    /// A pattern of paths (Go's `filepath.Match`, and `**` for any number of components); `None` if it is malformed.
    pub(crate) fn of_path(text: &str) -> Option<Self> {
        Self::of_names(text, true)
    }

    /// `components` says whether `**` has a meaning of its own.
    fn of_names(text: &str, components: bool) -> Option<Self> {
        let mut characters = text.chars().peekable();
        let mut pieces = Vec::new();
        while let Some(character) = characters.next() {
            pieces.push(match character {
                '*' if components && characters.next_if_eq(&'*').is_some() => {
                    while characters.next_if_eq(&'*').is_some() {}
                    match characters.next_if_eq(&'/') {
                        Some(_) => Piece::Components,
                        None => Piece::Anything,
                    }
                }
                '*' => Piece::AnyName,
                '?' => Piece::OneOfName,
                '[' => class(&mut characters)?,
                '\\' => Piece::Exactly(characters.next()?),
                other => Piece::Exactly(other),
            });
        }
        Some(Self(pieces))
    }

    /// Whether it matches all of `text`.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let mut states = self.begin(0);
        let mut at_start = true;
        for character in text.chars() {
            if !states.contains(&true) {
                return false;
            }
            states = self.step(&states, character, at_start);
            at_start = character == '/';
        }
        accepted(&states)
    }

    /// Whether it may match something that begins with `directory` and a slash.
    fn may_match_in(&self, directory: &str) -> bool {
        let mut states = self.begin(0);
        let mut at_start = true;
        for character in directory.chars().chain((!directory.is_empty()).then_some('/')) {
            states = self.step(&states, character, at_start);
            at_start = character == '/';
        }
        states[..self.0.len()].contains(&true)
    }

    /// Whether it matches a path or a directory above it. Reads the path once, however deep it is.
    pub(crate) fn matches_or_holds(&self, path: &str) -> bool {
        let mut states = self.begin(0);
        let mut at_start = true;
        for character in path.chars() {
            if character == '/' && accepted(&states) {
                return true;
            }
            if !states.contains(&true) {
                return false;
            }
            states = self.step(&states, character, at_start);
            at_start = character == '/';
        }
        accepted(&states)
    }

    /// Where a match that begins at the start of `text` ends.
    pub(crate) fn prefix(&self, text: &str, length: Length) -> Result<Option<usize>> {
        self.check_cost(text.len())?;
        Ok(self.match_at_start(text, length))
    }

    /// Where a match that ends at the end of `text` begins.
    pub(crate) fn suffix(&self, text: &str, length: Length) -> Result<Option<usize>> {
        self.check_cost(text.len())?;
        let reversed: String = text.chars().rev().collect();
        let pattern = Self(self.0.iter().rev().cloned().collect());
        Ok(pattern.match_at_start(&reversed, length).map(|end| text.len() - end))
    }

    /// `text` with the first of the longest matches, or each, replaced by `word`.
    pub(crate) fn replaced(&self, text: &str, word: &str, each: bool) -> Result<String> {
        self.check_cost(text.len().saturating_mul(text.len()))?;
        let mut result = String::new();
        let mut at = 0;
        while let Some(character) = text[at..].chars().next() {
            let end = self.match_at_start(&text[at..], Length::Longest).filter(|end| *end > 0);
            let Some(end) = end else {
                result.push(character);
                at += character.len_utf8();
                continue;
            };
            result.push_str(word);
            at += end;
            if !each {
                break;
            }
        }
        result.push_str(&text[at..]);
        Ok(result)
    }

    fn match_at_start(&self, text: &str, length: Length) -> Option<usize> {
        let mut states = self.begin(0);
        let mut found = accepted(&states).then_some(0);
        let mut at_start = true;
        for (at, character) in text.char_indices() {
            if found.is_some() && length == Length::Shortest {
                return found;
            }
            states = self.step(&states, character, at_start);
            at_start = character == '/';
            if accepted(&states) {
                found = Some(at + character.len_utf8());
            }
        }
        found
    }

    fn check_cost(&self, characters: usize) -> Result<()> {
        if characters.saturating_mul(self.0.len() + 1) <= limits::PATTERN_STEPS {
            return Ok(());
        }
        Err(Error::TooLarge { what: "work of a pattern, in steps,", limit: limits::PATTERN_STEPS })
    }

    /// The states of before the first character: which pieces may come next.
    fn begin(&self, first: usize) -> Vec<bool> {
        let mut states = vec![false; self.0.len() + 1];
        self.enter(&mut states, first);
        states
    }

    /// Marks a state, and those behind pieces that may match nothing.
    fn enter(&self, states: &mut [bool], mut state: usize) {
        states[state] = true;
        while matches!(self.0.get(state), Some(Piece::Anything | Piece::AnyName | Piece::Components)) {
            state += 1;
            states[state] = true;
        }
    }

    /// `at_start` says whether `character` begins a component.
    fn step(&self, states: &[bool], character: char, at_start: bool) -> Vec<bool> {
        let mut next = vec![false; states.len()];
        for (state, piece) in self.0.iter().enumerate().filter(|(state, _)| states[*state]) {
            match piece {
                Piece::Anything => self.enter(&mut next, state),
                Piece::AnyName if character != '/' => self.enter(&mut next, state),
                // Leaves only behind a slash; a component is not empty.
                Piece::Components if character == '/' && !at_start => self.enter(&mut next, state),
                Piece::Components if character != '/' => next[state] = true,
                piece if piece.takes(character) => self.enter(&mut next, state + 1),
                _ => {}
            }
        }
        next
    }
}

fn accepted(states: &[bool]) -> bool {
    states.last().copied().unwrap_or(true)
}

impl Piece {
    fn takes(&self, character: char) -> bool {
        match self {
            Self::One => true,
            Self::OneOfName => character != '/',
            Self::Exactly(wanted) => *wanted == character,
            Self::Class { negated, ranges } => {
                let within = ranges.iter().any(|(low, high)| (*low..=*high).contains(&character));
                character != '/' && *negated != within
            }
            Self::Anything | Self::AnyName | Self::Components => false,
        }
    }
}

/// `[a-z]` or `[^a-z]`, behind the bracket.
fn class(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Piece> {
    let negated = characters.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let low = match characters.next()? {
            ']' if !ranges.is_empty() => return Some(Piece::Class { negated, ranges }),
            ']' | '-' => return None,
            '\\' => characters.next()?,
            other => other,
        };
        let high = match characters.next_if_eq(&'-') {
            None => low,
            Some(_) => match characters.next()? {
                ']' | '-' => return None,
                '\\' => characters.next()?,
                other => other,
            },
        };
        ranges.push((low, high));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_paths_match_whole_paths() {
        let cases = [
            ("a", "a", true),
            ("a", "a/b", false),
            ("*", "a", true),
            ("*", "a/b", false),
            ("*/b", "a/b", true),
            ("**", "a/b/c", true),
            ("**/c", "c", true),
            ("**/c", "a/b/c", true),
            ("**/c", "a/b/xc", false),
            ("**/*.go", "x.go", true),
            ("**/*.go", "a/b/x.go", true),
            ("a/**", "a/b", true),
            ("a/**/d", "a/d", true),
            ("a/**/d", "a/b/c/d", true),
            ("a/**/d", "ad", false),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "/x", false),
            (r"\*", "*", true),
            (r"\*", "a", false),
            ("*.[ch]", "main.c", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(Pattern::of_path(pattern).unwrap().matches(text), expected, "{pattern} {text}");
        }
        for malformed in ["[", "[]", "[a", "[a-]", "[-]", r"\", "[a-"] {
            assert_eq!(Pattern::of_path(malformed), None, "{malformed}");
        }
    }

    #[test]
    fn what_copy_takes_leads_down_from_the_root() {
        for (text, path) in [
            (".", ""),
            ("/", ""),
            ("./a", "a"),
            ("a/", "a"),
            ("../../a", "a"),
            ("b/../a//c/.", "a/c"),
            (r"\*", "*"),
        ] {
            assert_eq!(PathPattern::parse(text).unwrap().literal(), Some(path), "{text}");
        }
        for (text, path) in [("./*.c", "a.c"), ("d*/", "dir"), ("../b/../?", "x"), ("//d/*", "d/e")] {
            let pattern = PathPattern::parse(text).unwrap();
            assert!(pattern.literal().is_none() && pattern.matches(path), "{text}");
        }
    }

    #[test]
    fn directories_that_hold_no_match_need_not_be_looked_into() {
        for (pattern, directory, expected) in [
            ("a/*.txt", "a", true),
            ("a/*.txt", "b", false),
            ("a/*.txt", "a/b", false),
            ("*", "", true),
            ("*", "a", false),
            ("**/x", "a/b/c", true),
            ("src/**/*.c", "src/a", true),
            ("src/**/*.c", "lib", false),
            ("a?/b*/c", "ab/bb", true),
        ] {
            assert_eq!(
                PathPattern::parse(pattern).unwrap().may_match_in(directory),
                expected,
                "{pattern} {directory}"
            );
        }
        for (pattern, depth) in [("", Some(0)), ("a", Some(1)), ("./a/*/c?", Some(3)), ("a/**", None)] {
            assert_eq!(PathPattern::parse(pattern).unwrap().depth(), depth, "{pattern}");
        }
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_its_length() {
        let pattern = Pattern::of_path(&"*a".repeat(500)).unwrap();
        assert!(pattern.matches(&"a".repeat(5000)) && !pattern.matches(&"a".repeat(499)));
        let large = "a".repeat(100_000);
        assert!(Pattern::of_shell("*b").replaced(&large, "", true).is_err());
    }

    #[test]
    fn patterns_match_as_go_has_them() {
        let cases = [
            ("busybox", "busybox", true),
            ("busybox", "busybox:latest", false),
            ("busybox:*", "busybox:latest", true),
            ("*", "a", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("*a*b*c", "xaxbxbxc", true),
            ("*a*b*c", "xaxbxbxd", false),
            ("b?sybox:[a-l]*", "busybox:latest", true),
            ("[^a]x", "bx", true),
            ("[^a]x", "ax", false),
            (r"\*", "*", true),
            (r"\*", "a", false),
            ("[", "[", false),
            ("[]a]", "a", false),
            ("[a-]", "a", false),
            (r"a\", "a", false),
            ("", "", true),
            ("", "a", false),
            ("a*", "a", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches_name(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!matches_name(&"*a".repeat(40), &"a".repeat(39)), "many stars end soon too");
    }
}
