//! Mistakes in the command line, told as Docker tells them: what is wrong, how the command is used, where there is more.
//! Docker's exit codes: 125 for a flag, 1 for everything else.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

use super::refused;

/// Exit code of a mistake in a flag.
const FLAG: u8 = 125;

/// A mistake: what is said about it, and the exit code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) text: String,
    pub(crate) code: u8,
}

/// What is wrong with `arguments`, of which the parser said `error`.
pub(crate) fn mistake(root: &Command, arguments: &[OsString], error: &clap::Error) -> Mistake {
    let (path, command) = innermost(root, arguments);
    let value = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let said = value(ContextKind::InvalidArg);
    match error.kind() {
        ErrorKind::InvalidSubcommand => unknown_command(&path, value(ContextKind::InvalidSubcommand), error),
        ErrorKind::UnknownArgument if said.starts_with('-') => {
            unknown_flag(&path, command, said, arguments, suggestion(error, ContextKind::SuggestedArg))
        }
        ErrorKind::UnknownArgument if command.has_subcommands() => unknown_command(&path, said, error),
        ErrorKind::UnknownArgument | ErrorKind::MissingRequiredArgument => wrong_count(&path, command),
        ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues | ErrorKind::TooManyValues
            if !said.starts_with('-') =>
        {
            wrong_count(&path, command)
        }
        ErrorKind::InvalidValue | ErrorKind::NoEquals if value(ContextKind::InvalidValue).is_empty() => {
            flag(&path, command, &format!("flag needs an argument: {}", flag_name(said)))
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let reason = reason(error);
            let text = format!(
                "invalid argument {:?} for {:?} flag: {reason}",
                value(ContextKind::InvalidValue),
                flag_name(said)
            );
            flag(&path, command, &text)
        }
        _ => Mistake { text: error.to_string().trim_end().to_owned(), code: FLAG },
    }
}

/// The command that the words lead to, with its words.
pub(super) fn innermost<'a>(root: &'a Command, arguments: &[OsString]) -> (String, &'a Command) {
    let (mut path, mut command) = (String::new(), root);
    let mut words = arguments.iter().skip(1).filter_map(|word| word.to_str());
    while let Some(word) = words.next() {
        if let Some(name) = word.strip_prefix('-') {
            match find_flag(command, name) {
                Some(arg)
                    if arg.get_action().takes_values()
                        && !arg.is_require_equals_set()
                        && !name.contains('=') =>
                {
                    words.next();
                }
                Some(_) => {}
                None => break,
            }
            continue;
        }
        let Some(next) = command.find_subcommand(word) else { break };
        path = format!("{path} {}", next.get_name());
        command = next;
    }
    (path.trim_start().to_owned(), command)
}

/// The flag of a word without its first dash; of several letters the last, which alone may have its value in the next word.
fn find_flag<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let name = word.split('=').next()?;
    command.get_arguments().find(|arg| match name.strip_prefix('-') {
        Some(long) => arg.get_long() == Some(long),
        None => arg.get_short().is_some_and(|short| name.ends_with(short)),
    })
}

fn unknown_command(path: &str, word: &str, error: &clap::Error) -> Mistake {
    let whole = format!("{path} {word}").trim_start().to_owned();
    if let Some(reason) = refused::command(&whole) {
        return Mistake { text: format!("coracle: no command {whole}: {reason}"), code: 1 };
    }
    let similar = suggestion(error, ContextKind::SuggestedSubcommand);
    let mut text = format!(
        "coracle: unknown command: {}\n\nRun '{} --help' for more information",
        called(&whole),
        called(path)
    );
    text.extend(similar.map(|name| format!("\n\nDid you mean: {}?", called(&format!("{path} {name}")))));
    Mistake { text, code: 1 }
}

/// What the parser found to be most similar, which it puts last.
fn suggestion(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        ContextValue::Strings(texts) => texts.last().map(String::as_str),
        _ => None,
    }
}

fn unknown_flag(
    path: &str,
    command: &Command,
    said: &str,
    arguments: &[OsString],
    similar: Option<&str>,
) -> Mistake {
    let name = said.trim_start_matches('-').split(['=', ' ']).next().unwrap_or_default();
    if let Some(reason) = refused::flag(path, name) {
        return flag(path, command, &format!("--{name} is not supported: {reason}"));
    }
    if said.starts_with("--") {
        let mut mistake = flag(path, command, &format!("unknown flag: --{name}"));
        mistake.text.extend(similar.map(|name| format!("\n\nDid you mean: {name}?")));
        return mistake;
    }
    let letter = name.chars().next().unwrap_or_default();
    let is_cluster = |word: &&str| word.starts_with('-') && !word.starts_with("--") && word.contains(letter);
    let word = arguments.iter().skip(1).filter_map(|word| word.to_str()).find(is_cluster).unwrap_or(said);
    // Those before it were understood.
    let rest = word.find(letter).map_or(word, |at| &word[at..]);
    flag(path, command, &format!("unknown shorthand flag: {letter:?} in -{rest}"))
}

/// A mistake in a flag.
fn flag(path: &str, command: &Command, text: &str) -> Mistake {
    Mistake { text: format!("{text}\n\n{}", more(path, command)), code: FLAG }
}

fn wrong_count(path: &str, command: &Command) -> Mistake {
    let (least, most) = counts(command);
    let plural = |count: usize| if count == 1 { "argument" } else { "arguments" };
    let needed = match (least, most) {
        (0, Some(0)) => "accepts no arguments".to_owned(),
        (least, Some(most)) if least == most => format!("requires {least} {}", plural(least)),
        (0, Some(most)) => format!("requires at most {most} {}", plural(most)),
        (least, Some(most)) => format!("requires at least {least} and at most {most} {}", plural(most)),
        (least, None) => format!("requires at least {least} {}", plural(least)),
    };
    Mistake { text: format!("coracle: '{}' {needed}\n\n{}", called(path), more(path, command)), code: 1 }
}

fn more(path: &str, command: &Command) -> String {
    let rest = if path.is_empty() { " [ARG...]" } else { "" };
    format!("Usage:  {}{rest}\n\nRun '{} --help' for more information", line(path, command), called(path))
}

fn called(path: &str) -> String {
    format!("coracle {}", path.trim()).trim_end().to_owned()
}

/// How a flag is named to people: as Docker does, `-n, --last`, of the parser's `--last <N>`.
fn flag_name(said: &str) -> &str {
    said.split([' ', '=', '[']).next().unwrap_or(said)
}

/// Why a value is wrong.
fn reason(error: &clap::Error) -> String {
    if let Some(source) = std::error::Error::source(error) {
        return source.to_string();
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => format!("it is one of {}", values.join(", ")),
        _ => "it means nothing".to_owned(),
    }
}

/// How many arguments a command takes: at least, and at most if there is a bound.
fn counts(command: &Command) -> (usize, Option<usize>) {
    command.get_positionals().fold((0, Some(0)), |(least, most), arg| {
        let range = arg.get_num_args().unwrap_or_else(|| 1.into());
        let many = range.max_values() == usize::MAX || is_repeated(arg);
        let least = least + if arg.is_required_set() { range.min_values().max(1) } else { 0 };
        (least, most.filter(|_| !many).map(|most: usize| most + range.max_values()))
    })
}

fn is_repeated(arg: &Arg) -> bool {
    matches!(arg.get_action(), clap::ArgAction::Append)
        && arg.get_num_args().is_none_or(|range| range.max_values() == usize::MAX || range.max_values() == 1)
}

/// The command with what follows it: `coracle run [OPTIONS] IMAGE [COMMAND]`.
pub(super) fn line(path: &str, command: &Command) -> String {
    let mut words = vec![called(path)];
    let is_option = |arg: &Arg| !arg.is_positional() && !arg.is_hide_set() && arg.get_id() != "help";
    if command.get_arguments().any(is_option) {
        words.push("[OPTIONS]".to_owned());
    }
    if command.has_subcommands() {
        words.push("COMMAND".to_owned());
    }
    words.extend(command.get_positionals().map(positional));
    words.join(" ")
}

/// A name stands for itself; one that says already how often it may be there is taken as it is.
fn positional(arg: &Arg) -> String {
    let name = arg
        .get_value_names()
        .and_then(|names| names.first())
        .map_or_else(|| arg.get_id().as_str().to_uppercase(), ToString::to_string);
    if name.contains(['[', ' ']) {
        return name;
    }
    let many = is_repeated(arg);
    match (arg.is_required_set(), many) {
        (true, false) => name,
        (true, true) => format!("{name} [{name}...]"),
        (false, false) => format!("[{name}]"),
        (false, true) => format!("[{name}...]"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{command, parse};

    fn told(line: &str) -> (String, u8) {
        let words: Vec<_> = format!("coracle {line}").split_whitespace().map(Into::into).collect();
        let error = parse(&words).expect_err(line);
        let mut root = command();
        root.build();
        let mistake = super::mistake(&root, &words, &error);
        (mistake.text, mistake.code)
    }

    #[test]
    fn mistakes_are_told_as_docker_tells_them() {
        for (line, first, usage, code) in [
            ("ps --nosuch", "unknown flag: --nosuch", "coracle ps [OPTIONS]", 125),
            ("ps -aZ", "unknown shorthand flag: 'Z' in -Z", "coracle ps [OPTIONS]", 125),
            ("--nosuch ps", "unknown flag: --nosuch", "coracle [OPTIONS] COMMAND [ARG...]", 125),
            (
                "run",
                "coracle: 'coracle run' requires at least 1 argument",
                "coracle run [OPTIONS] IMAGE [COMMAND] [ARG...]",
                1,
            ),
            (
                "exec a",
                "coracle: 'coracle exec' requires at least 2 arguments",
                "coracle exec [OPTIONS] CONTAINER COMMAND [ARG...]",
                1,
            ),
            (
                "rename a",
                "coracle: 'coracle rename' requires 2 arguments",
                "coracle rename CONTAINER NEW_NAME",
                1,
            ),
            (
                "rename a b c",
                "coracle: 'coracle rename' requires 2 arguments",
                "coracle rename CONTAINER NEW_NAME",
                1,
            ),
            ("ps x", "coracle: 'coracle ps' accepts no arguments", "coracle ps [OPTIONS]", 1),
            (
                "volume create a b",
                "coracle: 'coracle volume create' requires at most 1 argument",
                "coracle volume create [OPTIONS] [VOLUME]",
                1,
            ),
            (
                "port a b c",
                "coracle: 'coracle port' requires at least 1 and at most 2 arguments",
                "coracle port CONTAINER [PRIVATE_PORT[/PROTO]]",
                1,
            ),
            (
                "stop",
                "coracle: 'coracle stop' requires at least 1 argument",
                "coracle stop [OPTIONS] CONTAINER [CONTAINER...]",
                1,
            ),
            (
                "manifest inspect",
                "coracle: 'coracle manifest inspect' requires at least 1 and at most 2 arguments",
                "coracle manifest inspect [OPTIONS] [MANIFEST_LIST] MANIFEST",
                1,
            ),
            ("ps --filter", "flag needs an argument: --filter", "coracle ps [OPTIONS]", 125),
            (
                "run --rm=x a",
                "invalid argument \"x\" for \"--rm\" flag: \"x\" is neither true nor false",
                "coracle run [OPTIONS] IMAGE [COMMAND] [ARG...]",
                125,
            ),
        ] {
            let (text, code_told) = told(line);
            let expected = format!("{first}\n\nUsage:  {usage}\n");
            assert!(text.starts_with(&expected), "{line}: {text}\n\n{expected}");
            assert_eq!(code_told, code, "{line}");
        }
        assert!(told("ps -n x").0.starts_with("invalid argument \"x\" for \"--last\" flag: "));
    }

    #[test]
    fn unknown_commands_come_with_similar_ones_and_refused_ones_with_the_reason() {
        assert_eq!(
            told("zzzz").0,
            "coracle: unknown command: coracle zzzz\n\nRun 'coracle --help' for more information"
        );
        let (text, code) = told("volume creat");
        assert_eq!(code, 1);
        assert!(text.contains("Did you mean: coracle volume create?"), "{text}");
        assert!(told("imges").0.contains("Did you mean: coracle images?"));
        assert!(told("swarm init").0.contains("never part of a swarm"));
        assert!(told("run --cpu-count 2 x").0.starts_with("--cpu-count is not supported: "));
        assert!(told("ps --no-trun").0.contains("Did you mean: --no-trunc?"));
    }
}
