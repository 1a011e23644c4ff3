//! Which builds there were, for `docker buildx history` and Docker Desktop.

use coracle_buildkit::proto::google::rpc::Status as Proto;
use coracle_buildkit::proto::moby::buildkit::v1::{
    BuildHistoryEvent, BuildHistoryEventType, BuildHistoryRecord, BuildHistoryRequest, Exporter,
    SolveRequest, UpdateBuildHistoryRequest,
};
use coracle_buildkit::timestamp;
use coracle_engine::build::{BuildRecord, End, HistoryEvent, Listening, RecordedOutput, Recording};
use coracle_engine::{Engine, Error};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use std::collections::HashMap;
use tokio::sync::broadcast;
use tonic::{Code, Status};

/// The option that says which repository a build is of.
const REPOSITORY: &str = "vcs:source";

/// The record of a build that begins.
pub(super) fn record(request: &SolveRequest) -> BuildRecord {
    let outputs = request.exporters.iter().map(|exporter| RecordedOutput {
        kind: exporter.r#type.clone(),
        attributes: exporter.attrs.clone().into_iter().collect(),
    });
    let attributes = request.frontend_attrs.clone();
    BuildRecord::begin(request.r#ref.clone(), request.frontend.clone(), attributes, outputs.collect())
}

/// Writes down how a build ended.
pub(super) async fn end(recording: Recording, solved: &Result<HashMap<String, String>, Status>) {
    let outcome = match solved {
        Ok(answer) => Ok(answer.clone().into_iter().collect()),
        // Dropped, a recording says so itself.
        Err(status) if status.code() == Code::Cancelled => return,
        Err(status) => Err(status.message().to_owned()),
    };
    if let Err(error) = recording.end(outcome).await {
        tracing::warn!(error = error.chain(), "a build is missing in the history");
    }
}

/// What somebody asks of the history.
struct Question {
    id: String,
    active_only: bool,
    filters: Vec<Vec<Filter>>,
    limit: usize,
}

/// A condition.
struct Filter {
    field: Field,
    equal: bool,
    value: String,
}

enum Field {
    Id,
    Status,
    Repository,
}

/// The records that are asked for, and unless it is enough then, what happens to them from now on.
///
/// # Errors
/// For a filter that is not known.
pub(super) fn listen(
    engine: &Engine,
    request: BuildHistoryRequest,
) -> Result<BoxStream<'static, Result<BuildHistoryEvent, Status>>, Status> {
    let early_exit = request.early_exit;
    let question = Question::read(request)?;
    let Listening { active, mut ended, events } = engine.listen_to_builds();
    if question.active_only {
        ended.clear();
    }
    let active = active.into_iter().map(HistoryEvent::Begun);
    let known = active.chain(ended.into_iter().map(HistoryEvent::Ended));
    let known: Vec<_> = known
        .filter(|event| question.covers(record_of(event)))
        .take(question.limit)
        .map(|event| Ok(shown(&event)))
        .collect();
    let known = stream::iter(known);
    if early_exit {
        return Ok(known.boxed());
    }
    Ok(known.chain(coming(events, question)).boxed())
}

fn coming(
    events: broadcast::Receiver<HistoryEvent>,
    question: Question,
) -> impl futures_util::Stream<Item = Result<BuildHistoryEvent, Status>> + Send {
    stream::unfold(Some((events, question)), |state| async move {
        let (mut events, question) = state?;
        loop {
            match events.recv().await {
                Ok(event) if question.covers(record_of(&event)) => {
                    return Some((Ok(shown(&event)), Some((events, question))));
                }
                Ok(_) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    let text = format!("{missed} events of the history were not taken in time: listen again");
                    return Some((Err(Status::data_loss(text)), None));
                }
            }
        }
    })
}

/// Changes a record.
///
/// # Errors
/// For a build that is not known, or goes on.
pub(super) async fn update(engine: &Engine, request: &UpdateBuildHistoryRequest) -> Result<(), Status> {
    let id = &request.r#ref;
    if request.finalize {
        // What is kept of a build is complete when it ends.
        return Ok(());
    }
    let changed = if request.delete {
        engine.remove_build_record(id).await
    } else {
        engine.pin_build_record(id, request.pinned).await
    };
    changed.map_err(|error| match error {
        Error::NotFound { .. } => Status::not_found(format!("no record of build {id}")),
        Error::Conflict(text) => Status::failed_precondition(text),
        error => Status::unknown(error.chain()),
    })
}

impl Question {
    fn read(request: BuildHistoryRequest) -> Result<Self, Status> {
        let conditions = |text: &String| text.split(',').map(Filter::parse).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            id: request.r#ref,
            active_only: request.active_only,
            filters: request.filter.iter().map(conditions).collect::<Result<_, _>>()?,
            limit: usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX),
        })
    }

    /// Of several filters one is enough, of which everything has to hold.
    fn covers(&self, record: &BuildRecord) -> bool {
        (self.id.is_empty() || self.id == record.id)
            && (self.filters.is_empty()
                || self.filters.iter().any(|all| all.iter().all(|filter| filter.covers(record))))
    }
}

impl Filter {
    fn parse(text: &str) -> Result<Self, Status> {
        let parts = text.split_once("!=").map(|parts| (parts, false));
        let parts = parts.or_else(|| text.split_once("==").map(|parts| (parts, true)));
        let invalid = || {
            Status::invalid_argument(format!("invalid filter {text:?}: it is FIELD==VALUE or FIELD!=VALUE"))
        };
        let ((name, value), equal) = parts.ok_or_else(invalid)?;
        let field = match name {
            "ref" => Field::Id,
            "status" => Field::Status,
            "repository" => Field::Repository,
            other => {
                let text =
                    format!("the filter {other} is not supported: there are ref, status and repository");
                return Err(Status::invalid_argument(text));
            }
        };
        Ok(Self { field, equal, value: value.trim_matches('"').to_owned() })
    }

    fn covers(&self, record: &BuildRecord) -> bool {
        let found = match self.field {
            Field::Id => record.id.as_str(),
            Field::Status => status(record),
            Field::Repository => record.attributes.get(REPOSITORY).map(String::as_str).unwrap_or_default(),
        };
        (found == self.value) == self.equal
    }
}

/// How far a build is, in BuildKit's words.
fn status(record: &BuildRecord) -> &'static str {
    match (&record.end, record.completed) {
        (_, None) => "running",
        (End::Well, _) => "completed",
        (End::Failed(_), _) => "error",
        (End::Canceled, _) => "canceled",
    }
}

fn record_of(event: &HistoryEvent) -> &BuildRecord {
    match event {
        HistoryEvent::Begun(record) | HistoryEvent::Ended(record) | HistoryEvent::Removed(record) => record,
    }
}

fn shown(event: &HistoryEvent) -> BuildHistoryEvent {
    let kind = match event {
        HistoryEvent::Begun(_) => BuildHistoryEventType::Started,
        HistoryEvent::Ended(_) => BuildHistoryEventType::Complete,
        HistoryEvent::Removed(_) => BuildHistoryEventType::Deleted,
    };
    BuildHistoryEvent { r#type: kind.into(), record: Some(record_shown(record_of(event))) }
}

fn record_shown(record: &BuildRecord) -> BuildHistoryRecord {
    let number = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    let error = match &record.end {
        End::Well => None,
        End::Failed(message) => Some((Code::Unknown, message.clone())),
        End::Canceled => Some((Code::Cancelled, "the build was canceled".to_owned())),
    };
    let exporter = |output: &RecordedOutput| Exporter {
        r#type: output.kind.clone(),
        attrs: output.attributes.clone().into_iter().collect(),
    };
    BuildHistoryRecord {
        r#ref: record.id.clone(),
        frontend: record.frontend.clone(),
        frontend_attrs: record.attributes.clone().into_iter().collect(),
        exporters: record.outputs.iter().map(exporter).collect(),
        error: error.map(|(code, message)| Proto { code: code.into(), message, ..Proto::default() }),
        created_at: Some(timestamp(record.created.into())),
        completed_at: record.completed.map(|time| timestamp(time.into())),
        exporter_response: record.answer.clone().into_iter().collect(),
        pinned: record.pinned,
        num_cached_steps: number(record.counts.cached),
        num_total_steps: number(record.counts.total),
        num_completed_steps: number(record.counts.completed),
        num_warnings: number(record.counts.warnings),
        ..BuildHistoryRecord::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_choose_records() {
        let attributes = [(REPOSITORY.to_owned(), "https://h/x".to_owned())];
        let record = BuildRecord::begin("one".into(), String::new(), attributes, Vec::new());
        let covers = |filters: &[&str]| {
            let filter = filters.iter().map(|text| (*text).to_owned()).collect();
            let question = Question::read(BuildHistoryRequest { filter, ..BuildHistoryRequest::default() });
            question.map(|question| question.covers(&record)).map_err(|status| status.message().to_owned())
        };
        for (filters, expected) in [
            (&[][..], true),
            (&["status==running"], true),
            (&["status!=running"], false),
            (&["status==error", "ref==one"], true),
            (&["status==running,ref==two"], false),
            (&["repository==\"https://h/x\""], true),
        ] {
            assert_eq!(covers(filters), Ok(expected), "{filters:?}");
        }
        assert!(covers(&["color==red"]).unwrap_err().contains("color"));
        assert!(covers(&["ref"]).unwrap_err().contains("invalid filter"));
    }
}
