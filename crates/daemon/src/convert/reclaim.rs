//! Verdicts about images, in words.

use super::time;
use ::time::OffsetDateTime;
use coracle_api::system as api;
use coracle_engine::images::{ContainerUse, Keep, PIN_LABEL, Pin, Reclaimed, Verdict};
use std::time::Duration;

/// What was done, or would be.
pub(crate) fn report(done: &Reclaimed, dry_run: bool) -> api::ReclaimReport {
    let now = OffsetDateTime::now_utc();
    api::ReclaimReport {
        dry_run,
        budget: done.policy.budget,
        keep_recent: done.policy.keep_recent.as_secs(),
        used: done.used,
        freed: done.freed(),
        images: done.verdicts.iter().map(|of| verdict(of, done.policy.keep_recent, now)).collect(),
    }
}

fn verdict(verdict: &Verdict, keep_recent: Duration, now: OffsetDateTime) -> api::ReclaimVerdict {
    let unused = match verdict.last_used {
        Some(at) => format!("not used for {}", span(now - at)),
        None => "no use is known".to_owned(),
    };
    api::ReclaimVerdict {
        id: verdict.id.to_string(),
        names: verdict.references.iter().map(coracle_spec::Reference::familiar).collect(),
        remove: verdict.keep.is_none(),
        size: verdict.size,
        freed: verdict.freed,
        last_used: verdict.last_used.map(|at| time::write(Some(at))).unwrap_or_default(),
        reason: verdict.keep.as_ref().map_or(unused, |keep| reason(keep, verdict, keep_recent, now)),
    }
}

fn reason(keep: &Keep, verdict: &Verdict, keep_recent: Duration, now: OffsetDateTime) -> String {
    match keep {
        Keep::Container(ContainerUse { container, running: true }) => {
            format!("used by container {container}, which runs")
        }
        Keep::Container(ContainerUse { container, running: false }) => {
            format!("used by container {container}")
        }
        Keep::Pinned(Pin::Label) => format!("pinned by its label {PIN_LABEL}"),
        Keep::Pinned(Pin::Name(name)) => format!("pinned by name: {}", name.familiar()),
        Keep::Pinned(Pin::Id) => "pinned by id".to_owned(),
        Keep::Held => "being transferred, or made a container".to_owned(),
        Keep::Recent => {
            let ago = verdict.last_used.map(|at| span(now - at)).unwrap_or_default();
            format!("used {ago} ago, within {}", span(keep_recent.try_into().unwrap_or_default()))
        }
        Keep::Needed(id) => {
            format!("image {} stays, which was made of it or is another platform of it", id.short())
        }
        Keep::Shared => "all its layers are those of images that stay".to_owned(),
        Keep::Fits => "everything fits without its removal".to_owned(),
        Keep::Busy(why) => format!("it could not be removed: {why}"),
    }
}

/// A span in its two largest units: `3 days 4 hours`.
fn span(span: ::time::Duration) -> String {
    let seconds = span.whole_seconds().max(0);
    let parts = [
        (seconds / 86400, "day"),
        (seconds / 3600 % 24, "hour"),
        (seconds / 60 % 60, "minute"),
        (seconds % 60, "second"),
    ];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(parts.len() - 1);
    let said = parts[first..].iter().take(2).filter(|(count, _)| *count > 0 || seconds == 0);
    let words: Vec<String> =
        said.map(|(count, unit)| format!("{count} {unit}{}", if *count == 1 { "" } else { "s" })).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_in_two_units() {
        for (seconds, text) in [
            (-3, "0 seconds"),
            (0, "0 seconds"),
            (1, "1 second"),
            (60, "1 minute"),
            (3661, "1 hour 1 minute"),
            (3 * 3600 + 5, "3 hours"),
            (72 * 3600, "3 days"),
            (100 * 3600, "4 days 4 hours"),
        ] {
            assert_eq!(span(::time::Duration::seconds(seconds)), text);
        }
    }
}
