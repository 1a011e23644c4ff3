//! Instructions taken apart, before anything is known of what they mean: name, options, words.

use crate::error::{Error, Result};

/// The escape character unless a directive says otherwise.
pub(crate) const ESCAPE: char = '\\';

/// An instruction with its name split off.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// As written.
    pub(crate) name: &'a str,
    /// Options in front of the arguments: `--interval=3s`, without the dashes.
    pub(crate) flags: Vec<(String, Option<String>)>,
    /// The rest, without blanks around it.
    pub(crate) rest: &'a str,
}

/// Splits name and options off.
pub(crate) fn split(line: &str, escape: char) -> Line<'_> {
    let line = line.trim();
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let mut rest = rest.trim();
    let mut flags = Vec::new();
    while let Some(start) = rest.strip_prefix("--") {
        let end = end_of_word(start, escape);
        let flag = unquoted(&start[..end], escape);
        rest = start[end..].trim_start();
        if flag.is_empty() {
            break;
        }
        flags.push(match flag.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (flag, None),
        });
    }
    Line { name, flags, rest }
}

/// The words of a text, with their quotes and escapes. Blanks within quotes do not separate.
pub(crate) fn words(text: &str, escape: char) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = end_of_word(rest, escape);
        words.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    words
}

/// Where the word at the beginning ends. An escaped character never ends one.
fn end_of_word(text: &str, escape: char) -> usize {
    let mut quote = None;
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match quote {
            None if character.is_whitespace() => return at,
            None if matches!(character, '\'' | '"') => quote = Some(character),
            Some(open) if character == open => quote = None,
            _ => {}
        }
        if character == escape && quote != Some('\'') {
            characters.next();
        }
    }
    text.len()
}

/// A word without its quotes and escapes.
pub(crate) fn unquoted(word: &str, escape: char) -> String {
    let mut plain = String::new();
    let mut quote = None;
    let mut characters = word.chars();
    while let Some(character) = characters.next() {
        match quote {
            None if matches!(character, '\'' | '"') => quote = Some(character),
            Some(open) if character == open => quote = None,
            _ if character == escape && quote != Some('\'') => plain.extend(characters.next()),
            _ => plain.push(character),
        }
    }
    plain
}

/// A list of strings in JSON; `None` for anything else, which is then the shell form.
pub(crate) fn json_list(text: &str) -> Result<Option<Vec<String>>> {
    if !text.starts_with('[') {
        return Ok(None);
    }
    let Ok(values) = serde_json::from_str::<Vec<serde_json::Value>>(text) else { return Ok(None) };
    let strings = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => Ok(text),
        _ => Err(Error::syntax("when using JSON array syntax, arrays must be comprised of strings only")),
    });
    strings.collect::<Result<_>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_options_and_rest_are_split() {
        let flag = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        let cases = [
            ("CMD  a b ", "CMD", vec![], "a b"),
            ("cmd", "cmd", vec![], ""),
            (
                "HEALTHCHECK --interval=1s --retries=3 CMD x --y",
                "HEALTHCHECK",
                vec![flag("interval", Some("1s")), flag("retries", Some("3"))],
                "CMD x --y",
            ),
            ("X --a=\"b c\" --d -- --e", "X", vec![flag("a", Some("b c")), flag("d", None)], "--e"),
        ];
        for (text, name, flags, rest) in cases {
            assert_eq!(split(text, ESCAPE), Line { name, flags, rest }, "{text:?}");
        }
    }

    #[test]
    fn words_keep_quotes_and_escapes() {
        let cases: [(&str, &[&str]); 6] = [
            ("a b\tc", &["a", "b", "c"]),
            (r#"a="b c" d='e f'"#, &[r#"a="b c""#, "d='e f'"]),
            (r"a=b\ c d", &[r"a=b\ c", "d"]),
            (r#"a="b\" c" d"#, &[r#"a="b\" c""#, "d"]),
            (r"a='b\' c", &[r"a='b\'", "c"]),
            (r#"a="b c"#, &[r#"a="b c"#]),
        ];
        for (text, expected) in cases {
            assert_eq!(words(text, ESCAPE), expected, "{text:?}");
        }
    }
}
