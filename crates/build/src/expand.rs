//! Variables, quotes and escapes of a word, as a shell treats them.
//!
//! `$NAME`, `${NAME}`, and with a default or demand: `${NAME-word}`, `${NAME:-word}`, `+` and `?` likewise. What a pattern
//! matches is cut off the beginning with `${NAME#pattern}` and off the end with `%`, as little as can be, or as much with
//! `##` and `%%`; `${NAME/pattern/word}` replaces the first match, `//` each.

use crate::error::{Error, Result};
use crate::limits;
use crate::pattern::{Length, Pattern};
use std::iter::Peekable;
use std::str::Chars;

/// What `word` stands for. `lookup` has the value of a variable, where it is set.
pub(crate) fn expand(word: &str, escape: char, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String> {
    let mut expander =
        Expander { rest: word.chars().peekable(), escape, lookup, depth: 0, quotes: Quotes::Count };
    expander.until(None)
}

/// What a document stands for, in which quotes are characters as any other.
pub(crate) fn expand_document(
    text: &str,
    escape: char,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<String> {
    let mut expander =
        Expander { rest: text.chars().peekable(), escape, lookup, depth: 0, quotes: Quotes::AreText };
    expander.until(None)
}

/// What quotes are.
#[derive(Clone, Copy, PartialEq)]
enum Quotes {
    Count,
    AreText,
}

struct Expander<'a> {
    rest: Peekable<Chars<'a>>,
    escape: char,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    depth: usize,
    quotes: Quotes,
}

impl Expander<'_> {
    /// Reads up to `end`, which is consumed, or to the end of the text.
    fn until(&mut self, end: Option<char>) -> Result<String> {
        let mut value = String::new();
        while let Some(character) = self.rest.next() {
            if Some(character) == end {
                return Ok(value);
            }
            match character {
                '\'' if self.quotes == Quotes::Count => self.single_quoted(&mut value)?,
                '"' if self.quotes == Quotes::Count => self.double_quoted(&mut value)?,
                '$' => value.push_str(&self.variable()?),
                other if other == self.escape => value.extend(self.rest.next()),
                other => value.push(other),
            }
            check_length(&value)?;
        }
        match end {
            None => Ok(value),
            Some(end) => Err(Error::syntax(format!(
                "syntax error: missing '{end}' in substitution: unexpected end of statement"
            ))),
        }
    }

    fn single_quoted(&mut self, value: &mut String) -> Result<()> {
        for character in self.rest.by_ref() {
            if character == '\'' {
                return Ok(());
            }
            value.push(character);
        }
        Err(Error::syntax("unexpected end of statement while looking for matching single-quote"))
    }

    /// An escape counts only in front of what would mean something here.
    fn double_quoted(&mut self, value: &mut String) -> Result<()> {
        while let Some(character) = self.rest.next() {
            match character {
                '"' => return Ok(()),
                '$' => value.push_str(&self.variable()?),
                other if other == self.escape => match self.rest.next() {
                    Some(next) if matches!(next, '"' | '$') || next == self.escape => value.push(next),
                    next => {
                        value.push(self.escape);
                        value.extend(next);
                    }
                },
                other => value.push(other),
            }
            check_length(value)?;
        }
        Err(Error::syntax("unexpected end of statement while looking for matching double-quote"))
    }

    /// What stands behind a `$`.
    fn variable(&mut self) -> Result<String> {
        if self.rest.next_if_eq(&'{').is_some() {
            // Every way into another variable leads through here, and each level costs the thread's stack.
            if self.depth >= limits::NESTING {
                return Err(Error::TooLarge { what: "depth of variables", limit: limits::NESTING });
            }
            self.depth += 1;
            let value = self.braced();
            self.depth -= 1;
            return value;
        }
        let name = self.name();
        if name.is_empty() {
            return Ok("$".to_owned());
        }
        Ok((self.lookup)(&name).unwrap_or_default())
    }

    fn braced(&mut self) -> Result<String> {
        let name = self.name();
        if name.is_empty() {
            return Err(Error::syntax("syntax error: bad substitution"));
        }
        let value = (self.lookup)(&name);
        let colon = self.rest.next_if_eq(&':').is_some();
        let modifier = match self.rest.next() {
            Some('}') if !colon => return Ok(value.unwrap_or_default()),
            Some(modifier @ ('-' | '+' | '?')) => modifier,
            Some(modifier @ ('#' | '%')) if !colon => return self.cut(modifier, &value.unwrap_or_default()),
            Some('/') if !colon => return self.replaced(&value.unwrap_or_default()),
            Some(other) => {
                let colon = if colon { ":" } else { "" };
                return Err(Error::syntax(format!("unsupported modifier ({colon}{other}) in substitution")));
            }
            None => {
                return Err(Error::syntax(
                    "syntax error: missing '}' in substitution: unexpected end of statement",
                ));
            }
        };
        let word = self.until(Some('}'))?;
        // With a colon an empty value is as good as none.
        let set = value.filter(|value| !colon || !value.is_empty());
        match (modifier, set) {
            ('-', None) | ('+', Some(_)) => Ok(word),
            ('-' | '?', Some(value)) => Ok(value),
            ('+', None) => Ok(String::new()),
            _ => Err(Error::syntax(format!(
                "{name}: {}",
                if word.is_empty() { "not allowed to be unset" } else { &word }
            ))),
        }
    }

    /// `${NAME#pattern}` and its like.
    fn cut(&mut self, side: char, value: &str) -> Result<String> {
        let length = if self.rest.next_if_eq(&side).is_some() { Length::Longest } else { Length::Shortest };
        let pattern = Pattern::of_shell(&self.raw_word(&['}'])?.0);
        let left = match side {
            '#' => pattern.prefix(value, length)?.map(|end| &value[end..]),
            _ => pattern.suffix(value, length)?.map(|begin| &value[..begin]),
        };
        Ok(left.unwrap_or(value).to_owned())
    }

    /// `${NAME/pattern/word}`, or `//` for each.
    fn replaced(&mut self, value: &str) -> Result<String> {
        let each = self.rest.next_if_eq(&'/').is_some();
        let (pattern, end) = self.raw_word(&['/', '}'])?;
        let word = if end == '/' { self.until(Some('}'))? } else { String::new() };
        let replaced = Pattern::of_shell(&pattern).replaced(value, &word, each)?;
        check_length(&replaced)?;
        Ok(replaced)
    }

    /// Reads up to one of `ends`, which is consumed and returned. Escapes stay in it, for the pattern that it is; variables
    /// become their values.
    fn raw_word(&mut self, ends: &[char]) -> Result<(String, char)> {
        let mut word = String::new();
        while let Some(character) = self.rest.next() {
            match character {
                end if ends.contains(&end) => return Ok((word, end)),
                '$' => word.push_str(&self.variable()?),
                other if other == self.escape => {
                    word.push('\\');
                    word.extend(self.rest.next());
                }
                other => word.push(other),
            }
            check_length(&word)?;
        }
        Err(Error::syntax("syntax error: missing '}' in substitution: unexpected end of statement"))
    }

    /// A name, a number, or one of the shell's special parameters (POSIX, "Special Parameters"), which are never set here.
    fn name(&mut self) -> String {
        let mut name = String::new();
        let is_special = |next: &char| matches!(next, '@' | '*' | '#' | '?' | '-' | '$' | '!');
        if let Some(special) = self.rest.next_if(is_special) {
            return special.to_string();
        }
        while let Some(digit) = self.rest.next_if(char::is_ascii_digit) {
            name.push(digit);
        }
        if !name.is_empty() {
            return name;
        }
        while let Some(next) = self.rest.next_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
            name.push(next);
        }
        name
    }
}

fn check_length(value: &str) -> Result<()> {
    if value.len() <= limits::VALUE {
        return Ok(());
    }
    Err(Error::TooLarge { what: "value, in bytes,", limit: limits::VALUE })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lex::ESCAPE;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "A" => Some("one".to_owned()),
            "B" => Some("two words".to_owned()),
            "E" => Some(String::new()),
            "F" => Some("foobarbaz".to_owned()),
            "P" => Some("/a/b/c.tar.gz".to_owned()),
            "Q" => Some("'$A'".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn words_mean_what_a_shell_makes_of_them() {
        let cases = [
            ("plain", "plain"),
            ("$A", "one"),
            ("x${A}y", "xoney"),
            ("$A$B", "onetwo words"),
            ("$A.b", "one.b"),
            ("$MISSING", ""),
            ("'$A'", "$A"),
            (r#""$A""#, "one"),
            (r#"a"b c"d"#, "ab cd"),
            (r"\$A", "$A"),
            (r"a\ b\\", r"a b\"),
            (r#""\$A\"\\\n""#, r#"$A"\\n"#),
            (r"end\", "end"),
            ("$", "$"),
            ("a$ b", "a$ b"),
            ("$Q", "'$A'"),
            ("${MISSING:-x}", "x"),
            ("${E:-x}", "x"),
            ("${E-x}", ""),
            ("${A:-x}", "one"),
            ("${A:+x}", "x"),
            ("${MISSING:+x}", ""),
            ("${E+x}", "x"),
            ("${MISSING:-${A}-'b c'}", "one-b c"),
            ("${A?no}", "one"),
            ("$1x", "x"),
            ("$12x", "x"),
            ("a$$b$?c$-d$!e", "abcde"),
            ("${F#f*b}", "arbaz"),
            ("${F##f*b}", "az"),
            ("${F%b*}", "foobar"),
            ("${F%%b*}", "foo"),
            ("${F#x}", "foobarbaz"),
            ("${F/ba?/X}", "fooXbaz"),
            ("${F//ba?/$A}", "foooneone"),
            ("${F/oo}", "fbarbaz"),
            ("${P##*/}", "c.tar.gz"),
            (r"${P#\*}", "/a/b/c.tar.gz"),
            ("äö$A", "äöone"),
        ];
        for (word, expected) in cases {
            assert_eq!(expand(word, ESCAPE, &lookup).unwrap(), expected, "{word}");
        }
    }

    #[test]
    fn variables_stand_within_each_other_as_deep_as_anybody_writes_them() {
        let deep = format!("{}end{}", "${X:-".repeat(limits::NESTING), "}".repeat(limits::NESTING));
        assert_eq!(expand(&deep, ESCAPE, &lookup).unwrap(), "end");
    }

    #[test]
    fn quotes_of_a_document_are_text() {
        for (text, expected) in [
            (r#"{"a": "$A", 'b'"#, r#"{"a": "one", 'b'"#),
            (r#"say \"$A\" it's"#, r#"say "one" it's"#),
            (r#"${MISSING:-"x"}"#, r#""x""#),
            (r"\$A \\", r"$A \"),
        ] {
            assert_eq!(expand_document(text, ESCAPE, &lookup).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_does_not_end_or_is_too_much_is_refused() {
        let deep = "${X:-".repeat(10_000);
        let cut = "${A#".repeat(10_000);
        let quoted = "\"${X:-".repeat(10_000);
        let large = "$A".repeat(200_000);
        let cases = [
            ("'a", "matching single-quote"),
            ("\"a", "matching double-quote"),
            ("${A", "missing '}'"),
            ("${A:-b", "missing '}'"),
            ("${}", "bad substitution"),
            ("${A!b}", "unsupported modifier (!)"),
            ("${A:}", "unsupported modifier (:})"),
            ("${MISSING?need it}", "MISSING: need it"),
            ("${E:?}", "E: not allowed to be unset"),
            (&deep, "depth of variables"),
            (&cut, "depth of variables"),
            (&quoted, "depth of variables"),
            (&large, "larger"),
        ];
        for (word, expected) in cases {
            let error = expand(word, ESCAPE, &lookup).unwrap_err().to_string();
            assert!(error.contains(expected), "{word:.40}: {error}");
        }
    }
}
