//! Limits and the restart policy, for `run`, `create` and `update`.

use coracle_api::container::{HostConfig, RestartPolicy};

use super::{Invalid, device, invalid, size};
use crate::args::create::ResourceArgs;

/// Writes the limits into a host configuration; zero means "not given", as the API has it.
pub(crate) fn apply(args: &ResourceArgs, host: &mut HostConfig) -> Result<(), Invalid> {
    let bytes = |text: &Option<String>| text.as_deref().map_or(Ok(0), size::bytes);
    host.blkio_weight = args.blkio_weight;
    host.cpu_period = args.cpu_period;
    host.cpu_quota = args.cpu_quota;
    host.cpu_realtime_period = args.cpu_rt_period;
    host.cpu_realtime_runtime = args.cpu_rt_runtime;
    host.cpu_shares = args.cpu_shares;
    host.nano_cpus = args.cpus.as_deref().map_or(Ok(0), size::nano_cpus)?;
    args.cpuset_cpus.clone_into(&mut host.cpuset_cpus);
    args.cpuset_mems.clone_into(&mut host.cpuset_mems);
    host.memory = bytes(&args.memory)?;
    host.memory_reservation = bytes(&args.memory_reservation)?;
    host.memory_swap = args.memory_swap.as_deref().map_or(Ok(0), size::bytes_or_unlimited)?;
    host.memory_swappiness = args.memory_swappiness;
    host.pids_limit = args.pids_limit;
    host.blkio_weight_device = each(&args.blkio_weight_device, device::weight)?;
    host.blkio_device_read_bps = each(&args.device_read_bps, device::byte_rate)?;
    host.blkio_device_write_bps = each(&args.device_write_bps, device::byte_rate)?;
    host.blkio_device_read_iops = each(&args.device_read_iops, device::operation_rate)?;
    host.blkio_device_write_iops = each(&args.device_write_iops, device::operation_rate)?;
    Ok(())
}

/// Every argument parsed; `None` without arguments.
pub(crate) fn each<T>(
    texts: &[String],
    parse: fn(&str) -> Result<T, Invalid>,
) -> Result<Option<Vec<T>>, Invalid> {
    let list: Vec<T> = texts.iter().map(|text| parse(text)).collect::<Result<_, _>>()?;
    Ok((!list.is_empty()).then_some(list))
}

/// `no`, `always`, `unless-stopped` or `on-failure[:retries]`; other names are for the daemon to refuse.
pub(crate) fn restart(text: &str) -> Result<RestartPolicy, Invalid> {
    let (name, retries) = text.split_once(':').unwrap_or((text, "0"));
    if name.is_empty() && !text.is_empty() {
        return invalid("invalid restart policy format: no policy provided before colon");
    }
    match retries.parse() {
        Ok(maximum_retry_count) => Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count }),
        Err(_) => invalid("invalid restart policy format: maximum retry count must be an integer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_policies_have_an_optional_count() {
        let parts = |text| restart(text).ok().map(|policy| (policy.name, policy.maximum_retry_count));
        assert_eq!(parts("on-failure:3"), Some(("on-failure".into(), 3)));
        assert_eq!(parts("always"), Some(("always".into(), 0)));
        assert_eq!(parts("on-failure:x"), None);
        assert_eq!(parts(":1"), None);
    }
}
