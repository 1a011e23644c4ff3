//! Which namespaces a container has of its own, and with whom it shares the others. Parses Docker's words.

use std::fmt;

/// The network of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NetworkMode {
    /// The default bridge; `default` and `bridge` on the wire, which remembers the word.
    #[default]
    Default,
    /// The default bridge, by its name.
    Bridge,
    /// The host's.
    Host,
    /// A loopback only.
    None,
    /// Another container's.
    Container(String),
    /// A network by name or id.
    Named(String),
}

impl NetworkMode {
    /// Parses what stands in `HostConfig.NetworkMode`.
    pub fn parse(text: &str) -> Self {
        match text {
            "" | "default" => Self::Default,
            "bridge" => Self::Bridge,
            "host" => Self::Host,
            "none" => Self::None,
            other => match other.strip_prefix("container:") {
                Some(container) => Self::Container(container.to_owned()),
                None => Self::Named(other.to_owned()),
            },
        }
    }

    /// Whether it is the default bridge.
    pub fn is_bridge(&self) -> bool {
        matches!(self, Self::Default | Self::Bridge)
    }
}

impl fmt::Display for NetworkMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Bridge => f.write_str("bridge"),
            Self::Host => f.write_str("host"),
            Self::None => f.write_str("none"),
            Self::Container(container) => write!(f, "container:{container}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// The pid namespace of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PidMode {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// Another container's.
    Container(String),
}

impl PidMode {
    /// Parses what stands in `HostConfig.PidMode`; `None` for what means nothing.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "" | "private" => Self::Private,
            "host" => Self::Host,
            other => Self::Container(container_of(other)?),
        })
    }
}

impl fmt::Display for PidMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private => Ok(()),
            Self::Host => f.write_str("host"),
            Self::Container(container) => write!(f, "container:{container}"),
        }
    }
}

/// The ipc namespace of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IpcMode {
    /// Its own.
    #[default]
    Private,
    /// Its own, which others may join.
    Shareable,
    /// Its own, without `/dev/shm`.
    None,
    /// The host's.
    Host,
    /// Another container's.
    Container(String),
}

impl IpcMode {
    /// Parses what stands in `HostConfig.IpcMode`; `None` for what means nothing.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "" | "private" => Self::Private,
            "shareable" => Self::Shareable,
            "none" => Self::None,
            "host" => Self::Host,
            other => Self::Container(container_of(other)?),
        })
    }
}

impl fmt::Display for IpcMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Private => f.write_str("private"),
            Self::Shareable => f.write_str("shareable"),
            Self::None => f.write_str("none"),
            Self::Host => f.write_str("host"),
            Self::Container(container) => write!(f, "container:{container}"),
        }
    }
}

/// The uts namespace of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UtsMode {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
}

impl UtsMode {
    /// Parses what stands in `HostConfig.UTSMode`; `None` for what means nothing.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "private" => Some(Self::Private),
            "host" => Some(Self::Host),
            _ => None,
        }
    }
}

impl fmt::Display for UtsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Host { "host" } else { "" })
    }
}

/// The user namespace of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserMode {
    /// Its own where the engine gives out ids for that, else the host's.
    #[default]
    OfEngine,
    /// The host's.
    Host,
}

impl UserMode {
    /// Parses what stands in `HostConfig.UsernsMode`; `None` for what means nothing.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" => Some(Self::OfEngine),
            "host" => Some(Self::Host),
            _ => None,
        }
    }
}

impl fmt::Display for UserMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Host { "host" } else { "" })
    }
}

/// The cgroup namespace of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupMode {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
}

impl CgroupMode {
    /// Parses what stands in `HostConfig.CgroupnsMode`; `None` for what means nothing.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "private" => Some(Self::Private),
            "host" => Some(Self::Host),
            _ => None,
        }
    }
}

impl fmt::Display for CgroupMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Host { "host" } else { "private" })
    }
}

fn container_of(text: &str) -> Option<String> {
    text.strip_prefix("container:").filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back_as_they_were_written() {
        for word in ["default", "bridge", "host", "none", "container:web", "backend"] {
            assert_eq!(NetworkMode::parse(word).to_string(), word);
        }
        for word in ["private", "shareable", "none", "host", "container:web"] {
            assert_eq!(IpcMode::parse(word).unwrap().to_string(), word);
        }
        assert_eq!(PidMode::parse("container:"), None);
        assert_eq!(UtsMode::parse("container:a"), None);
    }
}
