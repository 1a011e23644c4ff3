//! The cases below `tests/dockerfiles`: each is a directory with a Dockerfile, its context, and what the original makes of it.
//!
//! ```text
//! Dockerfile, …   the context; made in full by `prepare`, a script, where a repository cannot hold it
//! served/         what a web server of the test gives; `$WEB` in `args` is its address
//! args            further words of `docker buildx build`; `$NAME` is a name of the run's own
//! expected        what the original made: files that the base has not, configuration, history; or the error
//! differs         lines that are not so with us (`- line`), or only with us (`+ line`), and why (`# …`)
//! ignore          files whose contents differ from run to run, and why
//! not_for_the_original  why the original is not asked
//! times           that times are compared too, and why
//! ```
//!
//! A step that changes no file makes a layer there, with directories that are as they were, and none here. Neither counts.

use crate::Engine;
use crate::layers::{Saved, Tree, compare};
use crate::web::Web;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is no part of the context.
const OWN: [&str; 8] =
    ["args", "differs", "expected", "ignore", "not_for_the_original", "prepare", "served", "times"];
/// What BuildKit writes beside each line of a history.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// A case.
#[derive(Debug)]
pub struct Recipe {
    /// What it is called.
    pub name: String,
    place: PathBuf,
}

impl Recipe {
    /// All of them, by name.
    pub fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("dockerfiles");
        let mut found: Vec<Self> = fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| Self { name: entry.file_name().into_string().unwrap(), place: entry.path() })
            .collect();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        found
    }

    /// A file of the case; nothing where there is none.
    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.place.join(name)).unwrap_or_default()
    }

    /// Whether the original is asked.
    pub fn is_for_the_original(&self) -> bool {
        !self.place.join("not_for_the_original").exists()
    }

    /// Builds it with buildx, and says what came of it, line by line.
    pub fn build(&self, engine: &Engine, base: &Saved) -> BTreeSet<String> {
        let place = tempfile::tempdir().unwrap();
        let (context, served) = (place.path().join("context"), place.path().join("served"));
        self.lay_out(&context, &served);
        let web = Web::start(&served);
        let address = web.address("");
        let address = address.trim_end_matches('/');
        let name = engine.name(&self.name.replace('_', "-"));
        let words = self.text("args").replace("$WEB", address).replace("$NAME", &name);
        let mut arguments = vec!["-t", &name];
        if engine.is_original() {
            // What others have built there may stand on another import of the same base.
            arguments.push("--no-cache");
        }
        arguments.extend(words.split_whitespace());
        let told = engine.buildx(&context, &arguments);
        let lines = if told.code == 0 {
            let made = Saved::from_engine(engine, &name);
            engine.docker(&["rmi", &name]).ok();
            self.describe(&made, base)
        } else {
            let error = told.stderr.lines().find(|line| line.starts_with("ERROR: "));
            vec![without_names(error.unwrap_or_else(|| panic!("no error in {}", told.stderr)))]
        };
        let host = address.trim_start_matches("http://");
        let alike = |line: String| line.replace(address, "WEB").replace(host, "WEB").replace(&name, "NAME");
        lines.into_iter().map(alike).collect()
    }

    /// Makes the context, with modes that do not depend on who has checked the case out.
    fn lay_out(&self, context: &Path, served: &Path) {
        copy(&self.place, context, &OWN);
        fs::create_dir(served).unwrap();
        if self.place.join("served").exists() {
            fs::remove_dir(served).unwrap();
            copy(&self.place.join("served"), served, &[]);
        }
        let script = self.place.join("prepare");
        if script.exists() {
            let mut command = Command::new("sh");
            command.args(["-euc", "umask 022; . \"$0\""]).arg(&script);
            let output = command.current_dir(context).env("SERVED", served).output().unwrap();
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: prepare: {complaint}", self.name);
        }
    }

    fn describe(&self, made: &Saved, base: &Saved) -> Vec<String> {
        let with_times = self.place.join("times").exists();
        let ignore = self.text("ignore");
        let hidden: Vec<String> =
            ignore.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        let nothing = Saved::default();
        let on_base = made.layers().starts_with(base.layers());
        let below = if on_base { base } else { &nothing };
        let mut lines = compare(&below.tree, &made.tree, &hidden, with_times);
        lines.extend(configuration(&made.config, with_times));
        lines.extend(history(made, below, with_times));
        lines
    }

    /// What the original made of it.
    pub fn expected(&self) -> BTreeSet<String> {
        self.text("expected").lines().map(str::to_owned).collect()
    }

    /// What has to come of it with us.
    ///
    /// # Panics
    /// Where a difference has no reason, or is none.
    pub fn expected_of_us(&self) -> BTreeSet<String> {
        let mut lines = self.expected();
        let differs = self.text("differs");
        if !differs.is_empty() {
            let reason = differs.lines().find_map(|line| line.strip_prefix("# "));
            assert!(
                reason.is_some_and(|reason| reason != UNEXPLAINED),
                "{}: differs without a reason",
                self.name
            );
        }
        for line in differs.lines() {
            match (line.strip_prefix("- "), line.strip_prefix("+ ")) {
                (Some(line), _) => assert!(lines.remove(line), "{}: expected has no {line}", self.name),
                (_, Some(line)) => {
                    assert!(lines.insert(line.to_owned()), "{}: expected has {line}", self.name);
                }
                _ => assert!(line.starts_with('#'), "{}: what is {line:?} in differs", self.name),
            }
        }
        lines
    }

    /// Writes down what the original made.
    pub fn record(&self, lines: &BTreeSet<String>) {
        fs::write(self.place.join("expected"), text_of(lines.iter().map(String::as_str))).unwrap();
    }

    /// Writes down what differs with us; why stays to be said where nothing was said before.
    pub fn record_difference(&self, lines: &BTreeSet<String>) {
        let (expected, path) = (self.expected(), self.place.join("differs"));
        let before = self.text("differs");
        if *lines == expected {
            if path.exists() {
                fs::remove_file(path).unwrap();
            }
            return;
        }
        let mut text: Vec<String> =
            before.lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect();
        if text.is_empty() {
            text.push(format!("# {UNEXPLAINED}"));
        }
        text.extend(expected.difference(lines).map(|line| format!("- {line}")));
        text.extend(lines.difference(&expected).map(|line| format!("+ {line}")));
        fs::write(path, text_of(text.iter().map(String::as_str))).unwrap();
    }
}

/// What stands where nobody has said yet why something differs.
const UNEXPLAINED: &str = "why?";

fn text_of<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.map(|line| format!("{line}\n")).collect()
}

fn copy(from: &Path, to: &Path, without: &[&str]) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (name, source) = (entry.file_name(), entry.path());
        if without.iter().any(|own| name == **own) {
            continue;
        }
        let (target, kind) = (to.join(&name), entry.file_type().unwrap());
        if kind.is_dir() {
            copy(&source, &target, &[]);
        } else if kind.is_symlink() {
            symlink(fs::read_link(&source).unwrap(), &target).unwrap();
        } else {
            fs::copy(&source, &target).unwrap();
            let is_program = entry.metadata().unwrap().permissions().mode() & 0o100 != 0;
            let mode = if is_program { 0o755 } else { 0o644 };
            fs::set_permissions(&target, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        Value::Number(_) => false,
    }
}

fn configuration(document: &Value, with_times: bool) -> Vec<String> {
    let mut lines = Vec::new();
    let more = if with_times { &["created"][..] } else { &[] };
    for name in ["architecture", "os", "variant", "author"].iter().chain(more) {
        let value = &document[*name];
        if !is_nothing(value) {
            lines.push(format!("image {name} {value}"));
        }
    }
    for (name, value) in document["config"].as_object().into_iter().flatten() {
        if !is_nothing(value) {
            lines.push(format!("config {name} {value}"));
        }
    }
    lines
}

/// Each line of the history that the base has not, and whether it changed files.
fn history(made: &Saved, base: &Saved, with_times: bool) -> Vec<String> {
    let document = &made.config;
    let mut layers = made.changes.iter().skip(base.changes.len());
    let below = base.config["history"].as_array().map_or(0, Vec::len);
    let all = document["history"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines = Vec::new();
    for (number, one) in all.iter().enumerate().skip(below) {
        let is_empty = one["empty_layer"] == true || layers.next().is_none_or(|changes| *changes == 0);
        let kind = if is_empty { "configures" } else { "makes files" };
        let mut line = format!("history {number:02} {kind}: {}", one["created_by"]);
        for (name, usual) in [("comment", COMMENT), ("author", "")] {
            if !is_nothing(&one[name]) && one[name] != usual {
                line.push_str(&format!(" {name} {}", one[name]));
            }
        }
        if with_times {
            line.push_str(&format!(" created {}", one["created"]));
        }
        lines.push(line);
    }
    lines
}

/// What of an image is not in another one, or not so: files, configuration, history. Contents of files whose paths begin
/// with one of `varying`, or end with what stands behind a star there, are not compared.
pub fn differences(theirs: &Saved, ours: &Saved, varying: &[&str]) -> Vec<String> {
    let all = |image: &Saved| -> BTreeSet<String> {
        let fits = |path: &str, part: &str| match part.strip_prefix('*') {
            Some(end) => path.ends_with(end),
            None => path.starts_with(part),
        };
        let is_varying = |path: &&String| varying.iter().any(|part| fits(path, part));
        let hidden: Vec<String> = image.tree.keys().filter(is_varying).cloned().collect();
        let mut lines = compare(&Tree::new(), &image.tree, &hidden, false);
        lines.extend(configuration(&image.config, false));
        lines.extend(history(image, &Saved::default(), false));
        lines.into_iter().collect()
    };
    let (theirs, ours) = (all(theirs), all(ours));
    let only = |sign: &str, one: &BTreeSet<String>, other: &BTreeSet<String>| -> Vec<String> {
        one.difference(other).map(|line| format!("{sign} {line}")).collect()
    };
    [only("-", &theirs, &ours), only("+", &ours, &theirs)].concat()
}

/// An error without what differs from run to run: names that BuildKit gives its records, and where the original mounts.
fn without_names(error: &str) -> String {
    // The client tells which of its two calls has failed first: the one that asks for the result, or the one that gives it.
    let mut text = error.replace("failed to run Build function: ", "failed to solve: ");
    // Newer clients say this as well.
    text = text.replace("failed to build: ", "");
    for (begin, end) in [
        ("failed to calculate checksum of ref ", ": "),
        ("/var/lib/docker/overlay2/", "/merged"),
        ("/var/lib/docker/tmp/buildkit-mount", "/"),
    ] {
        if let Some((before, after)) = text.split_once(begin)
            && let Some((name, rest)) = after.split_once(end)
            && !name.contains(' ')
        {
            let slash = if end == "/" { end } else { "" };
            text = format!("{before}{slash}{rest}");
        }
    }
    text
}
