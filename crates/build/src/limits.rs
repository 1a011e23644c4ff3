//! The bounds of this crate, each with what it protects against.

/// Longest text of instructions, in bytes.
pub const TEXT: usize = 1 << 20;

/// Longest value that variables may expand to, in bytes: `ENV A=$A$A` doubles with every line. Twice what Linux passes
/// to a program as one string (`MAX_ARG_STRLEN`).
pub const VALUE: usize = 256 << 10;

/// Most ports that one instruction exposes: all of three protocols.
pub const PORTS: usize = 3 * 65536;

/// Variables within each other: `${A:-${B:-…}}`. Each level costs some hundred bytes of a thread's stack, some thousand
/// without optimisation.
pub const NESTING: usize = 256;

/// All values together that variables expand to, in bytes: `LABEL a=$A b=$A …` multiplies. Image configurations end at
/// 8 MiB.
pub const VALUES: usize = 8 << 20;

/// Variables looked at while those of a stage are resolved: each `$NAME` looks at the whole environment.
pub const LOOKS: usize = 1 << 25;
/// Environments of all commands of a stage, in bytes: each has the whole one, of up to [`TEXT`].
pub const ENVIRONMENTS: usize = 64 << 20;
/// What the history says of all steps of a stage, in bytes: `EXPOSE 0-65535` is short, and what is said of it is not.
pub const HISTORY: usize = 32 << 20;
/// Steps that one pattern may cost: characters of the text times pieces of the pattern.
pub const PATTERN_STEPS: usize = 1 << 26;

/// Instructions in one text. Each that changes files is a layer, of which an image has far fewer.
pub const INSTRUCTIONS: usize = 10_000;

/// Patterns of one ignore file.
pub const PATTERNS: usize = 10_000;

/// Stages that need each other, one after the other.
pub const STAGES: usize = 256;

/// Longest address of a repository, in bytes.
pub const ADDRESS: usize = 4096;
/// Longest name of a file or reference at an address, in bytes (`NAME_MAX`).
pub const NAME: usize = 255;
