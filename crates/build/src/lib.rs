//! Dockerfiles: text becomes stages of instructions, instructions become an image's configuration. No IO.
//!
//! ```text
//! statement.rs  directives, continued lines, here-documents ─► lex.rs  name, options, words
//!   ─► instruction/  what each takes ─► dockerfile.rs  stages
//!   ─► outline.rs  which stages and images are needed ─► plan.rs  what a stage does ─► apply.rs  to the configuration
//! ```
//!
//! `scope.rs` knows which variables there are, `expand.rs` resolves them and quotes, `history.rs` is what images say of themselves, `ignore.rs` says which files of a context are left out, `pattern.rs` matches for
//! both, `context.rs` knows what a client puts in the place of images and stages, `address.rs` reads where `ADD` takes files from, `check/` says what works and is a mistake, `questions.rs` what a build can be asked for. The instructions that `commit` and `import` accept as `--change` are the same ones. What runs them is the engine.
#![forbid(unsafe_code)]

mod address;
mod apply;
mod check;
mod context;
mod dockerfile;
mod duration;
mod error;
mod expand;
mod history;
mod ignore;
mod instruction;
mod lex;
pub mod limits;
mod outline;
mod pattern;
mod plan;
mod questions;
mod scope;
mod signal;
mod statement;

pub use address::{Address, Repository, disposed_name, file_name};
pub use apply::{apply, apply_all};
pub use check::{CheckOptions, Rule, Surroundings, Warning, check, names_secret};
pub use context::context_name;
pub use dockerfile::{Dockerfile, Stage, Step};
pub use duration::written as go_duration;
pub use error::{Error, Result};
pub use ignore::Ignored;
pub use instruction::{
    Add, ArgDeclaration, Change, CommandLine, Copy, DeviceRequest, From, Instruction, Mount, MountKind, Run,
    RunCommand, RunNetwork, Sharing, Transfer, parse_change, parse_changes,
};
pub use outline::{Base, Origin, Outline, outline};
pub use pattern::{PathPattern, matches_name};
pub use plan::{Command, Directory, FileRules, Files, Operation, Plan, Planned, Program, plan};
pub use questions::{Loan, Parameter, Parameters, Target, parameters, targets};
pub use scope::{Arguments, Wanted};
pub use statement::{Directives, Heredoc, Lines};
