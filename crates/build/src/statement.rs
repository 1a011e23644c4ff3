//! Text becomes statements: directives, comments, continued lines and here-documents, as BuildKit's parser has them.

use crate::error::{Error, Result};
use crate::{lex, limits};

/// One instruction as it stands in the text, continued lines joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) text: String,
    pub(crate) heredocs: Vec<Heredoc>,
    pub(crate) lines: Lines,
}

/// Lines of the text, counted from 1, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    /// The first.
    pub first: usize,
    /// The last.
    pub last: usize,
}

/// A here-document: text that an instruction carries with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// By what it ends, and what a file of it is called.
    pub name: String,
    /// Its text, as it stands.
    pub content: String,
    /// Whether variables in it are resolved: they are unless the name was quoted.
    pub expands: bool,
    /// Whether tabs at the beginning of its lines are dropped (`<<-`).
    pub chomps: bool,
}

impl Heredoc {
    /// Its text without what is dropped.
    pub fn text(&self) -> String {
        if !self.chomps {
            return self.content.clone();
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
    }

    /// Its text with its end, as it follows an instruction that a shell reads.
    pub(crate) fn written(&self) -> String {
        format!("\n{}{}", self.content, self.name)
    }
}

/// What stands in front of the first instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// The character by which lines are continued.
    pub escape: char,
    /// Which language the file says it is written in.
    pub syntax: Option<String>,
    /// Which checks are left out, and whether they are errors.
    pub check: Option<String>,
}

/// Instructions whose here-documents are read; of `ONBUILD`, those of the instruction in it.
const WITH_HEREDOCS: [&str; 3] = ["ADD", "COPY", "RUN"];

/// The directives at the top of a text.
///
/// # Errors
/// [`Error::At`] for one that comes twice, or an escape character that is none.
pub(crate) fn directives(text: &str) -> Result<Directives> {
    let mut found = Directives { escape: lex::ESCAPE, syntax: None, check: None };
    let mut seen = Vec::new();
    for (at, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let Some((name, value)) = directive(line) else { break };
        if !["escape", "syntax", "check"].contains(&name.as_str()) {
            break;
        }
        let fail = |reason: String| Error::syntax(reason).at(at + 1, 1);
        if seen.contains(&name) {
            return Err(fail(format!("only one {name} parser directive can be used")));
        }
        match name.as_str() {
            "escape" => {
                let escape = ['\\', '`'].into_iter().find(|escape| value == escape.to_string());
                let text = format!("invalid escape token '{value}' does not match ` or \\");
                found.escape = escape.ok_or_else(|| fail(text))?;
            }
            "syntax" => found.syntax = Some(value),
            _ => found.check = Some(value),
        }
        seen.push(name);
    }
    Ok(found)
}

/// `# name = value`, with the name in small letters.
fn directive(line: &str) -> Option<(String, String)> {
    let (name, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.chars().all(|character| character.is_ascii_alphanumeric());
    (is_name && !value.is_empty()).then(|| (name.to_ascii_lowercase(), value.to_owned()))
}

/// All statements of a text.
///
/// # Errors
/// [`Error::TooLarge`], and [`Error::At`] for a here-document that does not end.
pub(crate) fn statements(text: &str, escape: char) -> Result<Vec<Statement>> {
    if text.len() > limits::TEXT {
        return Err(Error::too_long());
    }
    let mut lines = text.trim_start_matches('\u{feff}').split_inclusive('\n').enumerate();
    let mut statements = Vec::new();
    let mut open: Option<Statement> = None;
    while let Some((at, line)) = lines.next() {
        let (number, line) = (at + 1, without_end(line));
        let trimmed = line.trim();
        if trimmed.starts_with('#') || trimmed.is_empty() {
            continue;
        }
        let (part, continues) = continued(line, escape);
        let new = Statement {
            text: String::new(),
            heredocs: Vec::new(),
            lines: Lines { first: number, last: number },
        };
        let mut statement = open.take().unwrap_or(new);
        let part = if statement.text.is_empty() { part.trim_start() } else { part };
        statement.text.push_str(part);
        statement.lines.last = number;
        if continues {
            open = Some(statement);
            continue;
        }
        for mut heredoc in announced(&statement.text, escape) {
            statement.lines.last = read(&mut heredoc, &mut lines).ok_or_else(|| {
                Error::syntax(format!("unterminated heredoc {}", heredoc.name)).at(number, 1)
            })?;
            statement.heredocs.push(heredoc);
        }
        statements.push(statement);
        if statements.len() > limits::INSTRUCTIONS {
            return Err(Error::TooLarge { what: "number of instructions", limit: limits::INSTRUCTIONS });
        }
    }
    statements.extend(open.filter(|statement| !statement.text.trim().is_empty()));
    Ok(statements)
}

/// A line without the escape character that continues it. One that is escaped itself does not.
pub(crate) fn continued(line: &str, escape: char) -> (&str, bool) {
    match line.trim_end().strip_suffix(escape) {
        Some(part) if !part.ends_with(escape) => (part, true),
        _ => (line, false),
    }
}

/// A line without what ends it.
fn without_end(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}

/// Here-documents that an instruction says will follow, without their content.
fn announced(text: &str, escape: char) -> Vec<Heredoc> {
    let line = lex::split(text, escape);
    let name = line.name.to_ascii_uppercase();
    if name == "ONBUILD" {
        return announced(line.rest, escape);
    }
    if !WITH_HEREDOCS.contains(&name.as_str()) {
        return Vec::new();
    }
    lex::words(line.rest, escape).into_iter().filter_map(|word| announcement(word, escape)).collect()
}

/// `<<NAME`, `<<-NAME`, `3<<NAME`, and with quotes around the name.
fn announcement(word: &str, escape: char) -> Option<Heredoc> {
    let rest = word.trim_start_matches(|digit: char| digit.is_ascii_digit()).strip_prefix("<<")?;
    let (rest, chomps) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let name = lex::unquoted(rest, escape);
    let expands = name == rest;
    (!name.is_empty() && !rest.contains('<')).then(|| Heredoc {
        name,
        content: String::new(),
        expands,
        chomps,
    })
}

/// Whether a word of an instruction stands for a here-document.
pub(crate) fn is_heredoc(word: &str, escape: char) -> bool {
    announcement(word, escape).is_some()
}

/// Reads a here-document's content, as it stands, and returns the number of the line that ends it.
fn read<'a>(heredoc: &mut Heredoc, lines: &mut impl Iterator<Item = (usize, &'a str)>) -> Option<usize> {
    for (at, line) in lines {
        let text = without_end(line);
        let text = if heredoc.chomps { text.trim_start_matches('\t') } else { text };
        if text == heredoc.name {
            return Some(at + 1);
        }
        heredoc.content.push_str(line);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        statements(text, '\\').unwrap().into_iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn lines_are_joined_and_comments_dropped() {
        let cases: [(&str, &[&str]); 9] = [
            ("CMD a", &["CMD a"]),
            ("CMD a \\\n  b", &["CMD a   b"]),
            ("# comment\n\nCMD a\nENV b=c\n", &["CMD a", "ENV b=c"]),
            ("ENV a=b \\\n# comment\n\n c=d", &["ENV a=b  c=d"]),
            ("CMD a \\", &["CMD a "]),
            (" \\\n", &[]),
            ("CMD a \\  \n b", &["CMD a  b"]),
            ("RUN echo a\\\\\nRUN b", &["RUN echo a\\\\", "RUN b"]),
            ("\u{feff}  FROM a\r\n", &["FROM a"]),
        ];
        for (text, expected) in cases {
            assert_eq!(texts(text), expected, "{text:?}");
        }
        assert_eq!(statements("CMD a`\n b", '`').unwrap()[0].text, "CMD a b");
    }

    #[test]
    fn directives_stand_at_the_top_and_once() {
        let escape = |text: &str| directives(text).map(|found| found.escape);
        assert_eq!(escape("#escape=`\nFROM a"), Ok('`'));
        assert_eq!(escape("# eScApE = ` \nFROM a"), Ok('`'));
        assert_eq!(escape("# about\n# escape=`\n"), Ok('\\'));
        assert_eq!(escape("# unknown=x\n# escape=`\n"), Ok('\\'));
        assert_eq!(escape("\n# escape=`\n"), Ok('\\'));
        let all = directives("# syntax=docker/dockerfile:1\n# check=skip=all;error=true\nFROM a").unwrap();
        assert_eq!(all.syntax.as_deref(), Some("docker/dockerfile:1"));
        assert_eq!(all.check.as_deref(), Some("skip=all;error=true"));
        for (text, expected) in [
            ("# escape=`\n# escape=`", "only one escape parser directive can be used"),
            ("# escape=x", "invalid escape token 'x' does not match ` or \\"),
        ] {
            let error = directives(text).unwrap_err().to_string();
            assert!(error.ends_with(expected), "{error}");
        }
    }

    #[test]
    fn here_documents_belong_to_their_instruction() {
        let text = "RUN cat <<A 3<<-'B' >x\none $X\nA\n\t\ttwo\n\tB\nCMD y\nCOPY <<\"f.txt\" /\nz\nf.txt\n";
        let found = statements(text, '\\').unwrap();
        let heredoc = |name: &str, content: &str, expands| Heredoc {
            name: name.to_owned(),
            content: content.to_owned(),
            expands,
            chomps: content.starts_with('\t'),
        };
        assert_eq!(found[0].heredocs, [heredoc("A", "one $X\n", true), heredoc("B", "\t\ttwo\n", false)]);
        assert_eq!(found[0].heredocs[1].text(), "two\n");
        assert_eq!(found[0].lines, Lines { first: 1, last: 5 });
        assert_eq!(found[1].text, "CMD y");
        assert_eq!(found[2].heredocs, [heredoc("f.txt", "z\n", false)]);
        for none in ["RUN a <<<b", "RUN echo '<<A'", "CMD cat <<A", "RUN $((1<<2))", "RUN cat << EOF"] {
            assert_eq!(statements(none, '\\').unwrap()[0].heredocs, [], "{none}");
        }
        let windows = statements("COPY <<A /\r\none\r\nA\r\nCMD x\r\n", '\\').unwrap();
        assert_eq!((windows[0].heredocs[0].content.as_str(), windows[1].text.as_str()), ("one\r\n", "CMD x"));
        let error = statements("FROM a\nRUN cat <<A\nB", '\\').unwrap_err().to_string();
        assert!(error.contains("line 2") && error.ends_with("unterminated heredoc A"), "{error}");
    }
}
