//! Images as clients see them.

use super::time;
use coracle_api::ApiVersion;
use coracle_api::container::{Config, GraphDriver};
use coracle_api::image as api;
use coracle_engine::containers::Description;
use coracle_engine::images::{
    Deleted, HistoryStep, Image, ImageSummary, ManifestKind, ManifestSummary, Target,
};
use coracle_spec::Reference;
use coracle_spec::image::RunConfig;
use serde_json::Value;
use std::sync::Arc;

/// A row of the list.
pub(crate) fn summary(image: &ImageSummary, version: ApiVersion) -> api::ImageSummary {
    let (tags, digests) = names(&image.references);
    let size = i64::try_from(image.size).unwrap_or(i64::MAX);
    api::ImageSummary {
        containers: -1,
        created: image.created.map_or(0, ::time::OffsetDateTime::unix_timestamp),
        id: image.id.to_string(),
        labels: (!image.labels.is_empty()).then(|| image.labels.clone()),
        parent_id: image.parent.map(|parent| parent.to_string()).unwrap_or_default(),
        repo_digests: digests,
        repo_tags: tags,
        shared_size: -1,
        size,
        virtual_size: (version < ApiVersion::new(1, 44)).then_some(size),
        ..api::ImageSummary::default()
    }
}

/// What a name stands for, as OCI describes content.
pub(crate) fn descriptor(target: &Target) -> Option<Value> {
    target.descriptor.as_ref().map(document)
}

/// The manifests that a name stands for, with the containers of each.
pub(crate) fn manifests(target: &Target, containers: &[Arc<Description>]) -> Vec<api::ManifestSummary> {
    target.manifests.iter().map(|manifest| manifest_of(manifest, containers)).collect()
}

fn manifest_of(manifest: &ManifestSummary, containers: &[Arc<Description>]) -> api::ManifestSummary {
    let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let mut found = api::ManifestSummary {
        id: manifest.descriptor.digest.to_string(),
        descriptor: document(&manifest.descriptor),
        available: manifest.available,
        size: api::ContentSize { total: number(manifest.content), content: number(manifest.content) },
        ..api::ManifestSummary::default()
    };
    match &manifest.kind {
        ManifestKind::Image { platform, id, unpacked } => {
            let users = containers.iter().filter(|container| Some(container.image) == *id);
            found.kind = api::ManifestKind::Image;
            found.size.total = number(manifest.content.saturating_add(*unpacked));
            found.image_data = Some(api::ImageData {
                platform: document(platform),
                containers: users.map(|container| container.id.to_string()).collect(),
                size: api::UnpackedSize { unpacked: number(*unpacked) },
            });
        }
        ManifestKind::Attestation { of } => {
            found.kind = api::ManifestKind::Attestation;
            let of = of.map(|digest| digest.to_string()).unwrap_or_default();
            found.attestation_data = Some(api::AttestationData { of });
        }
        ManifestKind::Unknown => {}
    }
    found
}

fn document(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).expect("plain data has a document")
}

/// Tags and digests among an image's names, as people write them.
fn names(references: &[Reference]) -> (Vec<String>, Vec<String>) {
    let (tags, digests): (Vec<&Reference>, Vec<&Reference>) =
        references.iter().partition(|reference| reference.tag().is_some());
    let familiar = |list: Vec<&Reference>| list.into_iter().map(Reference::familiar).collect();
    (familiar(tags), familiar(digests))
}

/// Everything about an image.
pub(crate) fn inspect(image: &Image, version: ApiVersion) -> api::ImageInspect<Value> {
    let (repo_tags, repo_digests) = names(&image.references);
    let size = i64::try_from(image.size).unwrap_or(i64::MAX);
    let config = &image.config;
    let text = |text: String| Some(text).filter(|text| version < ApiVersion::new(1, 52) || !text.is_empty());
    api::ImageInspect {
        id: image.id.to_string(),
        repo_tags,
        repo_digests,
        parent: text(image.parent.map(|parent| parent.to_string()).unwrap_or_default()),
        comment: text(config.history.last().map(|step| step.comment.clone()).unwrap_or_default()),
        docker_version: text(String::new()),
        created: config.created.clone().or_else(|| Some(time::write(None))),
        author: text(config.author.clone()),
        config: image.artifact.is_none().then(|| shown_config(&config.config, version)),
        architecture: config.platform.architecture.clone(),
        variant: config.platform.variant.clone(),
        os: config.platform.os.clone(),
        size,
        virtual_size: (version < ApiVersion::new(1, 44)).then_some(size),
        graph_driver: (version < ApiVersion::new(1, 52)).then(|| GraphDriver {
            data: Some(std::collections::BTreeMap::new()),
            name: "overlay2".to_owned(),
        }),
        root_fs: api::RootFs {
            kind: "layers".to_owned(),
            layers: image.layers.iter().map(ToString::to_string).collect(),
        },
        metadata: api::ImageMetadata { last_tag_time: Some(time::write(image.last_tagged)), last_used: None },
        ..api::ImageInspect::default()
    }
}

/// Fields of containers that images had as well before API 1.50, always empty.
const OF_CONTAINERS: [&str; 9] = [
    "Hostname",
    "Domainname",
    "AttachStdin",
    "AttachStdout",
    "AttachStderr",
    "Tty",
    "OpenStdin",
    "StdinOnce",
    "Image",
];
/// Fields that were empty instead of absent before API 1.52.
const ONCE_EMPTY: [&str; 8] =
    ["Cmd", "Entrypoint", "Env", "Labels", "OnBuild", "User", "Volumes", "WorkingDir"];

/// A configuration as this version of the API has it.
fn shown_config(config: &RunConfig, version: ApiVersion) -> Value {
    let mut shown = document(&run_config(config));
    let Some(fields) = shown.as_object_mut() else { return shown };
    if version >= ApiVersion::new(1, 50) {
        fields.retain(|name, _| !OF_CONTAINERS.contains(&name.as_str()));
    }
    if version >= ApiVersion::new(1, 52) {
        fields.retain(|name, value| !ONCE_EMPTY.contains(&name.as_str()) || !is_empty(value));
    }
    shown
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn run_config(config: &RunConfig) -> Config {
    Config {
        user: config.user.clone(),
        exposed_ports: super::container::filled(config.exposed_ports.keys()),
        env: Some(config.env.clone()),
        cmd: config.cmd.clone(),
        healthcheck: config.healthcheck.as_ref().map(super::container::health),
        args_escaped: config.args_escaped,
        volumes: super::container::filled(config.volumes.keys()),
        working_dir: config.working_dir.clone(),
        entrypoint: config.entrypoint.clone(),
        on_build: (!config.on_build.is_empty()).then(|| config.on_build.clone()),
        labels: (!config.labels.is_empty()).then(|| config.labels.clone()),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: config.stop_timeout,
        shell: config.shell.clone(),
        ..Config::default()
    }
}

/// A line of an image's history.
pub(crate) fn history(step: &HistoryStep) -> api::HistoryItem {
    let tags: Vec<String> = step.tags.iter().map(Reference::familiar).collect();
    api::HistoryItem {
        comment: step.comment.clone(),
        created: step.created.map_or(0, ::time::OffsetDateTime::unix_timestamp),
        created_by: step.created_by.clone(),
        id: step.id.map_or_else(|| "<missing>".to_owned(), |id| id.to_string()),
        size: i64::try_from(step.size).unwrap_or(i64::MAX),
        tags: (!tags.is_empty()).then_some(tags),
    }
}

/// What a removal has removed.
pub(crate) fn deleted(deleted: &Deleted) -> api::DeletedImage {
    match deleted {
        Deleted::Untagged(reference) => {
            api::DeletedImage { untagged: reference.familiar(), ..api::DeletedImage::default() }
        }
        Deleted::Image(id) | Deleted::Layer(id) => {
            api::DeletedImage { deleted: id.to_string(), ..api::DeletedImage::default() }
        }
    }
}
