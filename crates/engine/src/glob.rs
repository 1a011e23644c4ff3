//! Patterns of `reference` filters, as Go's `path.Match` has them: `*` and `?` stop at a slash, `[a-z]` and `[^a]` are
//! classes, a backslash takes the next character as it is.

/// Whether the whole `text` matches. A malformed pattern matches nothing.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let Some(pattern) = parse(pattern) else { return false };
    let parts: Vec<&[Piece]> = pattern.split(|piece| *piece == Piece::Slash).collect();
    let texts: Vec<&str> = text.split('/').collect();
    parts.len() == texts.len() && parts.iter().zip(texts).all(|(part, text)| part_matches(part, text))
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Slash,
    Any,
    One,
    Exactly(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Piece {
    fn takes(&self, character: char) -> bool {
        match self {
            Self::One => true,
            Self::Exactly(wanted) => *wanted == character,
            Self::Class { negated, ranges } => {
                *negated != ranges.iter().any(|(low, high)| (*low..=*high).contains(&character))
            }
            Self::Slash | Self::Any => false,
        }
    }
}

fn parse(pattern: &str) -> Option<Vec<Piece>> {
    let mut characters = pattern.chars();
    let mut pieces = Vec::new();
    while let Some(character) = characters.next() {
        pieces.push(match character {
            '/' => Piece::Slash,
            '*' => Piece::Any,
            '?' => Piece::One,
            '\\' => Piece::Exactly(characters.next()?),
            '[' => class(&mut characters)?,
            other => Piece::Exactly(other),
        });
    }
    Some(pieces)
}

fn class(characters: &mut std::str::Chars<'_>) -> Option<Piece> {
    let negated = characters.as_str().starts_with('^');
    if negated {
        characters.next();
    }
    let mut ranges = Vec::new();
    loop {
        let low = match characters.next()? {
            ']' if !ranges.is_empty() => return Some(Piece::Class { negated, ranges }),
            ']' | '-' => return None,
            '\\' => characters.next()?,
            other => other,
        };
        let high = if characters.as_str().starts_with('-') {
            characters.next();
            match characters.next()? {
                ']' | '-' => return None,
                '\\' => characters.next()?,
                other => other,
            }
        } else {
            low
        };
        ranges.push((low, high));
    }
}

/// One part between slashes. On a mismatch the last `*` takes one more character: its earlier ones need no other try.
fn part_matches(pattern: &[Piece], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut piece) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(piece) == Some(&Piece::Any) {
            star = Some((piece, at));
            piece += 1;
        } else if piece == pattern.len() && at == text.len() {
            return true;
        } else if at < text.len() && pattern.get(piece).is_some_and(|piece| piece.takes(text[at])) {
            (at, piece) = (at + 1, piece + 1);
        } else {
            let Some((star_at, taken)) = star else { return false };
            if taken == text.len() {
                return false;
            }
            star = Some((star_at, taken + 1));
            (at, piece) = (taken + 1, star_at + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!matches(&"*a".repeat(40), &"a".repeat(39)), "many stars end soon too");
    }
}
