//! `--network`, with its endpoint options.

use std::collections::BTreeMap;

use coracle_api::network::{EndpointIpamConfig, EndpointSettings};

use super::{Invalid, invalid};

/// One network a container joins.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Attachment {
    pub(crate) network: String,
    pub(crate) endpoint: EndpointSettings,
}

/// Parses `name`, or `name=…,alias=…,ip=…,ip6=…,link-local-ip=…,mac-address=…,driver-opt=…,gw-priority=…`.
pub(crate) fn parse(text: &str) -> Result<Attachment, Invalid> {
    let mut attachment = Attachment::default();
    if !text.contains('=') {
        text.clone_into(&mut attachment.network);
        return Ok(attachment);
    }
    for field in text.split(',') {
        let Some((key, value)) = field.split_once('=') else {
            return invalid(format!("invalid field {field}"));
        };
        apply(&mut attachment, &key.trim().to_lowercase(), value.trim())?;
    }
    if attachment.network.is_empty() {
        return invalid(format!("no network name in {text}"));
    }
    Ok(attachment)
}

fn apply(attachment: &mut Attachment, key: &str, value: &str) -> Result<(), Invalid> {
    let endpoint = &mut attachment.endpoint;
    match key {
        "name" => value.clone_into(&mut attachment.network),
        "alias" => endpoint.aliases.get_or_insert_default().push(value.to_owned()),
        "ip" => ipam(endpoint).ipv4_address = address(value)?,
        "ip6" => ipam(endpoint).ipv6_address = address(value)?,
        "link-local-ip" => {
            let address = address(value)?;
            ipam(endpoint).link_local_ips.get_or_insert_default().push(address);
        }
        "mac-address" => value.clone_into(&mut endpoint.mac_address),
        "gw-priority" => match value.parse() {
            Ok(priority) => endpoint.gw_priority = priority,
            Err(_) => return invalid(format!("invalid gw-priority ({value})")),
        },
        "driver-opt" => {
            let Some((key, value)) = value.split_once('=') else {
                return invalid(format!("invalid key value pair format in driver options: {value}"));
            };
            let options: &mut BTreeMap<_, _> = endpoint.driver_opts.get_or_insert_default();
            options.insert(key.to_owned(), value.to_owned());
        }
        other => return invalid(format!("invalid field key {other}")),
    }
    Ok(())
}

/// The addresses asked for.
pub(crate) fn ipam(endpoint: &mut EndpointSettings) -> &mut EndpointIpamConfig {
    endpoint.ipam_config.get_or_insert_default()
}

fn address(text: &str) -> Result<String, Invalid> {
    match text.parse::<std::net::IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => invalid(format!("invalid IP address: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_a_name_and_options() {
        assert_eq!(parse("host").map(|attachment| attachment.network), Ok("host".into()));
        let attachment =
            parse("name=n,alias=a,alias=b,ip=10.0.0.5,driver-opt=k=v,gw-priority=2").expect("parses");
        assert_eq!(attachment.network, "n");
        assert_eq!(attachment.endpoint.aliases, Some(vec!["a".into(), "b".into()]));
        assert_eq!(attachment.endpoint.ipam_config.map(|ipam| ipam.ipv4_address), Some("10.0.0.5".into()));
        assert_eq!(attachment.endpoint.gw_priority, 2);
        for text in [
            "alias=a",
            "name=n,ip=x",
            "name=n,y=z",
            "name=n,gw-priority=x",
            "name=n,driver-opt=k",
            "name=n,x",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
