//! `--device`, `--gpus`, `--ulimit` and the block IO limits.

use coracle_api::container::{DeviceMapping, DeviceRequest, ThrottleDevice, Ulimit, WeightDevice};

use super::{Invalid, invalid, size};

/// `host[:container][:permissions]`.
pub(crate) fn device(text: &str) -> Result<DeviceMapping, Invalid> {
    let parts: Vec<&str> = text.split(':').collect();
    let permissions = |text: &str| !text.is_empty() && text.chars().all(|letter| "rwm".contains(letter));
    let (host, container, cgroup) = match *parts.as_slice() {
        [host] => (host, host, "rwm"),
        [host, mode] if permissions(mode) => (host, host, mode),
        [host, container] => (host, container, "rwm"),
        [host, container, mode] if permissions(mode) => (host, container, mode),
        _ => return invalid(format!("invalid device specification: {text}")),
    };
    if host.is_empty() || container.is_empty() {
        return invalid(format!("invalid device specification: {text}"));
    }
    let mapping = |text: &str| text.to_owned();
    Ok(DeviceMapping {
        path_on_host: mapping(host),
        path_in_container: mapping(container),
        cgroup_permissions: mapping(cgroup),
    })
}

/// The request for all devices of the CDI kind.
pub(crate) fn cdi_request(names: Vec<String>) -> DeviceRequest {
    DeviceRequest { driver: "cdi".into(), device_ids: Some(names), ..DeviceRequest::default() }
}

/// `all`, a number, or `key=value` pairs.
pub(crate) fn gpus(text: &str) -> Result<DeviceRequest, Invalid> {
    let mut capabilities = vec!["gpu".to_owned()];
    let mut request = DeviceRequest::default();
    for field in text.split(',') {
        match field.split_once('=') {
            None => request.count = gpu_count(field)?,
            Some(("count", value)) => request.count = gpu_count(value)?,
            Some(("driver", value)) => value.clone_into(&mut request.driver),
            Some(("device", value)) => request.device_ids.get_or_insert_default().push(value.to_owned()),
            Some(("capabilities", value)) => capabilities.push(value.to_owned()),
            Some((key, _)) => return invalid(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    if request.count == 0 && request.device_ids.is_none() {
        request.count = 1;
    }
    request.capabilities = Some(vec![capabilities]);
    Ok(request)
}

fn gpu_count(text: &str) -> Result<i64, Invalid> {
    if text == "all" {
        return Ok(-1);
    }
    text.parse()
        .or_else(|_| invalid(format!("invalid count ({text}): value must be either \"all\" or an integer")))
}

/// `name=soft[:hard]`.
pub(crate) fn ulimit(text: &str) -> Result<Ulimit, Invalid> {
    let parsed = text.split_once('=').and_then(|(name, limits)| {
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        Some(Ulimit { name: name.to_owned(), soft: soft.parse().ok()?, hard: hard.parse().ok()? })
    });
    match parsed {
        Some(limit) if limit.hard != -1 && (limit.soft > limit.hard || limit.soft == -1) => invalid(format!(
            "ulimit soft limit must be less than or equal to hard limit: {} > {}",
            limit.soft, limit.hard
        )),
        Some(limit) => Ok(limit),
        None => invalid(format!("invalid ulimit argument: {text}")),
    }
}

/// `path:weight`.
pub(crate) fn weight(text: &str) -> Result<WeightDevice, Invalid> {
    let parsed = text.split_once(':').and_then(|(path, weight)| {
        let weight: u16 =
            weight.parse().ok().filter(|weight| *weight == 0 || (10..=1000).contains(weight))?;
        path.starts_with("/dev/").then(|| WeightDevice { path: path.to_owned(), weight })
    });
    parsed.map_or_else(|| invalid(format!("bad format: {text} must be /dev/path:weight, 10 to 1000")), Ok)
}

/// `path:rate`, the rate in bytes with an optional unit.
pub(crate) fn byte_rate(text: &str) -> Result<ThrottleDevice, Invalid> {
    rate(text, |rate| size::bytes(rate).ok().and_then(|bytes| u64::try_from(bytes).ok()))
}

/// `path:rate`, the rate in operations.
pub(crate) fn operation_rate(text: &str) -> Result<ThrottleDevice, Invalid> {
    rate(text, |rate| rate.parse().ok())
}

fn rate(text: &str, parse: impl Fn(&str) -> Option<u64>) -> Result<ThrottleDevice, Invalid> {
    let parsed = text.split_once(':').and_then(|(path, rate)| {
        let rate = parse(rate)?;
        path.starts_with("/dev/").then(|| ThrottleDevice { path: path.to_owned(), rate })
    });
    parsed.map_or_else(|| invalid(format!("bad format: {text} must be /dev/path:rate")), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_a_path_another_path_and_permissions() {
        let parts =
            |text| device(text).ok().map(|d| [d.path_on_host, d.path_in_container, d.cgroup_permissions]);
        let expected = |parts: [&str; 3]| Some(parts.map(str::to_owned));
        assert_eq!(parts("/dev/a"), expected(["/dev/a", "/dev/a", "rwm"]));
        assert_eq!(parts("/dev/a:r"), expected(["/dev/a", "/dev/a", "r"]));
        assert_eq!(parts("/dev/a:/dev/b"), expected(["/dev/a", "/dev/b", "rwm"]));
        assert_eq!(parts("/dev/a:/dev/b:rw"), expected(["/dev/a", "/dev/b", "rw"]));
        assert_eq!(parts("/dev/a:/dev/b:x"), None);
        assert_eq!(parts(":"), None);
    }

    #[test]
    fn limits_parse_or_are_refused() {
        assert_eq!(ulimit("nofile=1024:2048").map(|limit| (limit.soft, limit.hard)), Ok((1024, 2048)));
        assert_eq!(ulimit("core=-1").map(|limit| (limit.soft, limit.hard)), Ok((-1, -1)));
        for text in ["nofile", "nofile=2:1", "nofile=-1:1", "nofile=x"] {
            assert!(ulimit(text).is_err(), "{text}");
        }
        assert_eq!(byte_rate("/dev/sda:1mb").map(|limit| limit.rate), Ok(1 << 20));
        assert_eq!(operation_rate("/dev/sda:100").map(|limit| limit.rate), Ok(100));
        assert!(
            byte_rate("sda:1").is_err() && weight("/dev/sda:5").is_err() && weight("/dev/sda:500").is_ok()
        );
        assert_eq!(gpus("all").map(|request| request.count), Ok(-1));
        assert_eq!(gpus("2").map(|request| request.count), Ok(2));
        assert_eq!(gpus("device=0,capabilities=utility").map(|request| request.count), Ok(0));
        assert!(gpus("many").is_err());
    }
}
