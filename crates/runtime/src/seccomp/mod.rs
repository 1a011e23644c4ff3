//! System call filters: Docker's profiles and the OCI configuration, compiled to classic BPF.

use crate::error::{Error, Result};
use coracle_spec::runtime::Seccomp;
use coracle_sys::seccomp::Instruction;

/// A compiled filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The program.
    pub instructions: Vec<Instruction>,
    /// Flags of seccomp(2).
    pub flags: u32,
}

/// Compiles the filter of a configuration.
pub fn compile(_configured: &Seccomp) -> Result<Filter> {
    Err(Error::Invalid("filters are not supported yet".to_owned()))
}
