//! What each instruction takes.

mod files;
mod flags;
mod healthcheck;
mod run;

pub use files::{Add, Copy, Transfer};
pub use run::{DeviceRequest, Mount, MountKind, Run, RunCommand, RunNetwork, Sharing};

use crate::error::{Error, Result, nearest};
use crate::lex::{self, Line};
use crate::statement::{self, Heredoc};
use coracle_spec::image::Healthcheck;
use flags::Flags;

/// An instruction of a stage.
#[derive(Clone, Debug, PartialEq)]
pub enum Instruction {
    /// `ARG`.
    Arg(Vec<ArgDeclaration>),
    /// `RUN`.
    Run(Run),
    /// `COPY`.
    Copy(Copy),
    /// `ADD`.
    Add(Add),
    /// `MAINTAINER`: the author.
    Maintainer(String),
    /// What changes the configuration and nothing else.
    Change(Change),
}

impl Instruction {
    /// Whether it makes or changes files, and so perhaps a layer.
    pub fn makes_files(&self) -> bool {
        matches!(self, Self::Run(_) | Self::Copy(_) | Self::Add(_) | Self::Change(Change::Workdir(_)))
    }

    /// Every name in its `--from`, as written.
    pub fn origins(&self) -> Vec<&str> {
        match self {
            Self::Copy(copy) => copy.from.as_deref().into_iter().collect(),
            Self::Run(run) => run.mounts.iter().filter_map(|mount| mount.from.as_deref()).collect(),
            _ => Vec::new(),
        }
    }
}

/// A variable of the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgDeclaration {
    /// Its name.
    pub name: String,
    /// Its value unless the client gives one, with variables still in it.
    pub default: Option<String>,
}

/// `FROM`: what a stage begins with. Variables are still in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// An image, an earlier stage, or `scratch`.
    pub image: String,
    /// For which platform.
    pub platform: Option<String>,
    /// What the stage is called.
    pub name: Option<String>,
}

/// An instruction that changes what runs in a container. Quotes and variables are still in it where they count.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// `CMD`; `None` clears it.
    Cmd(Option<CommandLine>),
    /// `ENTRYPOINT`; `None` clears it.
    Entrypoint(Option<CommandLine>),
    /// `ENV`: names and values.
    Env(Vec<(String, String)>),
    /// `EXPOSE`: ports.
    Expose(Vec<String>),
    /// `HEALTHCHECK`.
    Healthcheck(Healthcheck),
    /// `LABEL`: names and values.
    Label(Vec<(String, String)>),
    /// `ONBUILD`: the instruction, as written.
    OnBuild(String),
    /// `SHELL`.
    Shell(Vec<String>),
    /// `STOPSIGNAL`.
    StopSignal(String),
    /// `USER`.
    User(String),
    /// `VOLUME`: paths.
    Volume(Vec<String>),
    /// `WORKDIR`.
    Workdir(String),
}

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// Program and arguments.
    Exec(Vec<String>),
    /// For the shell.
    Shell(String),
}

/// Reads one instruction.
///
/// # Errors
/// In Docker's words: what it takes instead.
pub fn parse_change(text: &str) -> Result<Change> {
    let mut changes = parse_changes(&[text])?;
    match (changes.pop(), changes.is_empty()) {
        (Some(change), true) => Ok(change),
        (None, _) => Err(Error::syntax("file with no instructions")),
        (Some(_), false) => Err(Error::syntax("more than one instruction")),
    }
}

/// Reads instructions, one a line; a line may be continued with a backslash at its end.
///
/// # Errors
/// As [`parse_change`], for the first that is refused.
pub fn parse_changes<T: AsRef<str>>(texts: &[T]) -> Result<Vec<Change>> {
    let length = texts.iter().map(|text| text.as_ref().len() + 1).fold(0, usize::saturating_add);
    if length > crate::limits::TEXT {
        return Err(Error::too_long());
    }
    let text = texts.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("\n");
    let statements = statement::statements(&text, lex::ESCAPE)?;
    statements
        .iter()
        .map(|statement| change(&lex::split(&statement.text, lex::ESCAPE), lex::ESCAPE))
        .collect()
}

/// Reads any instruction but `FROM`.
pub(crate) fn parse(line: &Line<'_>, heredocs: &[Heredoc], escape: char) -> Result<Instruction> {
    match line.name.to_ascii_uppercase().as_str() {
        "ARG" => arg(line, escape).map(Instruction::Arg),
        "RUN" => run::run(line, heredocs).map(Instruction::Run),
        "COPY" => files::copy(line, heredocs, escape).map(Instruction::Copy),
        "ADD" => files::add(line, heredocs, escape).map(Instruction::Add),
        "MAINTAINER" => single("MAINTAINER", line.rest).map(Instruction::Maintainer),
        "ONBUILD" if !heredocs.is_empty() => {
            // It is read again where it is done, with its here-documents behind it.
            let written: String = heredocs.iter().map(Heredoc::written).collect();
            change(line, escape).map(|change| match change {
                Change::OnBuild(trigger) => Instruction::Change(Change::OnBuild(trigger + &written)),
                other => Instruction::Change(other),
            })
        }
        _ => match change(line, escape) {
            Err(Error::NotAChange { instruction }) => {
                let meant = nearest(&instruction.to_ascii_uppercase(), &NAMES);
                Err(Error::Unknown { name: instruction, meant })
            }
            result => result.map(Instruction::Change),
        },
    }
}

/// All instructions, for hints.
pub(crate) const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// `FROM [--platform=…] image [AS name]`.
pub(crate) fn from(line: &Line<'_>, escape: char) -> Result<From> {
    let mut flags = Flags::new(&line.flags);
    let platform = flags.text("platform")?;
    flags.finish()?;
    let (image, name) = match lex::words(line.rest, escape)[..] {
        [image] => (image, None),
        [image, between, name] if between.eq_ignore_ascii_case("AS") => (image, Some(stage_name(name)?)),
        _ => return Err(Error::Arguments { instruction: "FROM", what: "either one or three arguments" }),
    };
    Ok(From { image: image.to_owned(), platform, name })
}

fn stage_name(name: &str) -> Result<String> {
    let lower = name.to_ascii_lowercase();
    let is_name = lower.starts_with(|first: char| first.is_ascii_lowercase())
        && lower
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte));
    if is_name { Ok(lower) } else { Err(Error::value("invalid name for build stage", name)) }
}

/// `ARG name[=default] …`.
fn arg(line: &Line<'_>, escape: char) -> Result<Vec<ArgDeclaration>> {
    if let Some((flag, _)) = line.flags.first() {
        return Err(Error::unknown_flag(flag, &[]));
    }
    let words = list("ARG", lex::words(line.rest, escape))?;
    let declaration = |word: String| {
        let (name, default) = match word.split_once('=') {
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (word.as_str(), None),
        };
        let name = lex::unquoted(name, escape);
        if name.is_empty() {
            Err(Error::BlankName { instruction: "ARG" })
        } else {
            Ok(ArgDeclaration { name, default })
        }
    };
    words.into_iter().map(declaration).collect()
}

fn change(line: &Line<'_>, escape: char) -> Result<Change> {
    let name = line.name.to_ascii_uppercase();
    if name == "HEALTHCHECK" {
        return healthcheck::parse(line).map(Change::Healthcheck);
    }
    let change: fn(&str, char) -> Result<Change> = match name.as_str() {
        "CMD" => |rest, _| Ok(Change::Cmd(command(rest)?)),
        // An empty list clears it too, as there would be nothing to run.
        "ENTRYPOINT" => |rest, _| {
            Ok(Change::Entrypoint(command(rest)?.filter(|line| *line != CommandLine::Exec(Vec::new()))))
        },
        "ENV" => |rest, escape| pairs("ENV", rest, escape).map(Change::Env),
        "EXPOSE" => |rest, escape| list("EXPOSE", lex::words(rest, escape)).map(Change::Expose),
        "LABEL" => |rest, escape| pairs("LABEL", rest, escape).map(Change::Label),
        "ONBUILD" => on_build,
        "SHELL" => |rest, _| shell(rest),
        "STOPSIGNAL" => |rest, _| single("STOPSIGNAL", rest).map(Change::StopSignal),
        "USER" => |rest, _| single("USER", rest).map(Change::User),
        "VOLUME" => |rest, _| volume(rest),
        "WORKDIR" => |rest, _| single("WORKDIR", rest).map(Change::Workdir),
        _ => return Err(Error::NotAChange { instruction: line.name.chars().take(80).collect() }),
    };
    if let Some((flag, _)) = line.flags.first() {
        return Err(Error::unknown_flag(flag, &[]));
    }
    change(line.rest, escape)
}

fn command(rest: &str) -> Result<Option<CommandLine>> {
    if rest.is_empty() {
        return Ok(None);
    }
    Ok(Some(match lex::json_list(rest)? {
        Some(words) => CommandLine::Exec(words),
        None => CommandLine::Shell(rest.to_owned()),
    }))
}

/// `name=value …`, or the old form `name value`.
fn pairs(instruction: &'static str, rest: &str, escape: char) -> Result<Vec<(String, String)>> {
    let words = lex::words(rest, escape);
    let Some(first) = words.first() else { return Err(at_least_one(instruction)) };
    let pairs: Vec<_> = if first.contains('=') {
        let split = |word: &&str| {
            let no_value = || Error::NoValue { word: word.chars().take(200).collect() };
            word.split_once('=').map(owned).ok_or_else(no_value)
        };
        words.iter().map(split).collect::<Result<_>>()?
    } else {
        let Some((name, value)) = rest.split_once(char::is_whitespace) else {
            return Err(Error::syntax(format!("{instruction} must have two arguments")));
        };
        vec![owned((name, value.trim_start()))]
    };
    if pairs.iter().any(|(name, _)| name.is_empty()) {
        return Err(Error::BlankName { instruction });
    }
    Ok(pairs)
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn list(instruction: &'static str, words: Vec<&str>) -> Result<Vec<String>> {
    if words.is_empty() {
        return Err(at_least_one(instruction));
    }
    Ok(words.into_iter().map(str::to_owned).collect())
}

fn single(instruction: &'static str, rest: &str) -> Result<String> {
    if rest.is_empty() {
        return Err(Error::Arguments { instruction, what: "exactly one argument" });
    }
    Ok(rest.to_owned())
}

fn on_build(rest: &str, escape: char) -> Result<Change> {
    if rest.is_empty() {
        return Err(at_least_one("ONBUILD"));
    }
    match lex::split(rest, escape).name.to_ascii_uppercase().as_str() {
        "ONBUILD" => Err(Error::syntax("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")),
        name @ ("MAINTAINER" | "FROM") => {
            Err(Error::syntax(format!("{name} isn't allowed as an ONBUILD trigger")))
        }
        _ => Ok(Change::OnBuild(rest.to_owned())),
    }
}

fn shell(rest: &str) -> Result<Change> {
    match lex::json_list(rest)? {
        Some(words) if words.is_empty() => Err(at_least_one("SHELL")),
        Some(words) => Ok(Change::Shell(words)),
        None => Err(Error::Arguments { instruction: "SHELL", what: "the arguments to be in JSON form" }),
    }
}

fn volume(rest: &str) -> Result<Change> {
    let paths = match lex::json_list(rest)? {
        Some(paths) => paths,
        None => list("VOLUME", rest.split_whitespace().collect())?,
    };
    if paths.is_empty() {
        return Err(at_least_one("VOLUME"));
    }
    if paths.iter().any(|path| path.trim().is_empty()) {
        return Err(Error::syntax("VOLUME specified can not be an empty string"));
    }
    Ok(Change::Volume(paths.iter().map(|path| path.trim().to_owned()).collect()))
}

fn at_least_one(instruction: &'static str) -> Error {
    Error::Arguments { instruction, what: "at least one argument" }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
