//! Numbers of tar headers: octal text, GNU's base-256, and the decimal text of extended headers.

use super::Time;

/// Reads a numeric field of a header; blank is 0.
pub(super) fn field(bytes: &[u8]) -> Option<i64> {
    match bytes.first()? {
        0x80 => binary(&bytes[1..], 0),
        0xff => binary(&bytes[1..], -1),
        _ => octal(bytes),
    }
}

/// GNU's binary form: two's complement, most significant byte first, behind the marker byte.
fn binary(bytes: &[u8], sign: i64) -> Option<i64> {
    let mut value = sign;
    for byte in bytes {
        value = value.checked_mul(256)?.checked_add(i64::from(*byte))?;
    }
    Some(value)
}

/// Octal digits, with leading spaces and ended by a space, a NUL or the field.
fn octal(bytes: &[u8]) -> Option<i64> {
    let start = bytes.iter().position(|byte| *byte != b' ').unwrap_or(bytes.len());
    let digits = &bytes[start..];
    let end = digits.iter().position(|byte| matches!(byte, b' ' | 0)).unwrap_or(digits.len());
    if digits[end..].iter().any(|byte| !matches!(byte, b' ' | 0)) {
        return None;
    }
    digits[..end].iter().try_fold(0_i64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

/// Reads a number without sign of an extended header.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, byte| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

/// Reads a time of an extended header: seconds with an optional sign and fraction.
pub(super) fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &b""[..]),
    };
    let seconds = i64::try_from(decimal(whole)?).ok()?;
    let nanoseconds = nanoseconds(fraction)?;
    Some(match (negative, nanoseconds) {
        (false, nanoseconds) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds: 0 },
        (true, nanoseconds) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

/// The first nine digits behind the point; further ones are cut off.
fn nanoseconds(fraction: &[u8]) -> Option<u32> {
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |place: usize| u32::from(fraction.get(place).map_or(0, |byte| byte - b'0'));
    Some((0..9).fold(0, |value, place| value * 10 + digit(place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_octal_or_binary() {
        let max = [&[0x80, 0, 0, 0][..], &i64::MAX.to_be_bytes()].concat();
        let over = [&[0x80, 0, 0, 1][..], &[0; 8]].concat();
        let cases: [(&[u8], Option<i64>); 13] = [
            (b"0000644\0", Some(0o644)),
            (b"  644 \0\0", Some(0o644)),
            (b"77777777777", Some(0o77_777_777_777)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"0000648\0", None),
            (b"-000644\0", None),
            (b"644 644\0", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (&max, Some(i64::MAX)),
            (&over, None),
            (b"", None),
        ];
        for (bytes, expected) in cases {
            assert_eq!(field(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn times_have_signs_and_fractions() {
        let at = |seconds, nanoseconds| Some(Time { seconds, nanoseconds });
        let cases: [(&[u8], Option<Time>); 11] = [
            (b"0", at(0, 0)),
            (b"1700000000.123456789999", at(1_700_000_000, 123_456_789)),
            (b"1.5", at(1, 500_000_000)),
            (b"-1", at(-1, 0)),
            (b"-1.5", at(-2, 500_000_000)),
            (b"1.", at(1, 0)),
            (b"nan", None),
            (b"", None),
            (b"1e5", None),
            (b"9223372036854775808", None),
            (b"1.-5", None),
        ];
        for (text, expected) in cases {
            assert_eq!(time(text), expected, "{text:?}");
        }
    }
}
