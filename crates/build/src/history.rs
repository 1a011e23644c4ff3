//! What an image's history says of an instruction, word for word as BuildKit does: with variables resolved, and lists as Go
//! prints them.

use crate::apply::words;
use crate::duration;
use crate::instruction::{Change, CommandLine, Transfer};
use coracle_spec::image::{Healthcheck, RunConfig};
use std::fmt::Write as _;

/// Of a change that is resolved, to a configuration that has it already. Nothing is said of a trigger.
pub(crate) fn of_change(change: &Change, config: &RunConfig) -> Option<String> {
    Some(match change {
        Change::Cmd(line) => format!("CMD {}", quoted(&of_line(line.as_ref(), config))),
        Change::Entrypoint(line) => format!("ENTRYPOINT {}", quoted(&of_line(line.as_ref(), config))),
        Change::Env(pairs) => format!("ENV{}", of_pairs(pairs)),
        Change::Label(pairs) => format!("LABEL{}", of_pairs(pairs)),
        Change::Expose(ports) => {
            let ports: Vec<String> = ports.iter().map(|port| format!("{port}:{{}}")).collect();
            format!("EXPOSE map[{}]", ports.join(" "))
        }
        Change::Healthcheck(health) => format!("HEALTHCHECK {}", of_health(health)),
        Change::OnBuild(_) => return None,
        Change::Shell(words) => format!("SHELL [{}]", words.join(" ")),
        Change::StopSignal(signal) => format!("STOPSIGNAL {signal}"),
        Change::User(user) => format!("USER {user}"),
        Change::Volume(paths) => format!("VOLUME [{}]", paths.join(" ")),
        Change::Workdir(path) => format!("WORKDIR {path}"),
    })
}

/// Of files that are brought in; `destination` as it was given.
pub(crate) fn of_files(instruction: &str, files: &Transfer, destination: &str, with_parents: bool) -> String {
    let mut text = instruction.to_owned();
    if with_parents {
        text.push_str(" --parents");
    }
    for (option, value) in [("chown", &files.owner), ("chmod", &files.mode)] {
        if let Some(value) = value {
            let _ = write!(text, " --{option}={value}"); // Writing to a string cannot fail.
        }
    }
    files.sources.iter().for_each(|source| text.extend([" ", source]));
    files.inline.iter().for_each(|inline| text.extend([" <<", &inline.name]));
    format!("{text} {destination} # buildkit")
}

/// Of a command: the arguments of the build in front, as they are part of what was run.
pub(crate) fn of_command(words: &[String], arguments: &[String]) -> String {
    let mut parts = Vec::new();
    if !arguments.is_empty() {
        parts.push(format!("|{}", arguments.len()));
        parts.extend_from_slice(arguments);
    }
    parts.extend_from_slice(words);
    format!("RUN {} # buildkit", parts.join(" "))
}

fn of_line(line: Option<&CommandLine>, config: &RunConfig) -> Vec<String> {
    line.map(|line| words(config, line)).unwrap_or_default()
}

fn of_pairs(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(name, value)| format!(" {name}={value}")).collect()
}

/// As Go prints a pointer to it with `%q`, where the number of retries is a character.
fn of_health(health: &Healthcheck) -> String {
    let mut text = format!("&{{{}", quoted(&health.test));
    for nanoseconds in [health.interval, health.timeout, health.start_period, health.start_interval] {
        let _ = write!(text, " \"{}\"", duration::written(nanoseconds)); // As above.
    }
    let retries = u32::try_from(health.retries).ok().and_then(char::from_u32);
    let retries = retries.unwrap_or(char::REPLACEMENT_CHARACTER);
    format!("{text} '{}'}}", escaped(retries, '\''))
}

/// `["a" "b"]`, Go's `%q` of a list.
fn quoted(words: &[String]) -> String {
    let quoted = words.iter().map(|word| {
        let letters: String = word.chars().map(|letter| escaped(letter, '"')).collect();
        format!("\"{letters}\"")
    });
    format!("[{}]", quoted.collect::<Vec<_>>().join(" "))
}

/// A character as Go's `strconv.Quote` has it between such quotes.
fn escaped(letter: char, quote: char) -> String {
    match letter {
        '\u{7}' => r"\a".to_owned(),
        '\u{8}' => r"\b".to_owned(),
        '\u{c}' => r"\f".to_owned(),
        '\n' => r"\n".to_owned(),
        '\r' => r"\r".to_owned(),
        '\t' => r"\t".to_owned(),
        '\u{b}' => r"\v".to_owned(),
        '\\' => r"\\".to_owned(),
        letter if letter == quote => format!("\\{letter}"),
        letter if letter.is_ascii_control() => format!("\\x{:02x}", u32::from(letter)),
        letter if letter.is_control() => format!("\\u{:04x}", u32::from(letter)),
        letter => letter.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_checks_are_printed_as_go_does() {
        let list = |words: &[&str]| quoted(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(
            list(&["/bin/sh", "-c", "say \"hi\"\t\\ ä\u{1}"]),
            r#"["/bin/sh" "-c" "say \"hi\"\t\\ ä\x01"]"#
        );
        assert_eq!(list(&[]), "[]");
        let health = Healthcheck {
            test: vec!["CMD".to_owned(), "it's".to_owned()],
            interval: 90_500_000_000,
            retries: 39,
            ..Healthcheck::default()
        };
        assert_eq!(of_health(&health), r#"&{["CMD" "it's"] "1m30.5s" "0s" "0s" "0s" '\''}"#);
    }
}
