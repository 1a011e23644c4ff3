//! Durations as Go writes them: `1h30m`, `1.5s`, `300ms`.

use crate::error::{Error, Result};

const UNITS: [(&str, f64); 8] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// Reads a duration, in nanoseconds.
pub(crate) fn parse(text: &str) -> Result<i64> {
    let invalid = || Error::value("invalid duration", text);
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    let mut total = 0.0;
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.find(|next: char| !next.is_ascii_digit() && next != '.').ok_or_else(invalid)?;
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let letters = rest.find(|next: char| next.is_ascii_digit() || next == '.').unwrap_or(rest.len());
        let unit = UNITS.iter().find(|(name, _)| *name == &rest[..letters]).ok_or_else(invalid)?;
        total += number * unit.1;
        rest = &rest[letters..];
    }
    let total = if negative { -total } else { total };
    // 2^63 ns are 292 years.
    if total.abs() >= 9.2e18 {
        return Err(invalid());
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "fractions of a nanosecond do not count, and the rest fits"
    )]
    Ok(total.round() as i64)
}

/// A duration of so many nanoseconds as Go prints it.
pub fn written(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let all = nanoseconds.unsigned_abs();
    // A whole number and nine digits of a fraction, without the zeros at its end.
    let decimal = |whole: u64, fraction: u64, digits: usize| {
        let fraction = format!("{fraction:0digits$}");
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() { whole.to_string() } else { format!("{whole}.{fraction}") }
    };
    let text = match all {
        0 => return "0s".to_owned(),
        1..1_000 => format!("{all}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(all / 1_000, all % 1_000, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(all / 1_000_000, all % 1_000_000, 6)),
        _ => {
            let (seconds, fraction) = (all / 1_000_000_000, all % 1_000_000_000);
            let seconds_text = decimal(seconds % 60, fraction, 9);
            match (seconds / 3600, seconds / 60 % 60) {
                (0, 0) => format!("{seconds_text}s"),
                (0, minutes) => format!("{minutes}m{seconds_text}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds_text}s"),
            }
        }
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (nanoseconds, expected) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (3_723_500_000_000, "1h2m3.5s"),
            (-3_600_000_000_001, "-1h0m0.000000001s"),
        ] {
            assert_eq!(written(nanoseconds), expected);
            assert_eq!(parse(expected), Ok(nanoseconds));
        }
    }

    #[test]
    fn durations_are_go_s() {
        let cases = [
            ("0", Some(0)),
            ("1ns", Some(1)),
            ("300ms", Some(300_000_000)),
            ("1.5s", Some(1_500_000_000)),
            (".5s", Some(500_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("1m0.25s", Some(60_250_000_000)),
            ("2µs", Some(2000)),
            ("-3s", Some(-3_000_000_000)),
            ("", None),
            ("-", None),
            ("5", None),
            ("s", None),
            ("1d", None),
            ("1..5s", None),
            ("1s ", None),
            ("ä", None),
            ("9999999h", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).ok(), expected, "{text:?}");
        }
    }
}
