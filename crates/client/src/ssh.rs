//! `ssh://[USER@]HOST[:PORT]`: another machine, as arguments of the system's ssh. Pure.

/// Who is to be reached where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshHost {
    /// The account there; ssh's own choice without one.
    pub user: Option<String>,
    /// Name or address, or what stands in ssh's configuration.
    pub host: String,
    /// Port; ssh's own choice without one.
    pub port: Option<u16>,
}

impl SshHost {
    /// Parses `[USER@]HOST[:PORT]`. What ssh could take for an option is refused (CVE-2017-1000117), and so are
    /// passwords, which every process list would show.
    ///
    /// # Errors
    /// The reason why it means nothing or is refused.
    pub fn parse(authority: &str) -> Result<Self, &'static str> {
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, authority),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err("a password does not belong there: use a key or an agent");
        }
        let (host, port) = split_port(address).ok_or("it is not HOST or HOST:PORT")?;
        if !user.is_none_or(is_plain) {
            return Err("that is no user name");
        }
        if !is_plain(host) {
            return Err("that is no host name");
        }
        Ok(Self { user: user.map(str::to_owned), host: host.to_owned(), port })
    }

    /// The arguments of ssh that run `command` there. None of them goes through a shell here; there, ssh's server gives
    /// the command to the user's login shell, so it must hold nothing that a shell reads otherwise.
    #[must_use]
    pub fn arguments(&self, command: &[&str]) -> Vec<String> {
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

impl std::fmt::Display for SshHost {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(user) = &self.user {
            write!(out, "{user}@")?;
        }
        match self.host.contains(':') {
            true => write!(out, "[{}]", self.host)?,
            false => write!(out, "{}", self.host)?,
        }
        self.port.map_or(Ok(()), |port| write!(out, ":{port}"))
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
