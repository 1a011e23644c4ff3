//! BuildKit's protocol by a client of our own: what Docker's plugins never do, and what they do where there are none.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_buildkit::proto::fsutil::types::Stat;
use coracle_buildkit::proto::google::rpc::Status as Proto;
use coracle_buildkit::proto::health::HealthCheckRequest;
use coracle_buildkit::proto::health::health_client::HealthClient;
use coracle_buildkit::proto::moby::buildkit::v1::frontend::result::Result as Which;
use coracle_buildkit::proto::moby::buildkit::v1::frontend::{
    PingRequest, Result as Solved, ReturnRequest, SolveRequest as Frontend,
};
use coracle_buildkit::proto::moby::buildkit::v1::{
    InfoRequest, ListWorkersRequest, SolveRequest, UpdateBuildHistoryRequest,
};
use coracle_buildkit::proto::pb::Definition;
use coracle_buildkit::result_of;
use coracle_tests::Engine;
use coracle_tests::door::{Door, UPGRADE, fresh, upgrade};
use coracle_tests::engine::wait_until;
use coracle_tests::image::SMALL;
use coracle_tests::lender::{Lender, Lent, directory, file};
use prost::Message;
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Request, Status};

const LINK: u32 = 1 << 27;

fn link(path: &str, target: &str) -> Lent {
    let stat = Stat { path: path.into(), mode: LINK | 0o777, linkname: target.into(), ..Stat::default() };
    Lent { stat, content: Vec::new() }
}

/// A client with a Dockerfile and the files of a context.
fn lender(dockerfile: &str, files: Vec<Lent>) -> Lender {
    let recipe = dockerfile.replace("FROM BASE", &format!("FROM {SMALL}"));
    let directories =
        [("dockerfile".to_owned(), vec![file("Dockerfile", recipe)]), ("context".to_owned(), files)];
    Lender { directories: directories.into(), ..Lender::default() }
}

/// A build by the frontend that the request itself names.
fn direct(request: SolveRequest, options: &[(&str, &str)]) -> SolveRequest {
    let frontend_attrs =
        options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    SolveRequest { frontend: "dockerfile.v0".into(), frontend_attrs, ..request }
}

fn inspect(engine: &Engine, name: &str, format: &str) -> String {
    engine.docker(&["image", "inspect", "-f", format, name]).ok()
}

/// The part of a failure that has this field.
fn detail(status: &Status, field: &str) -> serde_json::Value {
    let proto = Proto::decode(status.details()).unwrap();
    let mut details = proto.details.iter().map(|detail| serde_json::from_slice(&detail.value).unwrap());
    details.find(|detail: &serde_json::Value| detail.get(field).is_some()).unwrap()
}

#[tokio::test]
async fn a_build_by_a_frontend_becomes_an_image() {
    let engine = Engine::start();
    let name = engine.name("direct");
    let files = vec![directory("d"), file("d/f", "content"), link("l", "d/f")];
    let door = Door::open(&engine, lender("FROM BASE\nCOPY . /c\nRUN cat /c/l\n", files)).await;
    let request = direct(door.request("moby", &[("name", &name)]), &[]);
    let build = request.r#ref.clone();
    let told = async { door.told(&build).await };
    let mut control = door.control();
    if engine.is_original() {
        // A build that has nothing to do may be over there before anybody asks what it tells.
        control.solve(request).await.unwrap();
        return;
    }
    let (answer, told) = tokio::join!(control.solve(request), told);
    let answer = answer.unwrap().into_inner().exporter_response;
    let id = inspect(&engine, &name, "{{.Id}}");
    assert_eq!(answer["containerimage.config.digest"], id);
    assert_eq!(answer["image.name"], format!("docker.io/library/{name}:latest"));
    let done =
        |name: &str| told.vertexes.iter().any(|vertex| vertex.name == name && vertex.completed.is_some());
    for name in
        ["[internal] load build context", "[2/3] COPY . /c", "[3/3] RUN cat /c/l", "exporting to image"]
    {
        assert!(done(name), "{name} is not among {:?}", told.vertexes);
    }
    let output: Vec<u8> = told.logs.into_iter().flat_map(|log| log.msg).collect();
    assert_eq!(output, b"content");
    assert_eq!(door.told(&build).await.vertexes.len(), told.vertexes.len(), "who asks later hears the same");
    engine.docker(&["rmi", &name]).ok();
}

/// As bake of newer plugins does, and with it `docker compose build`.
#[tokio::test]
async fn a_session_can_be_opened_within_the_connection_for_builds() {
    let engine = Engine::start();
    let name = engine.name("one-connection");
    // More than the connection, and the one within it, take at once.
    let many = (0..200).map(|number| file(&format!("f{number:03}"), vec![b'x'; 50_000])).collect();
    let lent = lender("FROM BASE\nCOPY . /d\nRUN cat /d/f* | wc -c >/size\n", many);
    let door = Door::open_one(&engine, lent).await;
    let request = direct(door.request("moby", &[("name", &name)]), &[]);
    door.control().solve(request).await.unwrap();
    assert_eq!(engine.docker(&["run", "--rm", &name, "cat", "/size"]).ok(), "10000000");
    engine.docker(&["rmi", &name]).ok();
    if engine.is_original() {
        // It waits longer for a session that is gone.
        return;
    }
    // It ends with its connection, and nobody finds it.
    let (session, other) = (door.session.clone(), Door::open(&engine, lender("FROM BASE\n", vec![])).await);
    drop(door);
    let patience = std::time::Duration::from_secs(60);
    let refusal = tokio::time::timeout(patience, async {
        loop {
            let request = SolveRequest { session: session.clone(), ..direct(other.request("", &[]), &[]) };
            let refusal = other.control().solve(request).await;
            if refusal.is_err_and(|refusal| refusal.message().contains("no active session")) {
                return;
            }
        }
    });
    refusal.await.unwrap();
    // Two of one name, and one of none.
    let mut request = Request::new(futures_util::stream::pending());
    request.metadata_mut().insert("x-docker-expose-session-uuid", other.session.parse().unwrap());
    let mut answers = other.control().session(request).await.unwrap().into_inner();
    let refusal = loop {
        // What the engine began to say as the client of the session comes before.
        match answers.message().await {
            Ok(message) => assert!(message.is_some(), "it ends without a reason"),
            Err(refusal) => break refusal,
        }
    };
    assert!(refusal.message().contains(&other.session), "{refusal}");
    let refusal = other.control().session(futures_util::stream::pending()).await.unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
}

#[tokio::test]
async fn a_client_steers_its_build_and_returns_the_result() {
    let engine = Engine::start();
    let name = engine.name("steered");
    let door = Door::open(&engine, lender("FROM BASE\nLABEL a=1\n", Vec::new())).await;
    let request = door.request("moby", &[("name", &name)]);
    let build: AsciiMetadataValue = request.r#ref.parse().unwrap();
    let steering = async {
        let mut bridge = door.bridge();
        let pong = bridge.ping(of(&build, PingRequest {})).await.unwrap().into_inner();
        assert!(
            pong.frontend_api_caps.iter().any(|capability| capability.id == "return" && capability.enabled)
        );
        let frontend = Frontend {
            frontend: "dockerfile.v0".into(),
            allow_result_return: true,
            allow_result_array_ref: true,
            ..Frontend::default()
        };
        let solved = bridge.solve(of(&build, frontend)).await.unwrap().into_inner().result.unwrap();
        let Some(Which::Ref(reference)) = &solved.result else { panic!("{solved:?}") };
        if !engine.is_original() {
            assert_eq!(result_of(reference.def.as_ref().unwrap()).as_deref(), Some(reference.id.as_str()));
        }
        let config: serde_json::Value =
            serde_json::from_slice(&solved.metadata["containerimage.config"]).unwrap();
        assert_eq!(config["config"]["Labels"]["a"], "1");
        bridge.r#return(of(&build, ReturnRequest { result: Some(solved), error: None })).await.unwrap();
    };
    let mut control = door.control();
    let (answer, ()) = tokio::join!(control.solve(request), steering);
    let answer = answer.unwrap().into_inner().exporter_response;
    assert_eq!(answer["containerimage.config.digest"], inspect(&engine, &name, "{{.Id}}"));
    engine.docker(&["rmi", &name]).ok();
}

fn of<T>(build: &AsciiMetadataValue, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("buildkit-controlapi-buildid", build.clone());
    request
}

#[tokio::test]
async fn failures_say_which_lines_are_to_blame() {
    let engine = Engine::start();
    let door = Door::open(&engine, lender("FROM BASE\nRUN true\nRUN exit 3\n", Vec::new())).await;
    let failed = door.control().solve(direct(door.request("", &[]), &[])).await.unwrap_err();
    assert!(
        failed.message().ends_with("did not complete successfully: exit code: 3"),
        "{}",
        failed.message()
    );
    let found = detail(&failed, "ranges");
    assert_eq!(
        (&found["ranges"][0]["start"]["line"], &found["info"]["filename"]),
        (&3.into(), &"Dockerfile".into())
    );

    // What the client says of a failure is what its build fails with.
    let request = door.request("", &[]);
    let build: AsciiMetadataValue = request.r#ref.parse().unwrap();
    let error = Proto { code: Code::Aborted.into(), message: "enough".into(), ..Proto::default() };
    let mut bridge = door.bridge();
    let returning = bridge.r#return(of(&build, ReturnRequest { result: None, error: Some(error) }));
    let mut control = door.control();
    let (failed, returned) = tokio::join!(control.solve(request), returning);
    returned.unwrap();
    let failed = failed.unwrap_err();
    // The original says the code once more.
    assert!(failed.code() == Code::Aborted && failed.message().ends_with("enough"), "{failed}");

    let options = [("requestid", "frontend.nothing")];
    let failed = door.control().solve(direct(door.request("", &[]), &options)).await.unwrap_err();
    // Docker 26 has no code for it; BuildKit has one now.
    let code = if engine.is_original() { Code::Unknown } else { Code::Unimplemented };
    assert_eq!((failed.code(), &detail(&failed, "name")["name"]), (code, &"frontend.nothing".into()));
}

#[tokio::test]
async fn results_are_given_to_the_client() {
    let engine = Engine::start();
    let dockerfile = "FROM BASE AS b\nRUN mkdir /o && echo f >/o/f\nFROM scratch\nCOPY --from=b /o /\n";
    let mut door = Door::open(&engine, lender(dockerfile, Vec::new())).await;
    let images = engine.docker(&["images", "-q", "--no-trunc"]).ok();
    door.control().solve(direct(door.request("tar", &[]), &[])).await.unwrap();
    let files = door.lender.stream.lock().unwrap().clone();
    let mut archive = tar::Archive::new(&files[..]);
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(entry.path().unwrap(), Path::new("f"));
    if !engine.is_original() {
        let name = engine.name("sent");
        let answer =
            door.control().solve(direct(door.request("oci", &[("name", &name)]), &[])).await.unwrap();
        assert!(answer.into_inner().exporter_response["containerimage.config.digest"].starts_with("sha256:"));
        let image = door.lender.stream.lock().unwrap().clone();
        let mut archive = tar::Archive::new(&image[..]);
        let is_layout =
            |entry: std::io::Result<tar::Entry<'_, _>>| *entry.unwrap().path_bytes() == b"oci-layout"[..];
        assert!(archive.entries().unwrap().any(is_layout));
        assert_eq!(engine.docker(&["images", "-q", "--no-trunc"]).ok(), images, "it is no image here");
    }
    door = Door::open(&engine, Lender { takes_files: true, ..lender(dockerfile, Vec::new()) }).await;
    door.control().solve(direct(door.request("local", &[]), &[])).await.unwrap();
    let tree = door.lender.tree.lock().unwrap().clone();
    assert_eq!(tree.iter().map(|lent| lent.stat.path.as_str()).collect::<Vec<_>>(), ["f"]);
    assert_eq!(tree[0].content, b"f\n");
}

#[tokio::test]
async fn hostile_files_of_a_client_write_nowhere_else() {
    let engine = Engine::start();
    let canary = format!("/tmp/{}", fresh("canary"));
    let name = canary.rsplit('/').next().unwrap();
    let escape = format!("out/{name}");
    let absolute = Lent { stat: Stat { path: canary.clone(), ..file("", "x").stat }, content: b"x".to_vec() };
    for (what, files, words) in [
        ("a way up", vec![file(&format!("../{name}"), "x")], "invalid path"),
        ("an absolute path", vec![absolute], "invalid path"),
        ("no order", vec![file("b", "x"), file("a", "x")], "comes after"),
        ("a link to elsewhere", vec![link("out", "/tmp"), file(&escape, "x")], ""),
        ("a link up", vec![link("out", "../../../../../../../tmp"), file(&escape, "x")], ""),
    ] {
        let door = Door::open(&engine, lender("FROM BASE\nCOPY . /c\nRUN ls -R /c\n", files)).await;
        let answer = door.control().solve(direct(door.request("", &[]), &[])).await;
        // Such a link may be a file of the context, if what is written through it stays there.
        if !words.is_empty() {
            let failed = answer.unwrap_err();
            assert!(failed.message().contains(words) || engine.is_original(), "{what}: {}", failed.message());
        }
        assert!(!Path::new(&canary).exists(), "{what}");
    }
}

/// GHSA-g2h8: a client's word for what its files are, where it is no file of a directory that could be.
#[tokio::test]
async fn files_that_a_client_makes_up_are_refused_or_harmless() {
    let engine = Engine::start();
    if engine.is_original() {
        // The one of the test is older than what fixed some of these.
        return;
    }
    let canary = engine.directory().join("canary");
    std::fs::write(&canary, "canary of the machine").unwrap();
    let canary = canary.display().to_string();
    let with = |lent: Lent, change: &dyn Fn(&mut Stat)| {
        let mut lent = lent;
        change(&mut lent.stat);
        lent
    };
    let linked = |target: &str| with(file("h", ""), &|stat| stat.linkname = target.into());
    let sized = |size: i64| vec![with(file("a", "x"), &|stat| stat.size = size), file("b", "y")];
    let up = format!("{}{canary}", "../".repeat(20));
    let hiding = |stat: &mut Stat| {
        for name in ["trusted.overlay.opaque", "user.overlay.opaque", "trusted.overlay.redirect"] {
            stat.xattrs.insert(name.into(), b"y".to_vec());
        }
    };
    // /dev/mem; a disk.
    let device = |path: &str, mode: u32, (major, minor): (i64, i64)| {
        with(file(path, ""), &|stat| (stat.mode, stat.devmajor, stat.devminor) = (mode | 0o666, major, minor))
    };
    for (what, files, refusal) in [
        ("more than there is", sized(i64::MAX), "a"),
        ("two gigabytes", sized(1 << 31), "changed"),
        ("less than nothing", sized(-1), "negative size"),
        ("another name of the machine's", vec![linked(&canary)], ""),
        ("another name, upwards", vec![linked(&up)], ""),
        ("a file, and a directory", vec![file("a", "x"), directory("a")], "comes after"),
        ("a directory, and a link", vec![directory("a"), link("a", "/etc")], "comes after"),
        ("a file in a file", vec![file("a", "x"), file("a/b", "x")], ""),
        ("a file in a link", vec![link("a", "/etc"), file("a/other", "x")], ""),
        ("attributes of overlayfs", vec![with(directory("etc"), &hiding), file("etc/f", "x")], ""),
        ("devices", vec![device("block", 1 << 26, (8, 0)), device("mem", 1 << 26 | 1 << 21, (1, 1))], ""),
    ] {
        let recipe = "FROM BASE\nCOPY . /\nCOPY . /c\nRUN ! grep -r canary /c /h; grep -x 'no program' /etc/plain && \
                      ! head -c 1 /mem && ! head -c 1 /block && test -f /bin/busybox\n";
        let door = Door::open(&engine, lender(recipe, files)).await;
        let answer = door.control().solve(direct(door.request("", &[]), &[])).await;
        let told = answer.as_ref().map_err(|failed| failed.message().to_owned()).map(drop);
        let is_step = told.as_ref().is_err_and(|message| message.contains("exit code"));
        assert!(!is_step, "{what}: the step saw something: {told:?}");
        assert!(told.is_err_and(|message| message.contains(refusal)) || refusal.is_empty(), "{what}");
    }
    assert_eq!(std::fs::read_to_string(&canary).unwrap(), "canary of the machine");
}

#[tokio::test]
async fn a_call_that_is_given_up_ends_its_build() {
    let engine = Engine::start();
    let before = engine.docker(&["ps", "-aq"]).ok();
    let door = Door::open(&engine, lender("FROM BASE\nRUN exec sleep 1000\n", Vec::new())).await;
    let request = direct(door.request("", &[]), &[("no-cache", "")]);
    let mut control = door.control();
    let building = tokio::spawn(async move { control.solve(request).await.is_err() });
    wait_in_background("the command runs", || {
        engine.docker(&["ps", "-aq"]).ok() != before || engine.is_original()
    })
    .await;
    building.abort();
    assert!(building.await.unwrap_err().is_cancelled());
    wait_in_background("its container is gone", || engine.docker(&["ps", "-aq"]).ok() == before).await;
}

/// Waits while what was begun goes on.
async fn wait_in_background(what: &str, condition: impl Fn() -> bool) {
    let mut tries = tokio::time::interval(std::time::Duration::from_millis(20));
    for _ in 0..1500 {
        tries.tick().await;
        if condition() {
            return;
        }
    }
    wait_until(what, condition);
}

#[tokio::test]
async fn what_there_is_to_build_with_is_told() {
    let engine = Engine::start();
    let door = Door::open(&engine, Lender::default()).await;
    let mut control = door.control();
    let version = control.info(InfoRequest {}).await.unwrap().into_inner().buildkit_version.unwrap();
    assert!(version.version.starts_with('v'), "{version:?}");
    let workers = control.list_workers(ListWorkersRequest::default()).await.unwrap().into_inner().record;
    assert!(workers.len() == 1 && !workers[0].platforms.is_empty(), "{workers:?}");
    let forgetting = UpdateBuildHistoryRequest {
        r#ref: "none".into(),
        pinned: true,
        ..UpdateBuildHistoryRequest::default()
    };
    assert!(control.update_build_history(forgetting).await.is_err());
    if engine.is_original() {
        return;
    }
    let origin = tonic::codegen::http::Uri::from_static("http://engine");
    let mut health = HealthClient::with_origin(door.channel.clone(), origin);
    assert_eq!(health.check(HealthCheckRequest::default()).await.unwrap().into_inner().status, 1);
}

#[tokio::test]
async fn what_is_no_build_is_refused() {
    let engine = Engine::start();
    if engine.is_original() {
        return;
    }
    let door = Door::open(&engine, lender("FROM BASE\n", Vec::new())).await;
    let definition = Definition { def: vec![vec![0]], ..Definition::default() };
    let base = || door.request("", &[]);
    for (request, words) in [
        (SolveRequest { r#ref: String::new(), ..base() }, "has no name"),
        (SolveRequest { definition: Some(definition.clone()), ..base() }, "a build by a definition"),
        (SolveRequest { entitlements: vec!["security.insecure".into()], ..base() }, "security.insecure"),
        (SolveRequest { enable_session_exporter: true, ..base() }, "an exporter of the client's"),
        (door.request("teleport", &[]), "the output teleport"),
        (direct(base(), &[("context:base", "oci-layout://x")]), "the context base is an OCI layout"),
        (direct(base(), &[("requestid", "frontend.targets")]), "steers its build"),
        (SolveRequest { frontend: "evil.v0".into(), ..base() }, "evil.v0"),
        (
            SolveRequest {
                frontend_inputs: [("x".to_owned(), definition)].into(),
                ..direct(base(), &[("context:x", "input:x")])
            },
            "the build input x",
        ),
        (direct(SolveRequest { session: "nobody".into(), ..base() }, &[]), "no active session for nobody"),
    ] {
        let failed = door.control().solve(request).await.unwrap_err();
        assert!(failed.message().contains(words), "{failed:?} does not say {words:?}");
    }
    let unnamed = door.bridge().ping(PingRequest {}).await.unwrap_err();
    assert!(unnamed.message().contains("no buildid"), "{unnamed:?}");
}

#[tokio::test]
async fn a_build_returns_once_and_has_its_name_alone() {
    let engine = Engine::start();
    if engine.is_original() {
        // There the second takes the place of the first.
        return;
    }
    let door = Door::open(&engine, Lender::default()).await;
    let request = door.request("", &[]);
    let build: AsciiMetadataValue = request.r#ref.parse().unwrap();
    let mut control = door.control();
    let first = tokio::spawn({
        let (mut control, request) = (door.control(), request.clone());
        async move { control.solve(request).await }
    });
    door.bridge().ping(of(&build, PingRequest {})).await.unwrap();
    assert!(control.solve(request).await.is_err(), "the name is taken");
    let foreign = Solved { result: Some(Which::RefDeprecated("another/0".into())), ..Solved::default() };
    // What happens with a second word differs; the first counts.
    door.bridge().r#return(of(&build, ReturnRequest { result: Some(foreign), error: None })).await.ok();
    drop(door.bridge().r#return(of(&build, ReturnRequest::default())).await);
    assert!(first.await.unwrap().is_err(), "the result was another's");
}

#[tokio::test]
async fn only_http2_is_spoken_and_only_by_those_who_ask_for_it() {
    let engine = Engine::start();
    for path in ["/grpc", "/session"] {
        let (status, _) = engine.request("POST", path, None);
        assert!(status >= 400, "{path} without an upgrade: {status}");
        let (status, _) = upgrade(&engine, path, &[("Connection", "Upgrade"), ("Upgrade", "tcp")]).await;
        assert!(status >= 400, "{path} with another protocol: {status}");
    }
    let (status, _) = upgrade(&engine, "/session", &UPGRADE).await;
    assert!(matches!(status, 400 | 101), "a session without a name: {status}");
    let (status, mut stream) = upgrade(&engine, "/grpc", &UPGRADE).await;
    assert_eq!(status, 101);
    stream.write_all(&[0xff; 64 << 10]).await.ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    // Whatever it says to that, it still serves others.
    engine.docker(&["version"]).ok();
}
