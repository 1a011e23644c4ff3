//! How much more memory an engine has while it pulls a large image.

use crate::content::Content;
use coracle_tests::Engine;
use coracle_tests::registry::Registry;
use std::fs;

/// Prints the resident set of the engine before a pull of 2 GiB, and the most that it has been during it.
pub(crate) fn measure() {
    let (mut engine, registry) = (Engine::start(), Registry::start());
    let content = Content::Noise { layers: 4, bytes: 512 << 20 };
    let image = registry.name(&format!("{}:v1", content.name()));
    content.push(&engine, &image);
    // What making the image took is no part of it.
    engine.kill();
    engine.start_again();
    let idle = kilobytes(engine.pid(), "VmRSS:");
    reset_peak(engine.pid());
    engine.docker(&["pull", "-q", &image]).ok();
    let peak = kilobytes(engine.pid(), "VmHWM:");
    println!("pull: {}", content.title());
    println!(
        "  idle {:.1} MB, at most {:.1} MB, {:.1} MB more",
        idle / 1024.0,
        peak / 1024.0,
        (peak - idle) / 1024.0
    );
}

/// A line of `/proc/pid/status` (proc_pid_status(5)).
fn kilobytes(pid: u32, key: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN)
}

/// The peak begins anew (`clear_refs`, proc_pid_clear_refs(5)).
fn reset_peak(pid: u32) {
    let path = format!("/proc/{pid}/clear_refs");
    fs::write(&path, "5").unwrap_or_else(|error| panic!("{path}: {error}"));
}
