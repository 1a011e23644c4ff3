//! The history of builds, through BuildKit's protocol: what is known of a build afterwards, who hears of it, and how it goes.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_buildkit::proto::moby::buildkit::v1::{
    BuildHistoryEvent, BuildHistoryEventType as Kind, BuildHistoryRecord, BuildHistoryRequest, SolveRequest,
    UpdateBuildHistoryRequest,
};
use coracle_tests::context::{Context, classic_build};
use coracle_tests::door::{Door, fresh};
use coracle_tests::engine::{programs, wait_until};
use coracle_tests::image::SMALL;
use coracle_tests::lender::{Lender, file};
use coracle_tests::{Engine, Output};
use std::process::Stdio;

fn lender(dockerfile: &str) -> Lender {
    let recipe = dockerfile.replace("FROM BASE", &format!("FROM {SMALL}"));
    let directories =
        [("dockerfile".to_owned(), vec![file("Dockerfile", recipe)]), ("context".to_owned(), vec![])];
    Lender { directories: directories.into(), ..Lender::default() }
}

fn request(door: &Door, options: &[(&str, &str)]) -> SolveRequest {
    let frontend_attrs =
        options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    SolveRequest { frontend: "dockerfile.v0".into(), frontend_attrs, ..door.request("", &[]) }
}

/// What the history tells at once.
async fn told(door: &Door, question: BuildHistoryRequest) -> Vec<BuildHistoryEvent> {
    let question = BuildHistoryRequest { early_exit: true, ..question };
    let mut stream = door.control().listen_build_history(question).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(event) = stream.message().await.unwrap() {
        events.push(event);
    }
    events
}

async fn records(door: &Door, question: BuildHistoryRequest) -> Vec<BuildHistoryRecord> {
    told(door, question).await.into_iter().filter_map(|event| event.record).collect()
}

/// The record of one build, if there is one.
async fn record(door: &Door, id: &str) -> Option<BuildHistoryRecord> {
    let mut all =
        records(door, BuildHistoryRequest { r#ref: id.to_owned(), ..BuildHistoryRequest::default() }).await;
    assert!(all.len() < 2, "{all:?}");
    all.pop()
}

fn change(id: &str) -> UpdateBuildHistoryRequest {
    UpdateBuildHistoryRequest { r#ref: id.to_owned(), ..UpdateBuildHistoryRequest::default() }
}

#[tokio::test]
async fn a_build_is_known_afterwards() {
    let engine = Engine::start();
    let dockerfile = format!("FROM BASE\nRUN echo {}\nRUN echo again\n", fresh("history"));
    let door = Door::open(&engine, lender(&dockerfile)).await;
    let options = [
        ("build-arg:VERSION", "7"),
        ("build-arg:API_TOKEN", "canary"),
        ("vcs:source", "https://me:canary@h/x"),
    ];
    let solve = request(&door, &options);
    let id = solve.r#ref.clone();
    door.control().solve(solve).await.unwrap();
    let known = record(&door, &id).await.unwrap();
    assert_eq!(known.frontend, "dockerfile.v0");
    assert_eq!(known.frontend_attrs["build-arg:VERSION"], "7");
    assert!(known.error.is_none() && known.created_at.is_some() && known.completed_at.is_some(), "{known:?}");
    if !engine.is_original() {
        assert!(!format!("{known:?}").contains("canary"), "{known:?}");
        let counts = (known.num_total_steps, known.num_completed_steps, known.num_cached_steps);
        assert_eq!(counts, (3, 3, 0));
    }

    let again = request(&door, &options);
    let second = again.r#ref.clone();
    door.control().solve(again).await.unwrap();
    if !engine.is_original() {
        assert_eq!(record(&door, &second).await.unwrap().num_cached_steps, 2);
    }
    let failing = Door::open(&engine, lender("FROM BASE\nRUN true\nRUN exit 3\n")).await;
    let solve = request(&failing, &[]);
    let failed = solve.r#ref.clone();
    failing.control().solve(solve).await.unwrap_err();
    let known = record(&failing, &failed).await.unwrap();
    let error = known.error.clone().unwrap();
    assert!(error.message.contains("did not complete successfully: exit code: 3"), "{error:?}");
    // The original counts what has failed as well.
    assert!(engine.is_original() || known.num_completed_steps < known.num_total_steps, "{known:?}");

    // It is pinned, and goes when somebody says so.
    door.control()
        .update_build_history(UpdateBuildHistoryRequest { pinned: true, ..change(&id) })
        .await
        .unwrap();
    assert!(record(&door, &id).await.unwrap().pinned);
    door.control()
        .update_build_history(UpdateBuildHistoryRequest { finalize: true, ..change(&id) })
        .await
        .unwrap();
    for id in [&id, &second, &failed] {
        door.control()
            .update_build_history(UpdateBuildHistoryRequest { delete: true, ..change(id) })
            .await
            .unwrap();
        if !engine.is_original() {
            assert_eq!(record(&door, id).await, None);
            door.control()
                .update_build_history(UpdateBuildHistoryRequest { delete: true, ..change(id) })
                .await
                .unwrap_err();
        }
    }
}

#[tokio::test]
async fn a_listener_hears_of_everything_that_happens() {
    let engine = Engine::start();
    let door = Door::open(&engine, lender(&format!("FROM BASE\nRUN echo {}\n", fresh("heard")))).await;
    let solve = request(&door, &[]);
    let id = solve.r#ref.clone();
    let mut events =
        door.control().listen_build_history(BuildHistoryRequest::default()).await.unwrap().into_inner();
    door.control().solve(solve).await.unwrap();
    let mut next = async || loop {
        let event = events.message().await.unwrap().unwrap();
        // The original tells of others' builds as well.
        if event.record.as_ref().unwrap().r#ref == id {
            return Kind::try_from(event.r#type).unwrap();
        }
    };
    assert_eq!(next().await, Kind::Started);
    // The original tells of a build that has ended more than once.
    assert_eq!(next().await, Kind::Complete);
    door.control()
        .update_build_history(UpdateBuildHistoryRequest { delete: true, ..change(&id) })
        .await
        .unwrap();
    let mut last = next().await;
    while last == Kind::Complete && engine.is_original() {
        last = next().await;
    }
    assert_eq!(last, Kind::Deleted);
}

#[tokio::test]
async fn what_goes_on_is_active_and_a_client_that_goes_has_canceled_it() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let door = Door::open(&engine, lender("FROM BASE\nRUN exec sleep 1000\n")).await;
    let solve = request(&door, &[]);
    let id = solve.r#ref.clone();
    let mut control = door.control();
    let building = tokio::spawn(async move { control.solve(solve).await });
    let other = Door::open(&engine, lender("FROM BASE\n")).await;
    let active = || BuildHistoryRequest { active_only: true, ..BuildHistoryRequest::default() };
    loop {
        if let [event] = &told(&other, active()).await[..] {
            let record = event.record.as_ref().unwrap();
            assert_eq!(
                (event.r#type, &record.r#ref, &record.completed_at),
                (Kind::Started.into(), &id, &None)
            );
            break;
        }
        tokio::task::yield_now().await;
    }
    let removal = UpdateBuildHistoryRequest { delete: true, ..change(&id) };
    let refused = other.control().update_build_history(removal).await.unwrap_err();
    assert!(refused.message().contains("goes on"), "{}", refused.message());
    // Wherever the build is just then, nothing of it stays.
    building.abort();
    drop(door);
    let ended = BuildHistoryRequest { r#ref: id.clone(), ..BuildHistoryRequest::default() };
    let mut events = other.control().listen_build_history(ended).await.unwrap().into_inner();
    loop {
        let record = events.message().await.unwrap().unwrap().record.unwrap();
        if record.completed_at.is_some() {
            assert_eq!(record.error.unwrap().code, i32::from(tonic::Code::Cancelled));
            break;
        }
    }
    assert!(told(&other, active()).await.is_empty());
}

#[tokio::test]
async fn the_history_survives_the_engine_and_has_builds_of_every_door() {
    let mut engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let context = Context::new("FROM BASE\nARG A\nRUN echo $A\n", &[]);
    classic_build(&engine, &context.path(), &["-t", "classic", "--build-arg", "A=1"]).ok();
    let mut own = engine.command(programs().join("coracle").to_str().unwrap());
    own.args(["build", "-t", "own", "--build-arg", "PASSWORD=canary"])
        .arg(context.path())
        .stdin(Stdio::null());
    Output::new("coracle build".to_owned(), &own.output().unwrap()).ok();
    engine.kill();
    engine.start_again();
    let door = Door::open(&engine, lender("FROM BASE\nRUN false\n")).await;
    let internal = SolveRequest { internal: true, ..request(&door, &[]) };
    door.control().solve(internal).await.unwrap_err();
    door.control().solve(request(&door, &[])).await.unwrap_err();
    let all = records(&door, BuildHistoryRequest::default()).await;
    let names: Vec<&str> = all
        .iter()
        .map(|record| record.exporters.first().map_or("none", |exporter| exporter.attrs["name"].as_str()))
        .collect();
    assert_eq!(names, ["none", "docker.io/library/own:latest", "docker.io/library/classic:latest"]);
    assert_eq!(all[2].frontend_attrs["build-arg:A"], "1");
    assert_eq!(all[1].frontend_attrs["build-arg:PASSWORD"], "***");
    assert!(all[1].exporter_response["containerimage.config.digest"].starts_with("sha256:"));
    let filtered = |filter: &str, limit: i32| {
        let question =
            BuildHistoryRequest { filter: vec![filter.to_owned()], limit, ..BuildHistoryRequest::default() };
        let door = &door;
        async move { records(door, question).await.len() }
    };
    assert_eq!((filtered("status==error", 0).await, filtered("status==completed", 0).await), (1, 2));
    assert_eq!(filtered("status!=running", 2).await, 2);
    let unknown =
        BuildHistoryRequest { filter: vec!["color==red".to_owned()], ..BuildHistoryRequest::default() };
    assert!(door.control().listen_build_history(unknown).await.unwrap_err().message().contains("color"));
    wait_until("the engine is idle", || engine.docker(&["ps", "-aq"]).ok().is_empty());
}
