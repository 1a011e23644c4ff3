//! YAML as far as it says what JSON says: one document of lists, maps with texts as keys, and scalars of the core schema
//! (YAML 1.2.2, 10.3). What JSON has not (anchors, aliases, tags) is refused, so that no document grows when it is read.

use crate::limits;
use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Value};

/// Reads a document.
///
/// # Errors
/// A text that says what is wrong, and in which line.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader { events: Parser::new_from_str(text), line: 1 };
    loop {
        match reader.next()? {
            Event::StreamStart | Event::DocumentStart(_) => {}
            Event::StreamEnd => return Ok(Value::Null),
            first => {
                let value = reader.value(first, limits::YAML_DEPTH)?;
                return reader.end().map(|()| value);
            }
        }
    }
}

struct Reader<'a> {
    events: Parser<'a, StrInput<'a>>,
    /// Where the last event begins, from 1.
    line: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>, String> {
        let event = self.events.next_event().ok_or_else(|| self.wrong("the document ends too early"))?;
        let (event, span) = event.map_err(|error| error.to_string())?;
        self.line = span.start.line();
        Ok(event)
    }

    fn wrong(&self, what: &str) -> String {
        format!("{what} in line {}", self.line)
    }

    /// Nothing follows the document.
    fn end(&mut self) -> Result<(), String> {
        loop {
            match self.next()? {
                Event::DocumentEnd => {}
                Event::StreamEnd => return Ok(()),
                _ => return Err(self.wrong("a second document begins")),
            }
        }
    }

    /// The value that begins with an event, and has as many levels at most.
    fn value(&mut self, first: Event<'a>, levels: usize) -> Result<Value, String> {
        let levels = levels.checked_sub(1).ok_or_else(|| self.wrong("values lie too deep in each other"))?;
        self.refuse_more_than_json(&first)?;
        match first {
            Event::Scalar(text, ScalarStyle::Plain, ..) => Ok(plain(&text)),
            Event::Scalar(text, ..) => Ok(Value::String(text.into_owned())),
            Event::SequenceStart(..) => self.list(levels),
            Event::MappingStart(..) => self.map(levels),
            _ => Err(self.wrong("a value is missing")),
        }
    }

    fn refuse_more_than_json(&self, event: &Event<'_>) -> Result<(), String> {
        let (anchor, tag) = match event {
            Event::Alias(_) => return Err(self.wrong("aliases are not supported: there is one")),
            Event::Scalar(_, _, anchor, tag) => (*anchor, tag),
            Event::SequenceStart(anchor, tag) | Event::MappingStart(anchor, tag) => (*anchor, tag),
            _ => return Ok(()),
        };
        match (anchor, tag) {
            (0, None) => Ok(()),
            (0, Some(_)) => Err(self.wrong("tags are not supported: there is one")),
            _ => Err(self.wrong("anchors are not supported: there is one")),
        }
    }

    fn list(&mut self, levels: usize) -> Result<Value, String> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(Value::Array(list)),
                first => list.push(self.value(first, levels)?),
            }
        }
    }

    fn map(&mut self, levels: usize) -> Result<Value, String> {
        let mut map = Map::new();
        loop {
            let first = self.next()?;
            self.refuse_more_than_json(&first)?;
            let key = match first {
                Event::MappingEnd => return Ok(Value::Object(map)),
                Event::Scalar(key, ..) => key.into_owned(),
                _ => return Err(self.wrong("a key is no text")),
            };
            if map.contains_key(&key) {
                return Err(self.wrong(&format!("the key {key:?} is there twice")));
            }
            let first = self.next()?;
            let value = self.value(first, levels)?;
            map.insert(key, value);
        }
    }
}

/// What a scalar without quotes is.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => integer(text).unwrap_or_else(|| Value::String(text.to_owned())),
    }
}

/// A whole number; a zero in front makes it an octal one, as in YAML 1.1, which those who write modes mean.
fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x', _, ..] => (16, &digits[2..]),
        [b'0', b'o', _, ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    let number = i64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with(['+', '-']))?;
    Some(Value::from(if negative { -number } else { number }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn documents_say_what_json_says() {
        for (text, value) in [
            ("", json!(null)),
            ("--- \na: 1\n...\n", json!({"a": 1})),
            ("{\"a\": [1, true, null, \"x\"]}", json!({"a": [1, true, null, "x"]})),
            ("- a: x y\n  b: 'true'\n- ~\n- [c, -7]\n", json!([{"a": "x y", "b": "true"}, null, ["c", -7]])),
            (
                "a: 0666\nb: 0o17\nc: 0x1f\nd: 0.6.0\ne: 1e3\nf: 0\ng: 09\n",
                json!({"a": 438, "b": 15, "c": 31, "d": "0.6.0", "e": "1e3", "f": 0, "g": "09"}),
            ),
            ("a: |\n  one\n  two\n# a remark\n", json!({"a": "one\ntwo\n"})),
            ("0: a\n", json!({"0": "a"})),
        ] {
            assert_eq!(parse(text), Ok(value), "{text:?}");
        }
    }

    #[test]
    fn what_json_has_not_is_refused_with_its_line() {
        let deep = "[".repeat(100);
        let nested = format!("{}x", "- ".repeat(40));
        for (text, words) in [
            ("a: &x 1\nb: 2\n", "anchors are not supported: there is one in line 1"),
            ("a: &x [1]\n", "anchors"),
            ("b: 1\na: *x\n", "unknown anchor"),
            ("a: !!str 1\n", "tags are not supported"),
            ("a: 1\nb: 2\na: 3\n", "the key \"a\" is there twice in line 3"),
            ("? [a]\n: b\n", "a key is no text"),
            ("a: 1\n---\nb: 2\n", "a second document"),
            (deep.as_str(), "too deep"),
            (nested.as_str(), "too deep"),
            ("a: [1\n", "line"),
        ] {
            let wrong = parse(text).unwrap_err();
            assert!(wrong.contains(words), "{text:?}: {wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[-a:{}\\[\\],\"'|>&*!?# \\n\\t0%~]{0,60}") {
            let _whatever = parse(&text);
        }
    }
}
