//! What programs do with bollard: its typed answers, and its streams. Nothing but tests.
#![forbid(unsafe_code)]
#![cfg(test)]

mod containers;
mod images;
mod things;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use std::env;

/// A connection that speaks a version which the engine knows.
async fn connect() -> Docker {
    Docker::connect_with_defaults().unwrap().negotiate_version().await.unwrap()
}

fn image() -> String {
    env::var("IMAGE").unwrap()
}

/// A name that nobody else uses.
fn name(rest: &str) -> String {
    format!("{}-{rest}", env::var("PREFIX").unwrap())
}

fn words(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(ToString::to_string).collect())
}

/// What a container is made of whose command is this.
fn body(command: &[&str]) -> ContainerCreateBody {
    ContainerCreateBody { image: Some(image()), cmd: words(command), ..Default::default() }
}

/// Makes and starts a container.
async fn started(docker: &Docker, called: &str, body: ContainerCreateBody) -> String {
    let options = CreateContainerOptionsBuilder::default().name(called).build();
    let id = docker.create_container(Some(options), body).await.unwrap().id;
    docker.start_container(&id, None).await.unwrap();
    id
}

async fn remove(docker: &Docker, container: &str) {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    docker.remove_container(container, Some(options)).await.unwrap();
}

/// The status of a refusal.
fn status<T: std::fmt::Debug>(result: Result<T, Error>) -> u16 {
    match result.unwrap_err() {
        Error::DockerResponseServerError { status_code, .. } => status_code,
        other => panic!("{other}"),
    }
}

/// An archive of one file.
fn archive(path: &str, content: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    builder.append_data(&mut header, path, content.as_bytes()).unwrap();
    builder.into_inner().unwrap()
}

fn with_binds(mut body: ContainerCreateBody, binds: &[&str]) -> ContainerCreateBody {
    body.host_config = Some(HostConfig { binds: words(binds), ..Default::default() });
    body
}
