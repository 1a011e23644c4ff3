//! `--device`, `--gpus`, `--ulimit` and the block IO limits.

use coracle_api::container::{DeviceMapping, DeviceRequest, ThrottleDevice, Ulimit, WeightDevice};

use super::{Invalid, invalid, pairs, size};
use std::collections::BTreeMap;

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

/// `all`, a number, or `key=value` pairs, in fields as of a table: what has commas in it stands in quotation marks.
pub(crate) fn gpus(text: &str) -> Result<DeviceRequest, Invalid> {
    let mut request = DeviceRequest { options: Some(BTreeMap::new()), ..DeviceRequest::default() };
    let mut seen = Vec::new();
    for field in fields(text)? {
        let (key, value) = field.split_once('=').unwrap_or(("count", &field));
        if seen.iter().any(|before| before == key) {
            return invalid(format!("gpu request key '{key}' can be specified only once"));
        }
        let list = || value.split(',').map(str::to_owned);
        match key {
            "count" => request.count = gpu_count(value)?,
            "driver" => value.clone_into(&mut request.driver),
            "device" => request.device_ids = Some(list().collect()),
            "capabilities" => request.capabilities = Some(vec![list().chain(["gpu".to_owned()]).collect()]),
            "options" => request.options = Some(pairs::strict_map(&fields(value)?)?),
            _ => return invalid(format!("unexpected key '{key}' in '{field}'")),
        }
        seen.push(key.to_owned());
    }
    if !seen.iter().any(|key| key == "count" || key == "device") {
        request.count = 1;
    }
    request.capabilities.get_or_insert_with(|| vec![vec!["gpu".to_owned()]]);
    Ok(request)
}

/// The fields of a line of a table (RFC 4180): separated by commas, those with commas in quotation marks.
fn fields(text: &str) -> Result<Vec<String>, Invalid> {
    let (mut fields, mut field, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if is_quoted && letters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' if is_quoted || field.is_empty() => is_quoted = !is_quoted,
            '"' => return invalid(format!("bare \" in {text}")),
            ',' if !is_quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    if is_quoted {
        return invalid(format!("a quotation mark is missing in {text}"));
    }
    fields.push(field);
    Ok(fields)
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
        let request = gpus("\"device=0,2\",driver=nvidia,\"capabilities=utility,compute\"").unwrap();
        assert_eq!((request.count, request.driver.as_str()), (0, "nvidia"));
        assert_eq!(request.device_ids, Some(vec!["0".to_owned(), "2".to_owned()]));
        let capabilities = ["utility", "compute", "gpu"].map(str::to_owned).to_vec();
        assert_eq!(request.capabilities, Some(vec![capabilities]));
        assert_eq!(gpus("driver=amd").map(|request| request.count), Ok(1));
        for text in ["many", "1,2", "device=0,GPU-1", "\"all", "a\"b", "colour=red"] {
            assert!(gpus(text).is_err(), "{text}");
        }
    }
}
