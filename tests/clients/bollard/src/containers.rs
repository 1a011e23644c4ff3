//! Containers, their streams and their files.

use crate::{archive, body, connect, name, remove, started, status, words};
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, ContainerStateStatusEnum, ContainerUpdateBody};
use bollard::query_parameters::{
    AttachContainerOptionsBuilder, DownloadFromContainerOptionsBuilder, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, LogsOptionsBuilder, RenameContainerOptionsBuilder,
    ResizeExecOptionsBuilder, StatsOptionsBuilder, TopOptionsBuilder, UploadToContainerOptionsBuilder,
};
use futures_util::{Stream, StreamExt, TryStreamExt};
use std::collections::HashMap;
use std::io::Read;
use std::pin::pin;
use tokio::io::AsyncWriteExt;

/// Both halves of a stream, once it has ended.
async fn halves(stream: impl Stream<Item = Result<LogOutput, Error>>) -> (String, String) {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    let mut stream = pin!(stream);
    while let Some(part) = stream.try_next().await.unwrap() {
        match &part {
            LogOutput::StdErr { .. } => stderr.push_str(&part.to_string()),
            LogOutput::StdOut { .. } | LogOutput::Console { .. } => stdout.push_str(&part.to_string()),
            LogOutput::StdIn { .. } => panic!("input comes back: {part}"),
        }
    }
    (stdout, stderr)
}

async fn code(docker: &Docker, container: &str) -> i64 {
    match docker.wait_container(container, None).next().await.unwrap() {
        Ok(ended) => ended.status_code,
        Err(Error::DockerContainerWaitError { code, .. }) => code,
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_container_lives_and_is_found() {
    let docker = connect().await;
    let labels = HashMap::from([("part".to_owned(), name("lives"))]);
    let id = started(
        &docker,
        &name("lives"),
        ContainerCreateBody { labels: Some(labels), ..body(&["sleep", "1000"]) },
    )
    .await;
    let filters = HashMap::from([("label".to_owned(), vec![format!("part={}", name("lives"))])]);
    let listed = docker
        .list_containers(Some(ListContainersOptionsBuilder::default().filters(&filters).build()))
        .await
        .unwrap();
    assert_eq!(listed.iter().map(|one| one.id.as_deref().unwrap()).collect::<Vec<_>>(), [&id]);
    docker.pause_container(&id).await.unwrap();
    let state = docker.inspect_container(&id, None).await.unwrap().state.unwrap();
    assert_eq!((state.status, state.paused), (Some(ContainerStateStatusEnum::PAUSED), Some(true)));
    docker.unpause_container(&id).await.unwrap();
    let options = RenameContainerOptionsBuilder::default().name(&name("renamed")).build();
    docker.rename_container(&id, options).await.unwrap();
    let top = docker
        .top_processes(&name("renamed"), Some(TopOptionsBuilder::default().ps_args("-o pid,args").build()))
        .await;
    assert_eq!(top.unwrap().processes.unwrap()[0][1], "sleep 1000");
    let update =
        ContainerUpdateBody { memory: Some(64 << 20), memory_swap: Some(64 << 20), ..Default::default() };
    docker.update_container(&id, update).await.unwrap();
    let limit = docker.inspect_container(&id, None).await.unwrap().host_config.unwrap().memory;
    assert_eq!(limit, Some(64 << 20));
    docker
        .kill_container(&id, Some(KillContainerOptionsBuilder::default().signal("SIGINT").build()))
        .await
        .unwrap();
    docker.stop_container(&id, None).await.unwrap();
    remove(&docker, &id).await;
    assert_eq!(status(docker.inspect_container(&id, None).await), 404);
}

#[tokio::test]
async fn an_attached_container_talks_both_ways() {
    let docker = connect().await;
    let command = ["sh", "-c", "read line; echo \"out $line\"; echo \"err $line\" >&2; exit 7"];
    let made = ContainerCreateBody {
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        ..body(&command)
    };
    let id = docker.create_container(None, made).await.unwrap().id;
    let options =
        AttachContainerOptionsBuilder::default().stream(true).stdin(true).stdout(true).stderr(true).build();
    let mut attached = docker.attach_container(&id, Some(options)).await.unwrap();
    docker.start_container(&id, None).await.unwrap();
    attached.input.write_all(b"hello\n").await.unwrap();
    assert_eq!(halves(attached.output).await, ("out hello\n".to_owned(), "err hello\n".to_owned()));
    assert_eq!(code(&docker, &id).await, 7);
    let changes = docker.container_changes(&id).await.unwrap();
    assert!(changes.is_none_or(|changes| changes.is_empty()));
    remove(&docker, &id).await;
}

#[tokio::test]
async fn an_exec_has_a_terminal_of_the_size_that_it_is_given() {
    let docker = connect().await;
    let id = started(&docker, &name("terminal"), body(&["sleep", "1000"])).await;
    let options = CreateExecOptions {
        cmd: words(&[
            "sh",
            "-c",
            "until stty size | grep '33 77'; do sleep 0.1; done; read x; echo \"read $x\"; exit 5",
        ]),
        tty: Some(true),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        ..Default::default()
    };
    let exec = docker.create_exec(&id, options).await.unwrap().id;
    let options = StartExecOptions { tty: true, ..Default::default() };
    let StartExecResults::Attached { output, mut input } =
        docker.start_exec(&exec, Some(options)).await.unwrap()
    else {
        panic!("it is not attached");
    };
    docker.resize_exec(&exec, ResizeExecOptionsBuilder::default().h(33).w(77).build()).await.unwrap();
    input.write_all(b"words\n").await.unwrap();
    let (said, _) = halves(output).await;
    assert!(said.contains("33 77") && said.contains("read words"), "{said}");
    let shown = docker.inspect_exec(&exec).await.unwrap();
    assert_eq!((shown.running, shown.exit_code), (Some(false), Some(5)));
    remove(&docker, &id).await;
}

#[tokio::test]
async fn an_exec_without_a_terminal_has_two_streams() {
    let docker = connect().await;
    let id = started(&docker, &name("streams"), body(&["sleep", "1000"])).await;
    let options = CreateExecOptions {
        cmd: words(&["sh", "-c", "echo $A; pwd; id -u >&2"]),
        env: words(&["A=b"]),
        working_dir: Some("/tmp".to_owned()),
        user: Some("33".to_owned()),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..Default::default()
    };
    let exec = docker.create_exec(&id, options).await.unwrap().id;
    let StartExecResults::Attached { output, .. } = docker.start_exec(&exec, None).await.unwrap() else {
        panic!("it is not attached");
    };
    assert_eq!(halves(output).await, ("b\n/tmp\n".to_owned(), "33\n".to_owned()));
    remove(&docker, &id).await;
}

#[tokio::test]
async fn logs_are_followed_to_the_end_and_bounded_by_what_is_asked_for() {
    let docker = connect().await;
    let id = started(&docker, &name("logs"), body(&["sh", "-c", "echo one; echo two >&2; echo three"])).await;
    let all = LogsOptionsBuilder::default().follow(true).stdout(true).stderr(true).build();
    assert_eq!(halves(docker.logs(&id, Some(all))).await, ("one\nthree\n".to_owned(), "two\n".to_owned()));
    remove(&docker, &id).await;
    // Lines of one stream have an order.
    let id = started(&docker, &name("tail"), body(&["sh", "-c", "echo one; echo two"])).await;
    docker.wait_container(&id, None).next().await.unwrap().unwrap();
    let last = LogsOptionsBuilder::default().stdout(true).tail("1").timestamps(true).build();
    let (last, _) = halves(docker.logs(&id, Some(last))).await;
    assert!(last.ends_with("Z two\n") && last.len() > 20, "{last}");
    remove(&docker, &id).await;
}

#[tokio::test]
async fn stats_come_for_as_long_as_somebody_listens() {
    let docker = connect().await;
    let id = started(&docker, &name("stats"), body(&["sleep", "1000"])).await;
    let options = StatsOptionsBuilder::default().stream(true).build();
    let two: Vec<_> = docker.stats(&id, Some(options)).take(2).try_collect().await.unwrap();
    for stats in two {
        assert_eq!(stats.name, Some(format!("/{}", name("stats"))));
        assert_eq!(stats.pids_stats.unwrap().current, Some(1));
        assert!(stats.memory_stats.unwrap().usage > Some(0));
    }
    remove(&docker, &id).await;
}

#[tokio::test]
async fn files_go_in_and_come_out() {
    let docker = connect().await;
    let id = started(&docker, &name("files"), body(&["sleep", "1000"])).await;
    let options = UploadToContainerOptionsBuilder::default().path("/srv-of-mine").build();
    let gift = archive("given", "a gift\n");
    let nowhere =
        docker.upload_to_container(&id, Some(options), bollard::body_full(gift.clone().into())).await;
    assert_eq!(status(nowhere), 404);
    let options = UploadToContainerOptionsBuilder::default().path("/tmp").build();
    docker.upload_to_container(&id, Some(options), bollard::body_full(gift.into())).await.unwrap();
    let options = DownloadFromContainerOptionsBuilder::default().path("/tmp/given").build();
    let parts: Vec<_> = docker.download_from_container(&id, Some(options)).try_collect().await.unwrap();
    let bytes = parts.concat();
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    let mut content = String::new();
    entry.read_to_string(&mut content).unwrap();
    assert_eq!((entry.path().unwrap().to_str(), content.as_str()), (Some("given"), "a gift\n"));
    remove(&docker, &id).await;
}
