//! Sizes and spans of time, as Docker's options have them.

use std::time::Duration;

/// Bytes of a size in powers of 1024: `512`, `64m`, `1.5g`, `20GiB`.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(lower.len());
    let (number, unit) = (&lower[..digits], lower[digits..].trim_start());
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(unit);
    let exponent = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == unit)?;
    let bytes = number.parse::<f64>().ok()? * 1024_f64.powi(i32::try_from(exponent).ok()?);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "neither negative nor above 2^63"
    )]
    (bytes < 9.2e18).then_some(bytes as u64)
}

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
    fn sizes_are_powers_of_1024() {
        for (text, expected) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("64m", Some(64 << 20)),
            ("1.5G", Some(3 << 29)),
            ("20GiB", Some(20 << 30)),
            ("2kb", Some(2048)),
            ("", None),
            ("g", None),
            ("1x", None),
            ("-1", None),
            ("99999999p", None),
        ] {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }

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
