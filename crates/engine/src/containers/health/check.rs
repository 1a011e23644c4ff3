//! What a container is asked, how often, and what counts: a health check with Docker's defaults filled in. Pure.

use super::action::OnUnhealthy;
use super::native::Target;
use crate::containers::settings::Settings;
use crate::error::{Error, Result};
use coracle_spec::image::Healthcheck;
use std::time::Duration;

/// Docker's pause between two questions, and the longest that one may take.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
/// Docker's pause between two questions in the start period.
const START_INTERVAL: Duration = Duration::from_secs(5);
/// Docker's number of failures in a row.
const RETRIES: u32 = 3;
/// The shortest duration that Docker accepts, in nanoseconds.
const SHORTEST: i64 = 1_000_000;
/// The shell of an image that names none.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// A health check that is carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Check {
    pub(super) test: Test,
    /// Between the end of one probe and the begin of the next one.
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    /// For how long after the start failures do not count.
    pub(super) start_period: Duration,
    /// The interval in the start period, until the first success.
    pub(super) start_interval: Duration,
    /// Failures in a row that make it unhealthy.
    pub(super) retries: u32,
}

/// What is done to find out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// This is run in the container.
    Command(Vec<String>),
    /// The engine itself connects to this, in the container's network.
    Native(Target),
}

impl Check {
    /// The check that these settings ask for; `None` without any, and for a kind that Docker does not know either.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a URL that cannot be asked, and for `CMD` without a command.
    pub(super) fn of(settings: &Settings) -> Result<Option<Self>> {
        let Some(asked) = &settings.healthcheck else { return Ok(None) };
        let Some((kind, words)) = asked.test.split_first() else { return Ok(None) };
        let test = match (kind.as_str(), words) {
            ("CMD", []) => {
                return Err(Error::Invalid("Healthcheck of kind CMD has no command".to_owned()));
            }
            ("CMD" | "CMD-SHELL", [only]) if Target::is_meant(only) => Test::Native(only.parse()?),
            ("CMD", words) => Test::Command(words.to_vec()),
            ("CMD-SHELL", words) => {
                Test::Command(shell(settings).into_iter().chain(words.iter().cloned()).collect())
            }
            _ => return Ok(None),
        };
        Ok(Some(Self {
            test,
            interval: or(asked.interval, INTERVAL),
            timeout: or(asked.timeout, TIMEOUT),
            start_period: or(asked.start_period, Duration::ZERO),
            start_interval: or(asked.start_interval, START_INTERVAL),
            retries: u32::try_from(asked.retries).ok().filter(|retries| *retries > 0).unwrap_or(RETRIES),
        }))
    }
}

fn shell(settings: &Settings) -> Vec<String> {
    match settings.shell.as_deref() {
        Some(shell) if !shell.is_empty() => shell.to_vec(),
        _ => SHELL.map(str::to_owned).to_vec(),
    }
}

/// A duration in nanoseconds, of which 0 is the default.
fn or(nanoseconds: i64, default: Duration) -> Duration {
    u64::try_from(nanoseconds).ok().filter(|given| *given > 0).map_or(default, Duration::from_nanos)
}

/// Refuses a check that cannot be carried out. Returns what the client should know.
///
/// # Errors
/// [`Error::Invalid`], in Docker's words where Docker refuses it too.
pub(crate) fn validate(settings: &Settings) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    if let Some(asked) = &settings.healthcheck {
        refuse_numbers(asked)?;
    }
    let check = Check::of(settings)?;
    if let Some(kind) = unknown_kind(settings) {
        warnings.push(format!(
            "The health check of this container is not run: its kind is {kind:?}, and there are CMD, CMD-SHELL and NONE."
        ));
    }
    if OnUnhealthy::of(settings)?.is_some() && check.is_none() {
        warnings.push(
            "Nothing finds out whether this container is unhealthy, and nothing is done about it: it has no health check."
                .to_owned(),
        );
    }
    Ok(warnings)
}

fn refuse_numbers(asked: &Healthcheck) -> Result<()> {
    let durations = [
        ("Interval", asked.interval),
        ("Timeout", asked.timeout),
        ("StartPeriod", asked.start_period),
        ("StartInterval", asked.start_interval),
    ];
    if let Some((name, _)) = durations.into_iter().find(|(_, given)| *given != 0 && *given < SHORTEST) {
        return Err(Error::Invalid(format!("{name} in Healthcheck cannot be less than 1ms")));
    }
    if asked.retries < 0 {
        return Err(Error::Invalid("Retries in Healthcheck cannot be negative".to_owned()));
    }
    Ok(())
}

fn unknown_kind(settings: &Settings) -> Option<&str> {
    let kind = settings.healthcheck.as_ref()?.test.first()?;
    (!matches!(kind.as_str(), "CMD" | "CMD-SHELL" | "NONE")).then_some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(check: Healthcheck) -> Settings {
        Settings { healthcheck: Some(check), ..Settings::default() }
    }

    fn test_of(words: &[&str]) -> Result<Option<Test>> {
        let test = words.iter().map(ToString::to_string).collect();
        Check::of(&settings(Healthcheck { test, ..Healthcheck::default() }))
            .map(|check| check.map(|c| c.test))
    }

    fn command(words: &[&str]) -> Option<Test> {
        Some(Test::Command(words.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn what_is_left_open_is_docker_s_default() {
        let test = vec!["CMD".to_owned(), "x".to_owned()];
        let check = Check::of(&settings(Healthcheck { test, ..Healthcheck::default() })).unwrap().unwrap();
        assert_eq!((check.interval, check.timeout), (Duration::from_secs(30), Duration::from_secs(30)));
        assert_eq!((check.start_period, check.start_interval), (Duration::ZERO, Duration::from_secs(5)));
        assert_eq!(check.retries, 3);
    }

    #[test]
    fn a_test_is_a_command_a_line_for_the_shell_or_a_url() {
        assert_eq!(test_of(&["CMD", "a", "b"]).unwrap(), command(&["a", "b"]));
        assert_eq!(test_of(&["CMD-SHELL", "a b"]).unwrap(), command(&["/bin/sh", "-c", "a b"]));
        assert!(matches!(test_of(&["CMD", "tcp://:80"]).unwrap(), Some(Test::Native(_))));
        assert!(matches!(test_of(&["CMD-SHELL", "http://:80/x"]).unwrap(), Some(Test::Native(_))));
        let line = "http://:80/x || exit 1";
        assert_eq!(test_of(&["CMD-SHELL", line]).unwrap(), command(&["/bin/sh", "-c", line]));
        assert_eq!(test_of(&["CMD", "tcp://:80", "x"]).unwrap(), command(&["tcp://:80", "x"]));
        for nothing in [&["NONE"][..], &[], &["PING", "x"], &[""]] {
            assert_eq!(test_of(nothing).unwrap(), None, "{nothing:?}");
        }
        assert!(test_of(&["CMD"]).is_err());
        assert!(test_of(&["CMD", "http://name/"]).is_err());
    }

    #[test]
    fn the_image_s_shell_runs_the_line() {
        let shell = Some(vec!["/bin/bash".to_owned(), "-ec".to_owned()]);
        let test = vec!["CMD-SHELL".to_owned(), "x".to_owned()];
        let check = Some(Healthcheck { test, ..Healthcheck::default() });
        let check =
            Check::of(&Settings { healthcheck: check, shell, ..Settings::default() }).unwrap().unwrap();
        assert_eq!(Some(check.test), command(&["/bin/bash", "-ec", "x"]));
    }

    #[test]
    fn numbers_are_refused_in_docker_s_words_whatever_the_test_is() {
        let none = Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() };
        for (check, text) in [
            (
                Healthcheck { interval: 999_999, ..none.clone() },
                "Interval in Healthcheck cannot be less than 1ms",
            ),
            (Healthcheck { timeout: -1, ..none.clone() }, "Timeout in Healthcheck cannot be less than 1ms"),
            (
                Healthcheck { start_period: 1, ..none.clone() },
                "StartPeriod in Healthcheck cannot be less than 1ms",
            ),
            (
                Healthcheck { start_interval: 1, ..none.clone() },
                "StartInterval in Healthcheck cannot be less than 1ms",
            ),
            (Healthcheck { retries: -1, ..none.clone() }, "Retries in Healthcheck cannot be negative"),
        ] {
            assert_eq!(validate(&settings(check)).unwrap_err().to_string(), text);
        }
        assert_eq!(validate(&settings(none)).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_check_that_nobody_knows_is_said_to_be_none() {
        let test = vec!["PING".to_owned()];
        let warnings = validate(&settings(Healthcheck { test, ..Healthcheck::default() })).unwrap();
        assert!(warnings[0].contains("\"PING\""), "{warnings:?}");
    }
}
