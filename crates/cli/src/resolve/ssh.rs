//! `ssh://[USER@]HOST[:PORT][/NAME]`: another machine, as arguments of the system's ssh.

use coracle_client::SshHost;
use coracle_spec::Reference;

use super::Invalid;

/// Another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) host: SshHost,
    /// What stands behind the host: what an image is to be called there.
    pub(crate) name: Option<String>,
}

impl Destination {
    /// Parses an address.
    pub(crate) fn parse(text: &str) -> Result<Self, Invalid> {
        let refused = |reason: &str| Invalid(format!("cannot send to {text:?}: {reason}"));
        let rest = text.strip_prefix("ssh://").ok_or_else(|| refused("it must begin with ssh://"))?;
        let (authority, name) =
            rest.split_once('/').map_or((rest, ""), |(authority, name)| (authority, name));
        let host = SshHost::parse(authority).map_err(refused)?;
        let name = (!name.is_empty()).then(|| name.to_owned());
        if let Some(name) = &name {
            let parsed: Result<Reference, _> = name.parse();
            let parsed = parsed.map_err(|error| refused(&error.to_string()))?;
            if parsed.digest().is_some() {
                return Err(refused("an image cannot be given a name with a digest"));
            }
        }
        Ok(Self { host, name })
    }
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
            let arguments = parsed.host.arguments(&["coracle", "image"]).join(" ");
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
