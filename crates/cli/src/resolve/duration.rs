//! Durations as Go writes them: `1h15m30.5s`.

use super::{Invalid, invalid};

/// Nanoseconds of a duration, `None` when the text is none. `0` needs no unit.
pub(crate) fn nanoseconds(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        let unit_length = rest[digits..].find(|letter: char| letter.is_ascii_digit() || letter == '.');
        let end = unit_length.map_or(rest.len(), |length| digits + length);
        total += value * unit(&rest[digits..end])?;
        rest = &rest[end..];
    }
    #[expect(clippy::cast_possible_truncation, reason = "the bound is checked in the same condition")]
    (!text.is_empty() && total < 9.2e18).then_some(total.round() as i64)
}

fn unit(name: &str) -> Option<f64> {
    Some(match name {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return None,
    })
}

/// The same, for a flag.
pub(crate) fn parse(text: &str) -> Result<i64, Invalid> {
    nanoseconds(text).map_or_else(|| invalid(format!("time: invalid duration {text:?}")), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_add_up() {
        let cases = [
            ("0", Some(0)),
            ("1s", Some(1_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("10ms", Some(10_000_000)),
            ("5", None),
            ("", None),
            ("s", None),
            ("1x", None),
            ("-1s", None),
            ("1s2", None),
        ];
        for (text, expected) in cases {
            assert_eq!(nanoseconds(text), expected, "{text:?}");
        }
    }
}
