//! `WWW-Authenticate`: which kinds of credentials a server takes (RFC 9110, 11.6.1). Pure.

use crate::limits;

/// One kind of credentials that a server takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// Its name in lower case: `bearer`, `basic`.
    pub(crate) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// A parameter's value, without quotes.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads all challenges of all fields. What does not follow the grammar ends the field it is in.
pub(crate) fn parse<'a>(fields: impl Iterator<Item = &'a str>) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    for field in fields.filter(|field| field.len() <= limits::CHALLENGE) {
        let mut rest = Scanner(field);
        while challenges.len() < limits::CHALLENGES {
            let Some(challenge) = rest.challenge() else { break };
            challenges.push(challenge);
        }
    }
    challenges
}

struct Scanner<'a>(&'a str);

impl<'a> Scanner<'a> {
    fn challenge(&mut self) -> Option<Challenge> {
        self.skip(&[' ', '\t', ',']);
        let scheme = self.token()?.to_ascii_lowercase();
        let mut parameters = Vec::new();
        while parameters.len() < limits::CHALLENGES {
            let before = self.0;
            self.skip(&[' ', '\t', ',']);
            match self.parameter() {
                Some(parameter) => parameters.push(parameter),
                // The next token is no parameter, so it is the next scheme.
                None => {
                    self.0 = before;
                    break;
                }
            }
        }
        Some(Challenge { scheme, parameters })
    }

    fn parameter(&mut self) -> Option<(String, String)> {
        let name = self.token()?.to_ascii_lowercase();
        self.skip(&[' ', '\t']);
        self.0 = self.0.strip_prefix('=')?;
        self.skip(&[' ', '\t']);
        let value = if self.0.starts_with('"') { self.quoted()? } else { self.token()?.to_owned() };
        Some((name, value))
    }

    fn quoted(&mut self) -> Option<String> {
        let mut value = String::new();
        let mut characters = self.0.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.0 = &self.0[at + 1..];
                    return Some(value);
                }
                '\\' => value.push(characters.next()?.1),
                other => value.push(other),
            }
        }
        None
    }

    fn token(&mut self) -> Option<&'a str> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/:".contains(&byte);
        let end = self.0.bytes().position(|byte| !is_token(byte)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        Some(token).filter(|token| !token.is_empty())
    }

    fn skip(&mut self, characters: &[char]) {
        self.0 = self.0.trim_start_matches(characters);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[&str]) -> Vec<(String, Vec<(String, String)>)> {
        let challenges = parse(fields.iter().copied());
        challenges.into_iter().map(|challenge| (challenge.scheme, challenge.parameters)).collect()
    }

    fn expect(list: &[(&str, &[(&str, &str)])]) -> Vec<(String, Vec<(String, String)>)> {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        list.iter()
            .map(|(scheme, parameters)| ((*scheme).to_owned(), parameters.iter().map(pair).collect()))
            .collect()
    }

    #[test]
    fn challenges_are_read_in_every_form_that_registries_use() {
        type Row<'a> = (&'a [&'a str], &'a [(&'a str, &'a [(&'a str, &'a str)])]);
        let rows: &[Row<'_>] = &[
            (
                &[r#"Bearer realm="https://a.test/token",service="r",scope="repository:a/b:pull,push""#],
                &[(
                    "bearer",
                    &[
                        ("realm", "https://a.test/token"),
                        ("service", "r"),
                        ("scope", "repository:a/b:pull,push"),
                    ],
                )],
            ),
            (&["Basic"], &[("basic", &[])]),
            (&[r#"BASIC Realm = "x y""#], &[("basic", &[("realm", "x y")])]),
            (
                &[r#"Basic realm="a", Bearer realm="b",service=c"#],
                &[("basic", &[("realm", "a")]), ("bearer", &[("realm", "b"), ("service", "c")])],
            ),
            (&["Negotiate", r#"Bearer realm="b""#], &[("negotiate", &[]), ("bearer", &[("realm", "b")])]),
            (&[r#"Bearer realm="a\"b\\c""#], &[("bearer", &[("realm", r#"a"b\c"#)])]),
            (&["Bearer realm=https://a.test/t"], &[("bearer", &[("realm", "https://a.test/t")])]),
            (&[r#"Bearer realm="never ends"#], &[("bearer", &[])]),
            (&["", ",,,", "="], &[]),
        ];
        for (fields, expected) in rows {
            let found = read(fields);
            let expected = expect(expected);
            assert_eq!(
                found.iter().take(expected.len()).cloned().collect::<Vec<_>>(),
                expected,
                "{fields:?}"
            );
        }
    }

    #[test]
    fn a_field_without_end_is_bounded() {
        let long = format!("Bearer realm=\"{}\"", "a".repeat(limits::CHALLENGE));
        assert!(parse([long.as_str()].into_iter()).is_empty());
        let many = "Basic, ".repeat(1000);
        assert!(parse([many.as_str()].into_iter()).len() <= limits::CHALLENGES);
    }
}
