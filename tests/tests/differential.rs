//! What the original and this engine make of the same random trees: on the disk after an import, and in an export. Long:
//!
//! ```text
//! PEER=unix:///var/run/docker.sock CORACLE_TREES=50 cargo test -p coracle-tests --test differential -- --ignored
//! ```
//!
//! `PEER_ROOT` is where the original's root directory is, if it has another one than we do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use coracle_corpus::trees::{Precision, content_of, count, dialect, difference, grow, pack, unpack};
use coracle_tests::Engine;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The docker command against one of the two.
struct Side<'a> {
    engine: &'a Engine,
    host: String,
}

impl Side<'_> {
    fn docker(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        use std::io::Write;
        let mut command: Command = self.engine.command("docker");
        command.env("DOCKER_HOST", &self.host).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            // A command that has ended early takes no input; its status tells.
            scope.spawn(move || drop(stdin.write_all(input)));
            let output = child.wait_with_output().unwrap();
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{arguments:?} on {}: {complaint}", self.host);
            output.stdout
        })
    }

    fn inspect(&self, image: &str, what: &str) -> String {
        let output = self.docker(&["image", "inspect", "-f", what, image], b"");
        String::from_utf8(output).unwrap().trim().to_owned()
    }

    /// The files of an archive after an import and an export, without what the engines themselves add.
    fn exported(&self, image: &str) -> BTreeMap<Vec<u8>, String> {
        let container =
            String::from_utf8(self.docker(&["create", "--network", "none", image, "/none"], b"")).unwrap();
        let archive = self.docker(&["export", container.trim()], b"");
        self.docker(&["rm", container.trim()], b"");
        let out = tempfile::tempdir().unwrap();
        unpack(&archive, out.path());
        let mut found = content_of(out.path(), Precision::OldTar);
        // Names in the trees begin with a number.
        found.retain(|name, _| name[0].is_ascii_digit());
        found
    }
}

/// A path on the original's disk, as it is seen here.
fn of_peer(path: &str) -> PathBuf {
    let root = std::env::var_os("PEER_ROOT").unwrap_or_else(|| "/".into());
    Path::new(&root).join(path.trim_start_matches('/'))
}

/// The original changes the owner of a file again for each further name, by which the kernel takes its capabilities away.
/// This engine keeps them, as GNU tar does.
fn lose_what_the_original_loses(text: &mut String) {
    let Some(start) = text.find(" security.capability=").filter(|_| text.contains(" same as ")) else {
        return;
    };
    let end = start + text[start..].find(']').unwrap() + 1;
    text.replace_range(start..end, "");
}

#[test]
#[ignore = "needs the original beside this engine, see the top of the file"]
fn the_original_makes_the_same_of_random_trees() {
    let engine = Engine::start();
    let ours = Side { engine: &engine, host: engine.host().to_owned() };
    let peer =
        Side { engine: &engine, host: std::env::var("PEER").expect("PEER names the original's address") };
    let image = engine.name("tree");
    for seed in 1..=count(50) {
        let tree = tempfile::tempdir().unwrap();
        grow(tree.path(), seed);
        // The original does not read files with holes as old GNU tar writes them.
        let unread = dialect(seed).0 == ["--format=gnu", "--sparse"];
        let dialect = dialect(if unread { seed + 1 } else { seed });
        let archive = pack(tree.path(), dialect);
        for side in [&ours, &peer] {
            side.docker(&["import", "-", &image], &archive);
        }
        let layer = ours.inspect(&image, "{{index .RootFS.Layers 0}}");
        let layer = layer.strip_prefix("sha256:").unwrap();
        let ours_on_disk = engine.directory().join("data/layers/sha256").join(layer).join("fs");
        let theirs_on_disk = of_peer(&peer.inspect(&image, "{{.GraphDriver.Data.UpperDir}}"));
        let (mut ours_found, theirs_found) =
            (content_of(&ours_on_disk, dialect.1), content_of(&theirs_on_disk, dialect.1));
        ours_found.values_mut().for_each(lose_what_the_original_loses);
        let on_disk = difference(&ours_found, &theirs_found);
        let exported = difference(&ours.exported(&image), &peer.exported(&image));
        for side in [&ours, &peer] {
            side.docker(&["rmi", &image], b"");
        }
        assert_eq!(on_disk, None, "SEED={seed} {dialect:?}, on the disk: ours, then theirs");
        assert_eq!(exported, None, "SEED={seed} {dialect:?}, exported: ours, then theirs");
    }
}
