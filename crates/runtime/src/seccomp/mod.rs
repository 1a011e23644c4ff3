//! System call filters: Docker's profiles and the OCI configuration, compiled to classic BPF.
//!
//! ```text
//! Docker's JSON ── profile ──► OCI configuration ── rules ──► ranges of numbers ── emit ──► program
//!                  capabilities,  (spec)            tables,    with equal decisions          ≤ 4096 instructions
//!                  kernel, machine                  abi, action, condition
//! ```
//!
//! What the kernel does with a filter depends on the length of its paths, not on its size: the numbers are found by
//! binary search, and arguments are looked at last.

mod abi;
mod action;
mod condition;
mod emit;
pub mod profile;
mod rules;
mod tables;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use coracle_spec::runtime::Seccomp;
use coracle_sys::seccomp::{Instruction, LONGEST};

pub use abi::Machine;

/// A compiled filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The program.
    pub instructions: Vec<Instruction>,
    /// Flags of seccomp(2).
    pub flags: u32,
}

/// Docker's default profile, as JSON (moby/profiles, Apache-2.0).
pub const fn default_profile() -> &'static str {
    include_str!("default.json")
}

/// Compiles the filter of a configuration for the machine of this program.
///
/// # Errors
/// [`Error::Invalid`] names an action, comparison, architecture or flag that is unknown or cannot be served, and
/// filters that are longer than the kernel takes.
pub fn compile(configured: &Seccomp) -> Result<Filter> {
    compile_for(Machine::native(), configured)
}

fn compile_for(machine: Machine, configured: &Seccomp) -> Result<Filter> {
    let flags = action::flags(&configured.flags)?;
    let instructions = emit::program(&rules::decide(machine, configured)?);
    if instructions.len() > LONGEST {
        let text =
            format!("seccomp: the filter has {} instructions, the limit is {LONGEST}", instructions.len());
        return Err(Error::Invalid(text));
    }
    Ok(Filter { instructions, flags })
}
