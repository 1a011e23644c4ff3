//! Times as Docker writes and reads them.

use crate::config::quantity;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment, to the nanosecond; Go's zero time for none.
pub(crate) fn write(moment: Option<OffsetDateTime>) -> String {
    let zero = || "0001-01-01T00:00:00Z".to_owned();
    moment.map_or_else(zero, |moment| moment.format(&Rfc3339).unwrap_or_else(|_| zero()))
}

/// A moment in a query: seconds since 1970 with a fraction, or RFC 3339.
pub(crate) fn read(text: &str) -> Option<OffsetDateTime> {
    if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(moment);
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i128 = seconds.parse().ok()?;
    let digits = fraction.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || fraction.len() > 9 {
        return None;
    }
    let nanoseconds: i128 = format!("{fraction:0<9}").parse().ok()?;
    OffsetDateTime::from_unix_timestamp_nanos(seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)?)
        .ok()
}

/// A moment in a filter of a prune, which clients send as it was typed: as [`read`], a date with or without a time, in UTC
/// where it names no zone, or a span before `now`.
pub(crate) fn read_typed(text: &str, now: OffsetDateTime) -> Option<OffsetDateTime> {
    if let Some(span) = quantity::duration(text) {
        return now.checked_sub(span.try_into().ok()?);
    }
    let complete = match text.len() {
        10 if text.contains('-') => format!("{text}T00:00:00Z"),
        16 => format!("{text}:00Z"),
        19 => format!("{text}Z"),
        _ => text.to_owned(),
    };
    OffsetDateTime::parse(&complete, &Rfc3339).ok().or_else(|| read(text))
}

/// A length of time as `docker ps` tells it.
pub(crate) fn ago(length: time::Duration) -> String {
    let seconds = length.whole_seconds();
    let (minutes, hours) = (length.whole_minutes(), (length.as_seconds_f64() / 3600.0).round());
    #[expect(clippy::cast_possible_truncation, reason = "hours of a container's life fit")]
    let hours = hours as i64;
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_both_spellings() {
        assert_eq!(read("1.5").unwrap().unix_timestamp_nanos(), 1_500_000_000);
        assert_eq!(read("1970-01-01T00:00:01Z").unwrap().unix_timestamp(), 1);
        for text in ["", "x", "9e99", "1.x", "99999999999999999999999"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(write(None), "0001-01-01T00:00:00Z");
    }

    #[test]
    fn moments_are_read_as_people_type_them() {
        let now = read("1000000").unwrap();
        for (text, seconds) in [
            ("1h30m", 1_000_000 - 5400),
            ("0", 1_000_000),
            ("500000", 500_000),
            ("1136073600.5", 1_136_073_600),
            ("2006-01-01", 1_136_073_600),
            ("2006-01-01T00:00", 1_136_073_600),
            ("2006-01-01T00:00:00", 1_136_073_600),
            ("2006-01-01T00:00:00+01:00", 1_136_070_000),
        ] {
            assert_eq!(read_typed(text, now).unwrap().unix_timestamp(), seconds, "{text}");
        }
        for text in ["", "1d", "yesterday", "-1h", "2006-13-01"] {
            assert_eq!(read_typed(text, now), None, "{text}");
        }
    }

    #[test]
    fn lengths_are_told_as_docker_tells_them() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (125, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (200_000, "2 days"),
        ] {
            assert_eq!(ago(time::Duration::seconds(seconds)), text);
        }
    }
}
