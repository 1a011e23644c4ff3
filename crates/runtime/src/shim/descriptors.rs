//! How many descriptors the shim may have: it holds a socket for each published port and each query, and a soft limit
//! that suits a service (1024) is too few. The container gets what the engine had, not what the shim gave itself.

use coracle_spec::runtime::{Process, Rlimit};
use rustix::process::{Resource, getrlimit, setrlimit};

const NAME: &str = "RLIMIT_NOFILE";

/// The limit that the engine gave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inherited(rustix::process::Rlimit);

/// Raises the calling process's soft limit to its hard one.
pub(super) fn raise() -> Inherited {
    let inherited = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: inherited.maximum, maximum: inherited.maximum };
    // With the old limit the shim works as well, only not for as many ports.
    let _ = setrlimit(Resource::Nofile, raised);
    Inherited(inherited)
}

impl Inherited {
    /// Gives the limit to a process, unless its configuration has one of its own.
    pub(super) fn give_to(self, process: &mut Process) {
        if process.rlimits.iter().any(|limit| limit.kind == NAME) {
            return;
        }
        let number = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
        let (soft, hard) = (number(self.0.current), number(self.0.maximum));
        process.rlimits.push(Rlimit { kind: NAME.to_owned(), hard, soft });
    }
}
