//! What our engine has prepared for starts that may come: shims, and the processes that wait below them.

use crate::Engine;
use crate::engine::wait_until;
use std::fs;

/// Whether containers are prepared: by our engine, where no other runtime makes them (`RUNTIME`).
pub fn are_made(engine: &Engine) -> bool {
    !engine.is_original() && std::env::var_os("RUNTIME").is_none()
}

/// The children of a process, whichever of its threads has made them.
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .flat_map(|task| {
            let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            text.split_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}

/// The engine's shims, and what is below each.
pub fn processes(engine: &Engine) -> Vec<u32> {
    let shims = children(engine.pid());
    shims.iter().flat_map(|shim| children(*shim)).chain(shims.iter().copied()).collect()
}

/// Waits until as many containers are prepared, and nothing else runs. Returns the processes of all.
pub fn wait_until_prepared(engine: &Engine, count: usize) -> Vec<u32> {
    let mut found = Vec::new();
    wait_until(&format!("{count} containers are prepared"), || {
        found = processes(engine);
        found.len() == 2 * count && found.iter().all(|pid| is_receiving(*pid))
    });
    found
}

/// Whether a process does nothing but wait for a message, recvmsg(2).
fn is_receiving(pid: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    call.split(' ').next() == Some("47")
}
