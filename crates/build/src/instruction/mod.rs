//! What each instruction takes.

mod healthcheck;

use crate::error::{Error, Result};
use crate::lex::{self, Line};
use crate::limits;
use coracle_spec::image::Healthcheck;

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
    if length > limits::TEXT {
        return Err(Error::too_long());
    }
    let text = texts.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("\n");
    lex::logical_lines(&text).iter().map(|line| parse(&lex::split(line))).collect()
}

fn parse(line: &Line<'_>) -> Result<Change> {
    let name = line.name.to_ascii_uppercase();
    if name == "HEALTHCHECK" {
        return healthcheck::parse(line).map(Change::Healthcheck);
    }
    let change: fn(&str) -> Result<Change> = match name.as_str() {
        "CMD" => |rest| Ok(Change::Cmd(command(rest)?)),
        // An empty list clears it too, as there would be nothing to run.
        "ENTRYPOINT" => |rest| {
            Ok(Change::Entrypoint(command(rest)?.filter(|line| *line != CommandLine::Exec(Vec::new()))))
        },
        "ENV" => |rest| pairs("ENV", rest).map(Change::Env),
        "EXPOSE" => |rest| list("EXPOSE", lex::words(rest)).map(Change::Expose),
        "LABEL" => |rest| pairs("LABEL", rest).map(Change::Label),
        "ONBUILD" => on_build,
        "SHELL" => shell,
        "STOPSIGNAL" => |rest| single("STOPSIGNAL", rest).map(Change::StopSignal),
        "USER" => |rest| single("USER", rest).map(Change::User),
        "VOLUME" => volume,
        "WORKDIR" => |rest| single("WORKDIR", rest).map(Change::Workdir),
        _ => return Err(Error::NotAChange { instruction: line.name.chars().take(80).collect() }),
    };
    if let Some((flag, _)) = line.flags.first() {
        return Err(Error::UnknownFlag { flag: flag.clone() });
    }
    change(line.rest)
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
fn pairs(instruction: &'static str, rest: &str) -> Result<Vec<(String, String)>> {
    let words = lex::words(rest);
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

fn on_build(rest: &str) -> Result<Change> {
    if rest.is_empty() {
        return Err(at_least_one("ONBUILD"));
    }
    match lex::split(rest).name.to_ascii_uppercase().as_str() {
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
