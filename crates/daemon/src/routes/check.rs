//! `POST /coracle/system/check`: an endpoint of our own, outside the paths that Docker has or may get.

use crate::answer::{self, Answer};
use crate::server::Call;
use bytes::Bytes;
use coracle_api::system as api;
use coracle_engine::images::{CheckStep, Checked, Finding, Images, Inspected, OnDamage};
use futures_util::{FutureExt, StreamExt, stream};
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Streams what is found. A client that goes ends the check.
pub(super) fn check(call: &Call) -> Answer {
    let action = if call.query.is_on("quarantine") { OnDamage::Quarantine } else { OnDamage::Report };
    let (told, steps) = Images::findings();
    let context = Arc::clone(&call.context);
    let running =
        async move { context.engine.images().check(action, told).await.err().map(|error| error.chain()) };
    // It has an end of its own: when nobody listens any more.
    let running = tokio::spawn(running);
    let failure = running.map(|ended| ended.unwrap_or_else(|panic| Some(panic.to_string())));
    let failure = stream::once(failure).filter_map(|failure| async move {
        failure.map(|error| api::CheckMessage { error: Some(error), ..api::CheckMessage::default() })
    });
    let lines = stream::unfold(steps, next).chain(failure);
    Ok(answer::stream("application/json", lines.map(|line| Ok::<Bytes, io::Error>(super::json_line(&line)))))
}

async fn next(
    mut steps: mpsc::Receiver<CheckStep>,
) -> Option<(api::CheckMessage, mpsc::Receiver<CheckStep>)> {
    let step = steps.recv().await?;
    Some((message(step), steps))
}

fn message(step: CheckStep) -> api::CheckMessage {
    match step {
        CheckStep::Found(finding) => {
            api::CheckMessage { finding: Some(described(finding)), ..api::CheckMessage::default() }
        }
        CheckStep::Done(Checked { blobs, layers, images, findings }) => api::CheckMessage {
            summary: Some(api::CheckSummary { blobs, layers, images, findings }),
            ..api::CheckMessage::default()
        },
    }
}

fn described(finding: Finding) -> api::CheckFinding {
    let (kind, digest) = match finding.subject {
        Inspected::Blob(digest) => ("blob", digest),
        Inspected::Layer(digest) => ("layer", digest),
        Inspected::Image(digest) => ("image", digest),
        Inspected::Record(digest) => ("record", digest),
    };
    api::CheckFinding {
        kind: kind.to_owned(),
        digest: digest.to_string(),
        problem: finding.problem,
        images: finding.images,
        quarantined: finding.dealt_with,
    }
}
