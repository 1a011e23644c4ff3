//! `ssh://[USER@]HOST[:PORT][/NAME]`: another machine, as arguments of the system's ssh.

use coracle_spec::Reference;

use super::Invalid;

/// Another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) user: Option<String>,
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    /// What stands behind the host: what an image is to be called there.
    pub(crate) name: Option<String>,
}

impl Destination {
    /// Parses an address. What ssh could take for an option is refused (CVE-2017-1000117), and so are passwords, which
    /// every process list would show.
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        let refused = |reason: &str| Invalid(format!("cannot send to {text:?}: {reason}"));
        let rest = text.strip_prefix("ssh://").ok_or_else(|| refused("it must begin with ssh://"))?;
        let (authority, name) =
            rest.split_once('/').map_or((rest, ""), |(authority, name)| (authority, name));
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, authority),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err(refused("a password does not belong there: use a key or an agent"));
        }
        let (host, port) = split_port(address).ok_or_else(|| refused("it is not HOST or HOST:PORT"))?;
        if !user.is_none_or(is_plain) {
            return Err(refused("that is no user name"));
        }
        if !is_plain(host) {
            return Err(refused("that is no host name"));
        }
        let name = (!name.is_empty()).then(|| name.to_owned());
        if let Some(name) = &name {
            let parsed: Result<Reference, _> = name.parse();
            let parsed = parsed.map_err(|error| refused(&error.to_string()))?;
            if parsed.digest().is_some() {
                return Err(refused("an image cannot be given a name with a digest"));
            }
        }
        Ok(Self { user: user.map(str::to_owned), host: host.to_owned(), port, name })
    }

    /// The arguments of ssh that run `command` there. None of them goes through a shell here; there, ssh's server gives
    /// the command to the user's login shell, so it holds nothing that a shell reads otherwise.
    pub(crate) fn arguments(&self, command: &[&str]) -> Vec<String> {
        let mut arguments = vec!["-o".to_owned(), "ConnectTimeout=30".to_owned(), "-T".to_owned()];
        if let Some(user) = &self.user {
            arguments.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        arguments.extend(["--".to_owned(), self.host.clone()]);
        arguments.extend(command.iter().map(|word| (*word).to_owned()));
        arguments
    }
}

/// A host and a port that need no decoding; an IPv6 address stands in brackets.
fn split_port(address: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) })
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    match port {
        None => Some((host, None)),
        Some(port) => port.parse().ok().filter(|port| *port != 0).map(|port| (host, Some(port))),
    }
}

/// Whether ssh cannot take it for an option, nor for anything with a place in its configuration.
fn is_plain(text: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:%".contains(&byte);
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_becomes_arguments() {
        for (text, expected, name) in [
            ("ssh://host", "-- host", None),
            ("ssh://host/", "-- host", None),
            ("ssh://me@host:2222/team/app:v1", "-l me -p 2222 -- host", Some("team/app:v1")),
            ("ssh://[fe80::1%eth0]:22/x", "-p 22 -- fe80::1%eth0", Some("x")),
            ("ssh://alias_of-mine", "-- alias_of-mine", None),
        ] {
            let parsed = Destination::parse(text).unwrap();
            let arguments = parsed.arguments(&["coracle", "image"]).join(" ");
            assert_eq!(arguments, format!("-o ConnectTimeout=30 -T {expected} coracle image"), "{text}");
            assert_eq!(parsed.name.as_deref(), name, "{text}");
        }
    }

    #[test]
    fn what_ssh_or_a_shell_would_read_otherwise_is_refused() {
        let digest = format!("ssh://host/app@sha256:{}", "a".repeat(64));
        for text in [
            "host",
            "ssh://",
            "ssh:///name",
            "ssh://-oProxyCommand=x",
            "ssh://-oProxyCommand=x/name",
            "ssh://-l@host",
            "ssh://@host",
            "ssh://me@",
            "ssh://me@-host",
            "ssh://[-oProxyCommand=x]",
            "ssh://me:secret@host",
            "ssh://a@b@host",
            "ssh://host:",
            "ssh://host:0",
            "ssh://host:65536",
            "ssh://host:-1",
            "ssh://host:22:22",
            "ssh://[::1",
            "ssh://[::1]22",
            "ssh://ho st",
            "ssh://host;id",
            "ssh://host$(id)",
            "ssh://host\nx",
            "ssh://host?x=y",
            "ssh://host#x",
            "ssh://h\u{f6}st",
            "ssh://host/NAME",
            "ssh://host/../x",
            digest.as_str(),
        ] {
            assert!(Destination::parse(text).is_err(), "{text}");
        }
    }
}
