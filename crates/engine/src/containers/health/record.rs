//! What an engine knows of a container's health, for the next one: part of the container's record, and while it runs a
//! file in its state directory.
//!
//! The file is written when the state or the number of failures changes, and is never synced: it need not outlive the
//! machine, for then the container has ended. What is healthy and stays so costs nothing.

use super::{Health, Probe, Status, begin, leave};
use crate::containers::Description;
use crate::containers::state::Status as ContainerStatus;
use crate::engine::Shared;
use crate::error::{Attempt, Result, blocking};
use coracle_sys::atomic;
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use time::OffsetDateTime;

/// The name of the file.
const NAME: &str = "health.json";

/// The document.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct HealthRecord {
    status: String,
    failing_streak: u32,
    log: Vec<ProbeRecord>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct ProbeRecord {
    start: i128,
    end: i128,
    exit_code: i32,
    output: String,
}

impl From<&Health> for HealthRecord {
    fn from(health: &Health) -> Self {
        let probe = |probe: &Probe| ProbeRecord {
            start: probe.start.unix_timestamp_nanos(),
            end: probe.end.unix_timestamp_nanos(),
            exit_code: probe.exit_code,
            output: probe.output.clone(),
        };
        Self {
            status: health.status.to_string(),
            failing_streak: health.failing_streak,
            log: health.log.iter().map(probe).collect(),
        }
    }
}

impl From<HealthRecord> for Health {
    fn from(record: HealthRecord) -> Self {
        let moment = |nanoseconds| {
            OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
        };
        let probe = |probe: ProbeRecord| Probe {
            start: moment(probe.start),
            end: moment(probe.end),
            exit_code: probe.exit_code,
            output: probe.output,
        };
        let known = [Status::Starting, Status::Healthy, Status::Unhealthy];
        Self {
            status: known.into_iter().find(|s| s.to_string() == record.status).unwrap_or_default(),
            failing_streak: record.failing_streak,
            log: record.log.into_iter().map(probe).collect(),
        }
    }
}

fn path(shared: &Shared, now: &Description) -> PathBuf {
    shared.state_directory(&now.id).join(NAME)
}

/// Keeps what is known now for the next engine.
pub(super) async fn keep(shared: &Shared, now: &Description) -> Result<()> {
    let Some(health) = &now.state.health else { return Ok(()) };
    let content = serde_json::to_vec(&HealthRecord::from(&**health)).expect("plain data has a document");
    let path = path(shared, now);
    blocking(move || atomic::write(path, &content, Mode::from_raw_mode(0o600)))
        .await?
        .attempt(|| format!("note the health of container {}", now.id))
}

/// What the last engine knew of a container that has run under it, or still does. One that an engine without health
/// checks has started begins anew.
pub(crate) fn recall(shared: &Shared, now: &mut Description) {
    let noted = std::fs::read(path(shared, now)).ok();
    // A file that is torn or missing says less than the container's own record.
    match noted.and_then(|content| serde_json::from_slice::<HealthRecord>(&content).ok()) {
        Some(record) => now.state.health = Some(Arc::new(record.into())),
        // Also where the last engine was killed before it could note this start.
        None if now.state.health.is_none() || !now.state.status.is_up() => begin(now),
        None => {}
    }
    if now.state.status == ContainerStatus::Paused {
        leave(&mut now.state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_read_as_it_was_written() {
        let at = OffsetDateTime::UNIX_EPOCH + time::Duration::nanoseconds(1_700_000_000_000_000_001);
        let probe = Probe { start: at, end: at, exit_code: -1, output: "late".to_owned() };
        let health = Health { status: Status::Unhealthy, failing_streak: 7, log: vec![probe] };
        let text = serde_json::to_string(&HealthRecord::from(&health)).unwrap();
        let read: HealthRecord = serde_json::from_str(&text).unwrap();
        assert_eq!(Health::from(read), health);
    }

    #[test]
    fn a_record_of_tomorrow_is_read_as_far_as_it_is_understood() {
        let read: HealthRecord =
            serde_json::from_str(r#"{"status":"dizzy","failing_streak":2,"new":1}"#).unwrap();
        assert_eq!(Health::from(read), Health { failing_streak: 2, ..Health::default() });
    }
}
