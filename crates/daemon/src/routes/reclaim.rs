//! `/coracle/system/reclaim` and `/coracle/images/{name}/pin`: endpoints of our own, outside the paths that Docker has or
//! may get.

use crate::answer::{self, Answer};
use crate::config::quantity;
use crate::convert::reclaim::report;
use crate::error::Failure;
use crate::server::Call;
use coracle_engine::images::Policy;
use coracle_spec::size;
use hyper::{Method, StatusCode};

/// `GET` says what would go, and so does `POST` with `dry-run`; `POST` removes it.
pub(super) async fn reclaim(call: &Call) -> Answer {
    let dry_run = call.request.method() == Method::GET || call.query.is_on("dry-run");
    let policy = policy(call)?;
    let (images, users) = (call.engine().images(), call.engine().image_users());
    if dry_run {
        return answer::ok(&report(&images.plan_to_reclaim(policy, users).await?, true));
    }
    let done = images.reclaim(policy, users).await;
    // Also where something could not be removed, the rest is to be deleted.
    call.engine().tidy_soon();
    answer::ok(&report(&done?, false))
}

/// What the daemon was told, unless the request says otherwise.
fn policy(call: &Call) -> Result<Policy, Failure> {
    let told = call.engine().config().storage;
    let given = |name: &str| call.query.get(name).filter(|text| !text.is_empty());
    let budget = match given("budget") {
        None => told.budget,
        Some(text) => {
            Some(size::bytes(text).ok_or_else(|| Failure::invalid(format!("invalid budget {text:?}")))?)
        }
    };
    let budget = budget.ok_or_else(|| {
        Failure::invalid("there is no storage budget: name one, or start the daemon with --storage-budget")
    })?;
    let keep_recent = match given("keep-recent") {
        None => told.keep_recent,
        Some(text) => quantity::duration(text)
            .ok_or_else(|| Failure::invalid(format!("invalid keep-recent {text:?}")))?,
    };
    Ok(Policy { budget, keep_recent })
}

pub(super) async fn pin(call: &Call, name: &str) -> Answer {
    call.engine().images().pin(name).await?;
    answer::empty(StatusCode::NO_CONTENT)
}

pub(super) async fn unpin(call: &Call, name: &str) -> Answer {
    call.engine().images().unpin(name).await?;
    // It may be what images take too much room with.
    call.engine().tidy_soon();
    answer::empty(StatusCode::NO_CONTENT)
}
