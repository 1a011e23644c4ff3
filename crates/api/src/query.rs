//! Query strings: percent encoding, repeated keys, and Docker's reading of booleans.

use std::fmt::Write as _;

/// The parameters of a request in their order. Keys are case-sensitive, as in Go's `url.Values`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// No parameters.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses the text after `?`. A broken escape stays as it is, and bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let pair = |part: &str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(key), decode(value))
        };
        Self(text.split('&').filter(|part| !part.is_empty()).map(pair).collect())
    }

    /// The first value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Every value of `key` in order.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Whether `key` is switched on: given, and none of the words Docker reads as "no".
    #[must_use]
    pub fn is_on(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| {
            !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
        })
    }

    /// As [`Self::is_on`], for parameters that are on when not given.
    #[must_use]
    pub fn is_on_or_absent(&self, key: &str) -> bool {
        self.get(key).is_none() || self.is_on(key)
    }

    /// Adds a parameter.
    #[must_use]
    pub fn with(mut self, key: &str, value: &(impl ToString + ?Sized)) -> Self {
        self.0.push((key.to_owned(), value.to_string()));
        self
    }

    /// Adds a parameter when there is a value.
    #[must_use]
    pub fn with_some<T: ToString>(self, key: &str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.with(key, &value),
            None => self,
        }
    }

    /// Adds `key=1` when `on`.
    #[must_use]
    pub fn with_flag(self, key: &str, on: bool) -> Self {
        if on { self.with(key, "1") } else { self }
    }

    /// The text after `?`, empty without parameters.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::new();
        for (key, value) in &self.0 {
            if !out.is_empty() {
                out.push('&');
            }
            encode_into(&mut out, key);
            out.push('=');
            encode_into(&mut out, value);
        }
        out
    }
}

fn encode_into(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, bytes.get(at + 1).and_then(hex), bytes.get(at + 2).and_then(hex)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(digit: &u8) -> Option<u8> {
    char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        let query = Query::new().with("filters", r#"{"a":{"b c":true}}"#).with("t", &10).with_flag("v", true);
        assert_eq!(query.encode(), "filters=%7B%22a%22%3A%7B%22b%20c%22%3Atrue%7D%7D&t=10&v=1");
        assert_eq!(Query::parse(&query.encode()), query);
    }

    #[test]
    fn foreign_encodings_are_read() {
        let query = Query::parse("a=1+2&b=%zz%4&c&&d=%C3%A9&a=3");
        assert_eq!(query.get("a"), Some("1 2"));
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1 2", "3"]);
        assert_eq!(query.get("b"), Some("%zz%4"));
        assert_eq!(query.get("c"), Some(""));
        assert_eq!(query.get("d"), Some("é"));
        assert_eq!(query.get("e"), None);
    }

    #[test]
    fn booleans_are_read_as_docker_reads_them() {
        for (value, on) in
            [("1", true), ("true", true), ("yes", true), ("x", true), ("0", false), ("no", false)]
        {
            assert_eq!(Query::parse(&format!("k={value}")).is_on("k"), on, "{value}");
        }
        for value in ["", "False", "none", "%20"] {
            assert!(!Query::parse(&format!("k={value}")).is_on("k"), "{value}");
        }
        assert!(!Query::default().is_on("k") && Query::default().is_on_or_absent("k"));
        assert!(!Query::parse("k=0").is_on_or_absent("k"));
    }
}
