//! Sizes and times in words, as Docker says them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Bytes in powers of 1000 with four significant digits: `1.984MB`.
pub(crate) fn size(bytes: i64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], 4)
}

/// The same with three digits, as tables show images and layers: `1.98MB`.
pub(crate) fn short_size(bytes: i64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB", "EB"], 3)
}

/// Bytes in powers of 1024: `23.54GiB`.
pub(crate) fn binary_size(bytes: i64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], 4)
}

#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
fn scaled(bytes: i64, base: f64, units: &[&str], digits: usize) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value.abs() >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), units[unit])
}

/// `%.Ng` of C for numbers below 10^N: so many significant digits, no zeros at the end.
fn significant(value: f64, digits: usize) -> String {
    let before = format!("{:.0}", value.abs().trunc()).len();
    let text = format!("{value:.*}", digits.saturating_sub(before));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A span in one unit: `About a minute`, `3 weeks`.
pub(crate) fn duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

/// How long ago that was: `4 seconds ago`. Times of the future count as now.
pub(crate) fn ago(unix_seconds: i64) -> String {
    format!("{} ago", duration(OffsetDateTime::now_utc().unix_timestamp() - unix_seconds))
}

/// A time as tables show it: `2026-11-24 07:58:27 +0000 UTC`.
pub(crate) fn timestamp(unix_seconds: i64) -> String {
    match OffsetDateTime::from_unix_timestamp(unix_seconds) {
        Ok(at) => format!("{} {} +0000 UTC", at.date(), clock(at)),
        Err(_) => unix_seconds.to_string(),
    }
}

fn clock(at: OffsetDateTime) -> String {
    format!("{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())
}

/// A time of RFC 3339 as C's `asctime` writes it, `Thu Aug 13 05:35:48 2026`; what is none stays as it is.
pub(crate) fn calendar(text: &str) -> String {
    let form = time::macros::format_description!(
        "[weekday repr:short] [month repr:short] [day padding:space] [hour]:[minute]:[second] [year]"
    );
    let written = OffsetDateTime::parse(text, &Rfc3339).ok().and_then(|at| at.format(form).ok());
    written.unwrap_or_else(|| text.to_owned())
}

/// A time with nanoseconds, as events show it: `2026-11-24T07:58:27.926619731Z`.
pub(crate) fn nanosecond_timestamp(unix_nanoseconds: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(unix_nanoseconds.into());
    at.map_or_else(
        |_| unix_nanoseconds.to_string(),
        |at| format!("{}T{}.{:09}Z", at.date(), clock(at), at.nanosecond()),
    )
}

/// What `--since` and `--until` accept, as the API takes it: a Unix time, RFC 3339, a date, or a span before now.
pub(crate) fn moment(text: &str) -> Option<String> {
    let now = OffsetDateTime::now_utc();
    if let Some(span) = crate::resolve::duration::nanoseconds(text) {
        let at = now.unix_timestamp_nanos() - i128::from(span);
        return Some(format!("{}.{:09}", at.div_euclid(1_000_000_000), at.rem_euclid(1_000_000_000)));
    }
    if text.parse::<f64>().is_ok() {
        return Some(text.to_owned());
    }
    let complete = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        16 => format!("{text}:00Z"),
        19 => format!("{text}Z"),
        _ => text.to_owned(),
    };
    let at = OffsetDateTime::parse(&complete, &Rfc3339).ok()?;
    Some(format!("{}.{:09}", at.unix_timestamp(), at.nanosecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_so_many_significant_digits() {
        let cases = [(0, "0B"), (999, "999B"), (1000, "1kB"), (1_984_172, "1.984MB"), (10_500_000, "10.5MB")];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(short_size(1_984_172), "1.98MB");
        assert_eq!(short_size(123_456_789), "123MB");
        assert_eq!(binary_size(25_276_063_744), "23.54GiB");
        assert_eq!(binary_size(544_768), "532KiB");
    }

    #[test]
    fn spans_are_said_in_one_unit() {
        let cases = [
            (-5, "Less than a second"),
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86400, "2 weeks"),
            (60 * 86400, "2 months"),
            (730 * 86400, "2 years"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn moments_are_understood_in_every_form() {
        assert_eq!(moment("1136073600.5").as_deref(), Some("1136073600.5"));
        assert_eq!(moment("2006-01-01").as_deref(), Some("1136073600.000000000"));
        assert_eq!(moment("2006-01-01T00:00:00+01:00").as_deref(), Some("1136070000.000000000"));
        assert_eq!(moment("2006-01-01T00:00:00.5Z").as_deref(), Some("1136073600.500000000"));
        assert!(moment("10m").is_some() && moment("1h30m").is_some());
        assert_eq!(moment("yesterday"), None);
    }

    #[test]
    fn timestamps_look_as_docker_writes_them() {
        assert_eq!(calendar("2026-08-03T05:35:48.000000000+00:00"), "Mon Aug  3 05:35:48 2026");
        assert_eq!(calendar("yesterday"), "yesterday");
        assert_eq!(timestamp(1_795_507_107), "2026-11-24 07:58:27 +0000 UTC");
        assert_eq!(nanosecond_timestamp(1_795_507_107_000_000_001), "2026-11-24T07:58:27.000000001Z");
    }
}
