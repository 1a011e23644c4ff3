//! How many descriptors the engine may have. What a service manager gives (1024) is too few for an engine: each container and each
//! client takes some. Containers get what the engine was given, not what it gave itself.

use coracle_spec::runtime::Rlimit;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::sync::OnceLock;

/// The resource, as the runtime specification names it.
const NAME: &str = "RLIMIT_NOFILE";

/// What this process was given, getrlimit(2). It belongs to the process as the limit does.
static GIVEN: OnceLock<rustix::process::Rlimit> = OnceLock::new();

/// Raises the soft limit of this process to its hard one.
pub(crate) fn raise() {
    let given = GIVEN.get_or_init(|| getrlimit(Resource::Nofile));
    // With the old limit the engine works as well, only not for as many.
    let _ = setrlimit(
        Resource::Nofile,
        rustix::process::Rlimit { current: given.maximum, maximum: given.maximum },
    );
}

/// How many descriptors this process may have.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Gives containers that have no limit of their own the one that the engine was given.
pub(crate) fn complete(limits: &mut Vec<Rlimit>) {
    let Some(given) = GIVEN.get().filter(|_| limits.iter().all(|limit| limit.kind != NAME)) else { return };
    let number = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    // Somebody may have lowered it since, prlimit(1).
    let hard = number(given.maximum).min(number(getrlimit(Resource::Nofile).maximum));
    limits.push(Rlimit { kind: NAME.to_owned(), hard, soft: number(given.current).min(hard) });
}
