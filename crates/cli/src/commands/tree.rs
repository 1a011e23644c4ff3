//! `image ls --tree`: what each name stands for, platform by platform.

use coracle_api::Filters;
use coracle_api::image::{ImageSummary, ManifestKind, ManifestSummary};
use serde_json::Value;

use super::{App, print};
use crate::args::image::ImagesArgs;
use crate::error::Result;
use crate::render::listing::short_id;
use crate::render::{table, units};
use crate::resolve::Invalid;

const HEADER: &str = "IMAGE\tID\tDISK USAGE\tCONTENT SIZE\tEXTRA\n";
/// An image that a container uses.
const USED: &str = "U";

pub(super) async fn list(app: &App, args: &ImagesArgs, filters: &Filters) -> Result<()> {
    for (given, flag) in
        [(args.list.quiet, "--quiet"), (args.digests, "--digests"), (args.list.format.is_some(), "--format")]
    {
        if given {
            return Err(Invalid(format!("{flag} cannot be used with --tree")).into());
        }
    }
    let images = app.client().await?.images_with_manifests(args.all, filters).await?;
    let short = !args.list.no_trunc;
    let lines: String = images.iter().map(|image| lines(image, short)).collect();
    print(table::align(&format!("{HEADER}{lines}"), 10, 3))
}

/// A line for the names, and one below for each platform.
fn lines(image: &ImageSummary, short: bool) -> String {
    let platforms: Vec<&ManifestSummary> =
        image.manifests.iter().filter(|manifest| manifest.kind == ManifestKind::Image).collect();
    let content = image.manifests.iter().map(|manifest| manifest.size.content).sum();
    let used = image.containers > 0 || platforms.iter().any(|manifest| is_used(manifest));
    let mut text = String::new();
    let (last, others) = match image.repo_tags.split_last() {
        Some((last, others)) => (last.as_str(), others),
        None => ("<untagged>", &[][..]),
    };
    for name in others {
        text.push_str(&format!("{name}\n"));
    }
    text.push_str(&line(last, &image.id, [image.size, content], used, short));
    for (number, manifest) in platforms.iter().enumerate() {
        let branch = if number + 1 == platforms.len() { "└─" } else { "├─" };
        let name = format!("{branch} {}", platform_of(manifest));
        let sizes = [manifest.size.total, manifest.size.content];
        text.push_str(&line(&name, &manifest.id, sizes, is_used(manifest), short));
    }
    text
}

fn line(name: &str, id: &str, [disk, content]: [i64; 2], used: bool, short: bool) -> String {
    let id = if short { short_id(id) } else { id };
    let (disk, content) = (units::short_size(disk), units::short_size(content));
    format!("{name}\t{id}\t{disk}\t{content}\t{}\n", if used { USED } else { "" })
}

fn is_used(manifest: &ManifestSummary) -> bool {
    manifest.image_data.as_ref().is_some_and(|image| !image.containers.is_empty())
}

fn platform_of(manifest: &ManifestSummary) -> String {
    let Some(image) = &manifest.image_data else { return String::new() };
    let part = |name: &str| image.platform.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    [part("os"), part("architecture"), part("variant")].into_iter().flatten().collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_api::image::{ContentSize, ImageData};
    use serde_json::json;

    #[test]
    fn a_tree_has_a_branch_for_each_platform() {
        let manifest = |kind, platform: Value, containers: &[&str], size: i64| ManifestSummary {
            id: "sha256:0123456789abcdef".to_owned(),
            kind,
            size: ContentSize { total: 3 * size, content: size },
            image_data: Some(ImageData {
                platform,
                containers: containers.iter().map(ToString::to_string).collect(),
                ..ImageData::default()
            }),
            ..ManifestSummary::default()
        };
        let host = json!({"os": "linux", "architecture": "amd64"});
        let arm = json!({"os": "linux", "architecture": "arm", "variant": "v7"});
        let image = ImageSummary {
            id: "sha256:abcdef0123456789".to_owned(),
            repo_tags: vec!["app:1".to_owned(), "app:latest".to_owned()],
            size: 30_000_000,
            manifests: vec![
                manifest(ManifestKind::Image, host, &["c"], 10_000_000),
                manifest(ManifestKind::Attestation, json!({}), &[], 2_000_000),
                manifest(ManifestKind::Image, arm, &[], 0),
            ],
            ..ImageSummary::default()
        };
        let expected = "app:1\napp:latest\tabcdef012345\t30MB\t12MB\tU\n\
                        ├─ linux/amd64\t0123456789ab\t30MB\t10MB\tU\n\
                        └─ linux/arm/v7\t0123456789ab\t0B\t0B\t\n";
        assert_eq!(lines(&image, true), expected);
    }
}
