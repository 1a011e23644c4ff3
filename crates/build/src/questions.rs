//! What a Dockerfile says of itself to whoever asks before building: which stages there are, and what a build of one of them
//! can be given. Nothing of images is known here: a variable of theirs has no value.

use crate::dockerfile::{Dockerfile, Stage};
use crate::error::Result;
use crate::expand::expand;
use crate::instruction::{ArgDeclaration, Instruction, MountKind};
use crate::lex;
use crate::outline::{Base, Outline};
use crate::plan::{Command, Operation, Plan, plan};
use crate::scope::Wanted;
use crate::statement::{self, Lines};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A stage that can be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What it is called; empty for one without a name.
    pub name: String,
    /// Whether it is the one that is built if none is asked for.
    pub is_default: bool,
    /// What the comment above it says.
    pub description: String,
    /// What it begins with, as written.
    pub base: String,
    /// The platform, as written; empty where there is none.
    pub platform: String,
    /// Where it stands.
    pub lines: Lines,
}

/// What a build can be given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// The stage's name; empty for one without.
    pub name: String,
    /// What the comment above it says.
    pub description: String,
    /// Arguments.
    pub arguments: Vec<Parameter>,
    /// Secrets.
    pub secrets: Vec<Loan>,
    /// SSH agents.
    pub agents: Vec<Loan>,
}

/// An argument of the build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// What the comment above it says.
    pub description: String,
    /// What it is, given or by default; empty for none.
    pub value: String,
    /// Where it is declared.
    pub lines: Lines,
}

/// Something that a client lends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loan {
    /// Its id.
    pub name: String,
    /// Whether the build fails without it.
    pub required: bool,
    /// Where it is used.
    pub lines: Lines,
}

/// The stages of a file; `text` is what `file` was made of.
///
/// # Errors
/// For a text that is another one.
pub fn targets(text: &str, file: &Dockerfile) -> Result<Vec<Target>> {
    let comments = Comments::of(text, file)?;
    let last = file.stages.len() - 1;
    let target = |(number, stage): (usize, &Stage)| Target {
        name: stage.from.name.clone().unwrap_or_default(),
        is_default: number == last,
        description: comments.of_stage(stage),
        base: stage.from.image.clone(),
        platform: stage.from.platform.clone().unwrap_or_default(),
        lines: stage.lines,
    };
    Ok(file.stages.iter().enumerate().map(target).collect())
}

/// What a build of the outline's target can be given; `text` is what `file` was made of.
///
/// # Errors
/// As [`plan`].
pub fn parameters(text: &str, file: &Dockerfile, outline: &Outline, wanted: &Wanted) -> Result<Parameters> {
    let comments = Comments::of(text, file)?;
    let target = &file.stages[outline.target];
    let mut found = Parameters {
        name: target.from.name.clone().unwrap_or_default(),
        description: comments.of_stage(target),
        ..Parameters::default()
    };
    let mut plans: HashMap<usize, Plan> = HashMap::new();
    for number in &outline.order {
        let inherited = match &outline.bases[*number] {
            Base::Stage(base) => plans.get(base).map(|below| (below.config.clone(), below.arguments.clone())),
            _ => None,
        };
        let (config, arguments) = inherited.unwrap_or_default();
        plans.insert(*number, plan(file, outline, wanted, *number, &config, arguments)?);
    }
    let mut search =
        Search { file, outline, wanted, comments: &comments, plans: &plans, seen: BTreeSet::new() };
    search.stage(outline.target, &mut BTreeSet::new(), &mut found)?;
    found.arguments.sort_by_key(|argument| argument.lines.first);
    found.secrets.sort_by_key(|secret| secret.lines.first);
    found.agents.sort_by_key(|agent| agent.lines.first);
    Ok(found)
}

/// The search for parameters, from the target to what it needs: of two arguments with one name, that of the stage which is
/// nearer counts.
struct Search<'a> {
    file: &'a Dockerfile,
    outline: &'a Outline,
    wanted: &'a Wanted,
    comments: &'a Comments,
    plans: &'a HashMap<usize, Plan>,
    /// Names of arguments that were found.
    seen: BTreeSet<String>,
}

impl Search<'_> {
    fn stage(&mut self, number: usize, visited: &mut BTreeSet<usize>, found: &mut Parameters) -> Result<()> {
        if !visited.insert(number) {
            return Ok(());
        }
        let stage = &self.file.stages[number];
        for name in self.used_by(stage) {
            self.around(&name, found);
        }
        for step in self.outline.steps(self.file, number) {
            let Instruction::Arg(declared) = &step.instruction else { continue };
            for one in declared {
                self.argument(number, one, step.lines, found);
            }
        }
        let plan = &self.plans[&number];
        for step in &plan.steps {
            if let Some(Operation::Run(command)) = &step.operation {
                lend(command, step.lines, found);
            }
        }
        for needed in self.outline.needs(self.file, self.wanted, number)? {
            self.stage(needed, visited, found)?;
        }
        Ok(())
    }

    /// Arguments of the scope around the stages that a `FROM` line uses, and those that their defaults use.
    fn used_by(&self, stage: &Stage) -> Vec<String> {
        let platform = stage.from.platform.iter().map(String::as_str);
        let mut left: Vec<String> = platform.chain([stage.from.image.as_str()]).flat_map(variables).collect();
        let mut used = Vec::new();
        while let Some(name) = left.pop() {
            if used.contains(&name) {
                continue;
            }
            let declared = self.file.arguments.iter().rev().find(|declared| declared.name == name);
            if let Some(default) = declared.and_then(|declared| declared.default.as_deref()) {
                left.extend(variables(default));
            }
            used.push(name);
        }
        used
    }

    fn around(&mut self, name: &str, found: &mut Parameters) {
        let Some(lines) = self.comments.arguments.get(name) else { return };
        self.add(name, self.outline.arguments.get(name), *lines, found);
    }

    fn argument(&mut self, stage: usize, declared: &ArgDeclaration, lines: Lines, found: &mut Parameters) {
        let name = declared.name.as_str();
        if declared.default.is_none() && self.outline.arguments.contains_key(name) {
            // It is that of the scope around; those of platforms are declared nowhere.
            return self.around(name, found);
        }
        let value = self.plans[&stage].arguments.get(name);
        self.add(name, value, lines, found);
    }

    fn add(&mut self, name: &str, value: Option<&Option<String>>, lines: Lines, found: &mut Parameters) {
        if self.seen.insert(name.to_owned()) {
            found.arguments.push(Parameter {
                name: name.to_owned(),
                description: self.comments.above(lines.first, name),
                value: value.cloned().flatten().unwrap_or_default(),
                lines,
            });
        }
    }
}

/// What a command is lent.
fn lend(command: &Command, lines: Lines, found: &mut Parameters) {
    for (mount, _) in &command.mounts {
        let id = mount.id.clone();
        let (loans, name) = match mount.kind {
            MountKind::Secret => {
                let file = mount.target.as_deref().and_then(|path| path.rsplit('/').next());
                (&mut found.secrets, id.or_else(|| file.map(str::to_owned)).unwrap_or_default())
            }
            MountKind::Ssh => (&mut found.agents, id.unwrap_or_else(|| "default".to_owned())),
            _ => continue,
        };
        if !loans.iter().any(|loan| loan.name == name) {
            loans.push(Loan { name, required: mount.required, lines });
        }
    }
}

/// The names of variables in a word.
fn variables(word: &str) -> Vec<String> {
    let names = RefCell::new(Vec::new());
    let look = |name: &str| {
        names.borrow_mut().push(name.to_owned());
        // As if it were set, so that `${NAME?}` refuses nothing.
        Some(String::from("x"))
    };
    // What cannot be resolved was refused before.
    drop(expand(word, lex::ESCAPE, &look));
    names.into_inner()
}

/// What comments say, and where arguments around the stages are declared.
struct Comments {
    /// Comments by the line of the instruction below them.
    lines: BTreeMap<usize, Vec<String>>,
    arguments: BTreeMap<String, Lines>,
}

impl Comments {
    fn of(text: &str, file: &Dockerfile) -> Result<Self> {
        let statements = statement::statements(text, file.directives.escape)?;
        let all: Vec<&str> = text.trim_start_matches('\u{feff}').lines().map(str::trim).collect();
        let mut comments = Self { lines: BTreeMap::new(), arguments: BTreeMap::new() };
        let first_stage = file.stages.first().map_or(usize::MAX, |stage| stage.lines.first);
        for statement in &statements {
            let first = statement.lines.first;
            let above = all[..first - 1].iter().rev().map_while(|line| line.strip_prefix('#'));
            comments.lines.insert(first, above.map(|line| line.trim().to_owned()).collect());
            if first < first_stage {
                let names = file.arguments.iter().map(|declared| &declared.name);
                let declared = names.filter(|name| declares(&statement.text, name));
                comments.arguments.extend(declared.map(|name| (name.clone(), statement.lines)));
            }
        }
        Ok(comments)
    }

    fn of_stage(&self, stage: &Stage) -> String {
        stage.from.name.as_deref().map(|name| self.above(stage.lines.first, name)).unwrap_or_default()
    }

    /// What a comment above a line says of a name: it begins with it.
    fn above(&self, line: usize, name: &str) -> String {
        let comments = self.lines.get(&line).into_iter().flatten();
        let mut said = comments.filter_map(|text| text.strip_prefix(name)?.strip_prefix(' '));
        said.next_back().unwrap_or_default().to_owned()
    }
}

fn declares(statement: &str, name: &str) -> bool {
    let mut words = statement.split_whitespace();
    words.next().is_some_and(|word| word.eq_ignore_ascii_case("ARG"))
        && words.any(|word| word.split('=').next() == Some(name))
}

#[cfg(test)]
#[path = "questions/tests.rs"]
mod tests;
