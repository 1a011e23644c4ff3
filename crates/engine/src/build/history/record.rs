//! What is known of a build afterwards, and how it lies in the index.
//!
//! Values of arguments whose names are those of secrets, and passwords in addresses, are not kept: a history is for
//! everybody who can ask the engine, and stays.

use crate::limits;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// What stands for a value that is not kept.
const HIDDEN: &str = "***";
/// How arguments of builds are called among the options.
const ARGUMENT: &str = "build-arg:";

/// A build that goes on or has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildRecord {
    /// What its client calls it.
    pub id: String,
    /// What read its recipe.
    pub frontend: String,
    /// Its options, without secrets.
    pub attributes: BTreeMap<String, String>,
    /// What became of the result.
    pub outputs: Vec<RecordedOutput>,
    /// When it began.
    pub created: OffsetDateTime,
    /// When it ended, if it has.
    pub completed: Option<OffsetDateTime>,
    /// How it ended.
    pub end: End,
    /// Its steps.
    pub counts: Counts,
    /// What its client was told of the result.
    pub answer: BTreeMap<String, String>,
    /// Whether it stays until somebody says otherwise.
    pub pinned: bool,
}

/// Where a result went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedOutput {
    /// The kind of place.
    pub kind: String,
    /// Its options.
    pub attributes: BTreeMap<String, String>,
}

/// How a build ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// Well, or not yet.
    #[default]
    Well,
    /// It failed so.
    Failed(String),
    /// Its client went.
    Canceled,
}

/// Steps of a build that make files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All.
    pub total: u32,
    /// Those that were done before.
    pub cached: u32,
    /// Those that are over, and did not fail.
    pub completed: u32,
    /// What was told that works and is still a mistake.
    pub warnings: u32,
}

/// A record as it lies in the index.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    frontend: String,
    attributes: BTreeMap<String, String>,
    outputs: Vec<RecordedOutput>,
    /// Nanoseconds since 1970.
    created: i64,
    completed: Option<i64>,
    end: End,
    counts: Counts,
    answer: BTreeMap<String, String>,
    pinned: bool,
}

impl BuildRecord {
    /// One of a build that begins now. What is longer than a record may be is left out.
    pub fn begin(
        id: String,
        frontend: String,
        attributes: impl IntoIterator<Item = (String, String)>,
        outputs: Vec<RecordedOutput>,
    ) -> Self {
        Self {
            id,
            frontend,
            attributes: clipped(attributes.into_iter().map(|(key, value)| {
                let shown = shown(&key, &value);
                (key, shown)
            })),
            outputs: outputs
                .into_iter()
                .map(|output| RecordedOutput { attributes: clipped(output.attributes), ..output })
                .collect(),
            created: OffsetDateTime::now_utc(),
            completed: None,
            end: End::Well,
            counts: Counts::default(),
            answer: BTreeMap::new(),
            pinned: false,
        }
    }

    pub(super) fn to_json(&self) -> String {
        let nanoseconds =
            |time: OffsetDateTime| i64::try_from(time.unix_timestamp_nanos()).unwrap_or(i64::MAX);
        let stored = Stored {
            frontend: self.frontend.clone(),
            attributes: self.attributes.clone(),
            outputs: self.outputs.clone(),
            created: nanoseconds(self.created),
            completed: self.completed.map(nanoseconds),
            end: self.end.clone(),
            counts: self.counts,
            answer: self.answer.clone(),
            pinned: self.pinned,
        };
        serde_json::to_string(&stored).expect("plain data")
    }

    /// What cannot be read was written by an engine that is not this one.
    pub(super) fn parse(id: String, text: &str) -> Option<Self> {
        let stored: Stored = serde_json::from_str(text).ok()?;
        let time = |nanoseconds: i64| OffsetDateTime::from_unix_timestamp_nanos(nanoseconds.into()).ok();
        Some(Self {
            id,
            frontend: stored.frontend,
            attributes: stored.attributes,
            outputs: stored.outputs,
            created: time(stored.created)?,
            completed: stored.completed.and_then(time),
            end: stored.end,
            counts: stored.counts,
            answer: stored.answer,
            pinned: stored.pinned,
        })
    }
}

/// As many as fit.
pub(super) fn clipped(pairs: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let mut room = limits::BUILD_RECORD;
    let fits = |(key, value): &(String, String)| {
        let size = key.len() + value.len();
        let fits = size <= room;
        room -= if fits { size } else { 0 };
        fits
    };
    pairs.into_iter().filter(fits).collect()
}

/// The value of an option as it may be shown to anybody.
pub(in crate::build) fn shown(key: &str, value: &str) -> String {
    let is_secret = key.strip_prefix(ARGUMENT).is_some_and(coracle_build::names_secret);
    if is_secret && !value.is_empty() { HIDDEN.to_owned() } else { without_passwords(value) }
}

/// Addresses in a text lose what stands in front of their hosts, but for the usual user of Git over ssh.
pub(in crate::build) fn without_passwords(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let host = after.find(|letter: char| "/?# \t\n\"',".contains(letter)).unwrap_or(after.len());
        rest = match after[..host].rfind('@') {
            Some(at) if &after[..at] != "git" => {
                shown.push_str(HIDDEN);
                &after[at..]
            }
            _ => after,
        };
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_kept() {
        for (key, value, expected) in [
            ("build-arg:VERSION", "1", "1"),
            ("build-arg:API_TOKEN", "canary", "***"),
            ("build-arg:API_TOKEN", "", ""),
            ("build-arg:HTTP_PROXY", "http://me:canary@proxy:3128/", "http://***@proxy:3128/"),
            ("context", "https://canary@host/x.git#main", "https://***@host/x.git#main"),
            ("context", "ssh://git@host/x.git", "ssh://git@host/x.git"),
            ("x", "https://a/b@c", "https://a/b@c"),
            ("x", "a http://u:p@h, https://v:q@i/ b", "a http://***@h, https://***@i/ b"),
        ] {
            assert_eq!(shown(key, value), expected, "{key}={value}");
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let output =
            RecordedOutput { kind: "image".into(), attributes: [("name".into(), "a".into())].into() };
        let mut record = BuildRecord::begin(
            "id".into(),
            "dockerfile.v0".into(),
            [("target".to_owned(), "t".to_owned()), ("large".to_owned(), "x".repeat(limits::BUILD_RECORD))],
            vec![output],
        );
        assert_eq!(record.attributes.len(), 1, "what is too long is left out");
        record.completed = Some(OffsetDateTime::now_utc());
        record.end = End::Failed("so".into());
        record.counts = Counts { total: 3, cached: 1, completed: 2, warnings: 1 };
        record.answer = [("a".into(), "b".into())].into();
        record.pinned = true;
        assert_eq!(BuildRecord::parse("id".into(), &record.to_json()), Some(record));
        assert_eq!(BuildRecord::parse("id".into(), "{}"), None);
    }
}
