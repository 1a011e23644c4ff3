//! What a container has used, as clients see it.

use super::time;
use coracle_api::container as api;
use coracle_engine::containers::Description;
use coracle_engine::containers::stats::{Block, Interface, Processor, Sample};

/// A sample beside the one before it; nothing but names for a container that does not run.
pub(crate) fn sample(container: &Description, now: Option<&Sample>, before: Option<&Sample>) -> api::Stats {
    let names = api::Stats {
        read: time::write(now.map(|sample| sample.at)),
        preread: time::write(before.map(|sample| sample.at)),
        name: format!("/{}", container.name),
        id: container.id.to_string(),
        ..api::Stats::default()
    };
    let Some(now) = now else { return names };
    api::Stats {
        pids_stats: api::PidsStats { current: now.tasks, limit: now.task_limit },
        blkio_stats: blocks(now),
        cpu_stats: processor(&now.processor),
        precpu_stats: before.map(|sample| processor(&sample.processor)).unwrap_or_default(),
        memory_stats: api::MemoryStats {
            usage: now.memory.usage,
            max_usage: now.memory.most,
            stats: now.memory.details.clone(),
            failcnt: now.memory.failures,
            limit: now.memory.limit,
        },
        networks: now
            .networks
            .as_ref()
            .filter(|all| !all.is_empty())
            .map(|all| all.iter().map(|(name, counters)| (name.clone(), interface(counters))).collect()),
        ..names
    }
}

fn processor(from: &Processor) -> api::CpuStats {
    api::CpuStats {
        cpu_usage: api::CpuUsage {
            total_usage: from.total,
            percpu_usage: from.each.clone(),
            usage_in_kernelmode: from.kernel,
            usage_in_usermode: from.user,
        },
        system_cpu_usage: from.machine,
        online_cpus: from.online,
        throttling_data: api::ThrottlingData {
            periods: from.periods,
            throttled_periods: from.throttled_periods,
            throttled_time: from.throttled_time,
        },
    }
}

/// What cgroups v1 could count and no scheduler of today does is an empty list there, and `null` on v2.
fn blocks(from: &Sample) -> api::BlkioStats {
    let entry = |block: &Block| api::BlkioEntry {
        major: block.major,
        minor: block.minor,
        op: block.operation.clone(),
        value: block.value,
    };
    let uncounted = from.memory.first_version.then(Vec::new);
    api::BlkioStats {
        io_service_bytes_recursive: Some(from.block_bytes.iter().map(entry).collect()),
        io_serviced_recursive: Some(from.block_operations.iter().map(entry).collect()),
        io_queue_recursive: uncounted.clone(),
        io_service_time_recursive: uncounted.clone(),
        io_wait_time_recursive: uncounted.clone(),
        io_merged_recursive: uncounted.clone(),
        io_time_recursive: uncounted.clone(),
        sectors_recursive: uncounted,
    }
}

fn interface(from: &Interface) -> api::NetworkStats {
    let [rx_bytes, rx_packets, rx_errors, rx_dropped] = from.received;
    let [tx_bytes, tx_packets, tx_errors, tx_dropped] = from.sent;
    api::NetworkStats {
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_dropped,
    }
}
