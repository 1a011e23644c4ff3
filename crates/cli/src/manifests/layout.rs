//! JSON text with its order kept, as Go's encoder lays it out.

/// Lays out JSON with this indent a level, keeping the order of everything.
pub(super) fn indented(json: &str, indent: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0;
    let mut tokens = Tokens { text: json }.peekable();
    while let Some(token) = tokens.next() {
        match token {
            "{" | "[" => {
                out.push_str(token);
                let closes = |next: &&str| matches!(*next, "}" | "]");
                if let Some(close) = tokens.next_if(closes) {
                    out.push_str(close);
                } else {
                    depth += 1;
                    new_line(&mut out, indent, depth);
                }
            }
            "}" | "]" => {
                depth = usize::saturating_sub(depth, 1);
                new_line(&mut out, indent, depth);
                out.push_str(token);
            }
            "," => {
                out.push(',');
                new_line(&mut out, indent, depth);
            }
            ":" => out.push_str(": "),
            other => out.push_str(other),
        }
    }
    out
}

/// The same JSON without white space between its parts.
pub(super) fn compact(json: &str) -> String {
    Tokens { text: json }.collect()
}

/// As Go's encoder escapes what a web page could take for its own.
pub(super) fn escaped(json: &str) -> String {
    json.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
}

fn new_line(out: &mut String, indent: &str, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n(indent, depth));
}

/// The parts of a JSON text: brackets, commas, colons, and values as they stand.
struct Tokens<'a> {
    text: &'a str,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.text = self.text.trim_start_matches([' ', '\t', '\r', '\n']);
        let bytes = self.text.as_bytes();
        let end = match bytes.first()? {
            b'"' => string_end(bytes),
            b'{' | b'}' | b'[' | b']' | b',' | b':' => 1,
            _ => {
                let ends = |byte: &u8| b"{}[],:\" \t\r\n".contains(byte);
                bytes.iter().position(ends).unwrap_or(bytes.len())
            }
        };
        let (token, rest) = self.text.split_at(end);
        self.text = rest;
        Some(token)
    }
}

/// Where a string ends that begins here.
fn string_end(bytes: &[u8]) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_changes_and_nothing_else_does() {
        let text = "{ \"b\" :[1, {} ,[ ]],\"a\":\"x, {\\\"\\\\\", \"c\": -1.5e3,\"d\":null}";
        let expected = "{\n  \"b\": [\n    1,\n    {},\n    []\n  ],\n  \"a\": \"x, {\\\"\\\\\",\n  \"c\": -1.5e3,\n  \"d\": null\n}";
        assert_eq!(indented(text, "  "), expected);
        assert_eq!(compact(expected), "{\"b\":[1,{},[]],\"a\":\"x, {\\\"\\\\\",\"c\":-1.5e3,\"d\":null}");
        assert_eq!(indented(&compact(expected), "  "), expected);
        assert_eq!(escaped("\"<a&b>\""), "\"\\u003ca\\u0026b\\u003e\"");
    }

    #[test]
    fn broken_text_ends() {
        for text in ["", "\"", "\"\\", "{", "}", "]]]", "{\"a\"", "\u{e9}\"\u{e9}"] {
            indented(text, "\t");
            compact(text);
        }
    }
}
