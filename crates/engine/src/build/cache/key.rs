//! What a step depends on, and so what its result is remembered under: the layers below, everything the instruction says,
//! and the contents of the files it takes. Times of files do not count, and neither does where contents come from.

use coracle_build::{Command, DeviceRequest, FileRules, Files, Mount, Operation, Program, RunNetwork};
use coracle_spec::digest::{Algorithm, Hasher};
use coracle_spec::{Digest, Platform};
use serde::{Deserialize, Serialize};

/// Changes whenever the same inputs give something else than before.
const VERSION: &str = "1";

/// One thing that a step depends on. Of its value only a digest is kept: it may be a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::build) struct Input {
    /// What it is called when it is told that it has changed.
    pub(in crate::build) name: String,
    pub(in crate::build) value: Digest,
}

/// Everything a step depends on.
#[derive(Clone, Debug, Default)]
pub(in crate::build) struct Inputs(Vec<Input>);

impl Inputs {
    /// What `operation` says by itself, done on top of `layers`.
    pub(in crate::build) fn of(operation: &Operation, layers: &[Digest], platform: &Platform) -> Self {
        let mut inputs = Self::default();
        inputs.add("the version of the engine", VERSION);
        inputs.add("the platform", &platform.to_string());
        match operation {
            // What is linked does not depend on what is below, but for names of users.
            Operation::Files(files) if files.transfer.stands_alone() => inputs.add("what is below", "linked"),
            _ => inputs.add_digests("what is below", layers),
        }
        match operation {
            Operation::Run(command) => inputs.command(command),
            Operation::Files(files) => inputs.files(files),
            Operation::Directory(directory) => {
                inputs.add("the directory", &directory.path);
                inputs.add("the owner", &directory.owner);
            }
        }
        inputs
    }

    /// Adds the digest of something.
    pub(in crate::build) fn add_digest(&mut self, name: impl Into<String>, value: Digest) {
        self.0.push(Input { name: name.into(), value });
    }

    /// Adds layers.
    pub(in crate::build) fn add_digests(&mut self, name: impl Into<String>, values: &[Digest]) {
        let text: Vec<String> = values.iter().map(Digest::to_string).collect();
        self.add(name, &text.join(" "));
    }

    /// Adds a text.
    pub(in crate::build) fn add(&mut self, name: impl Into<String>, value: &str) {
        self.add_digest(name, Digest::of(value.as_bytes()));
    }

    /// The digest of all of them.
    pub(in crate::build) fn key(&self) -> Digest {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        for input in &self.0 {
            // Names are of different lengths: where one ends is part of what is hashed.
            hasher.update(&(input.name.len() as u64).to_le_bytes());
            hasher.update(input.name.as_bytes());
            hasher.update(input.value.to_string().as_bytes());
        }
        hasher.finish()
    }

    pub(in crate::build) fn into_vec(self) -> Vec<Input> {
        self.0
    }

    /// The names of those that differ from `earlier`, or are there no more.
    pub(in crate::build) fn changed_since(&self, earlier: &[Input]) -> Vec<String> {
        let mut changed = Vec::new();
        for input in &self.0 {
            if !earlier.contains(input) && !changed.contains(&input.name) {
                changed.push(input.name.clone());
            }
        }
        for input in earlier {
            if !self.0.iter().any(|now| now.name == input.name) && !changed.contains(&input.name) {
                changed.push(input.name.clone());
            }
        }
        changed
    }

    fn command(&mut self, command: &Command) {
        match &command.program {
            Program::Words(words) => self.add_list("the command", words),
            Program::Script { name, text } => {
                self.add("the script's name", name);
                self.add("the script", text);
            }
        }
        for entry in &command.env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            self.add(format!("variable {name}"), value);
        }
        self.add("the user", &command.user);
        self.add("the working directory", &command.directory);
        let network = match command.network {
            RunNetwork::Default => "default",
            RunNetwork::None => "none",
            RunNetwork::Host => "host",
        };
        self.add("the network", network);
        self.add("the confinement", if command.insecure { "insecure" } else { "sandbox" });
        let device = |device: &DeviceRequest| {
            if device.required { format!("{},required", device.name) } else { device.name.clone() }
        };
        self.add_list("devices", &command.devices.iter().map(device).collect::<Vec<_>>());
        for (mount, _) in &command.mounts {
            self.mount(mount);
        }
    }

    fn mount(&mut self, mount: &Mount) {
        let target = mount.target.as_deref().or(mount.env.as_deref()).unwrap_or_default();
        // A secret's value is no input, nor is what is in a cache.
        self.add(format!("the mount at {target}"), &format!("{mount:?}"));
    }

    fn files(&mut self, files: &Files) {
        let transfer = &files.transfer;
        self.add_list("the sources", &transfer.sources);
        for inline in &transfer.inline {
            self.add(format!("the file {}", inline.name), &inline.content);
        }
        self.add("the destination", &transfer.destination);
        self.add("the owner", transfer.owner.as_deref().unwrap_or_default());
        self.add("the mode", transfer.mode.as_deref().unwrap_or_default());
        self.add_list("what is excluded", &transfer.exclude);
        match &files.rules {
            FileRules::Copy { parents } => self.add("the rules", &format!("copy, parents {parents}")),
            FileRules::Add { keep_git_dir, checksum, unpack } => {
                self.add("the rules", &format!("add, {keep_git_dir} {checksum:?} {unpack:?}"));
            }
        }
    }

    fn add_list(&mut self, name: &str, values: &[String]) {
        let document = serde_json::to_string(values).expect("texts are a document");
        self.add(name, &document);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(pairs: &[(&str, &str)]) -> Inputs {
        let mut inputs = Inputs::default();
        pairs.iter().for_each(|(name, value)| inputs.add(*name, value));
        inputs
    }

    #[test]
    fn a_key_depends_on_every_name_and_value_and_on_their_order() {
        let all = [
            inputs(&[("a", "1"), ("b", "2")]),
            inputs(&[("b", "2"), ("a", "1")]),
            inputs(&[("a", "2"), ("b", "1")]),
            inputs(&[("a", "1")]),
            inputs(&[("a", "12")]),
            inputs(&[("ab", "1"), ("", "2")]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert_eq!(all.iter().position(|other| other.key() == one.key()), Some(at));
        }
    }

    #[test]
    fn it_is_told_what_has_changed() {
        let before = inputs(&[("variable A", "1"), ("variable B", "2"), ("the user", "")]).into_vec();
        let now = inputs(&[("variable A", "1"), ("variable C", "2"), ("the user", "me")]);
        assert_eq!(now.changed_since(&before), ["variable C", "the user", "variable B"]);
        assert!(inputs(&[("variable A", "1")]).changed_since(&before[..1]).is_empty());
    }
}
