//! Sizes as texts.

/// Bytes of a size in powers of 1024, as Docker's options have them: a number with an optional `k`, `m`, `g`, `t` or `p`, and
/// an optional `b` or `ib` after that; nothing for any other text.
pub fn bytes(text: &str) -> Option<u64> {
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
}
