//! Which files of the v2 hierarchy carry which limit, and how v1's numbers translate.
//!
//! Source: the kernel's `Documentation/admin-guide/cgroup-v2.rst`.

use super::{Frozen, Group, devices, write};
use crate::error::{Error, Result};
use coracle_spec::runtime::{BlockIo, Cpu, DeviceRule, Memory, Resources, ThrottleDevice};
use coracle_sys::device_filter;
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// The controllers that carry limits of containers.
const CONTROLLERS: [&str; 6] = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids"];

pub(super) fn apply(group: &Group, resources: &Resources) -> Result<()> {
    let Some(directory) = group.unified() else { return Ok(()) };
    if !resources.devices.is_empty() {
        restrict_devices(&directory, &resources.devices)?;
    }
    for (file, value) in files(resources)? {
        write(&directory.join(file), &value)?;
    }
    Ok(())
}

fn restrict_devices(directory: &Path, rules: &[DeviceRule]) -> Result<()> {
    let program = devices::program(rules)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(directory, flags, Mode::empty())
        .map_err(|error| super::refused(directory, "devices", error))?;
    Ok(device_filter::attach(&program, opened.as_fd())?)
}

/// Has every group from the root down to the parent of `directory` pass on the controllers that limits need. One that cannot
/// (it has processes of its own, or its parent gives it nothing) passes on what it does: a limit that finds no file says so.
///
/// # Errors
/// When a group is gone.
pub(super) fn pass_controllers_on(mountpoint: &Path, directory: &Path) -> Result<()> {
    let mut parents: Vec<&Path> =
        directory.ancestors().skip(1).take_while(|path| path.starts_with(mountpoint)).collect();
    parents.reverse();
    for parent in parents {
        let words = |file: &str| {
            let path = parent.join(file);
            let text = fs::read_to_string(&path);
            text.map_err(|source| Error::Cgroup { path, value: String::new(), source })
        };
        let (there, passed) = (words("cgroup.controllers")?, words("cgroup.subtree_control")?);
        let passed: Vec<&str> = passed.split_whitespace().collect();
        let missing = |name: &&str| CONTROLLERS.contains(name) && !passed.contains(name);
        for name in there.split_whitespace().filter(missing) {
            match write(&parent.join("cgroup.subtree_control"), &format!("+{name}")) {
                Ok(()) => {}
                Err(Error::Cgroup { source, .. }) if source.kind() != io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// The files to write and what goes into each, in order.
fn files(resources: &Resources) -> Result<Vec<(&'static str, String)>> {
    let mut files = Vec::new();
    if let Some(memory) = &resources.memory {
        files.extend(memory_files(memory)?);
    }
    if let Some(cpu) = &resources.cpu {
        files.extend(cpu_files(cpu)?);
    }
    if let Some(pids) = resources.pids {
        files.push(("pids.max", unlimited(if pids.limit > 0 { pids.limit } else { -1 })));
    }
    if let Some(block_io) = &resources.block_io {
        files.extend(block_io_files(block_io));
    }
    Ok(files)
}

fn unlimited(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

fn memory_files(memory: &Memory) -> Result<Vec<(&'static str, String)>> {
    if memory.swappiness.is_some() || memory.disable_oom_killer == Some(true) {
        return Err(Error::Invalid(
            "cgroup v2 has neither swappiness nor a switch for the out-of-memory killer".into(),
        ));
    }
    let mut files = Vec::new();
    if let Some(swap) = memory.swap {
        // v1 counts memory and swap together, v2 swap alone.
        let alone = match memory.limit {
            Some(limit) if swap >= 0 && limit >= 0 => swap.saturating_sub(limit),
            _ => swap,
        };
        files.push(("memory.swap.max", unlimited(alone)));
    }
    if let Some(limit) = memory.limit {
        files.push(("memory.max", unlimited(limit)));
    }
    if let Some(reservation) = memory.reservation {
        files.push(("memory.low", unlimited(reservation)));
    }
    Ok(files)
}

fn cpu_files(cpu: &Cpu) -> Result<Vec<(&'static str, String)>> {
    if cpu.realtime_period.is_some() || cpu.realtime_runtime.is_some() {
        return Err(Error::Invalid("cgroup v2 has no real-time limits".into()));
    }
    let mut files = Vec::new();
    if let Some(shares) = cpu.shares.filter(|shares| *shares > 0) {
        files.push(("cpu.weight", weight_of_shares(shares).to_string()));
    }
    if cpu.quota.is_some() || cpu.period.is_some() {
        let quota = unlimited(cpu.quota.filter(|quota| *quota > 0).unwrap_or(-1));
        files.push(("cpu.max", format!("{quota} {}", cpu.period.unwrap_or(100_000))));
    }
    for (file, list) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if !list.is_empty() {
            files.push((file, list.clone()));
        }
    }
    Ok(files)
}

/// Maps shares (2 to 262144) to a weight (1 to 10000) linearly, as the OCI runtime specification's issue 1131 and
/// every runtime since does.
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

fn block_io_files(block_io: &BlockIo) -> Vec<(&'static str, String)> {
    let mut files = Vec::new();
    if let Some(weight) = block_io.weight {
        files.push(("io.bfq.weight", weight.to_string()));
    }
    let keys: [(&str, &[ThrottleDevice]); 4] = [
        ("rbps", &block_io.throttle_read_bps_device),
        ("wbps", &block_io.throttle_write_bps_device),
        ("riops", &block_io.throttle_read_iops_device),
        ("wiops", &block_io.throttle_write_iops_device),
    ];
    for (key, devices) in keys {
        files.extend(devices.iter().map(|d| ("io.max", format!("{}:{} {key}={}", d.major, d.minor, d.rate))));
    }
    files
}

pub(super) fn set_frozen(group: &Group, state: Frozen) -> Result<()> {
    let Some(directory) = group.unified() else { return Ok(()) };
    write(&directory.join("cgroup.freeze"), if state == Frozen::Stopped { "1" } else { "0" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_spec::runtime::Pids;

    #[test]
    fn numbers_of_v1_translate() {
        let resources = Resources {
            memory: Some(Memory { limit: Some(100), swap: Some(150), ..Memory::default() }),
            cpu: Some(Cpu { shares: Some(1024), quota: Some(50_000), ..Cpu::default() }),
            pids: Some(Pids { limit: -1 }),
            ..Resources::default()
        };
        let expected = [
            ("memory.swap.max", "50"),
            ("memory.max", "100"),
            ("cpu.weight", "39"),
            ("cpu.max", "50000 100000"),
            ("pids.max", "max"),
        ];
        let files = files(&resources).unwrap();
        assert_eq!(files.iter().map(|(f, v)| (*f, v.as_str())).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_ends_of_the_shares_map_to_the_ends_of_the_weights() {
        assert_eq!([2, 262_144, 1, u64::MAX].map(weight_of_shares), [1, 10_000, 1, 10_000]);
    }
}
