//! Limits as Docker names them, checked and turned into the runtime's.

use super::settings::{DeviceRate, Resources};
use crate::error::{Error, Result};
use coracle_spec::runtime::{self, BlockIo, Cpu, Memory, Pids, ThrottleDevice, WeightDevice};
use std::collections::BTreeMap;

/// The smallest memory limit, in bytes: below it not even a shell starts.
const LEAST_MEMORY: i64 = 6 << 20;
/// The period that fractions of a processor are counted in, in microseconds.
const PERIOD: i64 = 100_000;

/// Block devices by path, as major and minor numbers.
type Devices = BTreeMap<String, (i64, i64)>;

/// The runtime's limits.
///
/// # Errors
/// [`Error::Invalid`] with Docker's words for what cannot be.
pub(crate) fn resources(asked: &Resources, devices: &Devices) -> Result<runtime::Resources> {
    Ok(runtime::Resources {
        devices: Vec::new(),
        memory: memory(asked)?,
        cpu: cpu(asked)?,
        pids: asked.pids.filter(|limit| *limit != 0).map(|limit| Pids { limit }),
        block_io: block_io(asked, devices)?,
    })
}

/// The largest weight of the kernel's scheduler (`MAX_SHARES`): more would silently be this.
const MOST_SHARES: i64 = 262_144;

fn invalid<T>(text: &str) -> Result<T> {
    Err(Error::Invalid(text.to_owned()))
}

fn memory(asked: &Resources) -> Result<Option<Memory>> {
    let (limit, swap, reservation) = (asked.memory, asked.memory_swap, asked.memory_reservation);
    if limit != 0 && limit < LEAST_MEMORY {
        return invalid("Minimum memory limit allowed is 6MB");
    }
    if limit > 0 && swap > 0 && swap < limit {
        return invalid("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if limit == 0 && swap > 0 {
        return invalid("You should always set the Memory limit when using Memoryswap limit, see usage");
    }
    if reservation != 0 && reservation < LEAST_MEMORY {
        return invalid("Minimum memory reservation allowed is 6MB");
    }
    if limit > 0 && reservation > limit {
        return invalid("Minimum memory limit can not be less than memory reservation limit, see usage");
    }
    if asked.memory_swappiness.is_some_and(|value| !(-1..=100).contains(&value)) {
        return invalid("Invalid value for memory swappiness: valid memory swappiness range is 0-100");
    }
    let some = |value: i64| (value != 0).then_some(value);
    let memory = Memory {
        limit: some(limit),
        reservation: some(reservation),
        // Without a word about swap, Docker allows as much again as the memory.
        swap: some(swap).or(some(limit).map(|limit| limit.saturating_mul(2))),
        swappiness: asked.memory_swappiness.and_then(|value| u64::try_from(value).ok()),
        disable_oom_killer: asked.oom_kill_disable.then_some(true),
    };
    Ok((memory != Memory::default()).then_some(memory))
}

/// A hundredth of a processor: less is less than the kernel's shortest quota, 1 ms of each `PERIOD`.
const LEAST_NANO_CPUS: i64 = 10_000_000;

/// Asks how many processors there are, which costs twenty system calls, so only where it matters.
fn check_nano_cpus(wanted: i64) -> Result<()> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let most = i64::try_from(processors).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
    if !(LEAST_NANO_CPUS..=most).contains(&wanted) {
        let text = format!(
            "Range of CPUs is from 0.01 to {processors}.00, as there are only {processors} CPUs available"
        );
        return Err(Error::Invalid(text));
    }
    Ok(())
}

fn cpu(asked: &Resources) -> Result<Option<Cpu>> {
    if asked.nano_cpus > 0 && (asked.cpu_period > 0 || asked.cpu_quota > 0) {
        return invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if asked.nano_cpus != 0 {
        check_nano_cpus(asked.nano_cpus)?;
    }
    if asked.cpu_period != 0 && !(1_000..=1_000_000).contains(&asked.cpu_period) {
        return invalid(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if asked.cpu_quota > 0 && asked.cpu_quota < 1_000 {
        return invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if asked.cpu_shares == 1 {
        return invalid("The minimum allowed cpu-shares is 2");
    }
    if asked.cpu_shares > MOST_SHARES {
        return Err(Error::Invalid(format!("The maximum allowed cpu-shares is {MOST_SHARES}")));
    }
    if asked.cpu_shares < 0 {
        return Err(Error::Invalid(format!(
            "invalid CPU shares ({}): value must be a positive integer",
            asked.cpu_shares
        )));
    }
    check_list("cpus", &asked.cpuset_cpus)?;
    check_list("mems", &asked.cpuset_mems)?;
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    let (quota, period) = if asked.nano_cpus > 0 {
        (Some(asked.nano_cpus / (1_000_000_000 / PERIOD)), positive(PERIOD))
    } else {
        ((asked.cpu_quota != 0).then_some(asked.cpu_quota), positive(asked.cpu_period))
    };
    let cpu = Cpu {
        shares: positive(asked.cpu_shares),
        quota,
        period,
        realtime_runtime: (asked.cpu_realtime_runtime > 0).then_some(asked.cpu_realtime_runtime),
        realtime_period: positive(asked.cpu_realtime_period),
        cpus: asked.cpuset_cpus.clone(),
        mems: asked.cpuset_mems.clone(),
    };
    Ok((cpu != Cpu::default()).then_some(cpu))
}

/// Checks a list such as `0-2,7` without expanding it (CVE-2018-20699).
fn check_list(of: &str, list: &str) -> Result<()> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number < 8192);
    let range = |part: &str| match part.split_once('-') {
        Some((first, last)) => matches!((number(first), number(last)), (Some(a), Some(b)) if a <= b),
        None => number(part).is_some(),
    };
    if list.is_empty() || list.split(',').all(range) {
        Ok(())
    } else {
        Err(Error::Invalid(format!("Invalid value {list} for cpuset {of}")))
    }
}

fn block_io(asked: &Resources, devices: &Devices) -> Result<Option<BlockIo>> {
    if asked.blkio_weight > 0 && !(10..=1000).contains(&asked.blkio_weight) {
        return invalid("Range of blkio weight is from 10 to 1000");
    }
    let find = |rate: &DeviceRate| {
        let missing = || Error::Invalid(format!("{} is no block device of this machine", rate.path));
        devices.get(&rate.path).copied().ok_or_else(missing)
    };
    let throttles = |rates: &[DeviceRate]| -> Result<Vec<ThrottleDevice>> {
        rates
            .iter()
            .map(|rate| find(rate).map(|(major, minor)| ThrottleDevice { major, minor, rate: rate.rate }))
            .collect()
    };
    let weights = asked
        .blkio_weight_device
        .iter()
        .map(|rate| {
            let weight = u16::try_from(rate.rate).ok().filter(|weight| (10..=1000).contains(weight));
            let weight = weight
                .ok_or_else(|| Error::Invalid("Range of blkio weight is from 10 to 1000".to_owned()))?;
            find(rate).map(|(major, minor)| WeightDevice { major, minor, weight })
        })
        .collect::<Result<_>>()?;
    let block_io = BlockIo {
        weight: (asked.blkio_weight > 0).then_some(asked.blkio_weight),
        weight_device: weights,
        throttle_read_bps_device: throttles(&asked.blkio_read_bps)?,
        throttle_write_bps_device: throttles(&asked.blkio_write_bps)?,
        throttle_read_iops_device: throttles(&asked.blkio_read_iops)?,
        throttle_write_iops_device: throttles(&asked.blkio_write_iops)?,
    };
    Ok((block_io != BlockIo::default()).then_some(block_io))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_limits_are_refused_and_possible_ones_translate() {
        let with = |change: fn(&mut Resources)| {
            let mut asked = Resources::default();
            change(&mut asked);
            resources(&asked, &Devices::new())
        };
        let refused: [fn(&mut Resources); 10] = [
            |r| r.memory = 1024,
            |r| r.memory = -5,
            |r| (r.memory, r.memory_swap) = (64 << 20, 32 << 20),
            |r| r.memory_swap = 64 << 20,
            |r| r.nano_cpus = i64::MAX,
            |r| r.nano_cpus = 81,
            |r| r.cpu_period = 5,
            |r| r.cpuset_cpus = "0-9999999999".into(),
            |r| r.blkio_weight = 5,
            |r| r.blkio_read_bps = vec![DeviceRate { path: "/dev/nope".into(), rate: 1 }],
        ];
        for (index, change) in refused.into_iter().enumerate() {
            assert!(with(change).is_err(), "case {index}");
        }
        let memory = with(|r| r.memory = 64 << 20).unwrap().memory.unwrap();
        assert_eq!((memory.limit, memory.swap), (Some(64 << 20), Some(128 << 20)));
        let cpu = with(|r| r.nano_cpus = 500_000_000).unwrap().cpu.unwrap();
        assert_eq!((cpu.quota, cpu.period), (Some(50_000), Some(100_000)));
        assert_eq!(with(|_| ()).unwrap(), runtime::Resources::default());
    }
}
