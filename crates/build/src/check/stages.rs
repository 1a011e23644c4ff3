//! What stages are called, begin with and do.

use super::{Found, Rule, Surroundings};
use crate::dockerfile::{Dockerfile, Stage, Step};
use crate::error::Result;
use crate::instruction::{Change, CommandLine, Instruction, Transfer};
use crate::pattern::PathPattern;
use crate::scope::{Arguments, Resolver};
use crate::statement::{Lines, Statement};
use coracle_spec::{Platform, Reference};
use std::collections::BTreeMap;

/// Names that mean something else.
const RESERVED: [&str; 2] = ["scratch", "context"];
/// Parts of names that only secrets have.
const SECRET: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
/// The part of a name that says that it is none.
const NO_SECRET: &str = "public";

/// What a stage has said so far, for those that begin with it.
#[derive(Clone, Copy, Default)]
struct State {
    has_directory: bool,
    has_shell: bool,
}

pub(super) fn check(
    file: &Dockerfile,
    statements: &[Statement],
    around: &Surroundings<'_>,
    found: &mut Found,
) -> Result<()> {
    let mut states: Vec<State> = Vec::new();
    for (number, stage) in file.stages.iter().enumerate() {
        name(file, number, stage, found);
        platform(stage, found);
        base(file, stage, around, found)?;
        repeated(stage, found);
        let below = file.stages[..number]
            .iter()
            .rposition(|earlier| earlier.from.name.as_deref() == Some(&stage.from.image));
        let mut state = below.map(|below| states[below]).unwrap_or_default();
        for step in &stage.steps {
            self::step(step, &mut state, around, found);
        }
        states.push(state);
    }
    for declared in &file.arguments {
        let lines = statements.iter().find(|statement| declares(statement, &declared.name));
        secret(
            "ARG",
            &declared.name,
            lines.map_or(Lines { first: 1, last: 1 }, |statement| statement.lines),
            found,
        );
    }
    Ok(())
}

fn declares(statement: &Statement, name: &str) -> bool {
    let mut words = statement.text.split_whitespace();
    words.next().is_some_and(|word| word.eq_ignore_ascii_case("ARG"))
        && words.any(|word| word.split('=').next() == Some(name))
}

fn name(file: &Dockerfile, number: usize, stage: &Stage, found: &mut Found) {
    let Some(name) = &stage.from.name else { return };
    if file.stages[..number].iter().any(|earlier| earlier.from.name.as_ref() == Some(name)) {
        let text = format!("Duplicate stage name {name:?}, stage names should be unique");
        found.add(Rule::DuplicateStageName, stage.lines, text);
    }
    if RESERVED.contains(&name.as_str()) {
        let text = format!("Stage name should not use the same name as reserved stage {name:?}");
        found.add(Rule::ReservedStageName, stage.lines, text);
    }
}

fn platform(stage: &Stage, found: &mut Found) {
    let Some(platform) = &stage.from.platform else { return };
    if matches!(platform.as_str(), "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
        let text = format!(
            "Setting platform to predefined {platform} in FROM is redundant as this is the default behavior"
        );
        return found.add(Rule::RedundantTargetPlatform, stage.lines, text);
    }
    let Some(constant) = platform.parse::<Platform>().ok().filter(|_| !platform.contains('$')) else {
        return;
    };
    // One of several stages, each for a platform that its name tells.
    let is_told = |name: &String| {
        [&constant.os, &constant.architecture].iter().any(|part| name.contains(part.as_str()))
    };
    if !stage.from.name.as_ref().is_some_and(is_told) {
        let text = format!("FROM --platform flag should not use constant value {platform:?}");
        found.add(Rule::FromPlatformFlagConstDisallowed, stage.lines, text);
    }
}

/// Whether the defaults alone give an image.
fn base(file: &Dockerfile, stage: &Stage, around: &Surroundings<'_>, found: &mut Found) -> Result<()> {
    if !stage.from.image.contains('$') {
        return Ok(());
    }
    let mut resolver = Resolver::new(file.directives.escape);
    let outer = around.wanted.platform_arguments();
    let mut arguments: Arguments = outer.clone();
    for declared in &file.arguments {
        resolver.declare(declared, &[], &mut arguments, &outer, &BTreeMap::new())?;
    }
    // A variable that demands a value has no default on purpose.
    let Ok(image) = resolver.resolve(&stage.from.image, &[], &arguments) else { return Ok(()) };
    if image.parse::<Reference>().is_err() {
        let text =
            format!("Default value for ARG {} results in empty or invalid base image name", stage.from.image);
        found.add(Rule::InvalidDefaultArgInFrom, stage.lines, text);
    }
    Ok(())
}

/// Instructions of which the last one counts.
fn repeated(stage: &Stage, found: &mut Found) {
    let kind = |step: &Step| match &step.instruction {
        Instruction::Change(Change::Cmd(_)) => Some("CMD"),
        Instruction::Change(Change::Entrypoint(_)) => Some("ENTRYPOINT"),
        Instruction::Change(Change::Healthcheck(_)) => Some("HEALTHCHECK"),
        _ => None,
    };
    for (at, step) in stage.steps.iter().enumerate() {
        let Some(name) = kind(step) else { continue };
        if stage.steps[at + 1..].iter().any(|later| kind(later) == Some(name)) {
            let text = format!(
                "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
            );
            found.add(Rule::MultipleInstructionsDisallowed, step.lines, text);
        }
    }
}

fn step(step: &Step, state: &mut State, around: &Surroundings<'_>, found: &mut Found) {
    match &step.instruction {
        Instruction::Arg(declared) => {
            declared.iter().for_each(|one| secret("ARG", &one.name, step.lines, found));
        }
        Instruction::Copy(copy) if copy.from.is_none() => {
            ignored("Copy", &copy.files, step.lines, around, found);
        }
        Instruction::Add(add) => ignored("Add", &add.files, step.lines, around, found),
        Instruction::Change(change) => self::change(change, step.lines, state, found),
        _ => {}
    }
}

fn change(change: &Change, lines: Lines, state: &mut State, found: &mut Found) {
    match change {
        Change::Cmd(Some(CommandLine::Shell(_))) if !state.has_shell => json("CMD", lines, found),
        Change::Entrypoint(Some(CommandLine::Shell(_))) if !state.has_shell => {
            json("ENTRYPOINT", lines, found);
        }
        Change::Shell(_) => state.has_shell = true,
        Change::Env(pairs) => pairs.iter().for_each(|(name, _)| secret("ENV", name, lines, found)),
        Change::Expose(ports) => ports.iter().for_each(|port| expose(port, lines, found)),
        Change::Workdir(path) => {
            if !state.has_directory && !path.starts_with(['/', '$', '"', '\'']) {
                let text = format!(
                    "Relative workdir {path:?} can have unexpected results if the base image changes"
                );
                found.add(Rule::WorkdirRelativePath, lines, text);
            }
            state.has_directory = true;
        }
        _ => {}
    }
}

fn json(name: &str, lines: Lines, found: &mut Found) {
    let text =
        format!("JSON arguments recommended for {name} to prevent unintended behavior related to OS signals");
    found.add(Rule::JSONArgsRecommended, lines, text);
}

fn expose(port: &str, lines: Lines, found: &mut Found) {
    if port.contains('$') {
        return;
    }
    if port.contains(':') {
        let text = format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
        );
        found.add(Rule::ExposeInvalidFormat, lines, text);
    }
    if let Some((_, protocol)) = port.split_once('/')
        && protocol != protocol.to_ascii_lowercase()
    {
        let text = format!("Defined protocol '{protocol}' in EXPOSE instruction should be lowercase");
        found.add(Rule::ExposeProtoCasing, lines, text);
    }
}

/// Whether the name of a variable is that of a secret, as Docker's checks have it.
pub fn names_secret(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let has = |part: &str| lower.split('_').any(|word| word == part);
    SECRET.into_iter().any(has) && !has(NO_SECRET)
}

fn secret(instruction: &str, name: &str, lines: Lines, found: &mut Found) {
    if names_secret(name) {
        let text = format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {name:?})");
        found.add(Rule::SecretsUsedInArgOrEnv, lines, text);
    }
}

fn ignored(verb: &str, files: &Transfer, lines: Lines, around: &Surroundings<'_>, found: &mut Found) {
    let Some(ignored) = around.ignored else { return };
    for source in files.sources.iter().filter(|source| !source.contains('$')) {
        let pattern = PathPattern::parse(source);
        if pattern.is_ok_and(|pattern| pattern.literal().is_some_and(|path| ignored.leaves_out(path))) {
            let text = format!("Attempting to {verb} file {source:?} that is excluded by .dockerignore");
            found.add(Rule::CopyIgnoredFile, lines, text);
        }
    }
}
