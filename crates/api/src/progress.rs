//! The messages of `/images/create`, `/images/load`, `/images/{name}/push` and `/build`: one JSON object per line.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One line of progress. A failure after the first byte of the response arrives as [`Self::error`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressMessage {
    /// Output to be printed as it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    /// What is going on, for instance `Downloading`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// How far it is.
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    /// A bar drawn by the daemon, for clients older than `progressDetail`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub progress: String,
    /// What it is about, usually a short layer id; lines with the same id replace each other on a terminal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The failure with its code.
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    /// The failure's text once more, for older clients.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Results for programs: a pushed digest, a built image id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<Value>,
}

/// How far a transfer is, in bytes unless `units` says otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    /// Done so far.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub current: i64,
    /// To be done in all; zero when unknown.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub total: i64,
    /// Unix time of the beginning, in seconds.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub start: i64,
    /// Draw the bar without numbers.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub hidecounts: bool,
    /// The unit of the numbers; empty for bytes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub units: String,
}

/// A failure within a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    /// HTTP status, or exit code of a build step; zero when there is none.
    #[serde(skip_serializing_if = "crate::is_zero")]
    pub code: i64,
    /// One sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl ProgressMessage {
    /// A line that says `status` about `id`.
    pub fn status(id: impl Into<String>, status: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            status: status.into(),
            progress_detail: Some(ProgressDetail::default()),
            ..Self::default()
        }
    }

    /// A line of output; `text` carries its own newline.
    pub fn stream(text: impl Into<String>) -> Self {
        Self { stream: text.into(), ..Self::default() }
    }

    /// The last line of a stream that failed.
    pub fn failure(message: impl Into<String>) -> Self {
        let message = message.into();
        let error_detail = Some(ErrorDetail { code: 0, message: message.clone() });
        Self { error_detail, error: message, ..Self::default() }
    }

    /// The failure's text, if this line reports one.
    #[must_use]
    pub fn failure_text(&self) -> Option<&str> {
        let detail = self.error_detail.as_ref().map(|detail| detail.message.as_str());
        detail.filter(|text| !text.is_empty()).or((!self.error.is_empty()).then_some(self.error.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(message: &ProgressMessage) -> String {
        serde_json::to_string(message).expect("serialises")
    }

    #[test]
    fn lines_look_as_docker_writes_them() {
        let waiting = ProgressMessage::status("4abcf2066143", "Pulling fs layer");
        assert_eq!(
            json(&waiting),
            r#"{"status":"Pulling fs layer","progressDetail":{},"id":"4abcf2066143"}"#
        );
        assert_eq!(json(&ProgressMessage::stream("Step 1\n")), r#"{"stream":"Step 1\n"}"#);
        assert_eq!(
            json(&ProgressMessage::failure("no space")),
            r#"{"errorDetail":{"message":"no space"},"error":"no space"}"#
        );
    }

    #[test]
    fn a_failure_is_found_in_either_place() {
        for text in [r#"{"error":"x"}"#, r#"{"errorDetail":{"code":1,"message":"x"}}"#] {
            let message: ProgressMessage = crate::from_slice(text.as_bytes()).expect("parses");
            assert_eq!(message.failure_text(), Some("x"), "{text}");
        }
        assert_eq!(ProgressMessage::stream("x").failure_text(), None);
    }
}
