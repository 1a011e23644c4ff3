//! `GET /containers/{id}/stats`: one sample, one beside the second before it, or one each second.

use crate::answer::{self, Answer};
use crate::convert;
use crate::error::Failure;
use crate::server::{Call, Context};
use bytes::Bytes;
use coracle_api::container as api;
use coracle_engine::containers::stats::Sample;
use futures_util::stream;
use std::sync::Arc;
use std::time::Duration;

/// Time between two samples.
const PERIOD: Duration = Duration::from_secs(1);

/// The samples of one container, one after the other.
struct Series {
    context: Arc<Context>,
    /// The container's id, which stays when it is renamed.
    id: String,
    before: Option<Sample>,
    clock: tokio::time::Interval,
}

impl Series {
    async fn next(&mut self) -> Result<api::Stats, Failure> {
        self.clock.tick().await;
        let container = self.context.engine.inspect(&self.id)?;
        let now = self.context.engine.sample(&self.id).await?;
        let shown = convert::stats::sample(&container, now.as_ref(), self.before.as_ref());
        self.before = now;
        Ok(shown)
    }

    async fn next_line(&mut self) -> Option<Bytes> {
        // A container that is gone ends the series, as for Docker.
        let mut line = serde_json::to_vec(&self.next().await.ok()?).ok()?;
        line.push(b'\n');
        Some(line.into())
    }
}

pub(super) async fn stats(call: &Call, name: &str) -> Answer {
    let container = call.engine().inspect(name)?;
    let mut clock = tokio::time::interval(PERIOD);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let context = Arc::clone(&call.context);
    let mut series = Series { context, id: container.id.to_string(), before: None, clock };
    if call.query.is_on_or_absent("stream") {
        let lines = stream::unfold(series, |mut series| async move {
            series.next_line().await.map(|line| (Ok(line), series))
        });
        return Ok(answer::stream("application/json", lines));
    }
    let first = series.next().await?;
    if call.query.is_on("one-shot") || !container.state.status.is_up() {
        return answer::ok(&first);
    }
    answer::ok(&series.next().await?)
}
