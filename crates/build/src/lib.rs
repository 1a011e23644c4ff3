//! Dockerfiles: text becomes stages of instructions, instructions become an image's configuration. No IO.
//!
//! ```text
//! statement.rs  directives, continued lines, here-documents ─► lex.rs  name, options, words
//!   ─► instruction/  what each takes ─► dockerfile.rs  stages ─► apply.rs  what changes a configuration
//! ```
//!
//! `expand.rs` resolves variables and quotes, `ignore.rs` says which files of a context are left out, `pattern.rs` matches for
//! both. The instructions that `commit` and `import` accept as `--change` are the same ones. What runs them is the engine.
#![forbid(unsafe_code)]

mod apply;
mod dockerfile;
mod duration;
mod error;
mod expand;
mod ignore;
mod instruction;
mod lex;
pub mod limits;
mod pattern;
mod signal;
mod statement;

pub use apply::{apply, apply_all};
pub use dockerfile::{Dockerfile, Stage, Step};
pub use error::{Error, Result};
pub use ignore::Ignored;
pub use instruction::{
    Add, ArgDeclaration, Change, CommandLine, Copy, From, Instruction, Mount, MountKind, Run, RunCommand,
    RunNetwork, Sharing, Transfer, parse_change, parse_changes,
};
pub use statement::{Directives, Heredoc, Lines};
