//! JSON of the daemon for people: indented, keys in the daemon's order.

/// As Go's encoder writes it, which keeps its output harmless within HTML.
pub(crate) fn harmless(text: &str) -> String {
    text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// Indents valid JSON by four spaces, as Docker does.
pub(crate) fn indent(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if in_string {
            out.push(letter);
            in_string = escaped || letter != '"';
            escaped = !escaped && letter == '\\';
            continue;
        }
        match letter {
            ' ' | '\t' | '\r' | '\n' => {}
            '"' => {
                in_string = true;
                out.push(letter);
            }
            '{' | '[' => {
                out.push(letter);
                while letters.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(close) = letters.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(letter);
            }
            ',' => {
                out.push(letter);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            other => out.push(other),
        }
    }
    out
}

fn line(out: &mut String, depth: usize) {
    out.push('\n');
    (0..depth).for_each(|_| out.push_str("    "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_strings_stay_and_empty_things_stay_on_their_line() {
        let text = r#"[{"b":{},"a":[ ],"s":"x\":{[,\\","n":[1,true]}]"#;
        let expected = "[\n    {\n        \"b\": {},\n        \"a\": [],\n        \"s\": \"x\\\":{[,\\\\\",\n        \
            \"n\": [\n            1,\n            true\n        ]\n    }\n]";
        assert_eq!(indent(text), expected);
        assert_eq!(indent("[]"), "[]");
    }
}
