//! Images as clients see them.

use super::time;
use coracle_api::ApiVersion;
use coracle_api::container::{Config, GraphDriver};
use coracle_api::image as api;
use coracle_engine::images::{Deleted, HistoryStep, Image, ImageSummary};
use coracle_spec::Reference;
use coracle_spec::image::RunConfig;

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
    }
}

/// Tags and digests among an image's names, as people write them.
fn names(references: &[Reference]) -> (Vec<String>, Vec<String>) {
    let (tags, digests): (Vec<&Reference>, Vec<&Reference>) =
        references.iter().partition(|reference| reference.tag().is_some());
    let familiar = |list: Vec<&Reference>| list.into_iter().map(Reference::familiar).collect();
    (familiar(tags), familiar(digests))
}

/// Everything about an image.
pub(crate) fn inspect(image: &Image, version: ApiVersion) -> api::ImageInspect {
    let (repo_tags, repo_digests) = names(&image.references);
    let size = i64::try_from(image.size).unwrap_or(i64::MAX);
    let config = &image.config;
    api::ImageInspect {
        id: image.id.to_string(),
        repo_tags,
        repo_digests,
        parent: image.parent.map(|parent| parent.to_string()).unwrap_or_default(),
        comment: config.history.last().map(|step| step.comment.clone()).unwrap_or_default(),
        created: config.created.clone().or_else(|| Some(time::write(None))),
        author: config.author.clone(),
        config: Some(run_config(&config.config)),
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
        metadata: api::ImageMetadata { last_tag_time: Some(time::write(image.last_tagged)) },
        ..api::ImageInspect::default()
    }
}

/// What Docker does not tell.
pub(crate) fn own(last_used: ::time::OffsetDateTime) -> api::OwnMetadata {
    api::OwnMetadata { last_used: time::write(Some(last_used)) }
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
