//! Capability sets by name, capabilities(7).

use crate::error::{Error, Result};
use coracle_spec::runtime::Capabilities;
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities,
};

/// The sets a process will have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sets {
    bounding: CapabilitySet,
    effective: CapabilitySet,
    permitted: CapabilitySet,
    inheritable: CapabilitySet,
    ambient: CapabilitySet,
}

impl Sets {
    /// Parses the configuration; without one, nothing is allowed.
    ///
    /// # Errors
    /// [`Error::Invalid`] names a capability that does not exist.
    pub(super) fn parse(configured: Option<&Capabilities>) -> Result<Self> {
        let none = Capabilities::default();
        let sets = configured.unwrap_or(&none);
        Ok(Self {
            bounding: parse(&sets.bounding)?,
            effective: parse(&sets.effective)?,
            permitted: parse(&sets.permitted)?,
            inheritable: parse(&sets.inheritable)?,
            ambient: parse(&sets.ambient)?,
        })
    }

    /// Nothing but a bounding set.
    ///
    /// # Errors
    /// As [`Sets::parse`].
    pub(super) fn bounding(names: &[String]) -> Result<Self> {
        let bounding = names.to_vec();
        Self::parse(Some(&Capabilities { bounding, ..Capabilities::default() }))
    }

    /// Drops everything outside the bounding set from what later programs can gain.
    ///
    /// # Errors
    /// The kernel's, when the caller may not.
    pub(super) fn bound(&self) -> Result<()> {
        for number in 0..u64::BITS {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            if self.bounding.contains(capability) {
                continue;
            }
            match remove_capability_from_bounding_set(capability) {
                Ok(()) => {}
                // Beyond the last capability that this kernel knows.
                Err(Errno::INVAL) => break,
                Err(error) => return Err(failed("drop a capability", error)),
            }
        }
        Ok(())
    }

    /// Gives the calling thread exactly these sets. To be called after the change of user.
    ///
    /// # Errors
    /// The kernel's, when the caller lacks one of them.
    pub(super) fn apply(&self) -> Result<()> {
        let sets = CapabilitySets {
            effective: self.effective,
            permitted: self.permitted,
            inheritable: self.inheritable,
        };
        set_capabilities(None, sets).map_err(|error| failed("set capabilities", error))?;
        // What is not inheritable has left the ambient set by that, capabilities(7).
        if !self.inheritable.is_empty() {
            clear_ambient_capability_set()
                .map_err(|error| failed("clear the ambient capabilities", error))?;
        }
        for number in (0..u64::BITS).filter(|n| self.ambient.bits() & (1 << n) != 0) {
            configure_capability_in_ambient_set(CapabilitySet::from_bits_retain(1 << number), true)
                .map_err(|error| failed("raise an ambient capability", error))?;
        }
        Ok(())
    }
}

fn failed(action: &str, error: Errno) -> Error {
    Error::Child(format!("cannot {action}: {error}"))
}

fn parse(names: &[String]) -> Result<CapabilitySet> {
    let mut set = CapabilitySet::empty();
    for name in names {
        set |= number(name)
            .map(|bit| CapabilitySet::from_bits_retain(1 << bit))
            .ok_or_else(|| Error::Invalid(format!("unknown capability: {name:?}")))?;
    }
    Ok(set)
}

fn number(name: &str) -> Option<usize> {
    let short = name.strip_prefix("CAP_")?;
    NAMES.iter().position(|known| *known == short)
}

/// The capabilities in the order of their numbers, `linux/capability.h`.
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_kernels_numbers() {
        for (name, bit) in [
            ("CAP_CHOWN", CapabilitySet::CHOWN),
            ("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN),
            ("CAP_SYSLOG", CapabilitySet::SYSLOG),
            ("CAP_CHECKPOINT_RESTORE", CapabilitySet::CHECKPOINT_RESTORE),
        ] {
            assert_eq!(parse(&[name.to_owned()]).unwrap(), bit, "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_refused() {
        for name in ["CAP_NOTHING", "CHOWN", "cap_chown", ""] {
            assert!(parse(&[name.to_owned()]).is_err(), "{name}");
        }
    }
}
