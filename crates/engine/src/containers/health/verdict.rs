//! What follows from an answer, and when to ask again. Pure: no clock, no IO.

use super::check::Check;
use super::{Health, Probe, Status};
use std::time::Duration;
use time::OffsetDateTime;

/// Most answers that are kept.
const LOG: usize = 5;

/// What an answer has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The state, if it is another one now.
    pub(super) became: Option<Status>,
    /// Whether more than the log has changed.
    pub(super) counts: bool,
    /// Whether so many checks have failed in a row that something is to be done about it.
    pub(super) has_failed: bool,
}

impl Health {
    /// Takes note of an answer of a container that was started at `started`.
    pub(super) fn note(&mut self, probe: Probe, check: &Check, started: OffsetDateTime) -> Verdict {
        let before = (self.status, self.failing_streak);
        if probe.exit_code == 0 {
            self.failing_streak = 0;
            self.status = Status::Healthy;
        } else if self.status != Status::Starting || probe.start - started >= check.start_period {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= check.retries {
                self.status = Status::Unhealthy;
            }
        }
        let superfluous = (self.log.len() + 1).saturating_sub(LOG);
        self.log.drain(..superfluous);
        self.log.push(probe);
        Verdict {
            became: (self.status != before.0).then_some(self.status),
            counts: (self.status, self.failing_streak) != before,
            has_failed: self.failing_streak >= check.retries,
        }
    }

    /// How long to wait before the next question, `age` after the start.
    pub(super) fn pause(&self, check: &Check, age: Duration) -> Duration {
        match self.status {
            Status::Starting if age < check.start_period => check.start_interval,
            _ => check.interval,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Test;
    use super::*;

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn check(start_period: u64, retries: u32) -> Check {
        Check {
            test: Test::Command(Vec::new()),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            start_period: Duration::from_secs(start_period),
            start_interval: Duration::from_secs(5),
            retries,
        }
    }

    /// An answer, so many seconds after the start.
    fn answer(second: u64, exit_code: i32) -> Probe {
        let start = START + Duration::from_secs(second);
        Probe { start, end: start, exit_code, output: String::new() }
    }

    /// State and streak after each answer, of which there is one in a second.
    fn course(check: &Check, codes: &[i32]) -> Vec<(Status, u32)> {
        let mut health = Health::default();
        let each = codes.iter().zip(1..).map(|(code, second)| {
            health.note(answer(second, *code), check, START);
            (health.status, health.failing_streak)
        });
        each.collect()
    }

    #[test]
    fn one_success_makes_healthy_and_so_many_failures_in_a_row_unhealthy() {
        use Status::{Healthy, Starting, Unhealthy};
        let after = course(&check(0, 2), &[1, 0, 1, 0, 1, -1, 7, 0]);
        let expected = [
            (Starting, 1),
            (Healthy, 0),
            (Healthy, 1),
            (Healthy, 0),
            (Healthy, 1),
            (Unhealthy, 2),
            (Unhealthy, 3),
            (Healthy, 0),
        ];
        assert_eq!(after, expected);
    }

    #[test]
    fn failures_in_the_start_period_count_once_it_has_worked() {
        use Status::{Healthy, Starting, Unhealthy};
        assert_eq!(
            course(&check(3, 2), &[1, 1, 1, 1]),
            [(Starting, 0), (Starting, 0), (Starting, 1), (Unhealthy, 2)]
        );
        assert_eq!(course(&check(10, 1), &[1, 0, 1]), [(Starting, 0), (Healthy, 0), (Unhealthy, 1)]);
    }

    #[test]
    fn a_verdict_says_what_is_new() {
        let (check, mut health) = (check(0, 2), Health::default());
        let mut note = |second, code| health.note(answer(second, code), &check, START);
        let verdict = |became, counts, has_failed| Verdict { became, counts, has_failed };
        assert_eq!(note(1, 0), verdict(Some(Status::Healthy), true, false));
        assert_eq!(note(2, 0), verdict(None, false, false));
        assert_eq!(note(3, 1), verdict(None, true, false));
        assert_eq!(note(4, 1), verdict(Some(Status::Unhealthy), true, true));
        // Also when it could not be done at once.
        assert_eq!(note(5, 1), verdict(None, true, true));
    }

    #[test]
    fn what_is_only_shown_as_unhealthy_has_not_failed() {
        let mut health = Health { status: Status::Unhealthy, ..Health::default() };
        let verdict = health.note(answer(1, 1), &check(0, 2), START);
        assert_eq!((verdict.became, verdict.has_failed), (None, false));
    }

    #[test]
    fn five_answers_are_kept() {
        let mut health = Health::default();
        for second in 1..=7 {
            health.note(answer(second, 0), &check(0, 3), START);
        }
        let seconds: Vec<i64> = health.log.iter().map(|probe| probe.start.unix_timestamp()).collect();
        assert_eq!(seconds, [3, 4, 5, 6, 7]);
    }

    #[test]
    fn questions_come_sooner_in_the_start_period_until_one_succeeds() {
        let check = check(60, 3);
        let pause = |status, age| {
            let health = Health { status, ..Health::default() };
            health.pause(&check, Duration::from_secs(age)).as_secs()
        };
        assert_eq!(pause(Status::Starting, 1), 5);
        assert_eq!(pause(Status::Healthy, 1), 30);
        assert_eq!(pause(Status::Starting, 60), 30);
        assert_eq!(pause(Status::Unhealthy, 1), 30);
    }
}
