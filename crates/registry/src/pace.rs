//! How fast large bodies come: a host that gives hardly anything is as good as one that gives nothing.

use crate::answer::Answer;
use crate::error::{Error, Result};
use crate::limits;
use bytes::Bytes;
use std::time::{Duration, Instant};

/// The pace of one body.
#[derive(Default)]
pub(crate) struct Pace {
    waited: Duration,
    /// Bytes that came since `waited` was last zero.
    came: u64,
}

impl Pace {
    /// The next bytes of `answer`, unless hardly any come for as long as `idle`.
    ///
    /// # Errors
    /// [`Error::Timeout`] about `what`, and what broke the connection.
    pub(crate) async fn next(
        &mut self,
        answer: &mut Answer,
        idle: Duration,
        what: &'static str,
    ) -> Result<Option<Bytes>> {
        let slow = Error::Timeout { host: answer.host(), what };
        // Only the time in here counts: who reads slowly is not to blame the host.
        let since = Instant::now();
        let Ok(chunk) = tokio::time::timeout(idle, answer.chunk()).await else { return Err(slow) };
        let chunk = chunk?;
        self.waited += since.elapsed();
        self.came += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if self.waited >= idle {
            if self.came < limits::IDLE_BYTES && chunk.is_some() {
                return Err(slow);
            }
            *self = Self::default();
        }
        Ok(chunk)
    }
}
