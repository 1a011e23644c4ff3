//! What a running container has used so far, the same from both kinds of cgroups. Files are read, nothing is entered and
//! nothing of the container is asked. What a sample looks like to clients is not here.

use super::Description;
use super::modes::NetworkMode;
use crate::engine::Engine;
use crate::error::{Result, blocking};
use crate::limits;
use coracle_runtime::cgroup::{Group, Layout};
use rustix::fs::{Mode, OFlags, openat};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use time::OffsetDateTime;

/// Nanoseconds in a clock tick, as the kernel shows ticks to everybody.
const TICK: u64 = 1_000_000_000 / 100;

/// What is read at once, in bytes: most files have less.
const PART: usize = 4096;

/// What a container has used until a moment. Times are in nanoseconds, sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The moment.
    pub at: OffsetDateTime,
    /// Processor time.
    pub processor: Processor,
    /// Memory.
    pub memory: Memory,
    /// Tasks now.
    pub tasks: u64,
    /// Tasks at most; 0 without a limit.
    pub task_limit: u64,
    /// Bytes moved by block devices.
    pub block_bytes: Vec<Block>,
    /// Operations of block devices.
    pub block_operations: Vec<Block>,
    /// By interface, without the loopback; nothing when the network is the host's.
    pub networks: Option<BTreeMap<String, Interface>>,
}

/// Processor time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processor {
    /// In all.
    pub total: u64,
    /// In programs.
    pub user: u64,
    /// In the kernel.
    pub kernel: u64,
    /// By processor, where cgroups count that.
    pub each: Option<Vec<u64>>,
    /// Periods of the quota.
    pub periods: u64,
    /// Those in which it was used up.
    pub throttled_periods: u64,
    /// Time spent waiting for it.
    pub throttled_time: u64,
    /// Of the whole machine, idle time included.
    pub machine: u64,
    /// Processors of the machine that are on.
    pub online: u32,
}

/// Memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Now, caches included.
    pub usage: u64,
    /// At most so far; 0 where it is not counted.
    pub most: u64,
    /// How often the limit was reached; 0 where it is not counted.
    pub failures: u64,
    /// The limit, or what the machine has.
    pub limit: u64,
    /// `memory.stat` as it is.
    pub details: BTreeMap<String, u64>,
    /// Whether the names in `details` are those of cgroups v1.
    pub first_version: bool,
}

/// A counter of a block device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// What is counted, in the kernel's words for v1 and `read` or `write` for v2.
    pub operation: String,
    /// The counter.
    pub value: u64,
}

/// What went through an interface: bytes, packets, errors and drops of each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Received.
    pub received: [u64; 4],
    /// Sent.
    pub sent: [u64; 4],
}

impl Engine {
    /// What a container has used so far; nothing when it does not run.
    ///
    /// # Errors
    /// [`crate::Error::NotFound`], [`crate::Error::Ambiguous`].
    pub async fn sample(&self, name: &str) -> Result<Option<Sample>> {
        let container = self.inspect(name)?;
        if !container.state.status.is_up() {
            return Ok(None);
        }
        let parent = self.shared.config.cgroup();
        let path = super::oci_spec::cgroup(&container.id, &container.settings, &parent)?;
        let layout = self.shared.cgroups.clone();
        let group = Group::existing(&layout, Path::new(path.trim_start_matches('/')));
        blocking(move || read_sample(&container, &group)).await
    }
}

fn read_sample(container: &Description, group: &Group) -> Option<Sample> {
    let of_kernel = Files::of("/proc");
    let machine = machine(&of_kernel.text("stat"));
    let memory = amount_of_memory(&of_kernel.text("meminfo"));
    let mut sample = match group.layout() {
        Layout::V1 { .. } => first_version(group)?,
        Layout::V2 { .. } => second_version(&group.unified()?)?,
    };
    (sample.processor.machine, sample.processor.online) = machine;
    sample.memory.limit = sample.memory.limit.min(memory);
    if container.settings.host.network != NetworkMode::Host {
        let table = of_kernel.text(&format!("{}/net/dev", container.state.pid));
        sample.networks = Some(interfaces(&table));
    }
    Some(sample)
}

/// Nothing when the group is gone.
fn first_version(group: &Group) -> Option<Sample> {
    let of = |controller: &str| group.controller(controller).map_or_else(Files::none, Files::of);
    let (accounting, memory, pids, blocks) = (of("cpuacct"), of("memory"), of("pids"), of("blkio"));
    let total = accounting.text("cpuacct.usage").trim().parse().ok()?;
    let quota = pairs(&of("cpu").text("cpu.stat"));
    let each = accounting.text("cpuacct.usage_percpu");
    Some(Sample {
        at: OffsetDateTime::now_utc(),
        processor: Processor {
            total,
            user: number(&accounting.text("cpuacct.usage_user")),
            kernel: number(&accounting.text("cpuacct.usage_sys")),
            each: Some(each.split_whitespace().map(number).collect()),
            periods: value(&quota, "nr_periods"),
            throttled_periods: value(&quota, "nr_throttled"),
            throttled_time: value(&quota, "throttled_time"),
            ..Processor::default()
        },
        memory: Memory {
            usage: number(&memory.text("memory.usage_in_bytes")),
            most: number(&memory.text("memory.max_usage_in_bytes")),
            failures: number(&memory.text("memory.failcnt")),
            limit: limit(&memory.text("memory.limit_in_bytes")).unwrap_or(u64::MAX),
            details: pairs(&memory.text("memory.stat")),
            first_version: true,
        },
        tasks: number(&pids.text("pids.current")),
        task_limit: limit(&pids.text("pids.max")).unwrap_or(0),
        block_bytes: throttled_blocks(&blocks.text("blkio.throttle.io_service_bytes_recursive")),
        block_operations: throttled_blocks(&blocks.text("blkio.throttle.io_serviced_recursive")),
        networks: None,
    })
}

/// Nothing when the group is gone.
fn second_version(directory: &Path) -> Option<Sample> {
    let files = Files::of(directory);
    let of = |file: &str| files.text(file);
    let processor = pairs(&of("cpu.stat"));
    let time = |key: &str| value(&processor, key).saturating_mul(1000);
    processor.get("usage_usec")?;
    let blocks = of("io.stat");
    Some(Sample {
        at: OffsetDateTime::now_utc(),
        processor: Processor {
            total: time("usage_usec"),
            user: time("user_usec"),
            kernel: time("system_usec"),
            periods: value(&processor, "nr_periods"),
            throttled_periods: value(&processor, "nr_throttled"),
            throttled_time: time("throttled_usec"),
            ..Processor::default()
        },
        memory: Memory {
            usage: number(&of("memory.current")),
            limit: limit(&of("memory.max")).unwrap_or(u64::MAX),
            details: pairs(&of("memory.stat")),
            ..Memory::default()
        },
        tasks: number(&of("pids.current")),
        task_limit: limit(&of("pids.max")).unwrap_or(0),
        block_bytes: unified_blocks(&blocks, "rbytes", "wbytes"),
        block_operations: unified_blocks(&blocks, "rios", "wios"),
        networks: None,
    })
}

/// A directory of the kernel's. What cannot be read is empty: a controller may be off, a group may go at any time.
struct Files(Option<OwnedFd>);

impl Files {
    fn of(directory: impl AsRef<Path>) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self(rustix::fs::open(directory.as_ref(), flags, Mode::empty()).ok())
    }

    fn none() -> Self {
        Self(None)
    }

    fn text(&self, name: &str) -> String {
        let open = |directory| openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok();
        let Some(file) = self.0.as_ref().and_then(open) else { return String::new() };
        let (mut text, mut part) = (Vec::new(), [0; PART]);
        while (text.len() as u64) < limits::KERNEL_FILE {
            match rustix::io::read(&file, &mut part) {
                Ok(0) => break,
                Ok(length) => text.extend_from_slice(&part[..length]),
                Err(_) => return String::new(),
            }
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

/// Nothing for `max`.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Lines of a name and a number.
fn pairs(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn value(pairs: &BTreeMap<String, u64>, key: &str) -> u64 {
    pairs.get(key).copied().unwrap_or(0)
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Lines like `254:0 Read 8192`.
fn throttled_blocks(text: &str) -> Vec<Block> {
    let block = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = device(words.next()?)?;
        let operation = words.next()?.to_owned();
        Some(Block { major, minor, operation, value: words.next()?.parse().ok()? })
    };
    text.lines().filter_map(block).collect()
}

/// Lines like `254:0 rbytes=8192 wbytes=0 rios=1 wios=0`.
fn unified_blocks(text: &str, read: &str, write: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let operation = if key == read {
                "read"
            } else if key == write {
                "write"
            } else {
                continue;
            };
            blocks.push(Block { major, minor, operation: operation.to_owned(), value: number(value) });
        }
    }
    blocks
}

/// The table of proc_pid_net(5), without the loopback.
fn interfaces(table: &str) -> BTreeMap<String, Interface> {
    let interface = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters.split_whitespace().map(number).collect();
        let four = |first: usize| counters.get(first..first + 4)?.try_into().ok();
        Some((name.trim().to_owned(), Interface { received: four(0)?, sent: four(8)? }))
    };
    table.lines().filter_map(interface).filter(|(name, _)| name != "lo").collect()
}

/// Processor time of the machine, and how many processors are on, from proc_stat(5).
fn machine(stat: &str) -> (u64, u32) {
    let mut lines = stat.lines().take_while(|line| line.starts_with("cpu"));
    // What guests use is part of what programs use; the time that a host took away is no time of this machine.
    let ticks: u64 = lines.next().unwrap_or_default().split_whitespace().skip(1).take(7).map(number).sum();
    (ticks.saturating_mul(TICK), u32::try_from(lines.count()).unwrap_or(u32::MAX))
}

fn amount_of_memory(information: &str) -> u64 {
    let line = information.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    line.and_then(|rest| rest.split_whitespace().next()).map_or(0, number).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_devices_are_counted_alike_in_both_versions() {
        let first = throttled_blocks("254:0 Read 8192\n254:0 Write 5\nTotal 8197\n");
        let second =
            unified_blocks("254:0 rbytes=8192 wbytes=5 rios=1 wios=2 dbytes=0\n", "rbytes", "wbytes");
        let plain = |blocks: &[Block]| {
            let each = |b: &Block| (b.major, b.minor, b.operation.to_ascii_lowercase(), b.value);
            blocks.iter().map(each).collect::<Vec<_>>()
        };
        assert_eq!(plain(&first), [(254, 0, "read".to_owned(), 8192), (254, 0, "write".to_owned(), 5)]);
        assert_eq!(plain(&first), plain(&second));
        assert_eq!(unified_blocks("254:0 rios=3 wios=4 rbytes=9", "rios", "wios")[1].value, 4);
    }

    #[test]
    fn the_loopback_is_no_network() {
        let table = "Inter-|   Receive |  Transmit\n face |bytes packets\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n\
                     eth0:516 6 7 8 0 0 0 0 90 1 2 3 0 0 0 0\n";
        let found = interfaces(table);
        let expected = Interface { received: [516, 6, 7, 8], sent: [90, 1, 2, 3] };
        assert_eq!(found, BTreeMap::from([("eth0".to_owned(), expected)]));
    }

    #[test]
    fn the_machine_is_read_from_procfs() {
        let stat = "cpu  1 2 3 4 5 6 7 100 0 0\ncpu0 1 1 1 1 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\nintr 5\n";
        assert_eq!(machine(stat), (28 * TICK, 2));
        assert_eq!(amount_of_memory("MemTotal:       24 kB\nMemFree: 1 kB\n"), 24 * 1024);
    }

    #[test]
    fn a_group_of_the_second_version_is_read_and_one_that_is_gone_is_none() {
        let place = tempfile::tempdir().unwrap();
        assert_eq!(second_version(place.path()), None);
        for (file, content) in [
            (
                "cpu.stat",
                "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 3\nthrottled_usec 2\n",
            ),
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 1\ninactive_file 2\n"),
            ("pids.current", "5\n"),
            ("pids.max", "max\n"),
        ] {
            std::fs::write(place.path().join(file), content).unwrap();
        }
        let sample = second_version(place.path()).unwrap();
        assert_eq!((sample.processor.total, sample.processor.throttled_time), (30_000, 2000));
        assert_eq!((sample.memory.usage, sample.memory.limit), (4096, u64::MAX));
        assert_eq!((sample.tasks, sample.task_limit), (5, 0));
        assert_eq!(sample.memory.details.get("inactive_file"), Some(&2));
    }
}
