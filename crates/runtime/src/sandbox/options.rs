//! Mount options as text, turned into attributes, propagation and parameters of the file system.
//!
//! Source: OCI runtime-spec, `config.md`, "Linux mount options". Pure; nothing is mounted here.

use crate::error::{Error, Result};
use coracle_sys::mount::{Attributes, Depth, Propagation};

/// What a mount's options ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Attributes of the mount itself.
    pub(crate) set: Attributes,
    /// Attributes that a copied mount must lose.
    pub(crate) clear: Attributes,
    /// Attributes of the mount and all below it (`rro` and its kin).
    pub(crate) set_below: Attributes,
    /// The same, to be lost.
    pub(crate) clear_below: Attributes,
    /// How mount events travel, and whether that holds for what is below as well.
    pub(crate) propagation: Option<(Propagation, Depth)>,
    /// Whether an existing tree is mounted, with what is mounted below it or without.
    pub(crate) bind: Option<Depth>,
    /// Whether the owners of that tree are mapped through the container's user namespace, and how much of it.
    pub(crate) map: Option<Depth>,
    /// What the file system itself is told.
    pub(crate) data: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        let none = Attributes::empty();
        Self {
            set: none,
            clear: none,
            set_below: none,
            clear_below: none,
            propagation: None,
            bind: None,
            map: None,
            data: Vec::new(),
        }
    }
}

impl Options {
    /// Parses the options of one mount.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an option that is known and not supported.
    pub(crate) fn parse(options: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options {
            parsed.take(option)?;
        }
        Ok(parsed)
    }

    fn take(&mut self, option: &str) -> Result<()> {
        let recursive = option.strip_prefix('r').filter(|rest| propagation(rest).is_some());
        if let Some(kind) = propagation(recursive.unwrap_or(option)) {
            self.propagation = Some((kind, if recursive.is_some() { Depth::Recursive } else { Depth::One }));
            return Ok(());
        }
        if let Some((attribute, wanted)) = attribute(option) {
            let (gains, loses) = if wanted { (attribute, none()) } else { (none(), attribute) };
            self.set = (self.set - loses) | gains;
            self.clear = (self.clear - gains) | loses;
            return Ok(());
        }
        if let Some((attribute, wanted)) = option.strip_prefix('r').and_then(attribute) {
            let (gains, loses) = if wanted { (attribute, none()) } else { (none(), attribute) };
            self.set_below = (self.set_below - loses) | gains;
            self.clear_below = (self.clear_below - gains) | loses;
            return Ok(());
        }
        match option {
            "bind" => self.bind = self.bind.or(Some(Depth::One)),
            "rbind" => self.bind = Some(Depth::Recursive),
            "idmap" => self.map = self.map.or(Some(Depth::One)),
            "ridmap" => self.map = Some(Depth::Recursive),
            "defaults" | "" | "async" => {}
            "tmpcopyup" | "mand" | "sync" | "dirsync" | "iversion" | "remount" => {
                return Err(Error::Invalid(format!("mount option {option:?} is not supported")));
            }
            data => self.data.push(data.to_owned()),
        }
        Ok(())
    }
}

fn none() -> Attributes {
    Attributes::empty()
}

fn propagation(option: &str) -> Option<Propagation> {
    Some(match option {
        "private" => Propagation::Private,
        "slave" => Propagation::Slave,
        "shared" => Propagation::Shared,
        "unbindable" => Propagation::Unbindable,
        _ => return None,
    })
}

/// The attribute behind an option, and whether the option sets it.
fn attribute(option: &str) -> Option<(Attributes, bool)> {
    Some(match option {
        "ro" => (Attributes::MOUNT_ATTR_RDONLY, true),
        "rw" => (Attributes::MOUNT_ATTR_RDONLY, false),
        "nosuid" => (Attributes::MOUNT_ATTR_NOSUID, true),
        "suid" => (Attributes::MOUNT_ATTR_NOSUID, false),
        "nodev" => (Attributes::MOUNT_ATTR_NODEV, true),
        "dev" => (Attributes::MOUNT_ATTR_NODEV, false),
        "noexec" => (Attributes::MOUNT_ATTR_NOEXEC, true),
        "exec" => (Attributes::MOUNT_ATTR_NOEXEC, false),
        "nodiratime" => (Attributes::MOUNT_ATTR_NODIRATIME, true),
        "diratime" => (Attributes::MOUNT_ATTR_NODIRATIME, false),
        "noatime" => (Attributes::MOUNT_ATTR_NOATIME, true),
        "strictatime" => (Attributes::MOUNT_ATTR_STRICTATIME, true),
        "nosymfollow" => (Attributes::MOUNT_ATTR_NOSYMFOLLOW, true),
        "symfollow" => (Attributes::MOUNT_ATTR_NOSYMFOLLOW, false),
        // Relative access times are the kernel's default and have no bit of their own.
        "relatime" | "atime" | "norelatime" | "nostrictatime" => (none(), true),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Options {
        Options::parse(&text.split(',').map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn options_become_attributes_propagation_and_data() {
        let options = parse("nosuid,noexec,nodev,mode=1777,size=65536k");
        let expected =
            Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NOEXEC | Attributes::MOUNT_ATTR_NODEV;
        assert_eq!(options.set, expected);
        assert_eq!(options.data, ["mode=1777", "size=65536k"]);
        let options = parse("rbind,ro,rslave");
        assert_eq!(options.bind, Some(Depth::Recursive));
        assert_eq!(options.propagation, Some((Propagation::Slave, Depth::Recursive)));
        assert_eq!(parse("rbind,rro").set_below, Attributes::MOUNT_ATTR_RDONLY);
        assert_eq!((parse("bind,idmap").map, parse("bind").map), (Some(Depth::One), None));
    }

    #[test]
    fn a_later_option_wins_over_an_earlier_one() {
        let options = parse("ro,rw,nosuid,suid,nosuid");
        assert_eq!(options.set, Attributes::MOUNT_ATTR_NOSUID);
        assert_eq!(options.clear, Attributes::MOUNT_ATTR_RDONLY);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        let error = Options::parse(&["tmpcopyup".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "mount option \"tmpcopyup\" is not supported");
    }
}
