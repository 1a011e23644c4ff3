//! The command line as typed: one structure per command, Docker's names and defaults. What the arguments mean is
//! decided in `resolve`.

pub(crate) mod build;
pub(crate) mod container;
pub(crate) mod context;
pub(crate) mod create;
mod global;
mod help;
pub(crate) mod image;
pub(crate) mod manifest;
pub(crate) mod network;
mod refused;
pub(crate) mod registry;
pub(crate) mod system;
mod usage;
pub(crate) mod volume;

use std::ffi::OsString;

use clap::{ArgAction, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

pub(crate) use global::{Globals, LogLevel};
pub(crate) use usage::Mistake;

/// Builds, ships and runs containers
#[derive(Debug, Parser)]
#[command(name = "coracle", version, disable_help_subcommand = true, disable_version_flag = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Commands,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Commands {
    #[command(flatten)]
    Container(Box<container::ContainerCommand>),
    #[command(flatten)]
    TopLevelImage(image::TopLevelCommand),
    #[command(flatten)]
    Registry(registry::TopLevelCommand),
    /// Manage containers
    #[command(name = "container", subcommand)]
    Containers(container::ContainerGroup),
    /// Manage images
    #[command(name = "image", subcommand)]
    Images(image::ImageCommand),
    /// Manage builds
    #[command(subcommand)]
    Builder(build::BuilderCommand),
    /// Manage contexts: names of engines
    #[command(subcommand)]
    Context(context::ContextCommand),
    /// Manage lists of manifests in registries
    #[command(subcommand)]
    Manifest(manifest::ManifestCommand),
    /// Manage volumes
    #[command(subcommand)]
    Volume(volume::VolumeCommand),
    /// Manage networks
    #[command(subcommand)]
    Network(network::NetworkCommand),
    /// Manage the engine
    #[command(subcommand)]
    System(system::SystemCommand),
    #[command(flatten)]
    TopLevelSystem(system::TopLevelCommand),
    /// Print what a shell needs to complete command lines
    Completion {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Run the engine
    #[command(disable_help_flag = true)]
    Daemon {
        /// Arguments of the engine
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// The child of an automatic start, before it becomes the engine.
    #[command(name = crate::engine_start::CHILD_COMMAND, hide = true)]
    EngineChild,
}

/// The whole command line, as people read it.
pub(crate) fn command() -> Command {
    help::dress(Arguments::command())
}

/// What parses it.
fn parser() -> Command {
    docker_flags(Arguments::command())
}

/// Parses a command line, the program's name first. `help COMMAND` is `COMMAND --help`.
pub(crate) fn parse(arguments: &[OsString]) -> Result<Arguments, clap::Error> {
    let matches = match arguments {
        [program, help, words @ ..] if help == "help" => {
            let asked = [std::slice::from_ref(program), words, &["--help".into()]].concat();
            parser().try_get_matches_from(asked)?
        }
        _ => parser().try_get_matches_from(arguments)?,
    };
    Arguments::from_arg_matches(&matches)
}

/// The help of the command that the words lead to.
pub(crate) fn help(arguments: &[OsString]) -> String {
    let mut root = command();
    root.build();
    let words = if arguments.get(1).is_some_and(|word| word == "help") { &arguments[1..] } else { arguments };
    let (path, _) = usage::innermost(&root, words);
    let command =
        path.split_whitespace().try_fold(&mut root, |command, word| command.find_subcommand_mut(word));
    command.map(|command| command.render_help().to_string()).unwrap_or_default()
}

/// Writes what a shell needs to complete command lines.
pub(crate) fn complete(shell: clap_complete::Shell, out: &mut dyn std::io::Write) {
    clap_complete::generate(shell, &mut command(), "coracle", out);
}

/// What is wrong with a command line of which [`parse`] said `error`.
pub(crate) fn mistake(arguments: &[OsString], error: &clap::Error) -> Mistake {
    let mut root = command();
    root.build();
    usage::mistake(&root, arguments, error)
}

/// Go's flag habits on every command: `--flag=false` for switches, a value may begin with a dash, the last of repeated
/// values wins, and `--help` without a letter where `-h` means something else.
fn docker_flags(command: Command) -> Command {
    command
        .args_override_self(true)
        .mut_args(|arg| match arg.get_action() {
            ArgAction::SetTrue => arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_value("false")
                .default_missing_value("true")
                .hide_default_value(true)
                .hide_possible_values(true)
                .value_name("BOOL")
                .value_parser(boolean),
            ArgAction::Set | ArgAction::Append if !arg.is_positional() && !arg.is_require_equals_set() => {
                arg.allow_hyphen_values(true)
            }
            _ => arg,
        })
        .mut_subcommands(docker_flags)
}

fn boolean(text: &str) -> Result<bool, String> {
    coracle_spec::truth(text).ok_or_else(|| format!("{text:?} is neither true nor false"))
}

/// `--filter`.
fn filter(text: &str) -> Result<String, String> {
    match text.contains('=') {
        true => Ok(text.to_owned()),
        false => Err("bad format of filter (expected name=value)".to_owned()),
    }
}

/// For switches that can only be on, because that is how it always is.
fn only_true(text: &str) -> Result<bool, String> {
    match boolean(text)? {
        true => Ok(true),
        false => Err("it is always so".to_owned()),
    }
}

/// `--filter` and `--format` of lists.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ListArgs {
    /// Filter output, name=value
    #[arg(short, long, value_name = "FILTER", value_parser = filter)]
    pub(crate) filter: Vec<String>,
    /// Format with a Go template, 'table TEMPLATE' or 'json'
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// Don't truncate output
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Only display ids or names
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// Names, and the template for what is known about them.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct InspectArgs {
    /// Format with a Go template, or 'json'
    #[arg(short, long, value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// What to remove, and whether to ask.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PruneArgs {
    /// Filter what is removed, name=value
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    pub(crate) filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Arguments, clap::Error> {
        let words: Vec<_> = line.split_whitespace().map(Into::into).collect();
        parse(&words)
    }

    fn run_args(line: &str) -> container::RunArgs {
        match parse_line(line).expect(line).command {
            Commands::Container(command) => match *command {
                container::ContainerCommand::Run(run) => run,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        parser().debug_assert();
        command().debug_assert();
    }

    #[test]
    fn help_is_that_of_the_command() {
        let help = |line: &str| {
            let words: Vec<_> = line.split_whitespace().map(Into::into).collect();
            let asked = parse(&words).expect_err(line);
            assert_eq!(asked.kind(), clap::error::ErrorKind::DisplayHelp, "{line}");
            help(&words)
        };
        for line in [
            "coracle help volume create",
            "coracle volume create --help",
            "coracle -D volume create --help x",
        ] {
            assert!(help(line).contains("Usage: coracle volume create [OPTIONS] [VOLUME]"), "{line}");
        }
        assert!(help("coracle help").starts_with("Usage:  coracle [OPTIONS] COMMAND"));
        let run = help("coracle run --help");
        assert!(run.contains("\n  -d, --detach\n") && run.contains("      --sig-proxy\n"), "{run}");
    }

    #[test]
    fn everything_after_the_image_belongs_to_the_container() {
        let run = run_args("coracle run -it --rm=true -p8080:80 -e A=b -h host alpine sh -c exit --rm -it");
        assert!(run.create.interactive && run.create.tty && run.create.rm);
        assert_eq!(run.create.publish, ["8080:80"]);
        assert_eq!(run.create.hostname.as_deref(), Some("host"));
        assert_eq!(run.create.image_and_command, ["alpine", "sh", "-c", "exit", "--rm", "-it"]);
        assert!(!run.detach);
    }

    #[test]
    fn switches_take_a_value_after_an_equals_sign_and_the_last_one_wins() {
        let run = run_args("coracle run --rm --rm=false --name a --name=b --sig-proxy=false -d=true x");
        assert!(!run.create.rm && !run.sig_proxy && run.detach);
        assert_eq!(run.create.name.as_deref(), Some("b"));
        assert!(run_args("coracle run x").sig_proxy);
    }

    #[test]
    fn commands_exist_under_every_name_docker_gives_them() {
        for line in [
            "ps -a",
            "container ls -aq",
            "container rm -f x",
            "images -q",
            "image ls",
            "rmi x",
            "image rm x",
            "volume ls",
            "network inspect n",
            "system df -v",
            "system events",
            "events --since 1h",
            "info -f json",
            "top c -ef",
            "stop -t 1 c",
            "logs -f --tail 5 c",
            "exec -it -e A=b c sh -c x",
            "--host tcp://h ps",
            "daemon --data-root /x --host unix:///y",
            "run -e -x --label -y x",
            "logs --since -1h c",
            "container stats --no-stream",
            "image list",
            "network list",
            "context list",
            "context remove x",
            "--context c -D -l debug ps",
        ] {
            assert!(parse_line(&format!("coracle {line}")).is_ok(), "{line}");
        }
        for line in ["", "nosuch", "run", "ps --nosuch", "stop", "rename a", "volume"] {
            assert!(parse_line(&format!("coracle {line}")).is_err(), "{line}");
        }
    }
}
