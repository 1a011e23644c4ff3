//! What Docker's command has and this one does not, each with the reason. Commands and flags that are in neither are
//! mistakes.

/// Commands, with everything below them.
const COMMANDS: &[(&str, &str)] = &[
    (
        "checkpoint",
        "this engine makes no checkpoints: CRIU, which freezes processes to disk, is not part of it",
    ),
    ("config", SWARM),
    ("node", SWARM),
    (
        "plugin",
        "this engine takes no plugins: volumes are of the driver local, networks of the driver bridge",
    ),
    ("secret", SWARM),
    ("service", SWARM),
    ("stack", SWARM),
    ("swarm", SWARM),
    ("trust", TRUST),
    ("volume update", CLUSTER),
];

const SWARM: &str =
    "this engine is never part of a swarm; to spread over machines it runs under Kubernetes or Nomad";
const TRUST: &str =
    "signatures of Notary are not supported; name images by digest to get the same one always";
const CLUSTER: &str = "volumes of clusters belong to swarms, of which this engine is never part";
const WINDOWS: &str = "it limits containers of Windows";
const CHECKPOINTS: &str = "this engine makes no checkpoints";
const BUILDER: &str = "there is one builder: the engine itself";
const ATTESTATIONS: &str =
    "statements about how an image was built are made for `docker buildx build`, not for this command yet";

/// Flags, by the last words of their commands.
const FLAGS: &[(&[&str], &str, &str)] = &[
    (&["network inspect"], "verbose", SWARM),
    (&["run", "create"], "cpu-count", WINDOWS),
    (&["run", "create"], "cpu-percent", WINDOWS),
    (&["run", "create"], "io-maxbandwidth", WINDOWS),
    (&["run", "create"], "io-maxiops", WINDOWS),
    (
        &["run", "create"],
        "kernel-memory",
        "Linux has no such limit since 5.4; --memory counts the kernel's, too",
    ),
    (
        &["run", "create"],
        "use-api-socket",
        "mount the socket yourself, -v /run/coracle/coracle.sock:/var/run/docker.sock, and only where you trust the image",
    ),
    (&["start"], "checkpoint", CHECKPOINTS),
    (&["start"], "checkpoint-dir", CHECKPOINTS),
    (&["build"], "annotation", ATTESTATIONS),
    (&["build"], "attest", ATTESTATIONS),
    (&["build"], "provenance", ATTESTATIONS),
    (&["build"], "sbom", ATTESTATIONS),
    (
        &["build"],
        "compress",
        "the engine reads a context where it is, and over ssh `Compression yes` of ssh does it",
    ),
    (&["build"], "metadata-file", "use --iidfile, which has the id of the image"),
    (&["build"], "builder", BUILDER),
    (&["build"], "isolation", WINDOWS),
    (
        &["build"],
        "security-opt",
        "commands of a build have the profile of every container; there is no other one",
    ),
    (&["volume create"], "availability", CLUSTER),
    (&["volume create"], "group", CLUSTER),
    (&["volume create"], "limit-bytes", CLUSTER),
    (&["volume create"], "required-bytes", CLUSTER),
    (&["volume create"], "secret", CLUSTER),
    (&["volume create"], "sharing", CLUSTER),
    (&["volume create"], "topology-preferred", CLUSTER),
    (&["volume create"], "topology-required", CLUSTER),
    (&["volume create"], "type", CLUSTER),
    (&["volume create"], "scope", CLUSTER),
    (&["volume ls"], "cluster", CLUSTER),
    (&["network create"], "config-from", SWARM),
    (&["network create"], "config-only", SWARM),
    (&["network create"], "ingress", SWARM),
    (&["network create"], "scope", SWARM),
];

/// Why there is no such command; `path` is its words.
pub(super) fn command(path: &str) -> Option<&'static str> {
    let is_it =
        |known: &str| path.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    COMMANDS.iter().find(|(known, _)| is_it(known)).map(|(_, reason)| *reason)
}

/// Why the command of these words has no such flag.
pub(super) fn flag(path: &str, name: &str) -> Option<&'static str> {
    let is_it = |words: &&str| match path.strip_suffix(words) {
        Some(rest) => !words.is_empty() && (rest.is_empty() || rest.ends_with(' ')) || path.is_empty(),
        None => false,
    };
    let found = FLAGS.iter().find(|(verbs, flag, _)| *flag == name && verbs.iter().any(&is_it));
    found.map(|(.., reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Command;

    const DOCKER: &str = include_str!("../../tests/docker-28.txt");

    fn find<'a>(root: &'a Command, path: &str) -> Option<&'a Command> {
        path.split(' ')
            .filter(|word| *word != ".")
            .try_fold(root, |command, word| command.find_subcommand(word))
    }

    fn has(command: &Command, flag: &str) -> bool {
        let (short, long) =
            flag.split_once(',').map_or((None, flag), |(short, long)| (short.chars().next(), long));
        command.get_arguments().any(|arg| {
            let longs = arg.get_long_and_visible_aliases().unwrap_or_default();
            arg.get_long() == Some(long) && (short.is_none() || arg.get_short() == short)
                || longs.contains(&long) && short.is_none()
        })
    }

    #[test]
    fn every_command_and_flag_of_docker_is_there_or_refused_with_the_reason() {
        let mut root = super::super::command();
        root.build();
        let mut missing = Vec::new();
        for line in DOCKER.lines().filter(|line| !line.starts_with('#')) {
            let (paths, flags) = line.split_once(':').expect("commands: flags");
            for path in paths.split(" | ") {
                match (find(&root, path), command(path)) {
                    (Some(found), None) => {
                        let there = |flag: &&str| {
                            let long = flag.rsplit(',').next().expect("a name");
                            has(found, flag) != super::flag(path.trim_matches('.'), long).is_some()
                        };
                        missing.extend(
                            flags
                                .split_whitespace()
                                .filter(|flag| !there(flag))
                                .map(|flag| format!("{path} {flag}")),
                        );
                    }
                    (None, Some(_)) => {}
                    _ => missing.push(path.to_owned()),
                }
            }
        }
        assert_eq!(missing, Vec::<String>::new());
    }

    #[test]
    fn what_is_refused_is_found_below_its_command_alone() {
        assert!(
            command("swarm").is_some()
                && command("service ls").is_some()
                && command("volume update").is_some()
        );
        assert!(command("swarmy").is_none() && command("volume").is_none());
        assert!(flag("volume create", "type").is_some() && flag("create", "type").is_none());
        assert!(flag("container run", "cpu-count").is_some() && flag("ps", "cpu-count").is_none());
    }
}
