//! What a stage does, once it is known what it begins with: every variable resolved, every path absolute.

use crate::apply::{absolute, apply_with, words};
use crate::dockerfile::{Dockerfile, Step};
use crate::error::{Error, Result};
use crate::history;
use crate::instruction::{
    self, Add, ArgDeclaration, Change, CommandLine, Copy, DeviceRequest, Instruction, Mount, Run, RunCommand,
    RunNetwork, Transfer,
};
use crate::limits;
use crate::outline::{Origin, Outline, origin};
use crate::scope::{Arguments, Resolver, Wanted, variable};
use crate::statement::{self, Lines};
use coracle_spec::image::RunConfig;
use std::collections::BTreeMap;

/// Where programs are looked for unless the base says something else.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A stage, ready to be built.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What is done, in order.
    pub steps: Vec<Planned>,
    /// The configuration at the end.
    pub config: RunConfig,
    /// Who made it, where it says so.
    pub author: Option<String>,
    /// The arguments at the end, for the stages that begin with this one.
    pub arguments: Arguments,
}

/// A step of a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// As written.
    pub text: String,
    /// Where it stands.
    pub lines: Lines,
    /// What the image's history says of it; of a trigger nothing.
    pub history: Option<String>,
    /// What it does to the files; `None` where it only changes the configuration.
    pub operation: Option<Operation>,
}

/// What changes files, and so makes a layer.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// A command runs.
    Run(Command),
    /// Files are brought in.
    Files(Files),
    /// A directory is made, if it is not there.
    Directory(Directory),
}

/// A directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// Where, from the root.
    pub path: String,
    /// Whose it and what is missing above it become, as `USER` says it; root's if empty.
    pub owner: String,
}

/// A command.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Program and arguments, or the text of a script that names its interpreter.
    pub program: Program,
    /// The whole environment.
    pub env: Vec<String>,
    /// Variables that it has too, and that are no reason to run it again: the client's proxies.
    pub uncached_env: Vec<String>,
    /// Who it runs as.
    pub user: String,
    /// Where it starts.
    pub directory: String,
    /// What is mounted, and from where where it is not the context.
    pub mounts: Vec<(Mount, Option<Origin>)>,
    /// What it can reach.
    pub network: RunNetwork,
    /// Whether it runs without confinement.
    pub insecure: bool,
    /// Devices.
    pub devices: Vec<DeviceRequest>,
}

/// See [`Command::program`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// Program and arguments.
    Words(Vec<String>),
    /// A script.
    Script {
        /// What its file is called.
        name: String,
        /// Its text.
        text: String,
    },
}

/// Files that are brought in.
#[derive(Clone, Debug, PartialEq)]
pub struct Files {
    /// What, with the destination as an absolute path; a slash at its end says that it is a directory.
    pub transfer: Transfer,
    /// Where from; the context if absent.
    pub from: Option<Origin>,
    /// By which rules.
    pub rules: FileRules,
}

/// By which rules files are brought in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileRules {
    /// `COPY`; `parents` as in [`Copy::parents`].
    Copy {
        /// Whether directories above a source come along.
        parents: bool,
    },
    /// `ADD`.
    Add {
        /// As in [`Add::keep_git_dir`].
        keep_git_dir: bool,
        /// As in [`Add::checksum`].
        checksum: Option<String>,
        /// As in [`Add::unpack`].
        unpack: Option<bool>,
    },
}

/// Plans a stage. `base` is the configuration that it begins with, and `inherited` the arguments of the stage it begins
/// with, if it is one. Triggers of the base come first.
///
/// # Errors
/// [`Error::At`] with the place of the step at fault.
pub fn plan(
    file: &Dockerfile,
    outline: &Outline,
    wanted: &Wanted,
    stage: usize,
    base: &RunConfig,
    inherited: Arguments,
) -> Result<Plan> {
    if outline.is_replaced(stage) {
        // It is what the client has put there, triggers and all.
        let config = base.clone();
        return Ok(Plan { steps: Vec::new(), config, author: None, arguments: Arguments::new() });
    }
    let mut config = base.clone();
    let triggers = std::mem::take(&mut config.on_build);
    if variable(&config.env, "PATH").is_none() {
        // As Docker: an image has a path although its base has none.
        config.env.push(format!("PATH={DEFAULT_PATH}"));
    }
    let stage = &file.stages[stage];
    let mut planner = Planner {
        file,
        outline,
        wanted,
        resolver: Resolver::new(file.directives.escape),
        environments_left: limits::ENVIRONMENTS,
        history_left: limits::HISTORY,
        declared: Vec::new(),
        plan: Plan { steps: Vec::new(), config, author: None, arguments: inherited },
        has_cmd: false,
    };
    for text in &triggers {
        for step in trigger(text, stage.lines)? {
            planner.step(&step).map_err(|error| error.at(stage.lines.first, 1))?;
        }
    }
    for step in &stage.steps {
        planner.step(step).map_err(|error| error.at(step.lines.first, 1))?;
    }
    Ok(planner.plan)
}

/// A trigger of a base image as steps of the stage. It was written elsewhere, where a backslash escaped.
fn trigger(text: &str, lines: Lines) -> Result<Vec<Step>> {
    let statements = statement::statements(text, crate::lex::ESCAPE)?;
    let step = |statement: &statement::Statement| {
        let line = crate::lex::split(&statement.text, crate::lex::ESCAPE);
        let instruction = instruction::parse(&line, &statement.heredocs, crate::lex::ESCAPE);
        let instruction = instruction.map_err(|error| error.at(lines.first, 1))?;
        Ok(Step { text: statement.text.clone(), lines, instruction })
    };
    statements.iter().map(step).collect()
}

struct Planner<'a> {
    file: &'a Dockerfile,
    outline: &'a Outline,
    wanted: &'a Wanted,
    resolver: Resolver,
    /// Bytes that environments of commands may still have.
    environments_left: usize,
    /// Bytes that the history may still have.
    history_left: usize,
    /// Arguments that this stage declares, in order.
    declared: Vec<String>,
    plan: Plan,
    /// Whether this stage has said what runs, so that an entry point does not drop it.
    has_cmd: bool,
}

impl Planner<'_> {
    fn step(&mut self, step: &Step) -> Result<()> {
        let (operation, history) = match &step.instruction {
            Instruction::Arg(declared) => (None, Some(self.declare(declared)?)),
            Instruction::Maintainer(author) => {
                self.plan.author = Some(author.clone());
                (None, Some(format!("MAINTAINER {author}")))
            }
            Instruction::Change(change) => self.change(change)?,
            Instruction::Run(run) => {
                let command = self.command(run)?;
                let history = self.history_of(&command);
                (Some(Operation::Run(command)), Some(history))
            }
            Instruction::Copy(copy) => self.copy(copy)?,
            Instruction::Add(add) => self.add(add)?,
        };
        let limit = limits::HISTORY;
        let too_large = Error::TooLarge { what: "history, in bytes,", limit };
        let length = history.as_ref().map_or(0, String::len);
        self.history_left = self.history_left.checked_sub(length).ok_or(too_large)?;
        self.plan.steps.push(Planned { text: step.text.clone(), lines: step.lines, history, operation });
        Ok(())
    }

    fn resolve(&mut self, word: &str) -> Result<String> {
        self.resolver.resolve(word, &self.plan.config.env, &self.plan.arguments)
    }

    /// Declares arguments. What the client gives is not in the history, unless a command sees it.
    fn declare(&mut self, declared: &[ArgDeclaration]) -> Result<String> {
        let mut history = "ARG".to_owned();
        for one in declared {
            let (env, arguments) = (&self.plan.config.env, &mut self.plan.arguments);
            let (around, given) = (&self.outline.arguments, &self.wanted.arguments);
            let default = self.resolver.declare(one, env, arguments, around, given)?;
            self.declared.push(one.name.clone());
            history.push_str(&format!(" {}", one.name));
            if let Some(default) = default {
                history.push_str(&format!("={default}"));
            }
        }
        Ok(history)
    }

    fn change(&mut self, change: &Change) -> Result<(Option<Operation>, Option<String>)> {
        let change = apply_with(&mut self.plan.config, change, &self.plan.arguments, &mut self.resolver)?;
        let config = &mut self.plan.config;
        match &change {
            Change::Entrypoint(_) if !self.has_cmd => config.cmd = None,
            Change::Cmd(_) => {
                self.has_cmd = true;
                // As Docker. It means something for Windows alone.
                config.args_escaped = true;
            }
            Change::Env(pairs) => {
                pairs.iter().for_each(|(name, _)| drop(self.plan.arguments.remove(name)));
            }
            _ => {}
        }
        let directory = || Directory { path: config.working_dir.clone(), owner: config.user.clone() };
        let operation = matches!(change, Change::Workdir(_)).then(|| Operation::Directory(directory()));
        Ok((operation, history::of_change(&change, config)))
    }

    fn command(&mut self, run: &Run) -> Result<Command> {
        let mut mounts = Vec::new();
        for mount in &run.mounts {
            mounts.push(self.mount(mount)?);
        }
        let program = match &run.command {
            RunCommand::Script { name, text } => Program::Script { name: name.clone(), text: text.clone() },
            RunCommand::Line(line) => Program::Words(words(&self.plan.config, line)),
        };
        self.count_environment()?;
        let config = &self.plan.config;
        let mut env = config.env.clone();
        let place = |(place, entry): (usize, &String)| Some((entry.split_once('=')?.0.to_owned(), place));
        let places: BTreeMap<String, usize> = config.env.iter().enumerate().filter_map(place).collect();
        for (name, value) in &self.plan.arguments {
            let Some(value) = value else { continue };
            let entry = format!("{name}={value}");
            match places.get(name) {
                Some(place) => env[*place] = entry,
                None => env.push(entry),
            }
        }
        let mut uncached_env = Vec::new();
        for (name, value) in self.wanted.predefined() {
            if variable(&env, &name).is_none() {
                uncached_env.push(format!("{name}={value}"));
            }
        }
        let directory =
            if config.working_dir.is_empty() { "/".to_owned() } else { config.working_dir.clone() };
        Ok(Command {
            program,
            env,
            uncached_env,
            user: config.user.clone(),
            directory,
            mounts,
            network: run.network,
            insecure: run.insecure,
            devices: run.devices.clone(),
        })
    }

    /// Every command has a whole environment of its own, and arguments are in its history too.
    fn count_environment(&mut self) -> Result<()> {
        let entry = |bytes: usize| bytes + size_of::<String>();
        let variables: usize = self.plan.config.env.iter().map(|variable| entry(variable.len())).sum();
        let values = self.plan.arguments.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let arguments: usize = values.map(|(name, value)| 2 * entry(name.len() + value.len())).sum();
        let limit = limits::ENVIRONMENTS;
        let too_large = Error::TooLarge { what: "sum of all environments, in bytes,", limit };
        self.environments_left =
            self.environments_left.checked_sub(variables + arguments).ok_or(too_large)?;
        Ok(())
    }

    fn history_of(&self, command: &Command) -> String {
        let value = |name: &String| {
            let given = self.plan.arguments.get(name).cloned().flatten();
            given.or_else(|| variable(&self.plan.config.env, name)).unwrap_or_default()
        };
        let arguments: Vec<String> =
            self.declared.iter().map(|name| format!("{name}={}", value(name))).collect();
        let words = match &command.program {
            Program::Words(words) => words.clone(),
            // Where BuildKit has a shell begin it.
            Program::Script { name, .. } => {
                words(&self.plan.config, &CommandLine::Shell(format!("/dev/pipes/{name}")))
            }
        };
        history::of_command(&words, &arguments)
    }

    fn mount(&mut self, mount: &Mount) -> Result<(Mount, Option<Origin>)> {
        let mut resolved = mount.clone();
        let texts = [&mut resolved.target, &mut resolved.source, &mut resolved.id, &mut resolved.from];
        for text in texts.into_iter().chain([&mut resolved.env]).flatten() {
            *text = self.resolve(text)?;
        }
        if let Some(target) = &mut resolved.target {
            *target = absolute(&self.plan.config.working_dir, target);
        }
        let from = resolved.from.as_deref().map(|name| origin(self.file, self.wanted, name)).transpose()?;
        Ok((resolved, from))
    }

    fn copy(&mut self, copy: &Copy) -> Result<(Option<Operation>, Option<String>)> {
        let from = copy.from.as_deref().map(|name| origin(self.file, self.wanted, name)).transpose()?;
        let rules = FileRules::Copy { parents: copy.parents };
        let (transfer, destination) = self.transfer(&copy.files)?;
        let history = history::of_files("COPY", &transfer, &destination, copy.parents);
        Ok((Some(Operation::Files(Files { transfer, from, rules })), Some(history)))
    }

    fn add(&mut self, add: &Add) -> Result<(Option<Operation>, Option<String>)> {
        let checksum = add.checksum.as_deref().map(|text| self.resolve(text)).transpose()?;
        let rules = FileRules::Add { keep_git_dir: add.keep_git_dir, checksum, unpack: add.unpack };
        let (transfer, destination) = self.transfer(&add.files)?;
        let history = history::of_files("ADD", &transfer, &destination, false);
        Ok((Some(Operation::Files(Files { transfer, from: None, rules })), Some(history)))
    }

    /// Resolves what both have, and returns the destination as it was given beside it.
    fn transfer(&mut self, files: &Transfer) -> Result<(Transfer, String)> {
        let mut resolved = files.clone();
        let texts = resolved.sources.iter_mut().chain(&mut resolved.exclude);
        for text in texts.chain(&mut resolved.owner).chain(&mut resolved.mode) {
            *text = self.resolve(text)?;
        }
        for inline in &mut resolved.inline {
            if inline.expands {
                let (env, arguments) = (&self.plan.config.env, &self.plan.arguments);
                inline.content = self.resolver.resolve_document(&inline.content, env, arguments)?;
            }
        }
        let destination = self.resolve(&files.destination)?;
        if destination.is_empty() {
            return Err(Error::value("the destination is empty", &files.destination));
        }
        let is_directory = destination.ends_with('/') || destination == "." || destination.ends_with("/.");
        resolved.destination = absolute(&self.plan.config.working_dir, &destination);
        if is_directory && resolved.destination != "/" {
            resolved.destination.push('/');
        }
        if resolved.sources.len() + resolved.inline.len() > 1 && !is_directory {
            return Err(Error::syntax(format!(
                "when using COPY with more than one source file, the destination must be a directory and end with a /, \
                 not {destination}"
            )));
        }
        Ok((resolved, destination))
    }
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
