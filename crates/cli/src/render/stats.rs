//! What a container uses, in the words of `stats`. Pure.

use coracle_api::container::{BlkioEntry, CpuStats, MemoryStats, Stats};

use super::listing::{Layout, Row, short_id};
use super::units;

pub(crate) const LAYOUT: Layout = Layout {
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    headers: &[
        ("Container", "CONTAINER"),
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
};

/// The row of a container that was asked for as `container`. Without a sample nothing is known yet.
pub(crate) fn row(container: &str, stats: Option<&Stats>, short: bool) -> Row {
    let row = Row::default().with("Container", container);
    let Some(stats) = stats else {
        let two = ["MemUsage", "NetIO", "BlockIO"];
        let one = ["ID", "Name", "CPUPerc", "MemPerc", "PIDs"];
        let row = two.into_iter().fold(row, |row, field| row.with(field, "-- / --"));
        return one.into_iter().fold(row, |row, field| row.with(field, "--"));
    };
    let memory = used(&stats.memory_stats);
    let networks = stats.networks.iter().flat_map(|all| all.values());
    let (received, sent) = networks
        .fold((0, 0), |(received, sent), network| (received + network.rx_bytes, sent + network.tx_bytes));
    let blocks = stats.blkio_stats.io_service_bytes_recursive.as_deref().unwrap_or_default();
    row.with("ID", if short { short_id(&stats.id) } else { &stats.id })
        .with("Name", stats.name.trim_start_matches('/'))
        .with("CPUPerc", format!("{:.2}%", processor(&stats.cpu_stats, &stats.precpu_stats)))
        .with("MemUsage", format!("{} / {}", binary(memory), binary(stats.memory_stats.limit)))
        .with("MemPerc", format!("{:.2}%", share(memory, stats.memory_stats.limit)))
        .with("NetIO", format!("{} / {}", decimal(received), decimal(sent)))
        .with("BlockIO", format!("{} / {}", decimal(total(blocks, "read")), decimal(total(blocks, "write"))))
        .with("PIDs", stats.pids_stats.current.to_string())
}

/// How much of one processor was used between two samples, in percent.
fn processor(now: &CpuStats, before: &CpuStats) -> f64 {
    let own = now.cpu_usage.total_usage.saturating_sub(before.cpu_usage.total_usage);
    let machine = now.system_cpu_usage.saturating_sub(before.system_cpu_usage);
    let listed = now.cpu_usage.percpu_usage.as_ref().map_or(0, Vec::len);
    let processors = if now.online_cpus > 0 { f64::from(now.online_cpus) } else { float(listed as u64) };
    if machine == 0 { 0.0 } else { float(own) / float(machine) * processors * 100.0 }
}

/// Memory without the page cache that the kernel may take back: what cgroup v1 and v2 call it.
fn used(memory: &MemoryStats) -> u64 {
    let cache = ["total_inactive_file", "inactive_file"].iter().find_map(|name| memory.stats.get(*name));
    memory.usage - cache.copied().filter(|cache| *cache < memory.usage).unwrap_or(0)
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { float(part) / float(whole) * 100.0 }
}

fn total(blocks: &[BlkioEntry], operation: &str) -> u64 {
    blocks.iter().filter(|entry| entry.op.eq_ignore_ascii_case(operation)).map(|entry| entry.value).sum()
}

fn binary(bytes: u64) -> String {
    units::binary_size(i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn decimal(bytes: u64) -> String {
    units::short_size(i64::try_from(bytes).unwrap_or(i64::MAX))
}

#[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_samples_become_percentages_and_sizes() {
        let stats: Stats = serde_json::from_value(serde_json::json!({
            "id": "abcdef0123456789", "name": "/boat",
            "cpu_stats": {"cpu_usage": {"total_usage": 300}, "system_cpu_usage": 2000, "online_cpus": 2},
            "precpu_stats": {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000},
            "memory_stats": {"usage": 3 << 20, "limit": 8 << 20, "stats": {"inactive_file": 1 << 20}},
            "networks": {"eth0": {"rx_bytes": 1500, "tx_bytes": 20}, "eth1": {"rx_bytes": 1, "tx_bytes": 0}},
            "blkio_stats": {"io_service_bytes_recursive": [{"op": "Read", "value": 4096}, {"op": "write", "value": 1}]},
            "pids_stats": {"current": 3},
        }))
        .expect("a sample");
        let text = LAYOUT.render(None, vec![row("boat", Some(&stats), true)]).expect("renders");
        let line = text.lines().nth(1).expect("a row");
        let cells: Vec<&str> = line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(
            cells,
            ["abcdef012345", "boat", "40.00%", "2MiB / 8MiB", "25.00%", "1.5kB / 20B", "4.1kB / 1B", "3"]
        );
    }

    #[test]
    fn nothing_is_known_before_the_first_sample() {
        let text = LAYOUT.render(Some("{{.Container}} {{.ID}} {{.MemUsage}}"), vec![row("x", None, true)]);
        assert_eq!(text.expect("renders"), "x -- -- / --\n");
    }
}
