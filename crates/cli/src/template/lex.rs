//! Text into tokens.

use super::{TemplateError, syntax};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// Outside of actions.
    Text(String),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// `.Name`, glued to what stands before it or not.
    Field {
        name: String,
        glued: bool,
    },
    /// `.`
    Dot,
    /// `$name`, without the dollar.
    Variable(String),
    Word(String),
    String(String),
    Number(f64),
    Pipe,
    Left,
    Right,
    Comma,
    /// `:=` and `=`
    Assign,
}

pub(super) fn lex(text: &str) -> Result<Vec<Token>, TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut trim_next = false;
    while let Some(open) = rest.find("{{") {
        let after = &rest[open + 2..];
        let trim_before = after.starts_with("- ");
        push_text(&mut tokens, &rest[..open], trim_next, trim_before);
        let body = if trim_before { &after[1..] } else { after };
        (rest, trim_next) = action(body, &mut tokens)?;
    }
    push_text(&mut tokens, rest, trim_next, false);
    Ok(tokens)
}

fn push_text(tokens: &mut Vec<Token>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    let text = if trim_end { text.trim_end() } else { text };
    if !text.is_empty() {
        tokens.push(Token::Text(text.to_owned()));
    }
}

/// Lexes one action up to its `}}`; answers with what follows, and whether that loses its leading space.
fn action<'a>(body: &'a str, tokens: &mut Vec<Token>) -> Result<(&'a str, bool), TemplateError> {
    if let Some(comment) = body.trim_start().strip_prefix("/*") {
        let end = comment.find("*/").ok_or_else(|| syntax("unclosed comment"))?;
        let rest = comment[end + 2..].trim_start();
        return match (rest.strip_prefix("-}}"), rest.strip_prefix("}}")) {
            (Some(rest), _) => Ok((rest, true)),
            (_, Some(rest)) => Ok((rest, false)),
            _ => Err(syntax("comment ends before closing delimiter")),
        };
    }
    tokens.push(Token::Open);
    let mut rest = body;
    let mut spaced = true;
    loop {
        let trimmed = rest.trim_start();
        spaced |= trimmed.len() < rest.len();
        rest = trimmed;
        for (end, trim) in [("-}}", true), ("}}", false)] {
            if let Some(after) = rest.strip_prefix(end) {
                tokens.push(Token::Close);
                return Ok((after, trim));
            }
        }
        let (token, length) = token(rest, spaced)?;
        tokens.push(token);
        rest = &rest[length..];
        spaced = false;
    }
}

fn token(rest: &str, spaced: bool) -> Result<(Token, usize), TemplateError> {
    let first = rest.chars().next().ok_or_else(|| syntax("unclosed action"))?;
    let simple = |token| Ok((token, 1));
    match first {
        '|' => simple(Token::Pipe),
        '(' => simple(Token::Left),
        ')' => simple(Token::Right),
        ',' => simple(Token::Comma),
        '=' => simple(Token::Assign),
        ':' if rest.starts_with(":=") => Ok((Token::Assign, 2)),
        '.' => match word_length(&rest[1..]) {
            0 => simple(Token::Dot),
            length => Ok((Token::Field { name: rest[1..=length].to_owned(), glued: !spaced }, 1 + length)),
        },
        '$' => {
            let length = word_length(&rest[1..]);
            Ok((Token::Variable(rest[1..=length].to_owned()), 1 + length))
        }
        '"' => quoted(rest),
        '`' => {
            let end = rest[1..].find('`').ok_or_else(|| syntax("unterminated raw quoted string"))?;
            Ok((Token::String(rest[1..=end].to_owned()), end + 2))
        }
        _ if first.is_ascii_digit() || first == '-' => number(rest),
        _ => match word_length(rest) {
            0 => Err(syntax(format!("unexpected {first:?} in action"))),
            length => Ok((Token::Word(rest[..length].to_owned()), length)),
        },
    }
}

fn word_length(text: &str) -> usize {
    text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(text.len())
}

fn number(rest: &str) -> Result<(Token, usize), TemplateError> {
    let sign = usize::from(rest.starts_with('-'));
    let digits = rest[sign..].find(|digit: char| !digit.is_ascii_digit() && digit != '.');
    let length = sign + digits.unwrap_or(rest.len() - sign);
    let value = rest[..length].parse().map_err(|_| syntax(format!("bad number {:?}", &rest[..length])))?;
    Ok((Token::Number(value), length))
}

fn quoted(rest: &str) -> Result<(Token, usize), TemplateError> {
    let mut value = String::new();
    let mut letters = rest.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((Token::String(value), at + 1)),
            '\\' => match letters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, other @ ('"' | '\\'))) => value.push(other),
                _ => return Err(syntax("unknown escape in string")),
            },
            other => value.push(other),
        }
    }
    Err(syntax("unterminated quoted string"))
}
