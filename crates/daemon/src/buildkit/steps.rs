//! What the engine tells of a build, as what a client shows: a vertex for each step that makes files.

use coracle_buildkit::proto::google::protobuf::Timestamp;
use coracle_buildkit::proto::moby::buildkit::v1::{Vertex, VertexWarning};
use coracle_buildkit::{Event, Progress, timestamp};
use coracle_engine::build::{StepInfo, Told, Warning};
use coracle_spec::Digest;
use std::collections::HashMap;
use time::OffsetDateTime;
use tokio::sync::mpsc;

/// The name of a vertex: what it is, in a build.
pub(super) fn digest_of(build: &str, what: &str) -> String {
    Digest::of(format!("{build}\n{what}").as_bytes()).to_string()
}

/// The steps of one build.
pub(super) struct Steps<'a> {
    progress: &'a Progress,
    build: &'a str,
    vertices: HashMap<usize, Vertex>,
    /// Caches of others that are being read.
    caches: HashMap<String, Vertex>,
}

impl<'a> Steps<'a> {
    pub(super) fn new(progress: &'a Progress, build: &'a str) -> Self {
        Self { progress, build, vertices: HashMap::new(), caches: HashMap::new() }
    }

    /// Shows everything that is told.
    pub(super) async fn follow(&mut self, mut told: mpsc::Receiver<Told>) {
        while let Some(told) = told.recv().await {
            self.take(told);
        }
    }

    /// The vertex of a step.
    pub(super) fn digest(&self, step: usize) -> String {
        digest_of(self.build, &format!("step {step}"))
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Steps(steps) => steps.iter().for_each(|step| self.announce(step)),
            Told::Begun(step, time) => self.change(step, |vertex| vertex.started = Some(stamp(time))),
            Told::Cached(step) => self.change(step, |vertex| vertex.cached = true),
            Told::Ended(step, time, error) => self.change(step, |vertex| {
                vertex.completed = Some(stamp(time));
                vertex.error = error.unwrap_or_default();
            }),
            Told::Reading(cache, time) => {
                let vertex = Vertex { started: Some(stamp(time)), ..self.reading(&cache) };
                self.progress.tell(Event::Vertex(vertex.clone()));
                self.caches.insert(cache, vertex);
            }
            Told::Read(cache, time, failure) => {
                let Some(mut vertex) = self.caches.remove(&cache) else { return };
                vertex.completed = Some(stamp(time));
                vertex.error = failure.unwrap_or_default();
                self.progress.tell(Event::Vertex(vertex));
            }
            Told::NotUsed { step, from, reason } => {
                let text = format!("the cache {from} is not used any more: {reason}\n");
                self.log(step, 2, text.as_bytes());
            }
            Told::Output { step, is_error, bytes } => self.log(step, if is_error { 2 } else { 1 }, &bytes),
            Told::Warning(warning) => self.progress.tell(Event::Warning(shown(&warning, &self.digest(0)))),
            // Clients have no place for why a step is done again.
            Told::Changed(..) | Told::Built(_) => {}
        }
    }

    fn reading(&self, cache: &str) -> Vertex {
        let name = format!("importing cache manifest from {cache}");
        Vertex { digest: digest_of(self.build, &name), name, ..Vertex::default() }
    }

    fn log(&self, step: usize, stream: i64, text: &[u8]) {
        if let Some(vertex) = self.vertices.get(&step) {
            self.progress.tell(Event::log(&vertex.digest, stream, text));
        }
    }

    fn announce(&mut self, step: &StepInfo) {
        let Some((place, all)) = step.place else { return };
        let name = if step.one_of_stages {
            format!("[{} {place}/{all}] {}", step.stage, step.text)
        } else {
            format!("[{place}/{all}] {}", step.text)
        };
        let inputs = step.inputs.iter().map(|input| self.digest(*input)).collect();
        let vertex = Vertex { digest: self.digest(step.number), name, inputs, ..Vertex::default() };
        self.progress.tell(Event::Vertex(vertex.clone()));
        self.vertices.insert(step.number, vertex);
    }

    fn change(&mut self, step: usize, change: impl FnOnce(&mut Vertex)) {
        // A step that only changes the configuration is not shown.
        let Some(vertex) = self.vertices.get_mut(&step) else { return };
        change(vertex);
        self.progress.tell(Event::Vertex(vertex.clone()));
    }
}

/// A warning as clients show it, at the vertex of the first step.
fn shown(warning: &Warning, vertex: &str) -> VertexWarning {
    VertexWarning {
        vertex: vertex.to_owned(),
        level: 1,
        short: format!("{}: {} (line {})", warning.rule.name(), warning.text, warning.lines.first).into(),
        detail: vec![warning.rule.description().as_bytes().to_vec()],
        url: warning.rule.url(),
        ..VertexWarning::default()
    }
}

fn stamp(time: OffsetDateTime) -> Timestamp {
    timestamp(time.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(number: usize, place: Option<(usize, usize)>, one_of_stages: bool) -> StepInfo {
        StepInfo {
            number,
            stage: "builder".into(),
            one_of_stages,
            text: "RUN true".into(),
            place,
            inputs: number.checked_sub(1).into_iter().collect(),
            lines: (1, 1),
        }
    }

    #[tokio::test]
    async fn steps_that_make_files_are_shown() {
        let progress = Progress::default();
        let mut steps = Steps::new(&progress, "b");
        let time = OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(1500);
        for told in [
            Told::Steps(vec![
                step(0, Some((1, 2)), true),
                step(1, Some((2, 2)), false),
                step(2, None, false),
            ]),
            Told::Begun(0, time),
            Told::Cached(0),
            Told::Output { step: 1, is_error: true, bytes: "broken".into() },
            Told::Output { step: 2, is_error: false, bytes: "not shown".into() },
            Told::Begun(2, time),
            Told::Ended(1, time, Some("it failed".into())),
        ] {
            steps.take(told);
        }
        progress.end();
        let told = progress.reader().next().await.unwrap();
        let names: Vec<&str> = told.vertexes.iter().map(|vertex| vertex.name.as_str()).collect();
        assert_eq!(names[..2], ["[builder 1/2] RUN true", "[2/2] RUN true"]);
        assert_eq!(told.vertexes[1].inputs, [digest_of("b", "step 0")]);
        let started = told.vertexes[2].started.unwrap();
        assert_eq!((started.seconds, started.nanos), (1, 500_000_000));
        assert!(told.vertexes[3].cached);
        assert_eq!((told.vertexes.len(), told.vertexes[4].error.as_str()), (5, "it failed"));
        assert_eq!((told.logs.len(), told.logs[0].stream, &told.logs[0].msg[..]), (1, 2, &b"broken"[..]));
    }
}
