//! What a container wrote becomes an image.

use super::import::{changed, check_name, now};
use super::{Images, Inner, of_store};
use crate::containers::settings::Settings;
use crate::containers::{Description, inherit_health};
use crate::error::Result;
use coracle_spec::image::{History, ImageConfig, RunConfig};
use coracle_spec::{Digest, Platform, Reference};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// What is to become of what a container wrote.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    /// The container, which does not write meanwhile.
    pub container: Description,
    /// What the image is called.
    pub reference: Option<Reference>,
    /// Who made it.
    pub author: String,
    /// A note.
    pub comment: String,
    /// Instructions for its configuration.
    pub changes: Vec<String>,
    /// What its configuration has instead of the container's.
    pub settings: Option<Settings>,
}

impl Images {
    /// Makes an image of a container. Durable on return; the id.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] for an instruction or a name with a digest, and the store's.
    pub async fn commit(&self, request: CommitRequest) -> Result<Digest> {
        let of_container = run_config(&request.container.settings);
        // Instructions see what they change: `ENV PATH=/mine:$PATH`.
        let asked = request.settings.as_ref().map_or_else(|| of_container.clone(), run_config);
        let run = merged(changed(asked, &request.changes)?, of_container);
        check_name(request.reference.as_ref())?;
        self.run(move |inner| inner.commit(request, run)).await
    }
}

impl Inner {
    fn commit(&self, request: CommitRequest, run: RunConfig) -> Result<Digest> {
        let _hold = self.arriving();
        let container = &request.container;
        let committing = || format!("commit container {}", container.id);
        let layer = self.store.commit(&container.id).map_err(|error| of_store(error, committing))?;
        let mut config = self.base(container)?;
        let now = now();
        let is_empty = is_empty_layer(&layer.diff_id);
        if !is_empty {
            config.rootfs.diff_ids.push(layer.diff_id);
        }
        config.history.push(History {
            created: Some(now.clone()),
            created_by: container.settings.cmd.as_deref().unwrap_or_default().join(" "),
            author: request.author.clone(),
            comment: request.comment.clone(),
            empty_layer: is_empty,
            other: Map::new(),
        });
        config.created = Some(now);
        config.config = run;
        config.author = request.author;
        config.comment.clone_from(&request.comment);
        let parent = self.read().get(&container.image).map(|image| image.id);
        let (id, name) = self.make(&config, request.reference, parent)?;
        self.tell_commit(&request.container, &request.comment, &id, name.as_ref());
        Ok(id)
    }

    /// The image that the container was made of; only its layers where it is gone.
    fn base(&self, container: &Description) -> Result<ImageConfig> {
        let known = self.read().get(&container.image).cloned();
        let mut config = match known {
            Some(known) => self.image(&known)?.config.as_ref().clone(),
            None => ImageConfig { platform: Platform::host(), ..ImageConfig::default() },
        };
        config.rootfs.diff_ids.clone_from(&container.layers);
        // They were the parent's: what it was built in, and by what.
        config.other.clear();
        Ok(config)
    }

    fn tell_commit(&self, container: &Description, comment: &str, id: &Digest, name: Option<&Reference>) {
        let mut attributes: BTreeMap<String, String> = container.settings.labels.clone();
        let name = name.map(Reference::familiar).unwrap_or_default();
        for (key, value) in [
            ("image", container.settings.image.clone()),
            ("name", container.name.to_string()),
            ("comment", comment.to_owned()),
            ("imageID", id.to_string()),
            ("imageRef", name),
        ] {
            attributes.insert(key.to_owned(), value);
        }
        self.events.tell("container", "commit", container.id.as_str(), attributes);
    }
}

/// Whether a layer is of a container that wrote nothing.
fn is_empty_layer(diff_id: &Digest) -> bool {
    *diff_id == empty_layer()
}

/// The layer of a container that wrote nothing: the two zero blocks that end an archive.
fn empty_layer() -> Digest {
    Digest::of(&[0; 1024])
}

/// What of a container's settings an image has.
fn run_config(settings: &Settings) -> RunConfig {
    RunConfig {
        user: settings.user.clone(),
        exposed_ports: set(&settings.exposed_ports),
        env: settings.env.iter().filter(|entry| entry.contains('=')).cloned().collect(),
        entrypoint: settings.entrypoint.clone(),
        cmd: settings.cmd.clone(),
        volumes: set(&settings.volumes),
        working_dir: settings.working_dir.clone(),
        labels: settings.labels.clone(),
        stop_signal: settings.stop_signal.clone(),
        stop_timeout: settings.stop_timeout,
        healthcheck: settings.healthcheck.clone(),
        on_build: settings.on_build.clone(),
        shell: settings.shell.clone(),
        args_escaped: false,
        other: Map::new(),
    }
}

fn set(keys: &BTreeSet<String>) -> BTreeMap<String, Value> {
    keys.iter().map(|key| (key.clone(), Value::Object(Map::new()))).collect()
}

/// `ours`, and what it leaves open from the container.
fn merged(mut ours: RunConfig, container: RunConfig) -> RunConfig {
    fn fill<T: Default + PartialEq>(ours: &mut T, theirs: T) {
        if *ours == T::default() {
            *ours = theirs;
        }
    }
    // An entry point of ours does not take the container's arguments.
    if ours.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        if ours.cmd.as_ref().is_none_or(Vec::is_empty) {
            ours.cmd = container.cmd;
        }
        if ours.entrypoint.is_none() {
            ours.entrypoint = container.entrypoint;
        }
    }
    fill(&mut ours.user, container.user);
    fill(&mut ours.working_dir, container.working_dir);
    fill(&mut ours.stop_signal, container.stop_signal);
    fill(&mut ours.stop_timeout, container.stop_timeout);
    fill(&mut ours.shell, container.shell);
    fill(&mut ours.on_build, container.on_build);
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let set: BTreeSet<String> = ours.env.iter().map(|entry| name(entry)).collect();
    ours.env.extend(container.env.into_iter().filter(|entry| !set.contains(&name(entry))));
    for (key, value) in container.labels {
        ours.labels.entry(key).or_insert(value);
    }
    ours.exposed_ports.extend(container.exposed_ports);
    ours.volumes.extend(container.volumes);
    inherit_health(&mut ours.healthcheck, container.healthcheck.as_ref());
    ours
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_container_fills_what_is_left_open() {
        let container = json!({
            "User": "me", "Cmd": ["old"], "Entrypoint": ["e"], "Env": ["A=1", "B=2"], "Labels": {"a": "1", "b": "2"},
            "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}}, "WorkingDir": "/w", "StopSignal": "SIGINT",
            "Healthcheck": {"Test": ["CMD", "x"], "Retries": 2}, "Shell": ["/bin/bash"], "OnBuild": ["RUN x"],
        });
        let parse = |value| serde_json::from_value::<RunConfig>(value).unwrap();
        assert_eq!(merged(RunConfig::default(), parse(container.clone())), parse(container.clone()));
        let cases = [
            (json!({"Cmd": ["new"]}), json!({"Cmd": ["new"], "Entrypoint": ["e"]})),
            (json!({"Entrypoint": ["new"]}), json!({"Cmd": null, "Entrypoint": ["new"]})),
            (json!({"Env": ["B=x", "C=3"]}), json!({"Env": ["B=x", "C=3", "A=1"]})),
            (json!({"Labels": {"a": "x"}}), json!({"Labels": {"a": "x", "b": "2"}})),
            (
                json!({"Healthcheck": {"Test": ["NONE"]}}),
                json!({"Healthcheck": {"Test": ["NONE"], "Retries": 2}}),
            ),
            (json!({"User": "you"}), json!({"User": "you"})),
        ];
        for (ours, differs) in cases {
            let mut expected = container.clone();
            expected.as_object_mut().unwrap().extend(differs.as_object().unwrap().clone());
            assert_eq!(merged(parse(ours.clone()), parse(container.clone())), parse(expected), "{ours}");
        }
    }
}
