//! Failures as BuildKit's clients read them: a status whose details say which lines of which file are to blame. Details
//! are messages written as JSON, which is what `+json` in their names says.

use crate::proto::google::protobuf::Any;
use crate::proto::google::rpc::Status as Proto;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use tonic::{Code, Status};

const SOURCE: &str = "github.com/moby/buildkit/errdefs.Source+json";
const VERTEX: &str = "github.com/moby/buildkit/errdefs.Vertex+json";
const SUBREQUEST: &str = "github.com/moby/buildkit/errdefs.Subrequest+json";

/// Lines of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Its name.
    pub file: String,
    /// Its content, so that the client can show it.
    pub text: Vec<u8>,
    /// The first line, counted from 1.
    pub first: u32,
    /// The last line.
    pub last: u32,
}

/// Why a build failed, for its client.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    code: Code,
    message: String,
    details: Vec<(&'static str, String)>,
}

impl Failure {
    /// One that has no better code than that it failed.
    pub fn new(message: impl Into<String>) -> Self {
        Self::coded(Code::Unknown, message)
    }

    /// One with a code, which some clients show and some act upon.
    pub fn coded(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Vec::new() }
    }

    /// That a question to a Dockerfile is one of those that are not answered: clients then ask another way.
    pub fn unsupported_request(name: &str) -> Self {
        let mut failure = Self::coded(Code::Unimplemented, format!("unsupported request {name}"));
        failure.details.push((SUBREQUEST, object(&[("name", text(name))])));
        failure
    }

    /// The same, with the lines to blame.
    #[must_use]
    pub fn at(mut self, position: &Position) -> Self {
        let line = |line: u32| object(&[("line", line.to_string())]);
        let range = object(&[("start", line(position.first)), ("end", line(position.last))]);
        let info = object(&[
            ("filename", text(&position.file)),
            ("data", text(&STANDARD.encode(&position.text))),
            ("language", text("Dockerfile")),
        ]);
        self.details.push((SOURCE, object(&[("info", info), ("ranges", format!("[{range}]"))])));
        self
    }

    /// The same, with the step that failed.
    #[must_use]
    pub fn of_vertex(mut self, digest: &str) -> Self {
        self.details.push((VERTEX, object(&[("digest", text(digest))])));
        self
    }

    /// As a message that is part of others.
    pub fn to_proto(&self) -> Proto {
        let details = self.details.iter();
        let detail = |(kind, json): &(&str, String)| Any {
            type_url: (*kind).to_owned(),
            value: json.clone().into_bytes(),
        };
        Proto {
            code: self.code.into(),
            message: self.message.clone(),
            details: details.map(detail).collect(),
        }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        status_of(&failure.to_proto())
    }
}

/// A failure that came as a message, for instance from the client that steers a build, as the answer to a call.
pub fn status_of(proto: &Proto) -> Status {
    let code = match Code::from(proto.code) {
        // A failure is none that says it is none.
        Code::Ok => Code::Unknown,
        code => code,
    };
    Status::with_details(code, proto.message.clone(), proto.encode_to_vec().into())
}

fn object(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_travel_in_the_details() {
        let position =
            Position { file: "Docker\"file".into(), text: b"FROM x\nRUN \xff\n".to_vec(), first: 2, last: 3 };
        let status = Status::from(Failure::new("it failed").at(&position).of_vertex("sha256:1"));
        assert_eq!((status.code(), status.message()), (Code::Unknown, "it failed"));
        let proto = Proto::decode(status.details()).unwrap();
        assert_eq!(proto.message, "it failed");
        let json = |place: usize| -> serde_json::Value {
            serde_json::from_slice(&proto.details[place].value).unwrap()
        };
        assert_eq!(proto.details[0].type_url, SOURCE);
        assert_eq!(json(0)["info"]["filename"], "Docker\"file");
        assert_eq!(json(0)["info"]["data"], "RlJPTSB4ClJVTiD/Cg==");
        assert_eq!(json(0)["ranges"][0]["start"]["line"], 2);
        assert_eq!(json(0)["ranges"][0]["end"]["line"], 3);
        assert_eq!((proto.details[1].type_url.as_str(), &json(1)["digest"]), (VERTEX, &"sha256:1".into()));
    }

    #[test]
    fn a_failure_that_says_it_is_none_is_one() {
        assert_eq!(status_of(&Proto::default()).code(), Code::Unknown);
        assert_eq!(status_of(&Failure::coded(Code::NotFound, "x").to_proto()).code(), Code::NotFound);
    }
}
