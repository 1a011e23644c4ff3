//! What a client asks of results and images before it says what becomes of them: files, directories, configurations.

use super::builds::Build;
use super::client::Caller;
use crate::convert::path::go_mode;
use crate::server::Context;
use coracle_buildkit::proto::fsutil::types::Stat;
use coracle_buildkit::proto::moby::buildkit::v1::frontend::{
    ReadDirRequest, ReadDirResponse, ReadFileRequest, ReadFileResponse, ResolveImageConfigRequest,
    ResolveImageConfigResponse, ResolveSourceImageResponse, ResolveSourceMetaRequest,
    ResolveSourceMetaResponse, StatFileRequest, StatFileResponse,
};
use coracle_buildkit::proto::pb;
use coracle_engine::build::{Client, FileInfo, Part, Product};
use coracle_engine::images::Image;
use coracle_spec::{Platform, Reference, full_text};
use std::path::PathBuf;
use std::sync::Arc;
use tonic::Status;

/// How the name of a source begins that is an image of a registry.
const IMAGE: &str = "docker-image://";

fn failed(error: &coracle_engine::Error) -> Status {
    Status::unknown(error.chain())
}

fn result(context: &Context, name: &str) -> Result<Arc<Product>, Status> {
    let found = context.door.builds.result(name);
    found.ok_or_else(|| Status::unknown(format!("the result {name} is not known")))
}

pub(super) async fn file(context: &Context, request: ReadFileRequest) -> Result<ReadFileResponse, Status> {
    let product = result(context, &request.r#ref)?;
    let part = match request.range {
        None => Part { offset: 0, length: None },
        Some(range) => {
            let offset = u64::try_from(range.offset);
            let offset = offset.map_err(|_| Status::unknown(format!("invalid offset {}", range.offset)))?;
            // No length means the rest.
            let length = u64::try_from(range.length).ok().filter(|length| *length > 0);
            Part { offset, length }
        }
    };
    let path = PathBuf::from(request.file_path);
    let data = context.engine.read_product_file(product, path, part).await;
    Ok(ReadFileResponse { data: data.map_err(|error| failed(&error))? })
}

pub(super) async fn directory(context: &Context, request: ReadDirRequest) -> Result<ReadDirResponse, Status> {
    let product = result(context, &request.r#ref)?;
    let pattern = Some(request.include_pattern).filter(|pattern| !pattern.is_empty());
    let path = PathBuf::from(request.dir_path);
    let found = context.engine.read_product_directory(product, path, pattern).await;
    let found = found.map_err(|error| failed(&error))?;
    Ok(ReadDirResponse { entries: found.into_iter().map(stat).collect() })
}

pub(super) async fn look(context: &Context, request: StatFileRequest) -> Result<StatFileResponse, Status> {
    let product = result(context, &request.r#ref)?;
    let found = context.engine.stat_product_file(product, PathBuf::from(request.path)).await;
    Ok(StatFileResponse { stat: Some(stat(found.map_err(|error| failed(&error))?)) })
}

fn stat(file: FileInfo) -> Stat {
    Stat {
        path: file.name,
        mode: go_mode(file.mode),
        uid: file.owner.0,
        gid: file.owner.1,
        size: i64::try_from(file.size).unwrap_or(i64::MAX),
        mod_time: file.modified,
        linkname: file.link.unwrap_or_default(),
        devmajor: file.device.0.into(),
        devminor: file.device.1.into(),
        xattrs: file.attributes.into_iter().collect(),
    }
}

/// The image that a build would begin with, by its name.
async fn image(
    context: &Context,
    build: &Build,
    name: &str,
    platform: Option<pb::Platform>,
    mode: &str,
) -> Result<(Reference, Image), Status> {
    let invalid = |error: coracle_spec::Error| Status::unknown(format!("invalid reference {name}: {error}"));
    let reference = name.parse::<Reference>().map_err(invalid)?.or_latest();
    let platform = platform.map_or_else(Platform::host, |given| Platform {
        os: given.os,
        architecture: given.architecture,
        variant: given.variant,
        ..Platform::default()
    });
    let pull = super::frontend::pull(Some(mode).filter(|mode| !mode.is_empty()))?;
    let session = context.door.sessions.get(&build.session).await;
    let session = session.map_err(|error| Status::unknown(full_text(&error)))?;
    let client: Arc<dyn Client> = Arc::new(Caller::bare(session, build));
    let found = context.engine.base_image(&client, &reference.canonical(), &platform, pull).await;
    Ok((reference, found.map_err(|error| failed(&error))?))
}

/// What names the image: its manifest where it came from, or else its configuration.
fn digest_of(reference: &Reference, image: &Image) -> String {
    let of_it = |other: &&Reference| other.name() == reference.name();
    let from_there = image.references.iter().filter(of_it).find_map(Reference::digest);
    reference.digest().or(from_there).unwrap_or(image.id).to_string()
}

pub(super) async fn image_config(
    context: &Context,
    build: &Build,
    request: ResolveImageConfigRequest,
) -> Result<ResolveImageConfigResponse, Status> {
    if !request.source_policies.is_empty() {
        return Err(Status::unknown("a source policy is not supported yet by this engine"));
    }
    if request.resolver_type != 0 {
        return Err(Status::unknown("images of a client's OCI layout are not supported by this engine"));
    }
    let (name, mode) = (&request.r#ref, &request.resolve_mode);
    let (reference, image) = image(context, build, name, request.platform, mode).await?;
    Ok(ResolveImageConfigResponse {
        digest: digest_of(&reference, &image),
        config: image.config.to_json(),
        r#ref: reference.canonical(),
    })
}

/// Of sources that are no images there is nothing to say: they are what they were called.
pub(super) async fn source(
    context: &Context,
    build: &Build,
    request: ResolveSourceMetaRequest,
) -> Result<ResolveSourceMetaResponse, Status> {
    if !request.source_policies.is_empty() {
        return Err(Status::unknown("a source policy is not supported yet by this engine"));
    }
    let source = request.source.ok_or_else(|| Status::unknown("a source is missing"))?;
    let mut response = ResolveSourceMetaResponse { source: Some(source.clone()), ..Default::default() };
    if let Some(name) = source.identifier.strip_prefix(IMAGE) {
        let (reference, image) = image(context, build, name, request.platform, &request.resolve_mode).await?;
        response.image = Some(ResolveSourceImageResponse {
            digest: digest_of(&reference, &image),
            config: image.config.to_json(),
            ..ResolveSourceImageResponse::default()
        });
    }
    Ok(response)
}
