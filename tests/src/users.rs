//! An engine's own view of the machine's users, for engines that give containers the ids of one of them.

use std::fs;
use std::path::Path;
use std::process::Command;

/// How many ids the user has.
pub const COUNT: u32 = 65_536;
/// Its name, which is Docker's.
const USER: &str = "dockremap";
/// Where the files are, in an engine's place.
const DIRECTORY: &str = "users";
/// What they are called in `/etc`.
const FILES: [&str; 4] = ["passwd", "group", "subuid", "subgid"];

/// Writes files with a user that has [`COUNT`] ids from `first` on. In place, as they may be mounted.
pub(crate) fn write(place: &Path, first: u32) {
    let directory = place.join(DIRECTORY);
    fs::create_dir_all(&directory).unwrap();
    for (name, line) in [
        ("passwd", format!("{USER}:x:64999:64999::/:/bin/false\n")),
        ("group", format!("{USER}:x:64999:\n")),
        ("subuid", format!("{USER}:{first}:{COUNT}\n")),
        ("subgid", format!("{USER}:{first}:{COUNT}\n")),
    ] {
        let own = if name.starts_with("sub") {
            String::new()
        } else {
            fs::read_to_string(Path::new("/etc").join(name)).unwrap()
        };
        fs::write(directory.join(name), own + &line).unwrap();
    }
}

/// A command that runs `program` where those files are in `/etc`, if there are any, and as it is otherwise.
pub(crate) fn command(place: &Path, program: &Path) -> Command {
    let directory = place.join(DIRECTORY);
    if !directory.is_dir() {
        return Command::new(program);
    }
    let mounts =
        FILES.map(|name| format!("mount --bind {}/{name} /etc/{name}", directory.display())).join(" && ");
    let mut command = Command::new("unshare");
    // The engine sees later mounts of the machine, which sees none of these.
    command.args([
        "--mount",
        "--propagation",
        "slave",
        "sh",
        "-c",
        &format!("{mounts} && exec \"$@\""),
        "sh",
    ]);
    command.arg(program);
    command
}
