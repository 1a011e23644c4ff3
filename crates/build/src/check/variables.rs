//! Variables that are used and not there.

use super::{Found, Rule, Surroundings};
use crate::dockerfile::{Dockerfile, Step};
use crate::error::{Result, nearest_of};
use crate::instruction::{Change, Instruction, Transfer};
use crate::scope::variable_names;
use crate::statement::Lines;
use std::collections::BTreeSet;

/// What a stage knows; `None` where its base is not known.
type Known = Option<BTreeSet<String>>;

pub(super) fn check(file: &Dockerfile, around: &Surroundings<'_>, found: &mut Found) -> Result<()> {
    let escape = file.directives.escape;
    let mut global: BTreeSet<String> = around.wanted.platform_arguments().into_keys().collect();
    for declared in &file.arguments {
        global.insert(declared.name.clone());
    }
    let mut stages: Vec<Known> = Vec::new();
    for (number, stage) in file.stages.iter().enumerate() {
        for text in [Some(&stage.from.image), stage.from.platform.as_ref()].into_iter().flatten() {
            for name in used(text, escape).into_iter().filter(|name| !global.contains(name)) {
                let text = format!("FROM argument '{name}' is not declared{}", hint(&name, &global));
                found.add(Rule::UndefinedArgInFrom, stage.lines, text);
            }
        }
        let earlier =
            file.stages[..number].iter().rposition(|one| one.from.name.as_deref() == Some(&stage.from.image));
        let mut known = match earlier {
            Some(earlier) => stages[earlier].clone(),
            None if stage.from.image == "scratch" => Some(BTreeSet::new()),
            None => (around.environment)(number).map(|env| variable_names(&env)),
        };
        if let Some(known) = &mut known {
            // Every stage has one, and it needs no declaration.
            known.insert("PATH".to_owned());
            stage.steps.iter().for_each(|step| self::step(step, escape, known, found));
        }
        stages.push(known);
    }
    Ok(())
}

/// Says what a step uses that is not known, and adds what it defines.
fn step(step: &Step, escape: char, known: &mut BTreeSet<String>, found: &mut Found) {
    // All of one instruction see what was there before it, but for defaults of arguments.
    if let Instruction::Arg(declared) = &step.instruction {
        for one in declared {
            one.default.iter().for_each(|text| undefined(text, escape, known, step.lines, found));
            known.insert(one.name.clone());
        }
        return;
    }
    for text in texts(&step.instruction) {
        undefined(text, escape, known, step.lines, found);
    }
    if let Instruction::Change(Change::Env(pairs)) = &step.instruction {
        known.extend(pairs.iter().map(|(name, _)| name.clone()));
    }
}

fn undefined(text: &str, escape: char, known: &BTreeSet<String>, lines: Lines, found: &mut Found) {
    for name in used(text, escape).into_iter().filter(|name| !known.contains(name)) {
        let text = format!("Usage of undefined variable '${name}'{}", hint(&name, known));
        found.add(Rule::UndefinedVar, lines, text);
    }
}

fn hint(name: &str, known: &BTreeSet<String>) -> String {
    let near = nearest_of(name, known.iter().map(String::as_str));
    near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default()
}

/// Every text of an instruction in which variables are resolved.
fn texts(instruction: &Instruction) -> Vec<&str> {
    match instruction {
        Instruction::Copy(copy) => of_transfer(&copy.files),
        Instruction::Add(add) => {
            let mut all = of_transfer(&add.files);
            all.extend(add.checksum.as_deref());
            all
        }
        Instruction::Run(run) => run
            .mounts
            .iter()
            .flat_map(|mount| [&mount.target, &mount.source, &mount.id, &mount.from, &mount.env])
            .filter_map(|text| text.as_deref())
            .collect(),
        Instruction::Change(change) => match change {
            Change::Env(pairs) | Change::Label(pairs) => {
                pairs.iter().flat_map(|(name, value)| [name.as_str(), value]).collect()
            }
            Change::Expose(texts) | Change::Volume(texts) => texts.iter().map(String::as_str).collect(),
            Change::StopSignal(text) | Change::User(text) | Change::Workdir(text) => vec![text],
            Change::Cmd(_)
            | Change::Entrypoint(_)
            | Change::Healthcheck(_)
            | Change::OnBuild(_)
            | Change::Shell(_) => Vec::new(),
        },
        Instruction::Arg(_) | Instruction::Maintainer(_) => Vec::new(),
    }
}

fn of_transfer(files: &Transfer) -> Vec<&str> {
    let all = files.sources.iter().chain(&files.exclude).chain(&files.owner).chain(&files.mode);
    all.chain([&files.destination]).map(String::as_str).collect()
}

/// Names of variables in a word that have no default of their own.
fn used(word: &str, escape: char) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_quoted = false;
    let mut rest = word.chars().peekable();
    while let Some(letter) = rest.next() {
        match letter {
            '\'' => is_quoted = !is_quoted,
            letter if letter == escape => drop(rest.next()),
            '$' if !is_quoted => {
                let is_braced = rest.next_if_eq(&'{').is_some();
                let mut name = String::new();
                while let Some(next) = rest.next_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
                    name.push(next);
                }
                // Behind a name in braces something else may stand: what to do where it is not set.
                let has_default =
                    is_braced && rest.peek().is_some_and(|next| matches!(next, ':' | '-' | '+' | '?'));
                if !name.is_empty() && !name.starts_with(|first: char| first.is_ascii_digit()) && !has_default
                {
                    names.push(name);
                }
            }
            _ => {}
        }
    }
    names
}
