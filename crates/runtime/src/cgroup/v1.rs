//! Which files of the v1 hierarchies carry which limit.
//!
//! Source: the kernel's `Documentation/admin-guide/cgroup-v1`.

use super::{ControlFile, Frozen, Group, write};
use crate::error::{Error, Result};
use coracle_spec::runtime::{BlockIo, Cpu, DeviceRule, Memory, Resources, ThrottleDevice};
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub(super) fn apply(group: &Group, resources: &Resources) -> Result<()> {
    devices(group, &resources.devices)?;
    if let Some(memory) = &resources.memory {
        apply_memory(group, memory)?;
    }
    if let Some(cpu) = &resources.cpu {
        apply_cpu(group, cpu)?;
    }
    if let Some(pids) = resources.pids {
        let limit = if pids.limit > 0 { pids.limit.to_string() } else { "max".to_owned() };
        set(group, "pids", "pids.max", &limit)?;
    }
    if let Some(block_io) = &resources.block_io {
        apply_block_io(group, block_io)?;
    }
    Ok(())
}

fn set(group: &Group, controller: &str, file: &str, value: &str) -> Result<()> {
    write(&control(group, controller, file, value)?, value)
}

/// Where the `file` of a controller is, in which `value` is wanted.
fn control(group: &Group, controller: &str, file: &str, value: &str) -> Result<PathBuf> {
    let directory = group.controller(controller).ok_or_else(|| {
        Error::Invalid(format!(
            "this machine has no {controller} controller, so {file} cannot be set to {value}"
        ))
    })?;
    Ok(directory.join(file))
}

fn apply_memory(group: &Group, memory: &Memory) -> Result<()> {
    let limit = memory.limit.map(|bytes| bytes.to_string());
    let swap = memory.swap.map(|bytes| bytes.to_string());
    let set = |file: &str, value: &Option<String>| match value {
        Some(value) => set(group, "memory", file, value),
        None => Ok(()),
    };
    // The kernel keeps limit <= memory+swap at every moment, so a raise begins with the larger one.
    if grows(group, memory.swap) {
        set("memory.memsw.limit_in_bytes", &swap)?;
        set("memory.limit_in_bytes", &limit)?;
    } else {
        set("memory.limit_in_bytes", &limit)?;
        set("memory.memsw.limit_in_bytes", &swap)?;
    }
    set("memory.soft_limit_in_bytes", &memory.reservation.map(|bytes| bytes.to_string()))?;
    set("memory.swappiness", &memory.swappiness.map(|value| value.to_string()))?;
    set("memory.oom_control", &memory.disable_oom_killer.map(|off| u8::from(off).to_string()))
}

fn grows(group: &Group, swap: Option<i64>) -> bool {
    let current = group
        .controller("memory")
        .and_then(|directory| fs::read_to_string(directory.join("memory.limit_in_bytes")).ok())
        .and_then(|text| text.trim().parse::<i64>().ok());
    match (swap, current) {
        (Some(-1), _) => true,
        (Some(swap), Some(current)) => swap > current,
        _ => false,
    }
}

fn apply_cpu(group: &Group, cpu: &Cpu) -> Result<()> {
    let number =
        |file: &str, value: Option<String>| value.map_or(Ok(()), |value| set(group, "cpu", file, &value));
    number("cpu.shares", cpu.shares.map(|v| v.to_string()))?;
    number("cpu.cfs_period_us", cpu.period.map(|v| v.to_string()))?;
    number("cpu.cfs_quota_us", cpu.quota.map(|v| v.to_string()))?;
    number("cpu.rt_period_us", cpu.realtime_period.map(|v| v.to_string()))?;
    number("cpu.rt_runtime_us", cpu.realtime_runtime.map(|v| v.to_string()))?;
    for (file, list) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if !list.is_empty() {
            set(group, "cpuset", file, list)?;
        }
    }
    Ok(())
}

/// Writes each rule in turn, as the order counts, into a file that stays open from one rule to the next.
fn devices(group: &Group, rules: &[DeviceRule]) -> Result<()> {
    let mut open: Option<(&str, ControlFile)> = None;
    for rule in rules {
        let part = |number: Option<i64>| {
            number.filter(|n| *n >= 0).map_or_else(|| "*".to_owned(), |n| n.to_string())
        };
        let kind = rule.kind.as_deref().unwrap_or("a");
        let access = rule.access.as_deref().unwrap_or("rwm");
        let text = format!("{kind} {}:{} {access}", part(rule.major), part(rule.minor));
        let name = if rule.allow { "devices.allow" } else { "devices.deny" };
        let file = match open.take() {
            Some((before, file)) if before == name => file,
            _ => ControlFile::open(&control(group, "devices", name, &text)?, &text)?,
        };
        file.write(&text)?;
        open = Some((name, file));
    }
    Ok(())
}

fn apply_block_io(group: &Group, block_io: &BlockIo) -> Result<()> {
    if let Some(weight) = block_io.weight {
        weigh(group, &weight.to_string())?;
    }
    for device in &block_io.weight_device {
        weigh(group, &format!("{}:{} {}", device.major, device.minor, device.weight))?;
    }
    let throttles: [(&str, &[ThrottleDevice]); 4] = [
        ("blkio.throttle.read_bps_device", &block_io.throttle_read_bps_device),
        ("blkio.throttle.write_bps_device", &block_io.throttle_write_bps_device),
        ("blkio.throttle.read_iops_device", &block_io.throttle_read_iops_device),
        ("blkio.throttle.write_iops_device", &block_io.throttle_write_iops_device),
    ];
    for (file, devices) in throttles {
        for device in devices {
            set(group, "blkio", file, &format!("{}:{} {}", device.major, device.minor, device.rate))?;
        }
    }
    Ok(())
}

/// The weight's file depends on the I/O scheduler that the kernel has.
fn weigh(group: &Group, value: &str) -> Result<()> {
    match set(group, "blkio", "blkio.weight", value) {
        Err(Error::Cgroup { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            set(group, "blkio", "blkio.bfq.weight", value)
        }
        done => done,
    }
}

pub(super) fn set_frozen(group: &Group, state: Frozen) -> Result<()> {
    let value = match state {
        Frozen::Stopped => "FROZEN",
        Frozen::Running => "THAWED",
    };
    set(group, "freezer", "freezer.state", value)
}

/// A new cpuset is empty and admits nobody: it gets what its parent has. A parent that is empty as well was made a
/// moment ago, for containers; it is filled first, and told to have the kernel fill what is made in it later.
pub(super) fn inherit_cpuset(directory: &Path) -> Result<()> {
    if is_filled(directory) {
        return Ok(());
    }
    let Some(parent) = directory.parent() else { return Ok(()) };
    if !is_filled(parent) {
        inherit_cpuset(parent)?;
        write(&parent.join("cgroup.clone_children"), "1")?;
    }
    for file in CPUSET {
        let list = fs::read_to_string(parent.join(file)).unwrap_or_default();
        if !list.trim().is_empty() {
            write(&directory.join(file), list.trim())?;
        }
    }
    Ok(())
}

/// What a cpuset must have before a task can enter. The kernel fills both or none, so the last tells.
const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

fn is_filled(directory: &Path) -> bool {
    let mut list = [0; 16];
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let read = rustix::fs::open(directory.join(CPUSET[1]), flags, Mode::empty())
        .and_then(|file| rustix::io::read(file, &mut list));
    read.is_ok_and(|length| !list[..length].trim_ascii().is_empty())
}
