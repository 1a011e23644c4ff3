//! What a filter answers, as the OCI configuration names it and as the kernel reads it (seccomp(2), "Filters").

use crate::error::{Error, Result};

/// A return value of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Action(u32);

/// Largest error number of the kernel, `MAX_ERRNO`.
const LARGEST_ERRNO: u32 = 4095;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

impl Action {
    /// Ends the thread: what happens to a convention that no rule is about, as with libseccomp.
    pub(super) const KILL_THREAD: Self = Self(0);
    /// The call is not there; the caller tries an older one.
    pub(super) const NO_SUCH_CALL: Self = Self(0x0005_0000 | ENOSYS);
    const ALLOW: Self = Self(0x7fff_0000);
    const LOG: Self = Self(0x7ffc_0000);

    /// The value that the kernel reads.
    pub(super) const fn value(self) -> u32 {
        self.0
    }

    /// Whether the call happens without anybody having been asked.
    pub(super) fn lets_through(self) -> bool {
        self == Self::ALLOW || self == Self::LOG
    }

    /// Parses an action and the number that goes with it; EPERM if none does.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an unknown action, a number that is none, and `SCMP_ACT_NOTIFY`.
    pub(super) fn parse(name: &str, number: Option<u32>) -> Result<Self> {
        let takes_number = matches!(name, "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE");
        if number.is_some_and(|number| number != 0) && !takes_number {
            return invalid(&format!("{name} does not return an error number"));
        }
        let data = number.unwrap_or(EPERM);
        let limit = if name == "SCMP_ACT_TRACE" { u32::from(u16::MAX) } else { LARGEST_ERRNO };
        if data > limit {
            return invalid(&format!("{data} is no error number"));
        }
        Ok(Self(match name {
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => return Ok(Self::KILL_THREAD),
            "SCMP_ACT_KILL_PROCESS" => 0x8000_0000,
            "SCMP_ACT_TRAP" => 0x0003_0000,
            "SCMP_ACT_ERRNO" => 0x0005_0000 | data,
            "SCMP_ACT_TRACE" => 0x7ff0_0000 | data,
            "SCMP_ACT_LOG" => return Ok(Self::LOG),
            "SCMP_ACT_ALLOW" => return Ok(Self::ALLOW),
            "SCMP_ACT_NOTIFY" => {
                return invalid("SCMP_ACT_NOTIFY needs an agent that decides, and none can be named");
            }
            other => return invalid(&format!("unknown action {other:?}")),
        }))
    }
}

fn invalid(text: &str) -> Result<Action> {
    Err(Error::Invalid(format!("seccomp: {text}")))
}

/// Flags of seccomp(2) by name. Without any the speculation that the kernel would forbid stays allowed, as with runc.
///
/// # Errors
/// [`Error::Invalid`] for what is no flag of a filter without a listener.
pub(super) fn flags(names: &[String]) -> Result<u32> {
    const SPEC_ALLOW: u32 = 1 << 2;
    if names.is_empty() {
        return Ok(SPEC_ALLOW);
    }
    names.iter().try_fold(0, |flags, name| {
        Ok(flags
            | match name.as_str() {
                "SECCOMP_FILTER_FLAG_TSYNC" => 1,
                "SECCOMP_FILTER_FLAG_LOG" => 1 << 1,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => SPEC_ALLOW,
                other => return Err(Error::Invalid(format!("seccomp: the flag {other:?} is not supported"))),
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_have_the_kernels_values() {
        for (name, number, expected) in [
            ("SCMP_ACT_ALLOW", None, 0x7fff_0000),
            ("SCMP_ACT_ALLOW", Some(0), 0x7fff_0000),
            ("SCMP_ACT_ERRNO", None, 0x0005_0001),
            ("SCMP_ACT_ERRNO", Some(0), 0x0005_0000),
            ("SCMP_ACT_ERRNO", Some(38), 0x0005_0026),
            ("SCMP_ACT_KILL", None, 0),
            ("SCMP_ACT_KILL_PROCESS", None, 0x8000_0000),
            ("SCMP_ACT_TRAP", None, 0x0003_0000),
            ("SCMP_ACT_LOG", None, 0x7ffc_0000),
            ("SCMP_ACT_TRACE", Some(7), 0x7ff0_0007),
        ] {
            assert_eq!(Action::parse(name, number).unwrap().value(), expected, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for (name, number) in [
            ("SCMP_ACT_NOTIFY", None),
            ("SCMP_ACT_ALLOW", Some(1)),
            ("SCMP_ACT_ERRNO", Some(4096)),
            ("ALLOW", None),
            ("", None),
        ] {
            assert!(Action::parse(name, number).is_err(), "{name} {number:?}");
        }
        assert_eq!(flags(&[]).unwrap(), 4);
        assert_eq!(
            flags(&["SECCOMP_FILTER_FLAG_LOG".into(), "SECCOMP_FILTER_FLAG_TSYNC".into()]).unwrap(),
            3
        );
        assert!(flags(&["SECCOMP_FILTER_FLAG_NEW_LISTENER".into()]).is_err());
    }
}
