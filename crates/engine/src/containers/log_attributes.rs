//! What each line of a log is marked with: labels and variables of the container, and a tag. Pure.

use super::{Description, logs};
use crate::error::{Error, Result};
use regex_automata::nfa::thompson::pikevm::PikeVM;
use std::collections::BTreeMap;

/// The options of a log that say what its lines are marked with.
pub(crate) const OPTIONS: [&str; 5] = ["env", "env-regex", "labels", "labels-regex", "tag"];

/// Most bytes that the marks of a line have, as they stand in the file.
const MOST: usize = coracle_logfile::ATTRIBUTES;

/// Whether the value of an option makes sense.
///
/// # Errors
/// Why it does not.
pub(super) fn check(option: &str, value: &str) -> std::result::Result<(), String> {
    match option {
        "env-regex" | "labels-regex" => pattern(value).map(drop),
        "tag" => tag(value, |field| FIELDS.contains(&field).then(String::new)).map(drop),
        _ => Ok(()),
    }
}

/// What the lines of a container's log are marked with, as a JSON document; empty for nothing.
///
/// # Errors
/// [`Error::Invalid`] for an option that makes no sense, and where it comes to too much.
pub(super) fn of(container: &Description, options: &BTreeMap<String, String>) -> Result<String> {
    let mut marks = BTreeMap::new();
    let settings = &container.settings;
    let labels: Vec<(&str, &str)> =
        settings.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let variables: Vec<(&str, &str)> =
        settings.env.iter().filter_map(|entry| entry.split_once('=')).collect();
    for (all, named, matching) in [(&labels, "labels", "labels-regex"), (&variables, "env", "env-regex")] {
        let names: Vec<&str> = options.get(named).map(|names| names.split(',').collect()).unwrap_or_default();
        marks.extend(all.iter().filter(|(key, _)| names.contains(key)).copied());
        if let Some(text) = options.get(matching).filter(|text| !text.is_empty()) {
            let pattern = pattern(text).map_err(|reason| logs::invalid(matching, text, &reason))?;
            let mut cache = pattern.create_cache();
            marks.extend(all.iter().filter(|(key, _)| pattern.is_match(&mut cache, *key)).copied());
        }
    }
    let text = options.get("tag").map(String::as_str).unwrap_or_default();
    let tag =
        tag(text, |field| fact(container, field)).map_err(|reason| logs::invalid("tag", text, &reason))?;
    if !tag.is_empty() {
        marks.insert("tag", &tag);
    }
    if marks.is_empty() {
        return Ok(String::new());
    }
    let document = serde_json::to_string(&marks).expect("texts have a document");
    if document.len() > MOST {
        let length = document.len();
        return Err(Error::Invalid(format!(
            "the labels and variables in each line of the log come to {length} bytes, and may have {MOST}"
        )));
    }
    Ok(document)
}

/// Go's expressions are these but for what hardly anybody writes, and both are matched in linear time.
fn pattern(text: &str) -> std::result::Result<PikeVM, String> {
    PikeVM::new(text).map_err(|error| format!("it is no regular expression: {error}"))
}

/// Fills in the fields of a template.
fn tag(template: &str, fact: impl Fn(&str) -> Option<String>) -> std::result::Result<String, String> {
    let (mut rest, mut tag) = (template, String::new());
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, after) = after.split_once("}}").ok_or("an action has no end")?;
        let value = action.trim().strip_prefix('.').and_then(&fact);
        let known = FIELDS.map(|field| format!("{{{{.{field}}}}}")).join(" ");
        tag.push_str(before);
        tag.push_str(&value.ok_or_else(|| format!("{{{{{action}}}}} is not supported: use {known}"))?);
        rest = after;
    }
    tag.push_str(rest);
    Ok(tag)
}

/// What a tag can have.
const FIELDS: [&str; 12] = [
    "ID",
    "FullID",
    "Name",
    "ImageID",
    "ImageFullID",
    "ImageName",
    "DaemonName",
    "Command",
    "ContainerID",
    "ContainerName",
    "ContainerImageID",
    "ContainerImageName",
];

/// What Docker calls by a field.
fn fact(container: &Description, field: &str) -> Option<String> {
    let image = container.image.to_string();
    Some(match field {
        "ID" => container.id.short().to_owned(),
        "FullID" | "ContainerID" => container.id.to_string(),
        "Name" => container.name.to_string(),
        "ContainerName" => format!("/{}", container.name),
        // With the algorithm, as there.
        "ImageID" => image.chars().take(12).collect(),
        "ImageFullID" | "ContainerImageID" => image,
        "ImageName" | "ContainerImageName" => container.settings.image.clone(),
        "DaemonName" => "docker".to_owned(),
        "Command" => {
            let words =
                [&container.settings.entrypoint, &container.settings.cmd].into_iter().flatten().flatten();
            words.map(String::as_str).collect::<Vec<_>>().join(" ")
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_has_the_fields_that_it_names_and_no_others() {
        let filled =
            |template: &str| tag(template, |field| FIELDS.contains(&field).then(|| field.to_lowercase()));
        assert_eq!(filled("").unwrap(), "");
        assert_eq!(filled("a {{.ID}}/{{ .ImageName }} b").unwrap(), "a id/imagename b");
        for wrong in ["{{.Nothing}}", "{{.ID", "{{ID}}", "{{json .}}"] {
            filled(wrong).unwrap_err();
        }
        check("tag", "{{.DaemonName}}").unwrap();
        assert!(check("tag", "{{.Nothing}}").unwrap_err().contains("use {{.ID}}"));
    }

    #[test]
    fn patterns_are_searched_for_and_those_that_are_none_refused() {
        check("labels-regex", "^(a|b)\\w+$").unwrap();
        check("env-regex", "(").unwrap_err();
        let pattern = pattern("b.d").unwrap();
        let mut cache = pattern.create_cache();
        assert!(pattern.is_match(&mut cache, "abcde") && !pattern.is_match(&mut cache, "abde"));
    }
}
