//! From what the engine refuses to what a client hears: the one place where errors become status codes.

use coracle_api::ErrorBody;
use coracle_engine::Error;
use hyper::StatusCode;

/// An answer that reports a failure.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Why an exec has no process, in Docker's words.
    pub(crate) fn no_exec(reason: &str) -> Self {
        let text = format!(
            "OCI runtime exec failed: exec failed: unable to start container process: {reason}: unknown"
        );
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// What another OCI runtime has told, in Docker's words.
    pub(crate) fn told(verb: &str, text: &str) -> String {
        format!("OCI runtime {verb} failed: {text}: unknown")
    }

    /// The body as Docker has it.
    pub(crate) fn body(&self) -> Vec<u8> {
        serde_json::to_vec(&ErrorBody::new(self.message.clone())).unwrap_or_default()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::NotFound { .. } | Error::Ambiguous { .. } | Error::Missing(_) | Error::NoFile { .. } => {
                StatusCode::NOT_FOUND
            }
            Error::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Error::ReadOnly(_) | Error::Forbidden(_) => StatusCode::FORBIDDEN,
            Error::Conflict(_) => StatusCode::CONFLICT,
            Error::Invalid(_) => StatusCode::BAD_REQUEST,
            Error::NotModified(_) => StatusCode::NOT_MODIFIED,
            Error::Unsupported(_) => StatusCode::NOT_IMPLEMENTED,
            Error::Start { code: 126 | 127, .. } => StatusCode::BAD_REQUEST,
            Error::Start { .. } | Error::Failed { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED {
            tracing::error!(error = error.chain(), "a request failed");
        }
        let message = match &error {
            // Clients derive their exit code from these words: Docker's own begin so.
            Error::Start { text, verb: None, .. } => format!(
                "failed to create task for container: failed to create shim task: OCI runtime create failed: \
                 unable to start container process: {text}: unknown"
            ),
            Error::Start { text, verb: Some(verb), .. } => format!(
                "failed to create task for container: failed to create shim task: {}",
                Self::told(verb, text)
            ),
            Error::NotFound { kind: "network", name } => format!("network {name} not found"),
            _ => error.chain(),
        };
        Self { status, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_dockers_status() {
        for (error, status) in [
            (Error::no_container("x"), 404),
            (Error::Ambiguous { prefix: "a".into() }, 404),
            (Error::Missing("manifest unknown".into()), 404),
            (Error::Unauthorized("wrong password".into()), 401),
            (Error::NoFile { path: "/x".into(), container: "c".into() }, 404),
            (Error::ReadOnly("container rootfs is marked read-only".into()), 403),
            (Error::Forbidden("in use".into()), 403),
            (Error::Conflict("taken".into()), 409),
            (Error::Invalid("no".into()), 400),
            (Error::NotModified("so".into()), 304),
            (Error::Unsupported("not here".into()), 501),
            (
                Error::Start { code: 127, text: "exec: \"x\": no such file or directory".into(), verb: None },
                400,
            ),
            (Error::Start { code: 128, text: "mount".into(), verb: None }, 500),
        ] {
            assert_eq!(Failure::from(error).status.as_u16(), status);
        }
    }

    #[test]
    fn a_missing_program_has_the_words_that_the_docker_command_looks_for() {
        let error = Error::Start {
            code: 127,
            text: "exec: \"x\": executable file not found in $PATH".into(),
            verb: None,
        };
        assert!(Failure::from(error).message.contains("executable file not found"));
    }
}
