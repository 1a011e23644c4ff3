//! Memory, as what would be free if the process were gone: the proportional set size of smaps_rollup.

use coracle_tests::Engine;
use coracle_tests::image::SMALL;
use std::fs;

/// Containers whose shims are measured.
const SHIMS: usize = 10;

/// The proportional set size of a process, in megabytes.
pub(crate) fn megabytes(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kilobytes = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.split_whitespace().next());
    kilobytes.and_then(|number| number.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1024.0
}

/// Prints what a running container costs besides its own processes.
pub(crate) fn shims(engine: &Engine) {
    let ids: Vec<String> =
        (0..SHIMS).map(|_| engine.docker(&["run", "-d", SMALL, "sleep", "1000"]).ok()).collect();
    let shims: Vec<u32> = ids.iter().map(|id| shim_of(engine, id)).collect();
    let total: f64 = shims.iter().map(|pid| megabytes(*pid)).sum();
    println!(
        "{SHIMS} containers: {:.2} MB PSS for each shim, engine {:.1} MB",
        total / shims.len() as f64,
        megabytes(engine.pid())
    );
    let mut arguments = vec!["rm", "-f"];
    arguments.extend(ids.iter().map(String::as_str));
    engine.docker(&arguments).ok();
}

/// The parent of a container's first process.
fn shim_of(engine: &Engine, id: &str) -> u32 {
    let pid = engine.docker(&["inspect", "-f", "{{.State.Pid}}", id]).ok();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap_or_default();
    parent.trim().parse().unwrap_or_default()
}
