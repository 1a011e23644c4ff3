//! The body of every response that reports a failure.

use serde::{Deserialize, Serialize};

/// What went wrong, for people; the status code is for programs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorBody {
    /// One sentence in Docker's words, which some clients match.
    pub message: String,
}

impl ErrorBody {
    /// A body with that message.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_an_object_with_one_message() {
        let text = serde_json::to_string(&ErrorBody::new("No such container: zz")).expect("serialises");
        assert_eq!(text, r#"{"message":"No such container: zz"}"#);
    }
}
