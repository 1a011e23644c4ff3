//! `--publish` and `--expose`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use coracle_api::Empty;
use coracle_api::container::{PortBinding, PortMap};

use super::{Invalid, invalid};

/// Ports of one container: exposed ones and their bindings.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Ports {
    pub(crate) exposed: BTreeMap<String, Empty>,
    pub(crate) bindings: PortMap,
}

impl Ports {
    /// Adds one `--publish`: `[[address:][host port[-end]]:]container port[-end][/protocol]`, or `key=value` pairs.
    pub(crate) fn publish(&mut self, text: &str) -> Result<(), Invalid> {
        let short = if text.contains('=') { from_pairs(text)? } else { text.to_owned() };
        let (rest, protocol) = split_protocol(&short)?;
        let (address, host, container) = split_binding(rest)?;
        let container = range(container)?;
        let host = if host.is_empty() { None } else { Some(range(host)?) };
        let count = container.clone().count();
        if let Some(host) = &host
            && host.clone().count() != count
            && count != 1
        {
            return invalid(format!("invalid ranges specified for container and host Ports: {text}"));
        }
        for (index, port) in container.enumerate() {
            let host_port = match &host {
                None => String::new(),
                // A range for one container port leaves the choice to the daemon.
                Some(host) if count == 1 && host.start() != host.end() => {
                    format!("{}-{}", host.start(), host.end())
                }
                Some(host) => host.clone().nth(index).expect("ranges of one length").to_string(),
            };
            let key = format!("{port}/{protocol}");
            self.exposed.insert(key.clone(), Empty {});
            let binding = PortBinding { host_ip: address.to_owned(), host_port };
            self.bindings.entry(key).or_default().get_or_insert_default().push(binding);
        }
        Ok(())
    }

    /// Takes away one `--publish-rm`: what [`Self::publish`] has taken, or every binding of `container port[/protocol]`.
    pub(crate) fn withdraw(&mut self, text: &str) -> Result<(), Invalid> {
        let mut meant = Self::default();
        meant.publish(text)?;
        let mut found = false;
        for (port, bindings) in meant.bindings {
            let Some(own) = self.bindings.get_mut(&port).and_then(Option::as_mut) else { continue };
            let before = own.len();
            // Without a port of the host all that lead there are meant.
            let is_meant = |own: &PortBinding| {
                let same = |meant: &PortBinding| {
                    (meant.host_port.is_empty() || meant.host_port == own.host_port)
                        && (meant.host_ip.is_empty() || meant.host_ip == own.host_ip)
                };
                bindings.iter().flatten().any(same)
            };
            own.retain(|own| !is_meant(own));
            found |= own.len() < before;
        }
        if found { Ok(()) } else { invalid(format!("{text} is not published")) }
    }

    /// Adds one `--expose`: `port[-end][/protocol]`.
    pub(crate) fn expose(&mut self, text: &str) -> Result<(), Invalid> {
        if text.contains(':') {
            return invalid(format!("invalid port format for --expose: {text}"));
        }
        let (ports, protocol) = split_protocol(text)?;
        self.exposed.extend(range(ports)?.map(|port| (format!("{port}/{protocol}"), Empty {})));
        Ok(())
    }
}

/// `published=8080,target=80,protocol=tcp` in the short form.
fn from_pairs(text: &str) -> Result<String, Invalid> {
    let (mut published, mut target, mut protocol) = (String::new(), String::new(), "tcp".to_owned());
    for pair in text.split(',') {
        match pair.split_once('=') {
            Some(("published", value)) => published = value.to_owned(),
            Some(("target", value)) => target = value.to_owned(),
            Some(("protocol", value)) => protocol = value.to_owned(),
            Some(("mode", "host" | "ingress")) => {}
            _ => return invalid(format!("invalid field: {pair}")),
        }
    }
    if target.is_empty() {
        return invalid(format!("missing target in {text}"));
    }
    let separator = if published.is_empty() { "" } else { ":" };
    Ok(format!("{published}{separator}{target}/{protocol}"))
}

fn split_protocol(text: &str) -> Result<(&str, String), Invalid> {
    let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_lowercase();
    match protocol.as_str() {
        "tcp" | "udp" | "sctp" => Ok((rest, protocol)),
        _ => invalid(format!("invalid proto: {protocol}")),
    }
}

/// Address, host port and container port; the address may be an IPv6 one in brackets.
fn split_binding(text: &str) -> Result<(&str, &str, &str), Invalid> {
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, rest)) = rest.split_once("]:") else {
            return invalid(format!("invalid address: {text}"));
        };
        return address_checked(address, text).and_then(|address| match rest.split_once(':') {
            Some((host, container)) => Ok((address, host, container)),
            None => invalid(format!("invalid containerPort: {text}")),
        });
    }
    let mut parts = text.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let host = parts.next().unwrap_or_default();
    Ok((address_checked(parts.next().unwrap_or_default(), text)?, host, container))
}

fn address_checked<'a>(address: &'a str, text: &str) -> Result<&'a str, Invalid> {
    if address.is_empty() || address.parse::<std::net::IpAddr>().is_ok() {
        return Ok(address);
    }
    invalid(format!("invalid IP address: {address} in {text}"))
}

fn range(text: &str) -> Result<RangeInclusive<u16>, Invalid> {
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    match (start.parse::<u16>(), end.parse::<u16>()) {
        (Ok(start), Ok(end)) if start <= end && start > 0 => Ok(start..=end),
        _ if text.is_empty() => invalid("no port specified: empty containerPort"),
        _ => invalid(format!("invalid containerPort: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bindings(text: &str) -> Option<Vec<(String, String, String)>> {
        let mut ports = Ports::default();
        ports.publish(text).ok()?;
        assert_eq!(ports.exposed.keys().collect::<Vec<_>>(), ports.bindings.keys().collect::<Vec<_>>());
        let flat = ports.bindings.into_iter().flat_map(|(port, list)| {
            list.into_iter().flatten().map(move |binding| (port.clone(), binding.host_ip, binding.host_port))
        });
        Some(flat.collect())
    }

    #[test]
    fn every_form_of_publish_parses() {
        let one = |port: &str, address: &str, host: &str| vec![(port.into(), address.into(), host.into())];
        assert_eq!(bindings("80"), Some(one("80/tcp", "", "")));
        assert_eq!(bindings("8080:80"), Some(one("80/tcp", "", "8080")));
        assert_eq!(bindings("127.0.0.1:8080:80/udp"), Some(one("80/udp", "127.0.0.1", "8080")));
        assert_eq!(bindings("127.0.0.1::80"), Some(one("80/tcp", "127.0.0.1", "")));
        assert_eq!(bindings("[::1]:8080:80"), Some(one("80/tcp", "::1", "8080")));
        assert_eq!(bindings("8080-8090:80"), Some(one("80/tcp", "", "8080-8090")));
        assert_eq!(bindings("published=81,target=80,protocol=udp"), Some(one("80/udp", "", "81")));
        let two = bindings("8080-8081:80-81").expect("parses");
        assert_eq!(two[1], ("81/tcp".into(), String::new(), "8081".into()));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "x", "0", "70000", "1:2:3", "80/xyz", "8080-8085:80-81", "90-80", "[::1:80", "a=b", "8080:"]
        {
            assert_eq!(bindings(text), None, "{text:?}");
        }
        assert!(Ports::default().expose("80:80").is_err());
    }

    #[test]
    fn exposed_ranges_are_expanded() {
        let mut ports = Ports::default();
        ports.expose("80-81/udp").expect("parses");
        assert_eq!(ports.exposed.into_keys().collect::<Vec<_>>(), ["80/udp", "81/udp"]);
        assert!(ports.bindings.is_empty());
    }

    #[test]
    fn what_was_published_is_withdrawn_by_binding_or_by_port() {
        let left = |withdrawn: &str| {
            let mut ports = Ports::default();
            for text in ["8080:80", "127.0.0.1:8081:80", "53:53/udp"] {
                ports.publish(text).expect(text);
            }
            ports.withdraw(withdrawn).ok()?;
            Some(
                ports
                    .bindings
                    .values()
                    .flatten()
                    .flatten()
                    .map(|binding| binding.host_port.clone())
                    .collect::<Vec<_>>(),
            )
        };
        let some = |ports: &[&str]| Some(ports.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(left("8080:80"), some(&["53", "8081"]));
        assert_eq!(left("127.0.0.1:8081:80"), some(&["53", "8080"]));
        assert_eq!(left("80"), some(&["53"]));
        assert_eq!(left("53/udp"), some(&["8080", "8081"]));
        for text in ["53", "8082:80", "127.0.0.1:8080:80", "x"] {
            assert_eq!(left(text), None, "{text}");
        }
    }
}
