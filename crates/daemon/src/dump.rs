//! What the daemon is at (SIGUSR1), for whoever finds it not answering: written to a file, as it may be long.

use crate::convert::time;
use crate::server::Context;
use ::time::OffsetDateTime;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tokio::runtime::Handle;

/// Writes the state to a new file below the exec root, and tells where.
pub(crate) async fn dump(context: &Context) {
    let text = state(context);
    let directory = context.engine.config().exec_root.clone();
    let written = tokio::task::spawn_blocking(move || write(&directory, &text)).await;
    match written.map_err(io::Error::other).and_then(|written| written) {
        Ok(path) => tracing::info!(path = %path.display(), "the state of the engine was written"),
        Err(error) => tracing::error!(%error, "the state of the engine could not be written"),
    }
}

fn write(directory: &Path, state: &str) -> io::Result<PathBuf> {
    let path = directory.join(format!("state-{}.log", OffsetDateTime::now_utc().unix_timestamp_nanos()));
    // It names what runs here.
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(state.as_bytes())?;
    file.write_all(threads().as_bytes())?;
    Ok(path)
}

/// What the engine has to do.
fn state(context: &Context) -> String {
    let metrics = Handle::current().metrics();
    let mut text = format!(
        "coracle {} at {}, process {}\n\ntasks {}\nworkers {}\nqueued {}\ndescriptors {}\nlisteners {}\n\ncontainers\n",
        env!("CARGO_PKG_VERSION"),
        time::write(Some(OffsetDateTime::now_utc())),
        std::process::id(),
        metrics.num_alive_tasks(),
        metrics.num_workers(),
        metrics.global_queue_depth(),
        fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        context.engine.event_listeners(),
    );
    for container in context.engine.list() {
        let state = &container.state;
        // Writing to a text cannot fail.
        let _ = writeln!(
            text,
            "{} {} {} pid {} restarts {} {}",
            container.id.short(),
            container.name,
            state.status,
            state.pid,
            state.restart_count,
            state.error
        );
    }
    text
}

/// Every thread of this process, its state, and where in the kernel it is.
fn threads() -> String {
    let mut text = "\nthreads\n".to_owned();
    for thread in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let read = |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        let status = read("status");
        let state = status.lines().find_map(|line| line.strip_prefix("State:")).unwrap_or_default().trim();
        // As above.
        let _ = writeln!(text, "{} {} {state}", thread.file_name().display(), read("comm").trim());
        for call in read("stack").lines() {
            let _ = writeln!(text, "    {call}");
        }
    }
    text
}
