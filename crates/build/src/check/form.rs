//! How lines are written: capitals, empty lines, old forms, comments.

use super::{Found, Rule, split};
use crate::dockerfile::Dockerfile;
use crate::lex;
use crate::statement::{self, Lines, Statement};

pub(super) fn check(text: &str, file: &Dockerfile, statements: &[Statement], found: &mut Found) {
    let lines: Vec<&str> = text.trim_start_matches('\u{feff}').lines().collect();
    casing(file, statements, found);
    for statement in statements {
        empty_continuation(file, &lines, statement, found);
        let line = split(file, statement);
        match line.name.to_ascii_uppercase().as_str() {
            "FROM" => from(file, &lines, statement, found),
            "ARG" => described(&lines, statement, &argument_names(file, line.rest), found),
            name @ ("ENV" | "LABEL") => {
                let first =
                    lex::words(line.rest, file.directives.escape).first().copied().unwrap_or_default();
                if !first.contains('=') {
                    let text = format!(
                        "\"{name} key=value\" should be used instead of legacy \"{name} key value\" format"
                    );
                    found.add(Rule::LegacyKeyValueFormat, statement.lines, text);
                }
            }
            "MAINTAINER" => found.add(
                Rule::MaintainerDeprecated,
                statement.lines,
                "Maintainer instruction is deprecated in favor of using label",
            ),
            _ => {}
        }
    }
}

/// The majority is right.
fn casing(file: &Dockerfile, statements: &[Statement], found: &mut Found) {
    let names = || statements.iter().map(|statement| (split(file, statement).name, statement.lines));
    let is_lower = |name: &str| name == name.to_ascii_lowercase();
    let is_upper = |name: &str| name == name.to_ascii_uppercase();
    let lower = names().filter(|(name, _)| is_lower(name)).count();
    let upper = names().filter(|(name, _)| is_upper(name)).count();
    let majority = if lower > upper { "lowercase" } else { "uppercase" };
    for (name, lines) in names() {
        let fits = if lower > upper { is_lower(name) } else { is_upper(name) };
        if !fits {
            let text = format!("Command '{name}' should match the case of the command majority ({majority})");
            found.add(Rule::ConsistentInstructionCasing, lines, text);
        }
    }
}

fn empty_continuation(file: &Dockerfile, lines: &[&str], statement: &Statement, found: &mut Found) {
    for number in statement.lines.first..=statement.lines.last {
        let Some(line) = lines.get(number - 1) else { return };
        if line.trim().is_empty() {
            let here = Lines { first: number, last: number };
            found.add(Rule::NoEmptyContinuation, here, "Empty continuation line");
        } else if !line.trim_start().starts_with('#') && !statement::continued(line, file.directives.escape).1
        {
            // What comes then are here-documents.
            return;
        }
    }
}

fn from(file: &Dockerfile, lines: &[&str], statement: &Statement, found: &mut Found) {
    let line = split(file, statement);
    let [_, keyword, name] = lex::words(line.rest, file.directives.escape)[..] else { return };
    let is_upper = |text: &str| text == text.to_ascii_uppercase();
    if is_upper(line.name) != is_upper(keyword) {
        let text = format!("'{keyword}' and '{}' keywords' casing do not match", line.name);
        found.add(Rule::FromAsCasing, statement.lines, text);
    }
    if name != name.to_ascii_lowercase() {
        found.add(Rule::StageNameCasing, statement.lines, format!("Stage name '{name}' should be lowercase"));
    }
    described(lines, statement, &[name.to_owned()], found);
}

fn argument_names(file: &Dockerfile, rest: &str) -> Vec<String> {
    let words = lex::words(rest, file.directives.escape);
    words.iter().map(|word| word.split('=').next().unwrap_or_default().to_owned()).collect()
}

/// Whether the comment right above a definition begins with what it defines.
fn described(lines: &[&str], statement: &Statement, names: &[String], found: &mut Found) {
    let above = lines[..statement.lines.first - 1].iter().rev();
    let comments: Vec<&str> = above
        .map_while(|line| line.trim_start().strip_prefix('#'))
        .map(str::trim)
        .take_while(|comment| !is_directive(comment))
        .collect();
    let Some(name) = names.first().filter(|_| !comments.is_empty()) else { return };
    let fits = |comment: &&str| {
        names.iter().any(|name| comment.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with(' ')))
    };
    if !comments.iter().any(fits) {
        let text = format!("Comment for {name} should follow the format: `# {name} <description>`");
        found.add(Rule::InvalidDefinitionDescription, statement.lines, text);
    }
}

fn is_directive(comment: &str) -> bool {
    let name = comment.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
    comment.contains('=') && ["syntax", "escape", "check"].contains(&name.as_str())
}
