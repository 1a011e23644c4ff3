//! Images: built, pushed, pulled, saved and committed.

use crate::{archive, body, connect, image, name, remove, started, status};
use bollard::Docker;
use bollard::models::{BuildInfo, ContainerConfig};
use bollard::query_parameters::{
    BuildImageOptionsBuilder, CommitContainerOptionsBuilder, CreateImageOptionsBuilder,
    ImportImageOptionsBuilder, PushImageOptionsBuilder, RemoveImageOptionsBuilder, TagImageOptionsBuilder,
};
use futures_util::{StreamExt, TryStreamExt};
use std::collections::HashMap;
use std::env;

async fn tag(docker: &Docker, repository: &str, tag: &str) {
    let options = TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
    docker.tag_image(&image(), Some(options)).await.unwrap();
}

async fn forget(docker: &Docker, image: &str) {
    docker.remove_image(image, Some(RemoveImageOptionsBuilder::default().build()), None).await.unwrap();
}

async fn built(
    docker: &Docker,
    dockerfile: &str,
    called: &str,
) -> Vec<Result<BuildInfo, bollard::errors::Error>> {
    let arguments = HashMap::from([("WHO", "a boat")]);
    let options = BuildImageOptionsBuilder::default().t(called).buildargs(&arguments).forcerm(true).build();
    docker
        .build_image(options, None, Some(bollard::body_full(archive("Dockerfile", dockerfile).into())))
        .collect()
        .await
}

#[tokio::test]
async fn an_archive_is_built_and_its_steps_are_told() {
    let docker = connect().await;
    let called = name("built");
    let dockerfile = format!("FROM {}\nARG WHO\nRUN echo \"for $WHO\" >/said\nLABEL from=bollard\n", image());
    let steps: Result<Vec<_>, _> = built(&docker, &dockerfile, &called).await.into_iter().collect();
    let steps = steps.unwrap();
    assert!(
        steps.iter().any(|step| step.stream.as_deref().is_some_and(|line| line.starts_with("Step 1/"))),
        "{steps:?}"
    );
    let id = steps.iter().find_map(|step| step.aux.as_ref()?.id.clone());
    let shown = docker.inspect_image(&called).await.unwrap();
    assert_eq!((shown.id, shown.config.unwrap().labels.unwrap()["from"].as_str()), (id, "bollard"));
    assert!(docker.image_history(&called).await.unwrap()[1].created_by.contains("/said"));
    forget(&docker, &called).await;
}

#[tokio::test]
async fn a_build_that_fails_says_so() {
    let docker = connect().await;
    let steps = built(&docker, &format!("FROM {}\nRUN exit 4\n", image()), &name("failing")).await;
    let last = format!("{:?}", steps.last().unwrap());
    assert!(last.contains("returned a non-zero code: 4"), "{last}");
}

#[tokio::test]
async fn an_image_is_pushed_and_pulled_with_progress() {
    let docker = connect().await;
    let repository = format!("{}/{}", env::var("REGISTRY").unwrap(), name("pushed"));
    let whole = format!("{repository}:one");
    tag(&docker, &repository, "one").await;
    let options = PushImageOptionsBuilder::default().tag("one").build();
    let sent: Result<Vec<_>, _> = docker.push_image(&repository, Some(options), None).try_collect().await;
    assert!(!sent.unwrap().is_empty());
    let known = docker.inspect_registry_image(&whole, None).await.unwrap();
    let digest = known.descriptor.digest.unwrap();
    forget(&docker, &whole).await;
    let options = CreateImageOptionsBuilder::default().from_image(&repository).tag("one").build();
    let steps: Vec<_> = docker.create_image(Some(options), None, None).try_collect().await.unwrap();
    let last = steps.last().unwrap().status.clone().unwrap();
    assert!(last.starts_with("Status: Downloaded newer image for "), "{last}");
    let shown = docker.inspect_image(&whole).await.unwrap();
    assert!(shown.repo_digests.unwrap().contains(&format!("{repository}@{digest}")));
    forget(&docker, &whole).await;
    let options = CreateImageOptionsBuilder::default().from_image(&repository).tag("nothing").build();
    let nothing: Result<Vec<_>, _> = docker.create_image(Some(options), None, None).try_collect().await;
    assert_eq!(status(nothing), 404);
}

#[tokio::test]
async fn an_image_goes_out_and_comes_in_as_an_archive() {
    let docker = connect().await;
    let saved = format!("{}:1", name("saved"));
    tag(&docker, &name("saved"), "1").await;
    let bytes: Vec<_> = docker.export_image(&saved).try_collect().await.unwrap();
    forget(&docker, &saved).await;
    let options = ImportImageOptionsBuilder::default().build();
    let told: Vec<_> = docker
        .import_image(options, bollard::body_full(bytes.concat().into()), None)
        .try_collect()
        .await
        .unwrap();
    let told = format!("{told:?}");
    assert!(told.contains(&format!("Loaded image: {saved}")), "{told}");
    forget(&docker, &saved).await;
}

#[tokio::test]
async fn a_container_becomes_an_image() {
    let docker = connect().await;
    let id = started(&docker, &name("committed"), body(&["touch", "/mark"])).await;
    docker.wait_container(&id, None).next().await.unwrap().unwrap();
    let changes = docker.container_changes(&id).await.unwrap().unwrap();
    assert_eq!(changes.iter().map(|one| one.path.as_str()).collect::<Vec<_>>(), ["/mark"]);
    let called = name("image");
    let options =
        CommitContainerOptionsBuilder::default().container(&id).repo(&called).changes("ENV A=b").build();
    docker.commit_container(options, ContainerConfig::default()).await.unwrap();
    let shown = docker.inspect_image(&called).await.unwrap();
    assert!(shown.config.unwrap().env.unwrap().contains(&"A=b".to_owned()));
    remove(&docker, &id).await;
    forget(&docker, &called).await;
}
