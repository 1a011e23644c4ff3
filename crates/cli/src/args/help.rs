//! What people read of the command line: how each command is used, and the commands in groups.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command};

use super::usage;

/// What most people type most of the time, in the order in which they come to need it.
const COMMON: [&str; 12] =
    ["run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search", "version", "info"];

/// The command with its texts.
pub(super) fn dress(root: Command) -> Command {
    let root = with_usage(root, "");
    let groups = groups(&root);
    root.help_template(format!(
        "{{usage-heading}}  {{usage}}\n\n{{about}}\n\n{groups}Options:\n{{options}}\n\nRun 'coracle COMMAND --help' for more information on a command."
    ))
}

fn with_usage(command: Command, path: &str) -> Command {
    let line = usage::line(path, &command);
    command.override_usage(line).mut_args(plain).mut_subcommands(|command| {
        let path = format!("{path} {}", command.get_name()).trim_start().to_owned();
        with_usage(command, &path)
    })
}

/// Switches are shown without the value that they may have, and arguments only once where the line of usage says all.
fn plain(arg: Arg) -> Arg {
    if arg.is_require_equals_set() {
        return arg.action(ArgAction::SetTrue).require_equals(false).num_args(0);
    }
    let is_said = |name: &&clap::builder::Str| name.contains(['[', ' ']);
    let said = arg.is_positional()
        && arg.get_value_names().is_some_and(|names| names.iter().any(|name| is_said(&name)));
    if said { arg.hide(true) } else { arg }
}

fn groups(root: &Command) -> String {
    let visible: Vec<&Command> = root.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    let named = |name: &&str| visible.iter().find(|command| command.get_name() == *name).copied();
    let common: Vec<&Command> = COMMON.iter().filter_map(named).collect();
    let mut others: Vec<&Command> =
        visible.iter().filter(|command| !COMMON.contains(&command.get_name())).copied().collect();
    others.sort_by_key(|command| command.get_name());
    let (management, others) = others.into_iter().partition(|command| command.has_subcommands());
    let width = visible.iter().map(|command| command.get_name().len()).max().unwrap_or(0);
    let mut text = String::new();
    for (title, commands) in
        [("Common Commands", common), ("Management Commands", management), ("Commands", others)]
    {
        text.push_str(title);
        text.push_str(":\n");
        for command in commands {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {:width$}  {about}", command.get_name());
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_command_stands_in_one_group() {
        let mut root = super::super::command();
        let text = root.render_help().to_string();
        for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
            let line = format!("\n  {} ", command.get_name());
            assert_eq!(text.matches(&line).count(), 1, "{}: {text}", command.get_name());
        }
        assert!(text.starts_with("Usage:  coracle [OPTIONS] COMMAND\n"), "{text}");
    }

    #[test]
    fn help_says_how_a_command_is_used() {
        let mut root = super::super::command();
        let run = root.find_subcommand_mut("run").expect("it exists");
        let text = run.render_help().to_string();
        assert!(text.contains("Usage: coracle run [OPTIONS] IMAGE [COMMAND] [ARG...]"), "{text}");
    }
}
