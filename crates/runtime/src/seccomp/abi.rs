//! The machines and the calling conventions that a filter tells apart.

use crate::error::{Error, Result};

/// The machine whose programs a filter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Machine {
    /// x86-64, with i386 and x32.
    X86_64,
    /// 64-bit ARM. Its 32-bit programs are not told apart, and killed.
    Aarch64,
}

impl Machine {
    /// The machine that this program was built for.
    pub const fn native() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 }
    }

    /// The name in the conditions of Docker's profiles.
    pub(super) const fn docker_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    pub(super) const fn native_abi(self) -> Abi {
        match self {
            Self::X86_64 => Abi::X86_64,
            Self::Aarch64 => Abi::Aarch64,
        }
    }
}

/// A calling convention of the kernel, with its own numbers. The discriminant is its column in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Abi {
    X86_64 = 0,
    X86 = 1,
    X32 = 2,
    Aarch64 = 3,
}

/// The bit that x32 calls carry in their number (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

impl Abi {
    /// `seccomp_data.arch`, `linux/audit.h`.
    pub(super) const fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// What is added to the numbers of the tables.
    pub(super) const fn base(self) -> u32 {
        match self {
            Self::X32 => X32_BIT,
            _ => 0,
        }
    }

    /// Whether arguments have 32 bits only.
    pub(super) const fn is_narrow(self) -> bool {
        matches!(self, Self::X86)
    }
}

/// Architectures that have a name in the OCI configuration and no programs on the machines of [`Machine`].
const FOREIGN: [&str; 16] = [
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_LOONGARCH64",
];

/// The calling conventions that a filter on `machine` lets through to its rules: the native one first, then those of
/// `names` that the machine can have.
///
/// # Errors
/// [`Error::Invalid`] for a name that no architecture has.
pub(super) fn enabled(machine: Machine, names: &[String]) -> Result<Vec<Abi>> {
    let mut abis = vec![machine.native_abi()];
    for name in names {
        let abi = match name.as_str() {
            "SCMP_ARCH_X86_64" => Abi::X86_64,
            "SCMP_ARCH_X86" => Abi::X86,
            "SCMP_ARCH_X32" => Abi::X32,
            "SCMP_ARCH_AARCH64" => Abi::Aarch64,
            "SCMP_ARCH_NATIVE" => machine.native_abi(),
            other if FOREIGN.contains(&other) => continue,
            other => return Err(Error::Invalid(format!("seccomp: unknown architecture {other:?}"))),
        };
        let possible = (abi == Abi::Aarch64) == (machine == Machine::Aarch64);
        if possible && !abis.contains(&abi) {
            abis.push(abi);
        }
    }
    Ok(abis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_native_convention_is_always_there_and_impossible_ones_never() {
        for (machine, names, expected) in [
            (Machine::X86_64, vec![], vec![Abi::X86_64]),
            (Machine::X86_64, vec!["SCMP_ARCH_X86", "SCMP_ARCH_X86"], vec![Abi::X86_64, Abi::X86]),
            (Machine::X86_64, vec!["SCMP_ARCH_AARCH64", "SCMP_ARCH_S390"], vec![Abi::X86_64]),
            (Machine::Aarch64, vec!["SCMP_ARCH_ARM", "SCMP_ARCH_NATIVE"], vec![Abi::Aarch64]),
        ] {
            let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            assert_eq!(enabled(machine, &names).unwrap(), expected);
        }
        assert!(enabled(Machine::X86_64, &["X86".to_owned()]).is_err());
    }
}
