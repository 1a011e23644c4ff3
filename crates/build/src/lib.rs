//! Dockerfile instructions: text becomes instructions, instructions become an image's configuration. No IO.
//!
//! `lex.rs` takes lines apart, `expand.rs` resolves variables and quotes, `instruction/` knows what each instruction
//! takes, `apply.rs` what it does. So far the instructions that `commit` and `import` accept as `--change`, which change
//! a configuration and nothing else.
#![forbid(unsafe_code)]

mod apply;
mod duration;
mod error;
mod expand;
mod instruction;
mod lex;
pub mod limits;
mod signal;

pub use apply::{apply, apply_all};
pub use error::{Error, Result};
pub use instruction::{Change, CommandLine, parse_change, parse_changes};
