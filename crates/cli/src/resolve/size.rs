//! Sizes in bytes: `64m`, `1.5g`, `512`.

use super::{Invalid, invalid};

/// Bytes of a size, as `--memory` reads it.
pub(crate) fn bytes(text: &str) -> Result<i64, Invalid> {
    let bytes = coracle_spec::size::bytes(text).and_then(|bytes| i64::try_from(bytes).ok());
    bytes.map_or_else(|| invalid(format!("invalid size: '{text}'")), Ok)
}

/// The same, with `-1` for "no limit".
pub(crate) fn bytes_or_unlimited(text: &str) -> Result<i64, Invalid> {
    if text == "-1" { Ok(-1) } else { bytes(text) }
}

/// CPUs with a fraction, in units of 10⁻⁹.
pub(crate) fn nano_cpus(text: &str) -> Result<i64, Invalid> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) || whole.len() > 9 {
        return invalid(format!("failed to parse {text} as a rational number"));
    }
    if fraction.trim_end_matches('0').len() > 9 {
        return invalid("value is too precise");
    }
    let number = |text: &str| text.parse::<i64>().unwrap_or(0);
    Ok(number(whole) * 1_000_000_000 + number(&format!("{fraction:0<9}")[..9]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        let cases = [
            ("512", Some(512)),
            ("64m", Some(64 << 20)),
            ("64M", Some(64 << 20)),
            ("1.5g", Some(3 << 29)),
            ("1KiB", Some(1024)),
            ("2kb", Some(2048)),
            ("10b", Some(10)),
            ("1 g", Some(1 << 30)),
            ("m", None),
            ("1x", None),
            ("-1", None),
            ("", None),
            ("99999999p", None),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text).ok(), expected, "{text:?}");
        }
        assert_eq!(bytes_or_unlimited("-1"), Ok(-1));
    }

    #[test]
    fn cpus_are_exact() {
        for (text, expected) in
            [("0.5", Some(500_000_000)), ("2", Some(2_000_000_000)), ("1.000000001", Some(1_000_000_001))]
        {
            assert_eq!(nano_cpus(text).ok(), expected, "{text}");
        }
        for text in ["", ".", "x", "-1", "1.0000000001"] {
            assert!(nano_cpus(text).is_err(), "{text:?}");
        }
    }
}
