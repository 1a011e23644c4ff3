//! Spans of time, as Docker's options have them.

use std::time::Duration;

/// A span of time as Go writes it: `72h`, `1h30m`, `0`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        let length = rest[digits..].find(|letter: char| letter.is_ascii_digit() || letter == '.');
        let end = length.map_or(rest.len(), |length| digits + length);
        let seconds = match &rest[digits..end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        // About a century: enough for any option, and no sum is too large for a date.
        let part = value * seconds;
        total = total.checked_add(Duration::try_from_secs_f64(part).ok().filter(|_| part < 4e9)?)?;
        rest = &rest[end..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_add_up() {
        for (text, expected) in [
            ("0", Some(0)),
            ("72h", Some(72 * 3600)),
            ("1h30m", Some(5400)),
            ("1.5h", Some(5400)),
            ("", None),
            ("3", None),
            ("-1h", None),
            ("1d", None),
            ("1h2", None),
            ("9999999999h", None),
        ] {
            assert_eq!(duration(text).map(|span| span.as_secs()), expected, "{text:?}");
        }
    }
}
