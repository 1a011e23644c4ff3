//! An operation: a method, a template of paths, parameters and answers.

use serde_json::Value;
use std::collections::BTreeMap;

/// Areas whose names may have slashes in them: a link of the container `a` to another may be called `a/b`.
const NAMES_WITH_SLASHES: [&str; 4] = ["containers", "images", "distribution", "plugins"];

/// A method at a template of paths.
#[derive(Debug)]
pub struct Operation {
    name: String,
    method: String,
    segments: Vec<String>,
    parameters: Vec<Value>,
    responses: BTreeMap<u16, Value>,
}

impl Operation {
    pub(super) fn new(name: &str, node: &Value) -> Self {
        let (method, template) = name.split_once(' ').unwrap();
        let responses = node["responses"].as_object().unwrap();
        Self {
            name: name.to_owned(),
            method: method.to_owned(),
            segments: template.split('/').skip(1).map(str::to_owned).collect(),
            parameters: node["parameters"].as_array().unwrap().clone(),
            responses: responses
                .iter()
                .map(|(status, schema)| (status.parse().unwrap(), schema.clone()))
                .collect(),
        }
    }

    /// `GET /containers/{id}/json`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The method.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The template, in parts.
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// The parameters, as OpenAPI has them.
    pub fn parameters(&self) -> &[Value] {
        &self.parameters
    }

    /// The schema of an answer with this status, null where it has no document; nothing for a status it does not have.
    pub fn response(&self, status: u16) -> Option<&Value> {
        self.responses.get(&status)
    }

    /// The definition of the documents of which the answer is a stream.
    pub fn streams(&self) -> Option<&'static str> {
        Some(match self.name.as_str() {
            "GET /events" => "EventMessage",
            "GET /containers/{id}/stats" => "ContainerStatsResponse",
            "POST /build" => "BuildInfo",
            "POST /images/create" | "POST /images/load" | "POST /plugins/pull" => "CreateImageInfo",
            "POST /images/{name}/push" | "POST /plugins/{name}/push" => "PushImageInfo",
            _ => return None,
        })
    }

    pub(super) fn fits(&self, method: &str, path: &[&str]) -> bool {
        method == self.method && fits(&self.segments, path)
    }

    pub(super) fn literals(&self) -> usize {
        self.segments.iter().filter(|segment| !segment.starts_with('{')).count()
    }
}

fn fits(segments: &[String], path: &[&str]) -> bool {
    let greedy = segments.first().is_some_and(|area| NAMES_WITH_SLASHES.contains(&area.as_str()));
    let Some(at) = segments.iter().position(|segment| segment.starts_with('{')).filter(|_| greedy) else {
        return segments.len() == path.len()
            && segments.iter().zip(path).all(|(segment, part)| segment.starts_with('{') || segment == part);
    };
    let (before, after) = (&segments[..at], &segments[at + 1..]);
    path.len() > before.len() + after.len()
        && before.iter().zip(path).all(|(segment, part)| segment == part)
        && after.iter().rev().zip(path.iter().rev()).all(|(segment, part)| segment == part)
}
