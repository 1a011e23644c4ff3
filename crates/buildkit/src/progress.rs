//! What a build tells of its way. It is kept, for a client asks for it beside the build and may come late or read slowly;
//! the build waits for nobody. Output is kept up to a bound, and the state of the steps is always told whole.

use crate::limits;
use crate::proto::google::protobuf::Timestamp;
use crate::proto::moby::buildkit::v1::{StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning};
use prost::Message;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;

/// What is told of an event beside its texts, in bytes, generously.
const ROOM: usize = 128;

/// Something that happened in a build.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The state of a step, all of it. Its digest says which step it is.
    Vertex(Vertex),
    /// The state of something that a step does, for instance a transfer.
    Status(VertexStatus),
    /// Some output of a step.
    Log(VertexLog),
    /// Something that a person should know.
    Warning(VertexWarning),
}

impl Event {
    /// Some output: stream 1 is what a command writes, 2 its errors.
    pub fn log(vertex: &str, stream: i64, text: &[u8]) -> Self {
        Self::Log(VertexLog { vertex: vertex.to_owned(), timestamp: Some(now()), stream, msg: text.to_vec() })
    }

    fn room(&self) -> usize {
        ROOM + match self {
            Self::Log(log) => log.encoded_len(),
            Self::Vertex(vertex) => vertex.encoded_len(),
            Self::Status(status) => status.encoded_len(),
            // Clients send them, with texts and whole files in every field.
            Self::Warning(warning) => warning.encoded_len(),
        }
    }
}

/// The time, as it is told.
pub fn now() -> Timestamp {
    timestamp(SystemTime::now())
}

/// A time, as it is told.
pub fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).expect("less than a second"),
    }
}

#[derive(Debug, Default)]
struct Told {
    /// Number of the first of `events`.
    first: u64,
    events: VecDeque<Event>,
    room: usize,
    /// The latest state of each step, and the order in which they began.
    vertices: HashMap<String, Vertex>,
    order: Vec<String>,
    ended: bool,
}

/// What a build has told so far; the end that tells. A copy is the same one.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<(Mutex<Told>, Notify)>);

impl Progress {
    /// Tells something to all readers.
    pub fn tell(&self, event: Event) {
        let mut told = self.lock();
        if let Event::Vertex(vertex) = &event
            && told.vertices.insert(vertex.digest.clone(), vertex.clone()).is_none()
        {
            told.order.push(vertex.digest.clone());
        }
        told.room += event.room();
        told.events.push_back(event);
        while told.room > limits::OUTPUT {
            let Some(oldest) = told.events.pop_front() else { break };
            told.room -= oldest.room();
            told.first += 1;
        }
        drop(told);
        self.0.1.notify_waiters();
    }

    /// Says that nothing more will be told.
    pub fn end(&self) {
        self.lock().ended = true;
        self.0.1.notify_waiters();
    }

    /// A reader, from the beginning.
    pub fn reader(&self) -> Reader {
        Reader { progress: self.clone(), next: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        // Nothing between two changes can panic.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end that listens.
#[derive(Debug)]
pub struct Reader {
    progress: Progress,
    next: u64,
}

impl Reader {
    /// What was told since the last call, or is next; `None` at the end.
    pub async fn next(&mut self) -> Option<StatusResponse> {
        let progress = self.progress.clone();
        loop {
            let mut told = std::pin::pin!(progress.0.1.notified());
            // Before looking, so that what is told in between is not missed.
            told.as_mut().enable();
            {
                let state = progress.lock();
                let response = self.batch(&state);
                if response.is_some() || state.ended {
                    return response;
                }
            }
            told.await;
        }
    }

    fn batch(&mut self, told: &Told) -> Option<StatusResponse> {
        let mut response = StatusResponse::default();
        if self.next < told.first {
            // What is gone was output, and states that the latest ones replace.
            response.vertexes = told.order.iter().map(|digest| told.vertices[digest].clone()).collect();
            self.next = told.first;
        }
        let skipped = usize::try_from(self.next - told.first).unwrap_or(usize::MAX);
        let events: Vec<&Event> = told.events.iter().skip(skipped).take(limits::BATCH).collect();
        if events.is_empty() && response.vertexes.is_empty() {
            return None;
        }
        let mut room = 0;
        for event in events {
            room += event.room();
            if room > limits::MESSAGE / 8 && self.next > told.first {
                break;
            }
            self.next += 1;
            match event.clone() {
                Event::Vertex(vertex) => response.vertexes.push(vertex),
                Event::Status(status) => response.statuses.push(status),
                Event::Log(log) => response.logs.push(log),
                Event::Warning(warning) => response.warnings.push(warning),
            }
        }
        Some(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::pb::SourceInfo;

    fn vertex(digest: &str, error: &str) -> Event {
        Event::Vertex(Vertex { digest: digest.into(), error: error.into(), ..Vertex::default() })
    }

    async fn all(mut reader: Reader) -> (Vec<(String, String)>, Vec<u8>) {
        let (mut vertices, mut output) = (Vec::new(), Vec::new());
        while let Some(response) = reader.next().await {
            vertices.extend(response.vertexes.into_iter().map(|vertex| (vertex.digest, vertex.error)));
            output.extend(response.logs.into_iter().flat_map(|log| log.msg));
        }
        (vertices, output)
    }

    #[tokio::test]
    async fn every_reader_hears_everything_in_order() {
        let progress = Progress::default();
        let early = tokio::spawn(all(progress.reader()));
        progress.tell(vertex("a", ""));
        progress.tell(Event::log("a", 1, b"one "));
        tokio::task::yield_now().await;
        progress.tell(Event::log("a", 1, b"two"));
        progress.tell(vertex("a", "broken"));
        progress.end();
        let heard = (
            vec![("a".to_owned(), String::new()), ("a".to_owned(), "broken".to_owned())],
            b"one two".to_vec(),
        );
        assert_eq!(early.await.unwrap(), heard);
        assert_eq!(all(progress.reader()).await, heard, "who comes after the end hears the same");
    }

    #[tokio::test]
    async fn output_is_bounded_and_the_state_of_steps_is_not_lost() {
        let progress = Progress::default();
        progress.tell(vertex("first", ""));
        progress.tell(vertex("second", "failed"));
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..20 {
            progress.tell(Event::log("first", 1, &piece));
        }
        progress.tell(vertex("first", "done"));
        progress.end();
        let (vertices, output) = all(progress.reader()).await;
        let of = |digest: &str| vertices.iter().rfind(|(name, _)| name == digest).unwrap().1.clone();
        assert_eq!((of("first"), of("second")), ("done".into(), "failed".into()));
        assert!(output.len() <= limits::OUTPUT && output.len() > limits::OUTPUT / 2, "{}", output.len());
    }

    #[test]
    fn what_a_client_warns_of_is_bounded_whole() {
        let progress = Progress::default();
        let info = SourceInfo { data: vec![b'x'; 1 << 20], ..SourceInfo::default() };
        let warning =
            VertexWarning { url: "u".repeat(1 << 20), info: Some(info), ..VertexWarning::default() };
        for _ in 0..20 {
            progress.tell(Event::Warning(warning.clone()));
        }
        let kept = progress.lock().events.len();
        assert_eq!(kept, limits::OUTPUT / (2 << 20) - 1, "warnings of two megabytes each");
    }
}
