//! Conditions on the arguments of a call.

use crate::error::{Error, Result};
use coracle_spec::runtime::SyscallArg;

/// How an argument is compared with a value, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    /// What is left under the mask equals the value.
    MaskedEqual {
        mask: u64,
        value: u64,
    },
}

/// How many bits of an argument the kernel reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    /// Half a register: whatever is in the other half is ignored, and must not decide either (CVE-2019-7303).
    Half,
    /// All of it.
    Whole,
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which, 0 to 5.
    pub(super) argument: u8,
    pub(super) comparison: Comparison,
    pub(super) width: Width,
}

impl Condition {
    /// Parses a condition, for an argument that the kernel reads whole.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an argument or a comparison that does not exist.
    pub(super) fn parse(configured: &SyscallArg) -> Result<Self> {
        let argument = u8::try_from(configured.index).ok().filter(|index| *index < 6);
        let argument = argument.ok_or_else(|| invalid(&format!("no argument {}", configured.index)))?;
        let value = configured.value;
        let comparison = match configured.op.as_str() {
            "SCMP_CMP_EQ" => Comparison::Equal(value),
            "SCMP_CMP_NE" => Comparison::NotEqual(value),
            "SCMP_CMP_LT" => Comparison::Less(value),
            "SCMP_CMP_LE" => Comparison::LessOrEqual(value),
            "SCMP_CMP_GT" => Comparison::Greater(value),
            "SCMP_CMP_GE" => Comparison::GreaterOrEqual(value),
            "SCMP_CMP_MASKED_EQ" => Comparison::MaskedEqual { mask: value, value: configured.value_two },
            other => return Err(invalid(&format!("unknown comparison {other:?}"))),
        };
        Ok(Self { argument, comparison, width: Width::Whole })
    }

    /// The same condition on what the kernel reads of the argument of `call`.
    pub(super) fn for_call(mut self, call: &str, narrow_abi: bool) -> Self {
        if narrow_abi || reads_half(call, self.argument) {
            self.width = Width::Half;
            self.comparison = self.comparison.halved();
        }
        self
    }
}

impl Comparison {
    /// Values that were written as negative numbers of 64 bits become those of 32; masks lose what is never read.
    fn halved(self) -> Self {
        let half = |value: u64| if value >= 0xffff_ffff_8000_0000 { value & 0xffff_ffff } else { value };
        match self {
            Self::Equal(value) => Self::Equal(half(value)),
            Self::NotEqual(value) => Self::NotEqual(half(value)),
            Self::Less(value) => Self::Less(half(value)),
            Self::LessOrEqual(value) => Self::LessOrEqual(half(value)),
            Self::Greater(value) => Self::Greater(half(value)),
            Self::GreaterOrEqual(value) => Self::GreaterOrEqual(half(value)),
            Self::MaskedEqual { mask, value } => {
                Self::MaskedEqual { mask: mask & 0xffff_ffff, value: half(value) }
            }
        }
    }
}

/// Calls and their arguments, as bits, that the kernel declares as `int` or `unsigned int`, or cuts to that
/// (`clone`): those that profiles are known to filter by.
const HALF: [(&str, u8); 17] = [
    ("bpf", 0b1),
    ("clone", 0b1),
    ("fcntl", 0b11),
    ("fcntl64", 0b11),
    ("getsockopt", 0b111),
    ("ioctl", 0b11),
    ("keyctl", 0b1),
    ("kill", 0b11),
    ("open", 0b10),
    ("openat", 0b101),
    ("personality", 0b1),
    ("prctl", 0b1),
    ("setns", 0b11),
    ("setsockopt", 0b111),
    ("socket", 0b111),
    ("socketpair", 0b111),
    ("tgkill", 0b111),
];

fn reads_half(call: &str, argument: u8) -> bool {
    HALF.iter().any(|(name, arguments)| *name == call && arguments & (1 << argument) != 0)
}

fn invalid(text: &str) -> Error {
    Error::Invalid(format!("seccomp: {text}"))
}
