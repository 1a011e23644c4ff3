//! Whether and when a request is tried again. The clock is handed in.

use crate::answer::Answer;
use crate::{Error, Result, limits};
use futures_util::future::BoxFuture;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Where the time comes from, so that tests need not wait.
pub trait Clock: Send + Sync {
    /// Time that only goes forward: for the life of tokens.
    fn now(&self) -> Instant;
    /// Time of day: for dates in `Retry-After`.
    fn date(&self) -> SystemTime;
    /// Waits between tries.
    fn pause(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn date(&self) -> SystemTime {
        SystemTime::now()
    }

    fn pause(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// How patient a client is.
#[derive(Clone)]
pub struct Timing {
    /// Time for a connection, TLS included.
    pub connect: Duration,
    /// Time in which something must happen: an answer's head, or bytes of a body.
    pub idle: Duration,
    /// Time for the whole of a small answer: a manifest, a token.
    pub answer: Duration,
    /// Time for a registry to check and keep what was uploaded completely.
    pub commit: Duration,
    /// How often something is tried that brings no progress.
    pub tries: u32,
    /// All pauses between the tries of one request together.
    pub patience: Duration,
    /// The clock.
    pub clock: Arc<dyn Clock>,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            answer: Duration::from_secs(120),
            commit: Duration::from_secs(600),
            tries: 5,
            patience: Duration::from_secs(180),
            clock: Arc::new(SystemClock),
        }
    }
}

impl fmt::Debug for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timing").field("idle", &self.idle).field("tries", &self.tries).finish_non_exhaustive()
    }
}

/// The tries of one request.
pub(crate) struct Tries {
    timing: Timing,
    most: u32,
    failed: u32,
    waited: Duration,
}

/// Tries until something other than a failure of the moment comes, or patience ends.
pub(crate) async fn persist<A, F>(mut tries: Tries, mut attempt: A) -> Result<Answer>
where
    A: FnMut() -> F,
    F: Future<Output = Result<Answer>>,
{
    let clock = Arc::clone(&tries.timing.clock);
    loop {
        let result = attempt().await;
        let outlook = match &result {
            Ok(answer) => Outlook::of_status(answer.status(), answer.retry_after(clock.date())),
            Err(error) => Some(Outlook::of(error)),
        };
        let Some(pause) = outlook.and_then(|outlook| tries.pause(outlook)) else { return result };
        // Its connection must not stay open meanwhile.
        drop(result);
        clock.pause(pause).await;
    }
}

/// What a failed try says about the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// The same would happen again.
    Hopeless,
    /// It may work the next time.
    Hopeful,
    /// No connection could be made.
    Unreachable,
    /// It may work after a while that the host named.
    After(Duration),
}

impl Tries {
    /// At most as many tries as `timing` has.
    pub(crate) fn new(timing: &Timing) -> Self {
        Self { timing: timing.clone(), most: timing.tries, failed: 0, waited: Duration::ZERO }
    }

    /// One try: there is another host to ask.
    pub(crate) fn single(timing: &Timing) -> Self {
        Self { most: 1, ..Self::new(timing) }
    }

    /// Forgets failures: something was achieved since.
    pub(crate) fn progress(&mut self) {
        self.failed = 0;
        self.waited = Duration::ZERO;
    }

    /// The pause to take before the next try; `None` if there is none.
    pub(crate) fn pause(&mut self, outlook: Outlook) -> Option<Duration> {
        self.failed += 1;
        let most = match outlook {
            Outlook::Hopeless => 0,
            Outlook::Unreachable => self.most.min(limits::CONNECT_TRIES),
            Outlook::Hopeful | Outlook::After(_) => self.most,
        };
        if self.failed >= most {
            return None;
        }
        let pause = match outlook {
            Outlook::After(asked) if asked > limits::RETRY_AFTER => return None,
            Outlook::After(asked) => asked.max(jittered(limits::BACK_OFF)),
            _ => jittered(doubled(self.failed)),
        };
        self.waited += pause;
        (self.waited <= self.timing.patience).then_some(pause)
    }
}

/// The pause after so many failures, in full.
fn doubled(failed: u32) -> Duration {
    let factor = 1_u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX);
    limits::BACK_OFF.saturating_mul(factor).min(limits::BACK_OFF_MOST)
}

/// Between half of a pause and all of it, so that many clients do not come back at once.
fn jittered(pause: Duration) -> Duration {
    // The standard library seeds every `RandomState` anew; this needs no better randomness.
    let random = RandomState::new().build_hasher().finish();
    let half = pause / 2;
    let span = u64::try_from(half.as_millis()).expect("pauses are below 30 s").max(1);
    half + Duration::from_millis(random % (span + 1))
}

/// Reads `Retry-After`: seconds, or a date.
pub(crate) fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

impl Outlook {
    /// What an error says about the next try.
    pub(crate) fn of(error: &Error) -> Self {
        match error {
            Error::Timeout { .. } => Self::Hopeful,
            Error::Transport { source, .. } if is_certificate(source) => Self::Hopeless,
            Error::Transport { source, .. } if source.is_builder() => Self::Hopeless,
            Error::Transport { source, .. } if source.is_connect() => Self::Unreachable,
            Error::Transport { .. } => Self::Hopeful,
            _ => Self::Hopeless,
        }
    }

    /// What a status says about the next try; `None` if it is no failure of the moment.
    pub(crate) fn of_status(status: u16, retry_after: Option<Duration>) -> Option<Self> {
        match status {
            429 | 503 => Some(retry_after.map_or(Self::Hopeful, Self::After)),
            408 | 500 | 502 | 504 => Some(Self::Hopeful),
            _ => None,
        }
    }
}

/// Whether a connection failed because the other side is not whom we trust.
fn is_certificate(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let tls = error.downcast_ref::<rustls::Error>().or_else(|| {
            let inner = error.downcast_ref::<std::io::Error>()?.get_ref()?;
            inner.downcast_ref::<rustls::Error>()
        });
        if let Some(rustls::Error::InvalidCertificate(_)) = tls {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let seconds = |count| Some(Duration::from_secs(count));
        for (text, expected) in [
            ("0", seconds(0)),
            (" 7 ", seconds(7)),
            ("1000000000", seconds(1_000_000_000)),
            ("99999999999999999999999", seconds(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", seconds(10)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", seconds(0)),
            ("-1", None),
            ("", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after(text, now), expected, "{text:?}");
        }
    }

    #[test]
    fn pauses_double_within_bounds_and_end() {
        let timing = Timing { tries: 9, patience: Duration::from_secs(600), ..Timing::default() };
        let mut tries = Tries::new(&timing);
        let mut full = limits::BACK_OFF;
        for _ in 1..9 {
            let pause = tries.pause(Outlook::Hopeful).unwrap();
            assert!(pause >= full / 2 && pause <= full, "{pause:?} of {full:?}");
            full = (full * 2).min(limits::BACK_OFF_MOST);
        }
        assert_eq!(tries.pause(Outlook::Hopeful), None);
    }

    #[test]
    fn what_cannot_work_is_not_tried_again() {
        let timing = Timing::default();
        assert_eq!(Tries::new(&timing).pause(Outlook::Hopeless), None);
        assert_eq!(Tries::single(&timing).pause(Outlook::Hopeful), None);
        let mut tries = Tries::new(&timing);
        assert!(tries.pause(Outlook::Unreachable).is_some());
        assert_eq!(tries.pause(Outlook::Unreachable), None);
        let too_long = Outlook::After(limits::RETRY_AFTER + Duration::from_secs(1));
        assert_eq!(Tries::new(&timing).pause(too_long), None);
        let impatient = Timing { patience: Duration::from_secs(30), ..Timing::default() };
        let mut tries = Tries::new(&impatient);
        let asked = Outlook::After(Duration::from_secs(20));
        assert!(tries.pause(asked).is_some());
        assert_eq!(tries.pause(asked), None);
    }

    #[test]
    fn statuses_of_the_moment_are_tried_again_and_others_are_not() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(Outlook::of_status(status, None).is_some(), "{status}");
        }
        for status in [200, 400, 401, 403, 404, 416, 501, 505] {
            assert_eq!(Outlook::of_status(status, None), None, "{status}");
        }
    }
}
