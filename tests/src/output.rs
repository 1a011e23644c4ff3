//! What a command printed and how it ended.

use serde_json::Value;

/// The result of a command.
#[derive(Debug)]
pub struct Output {
    /// The command, for messages.
    pub command: String,
    /// The exit code; 128 + signal when it was killed.
    pub code: i32,
    /// What it printed.
    pub stdout: String,
    /// What it complained.
    pub stderr: String,
}

impl Output {
    /// Takes what the standard library returns.
    pub fn new(command: String, output: &std::process::Output) -> Self {
        use std::os::unix::process::ExitStatusExt;
        let code = output.status.code().or_else(|| output.status.signal().map(|s| 128 + s)).unwrap_or(-1);
        Self {
            command,
            code,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The output of a command that must succeed, without the last newline.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{} failed: {}{}", self.command, self.stdout, self.stderr);
        self.stdout.trim_end_matches('\n').to_owned()
    }

    /// The same, as JSON.
    #[track_caller]
    pub fn json(self) -> Value {
        let command = self.command.clone();
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{command}: {error}: {text}"))
    }

    /// The complaint of a command that must end with `code`.
    #[track_caller]
    pub fn fails_with(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}: {}{}", self.command, self.stdout, self.stderr);
        self.stderr
    }

    /// Checks that the command ended with `code` and complained of `text`.
    #[track_caller]
    pub fn refused(self, code: i32, text: &str) {
        let command = self.command.clone();
        let stderr = self.fails_with(code);
        assert!(
            stderr.to_lowercase().contains(&text.to_lowercase()),
            "{command}: {stderr:?} does not say {text:?}"
        );
    }
}
