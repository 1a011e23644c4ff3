//! What a client asks while it steers its build: files of results, images, questions to a Dockerfile.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

use coracle_buildkit::proto::moby::buildkit::v1::frontend::result::Result as Which;
use coracle_buildkit::proto::moby::buildkit::v1::frontend::{
    EvaluateRequest, FileRange, InputsRequest, NewContainerRequest, ReadDirRequest, ReadFileRequest,
    ResolveImageConfigRequest, ResolveSourceMetaRequest, Result as Solved, ReturnRequest, SolveRequest,
    StatFileRequest,
};
use coracle_buildkit::proto::pb::{Definition, Op, SourceOp};
use coracle_tests::Engine;
use coracle_tests::context::Context;
use coracle_tests::door::Door;
use coracle_tests::image::SMALL;
use coracle_tests::lender::{Lender, file};
use prost::Message;
use serde_json::Value;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tonic::Request;
use tonic::metadata::AsciiMetadataValue;

fn lender(dockerfile: &str) -> Lender {
    let recipe = dockerfile.replace("FROM BASE", &format!("FROM {SMALL}"));
    let directories =
        [("dockerfile".to_owned(), vec![file("Dockerfile", recipe)]), ("context".to_owned(), vec![])];
    Lender { directories: directories.into(), ..Lender::default() }
}

fn of<T>(build: &AsciiMetadataValue, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("buildkit-controlapi-buildid", build.clone());
    request
}

fn frontend(options: &[(&str, &str)]) -> SolveRequest {
    SolveRequest {
        frontend: "dockerfile.v0".into(),
        frontend_opt: options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        allow_result_return: true,
        allow_result_array_ref: true,
        ..SolveRequest::default()
    }
}

/// Lets `steer` steer a build that ends without a result.
async fn steered<T>(door: &Door, steer: impl AsyncFnOnce(AsciiMetadataValue) -> T) -> T {
    let request = door.request("", &[]);
    let build: AsciiMetadataValue = request.r#ref.parse().unwrap();
    let steering = async {
        let told = steer(build.clone()).await;
        let nothing = ReturnRequest { result: Some(Solved::default()), error: None };
        door.bridge().r#return(of(&build, nothing)).await.unwrap();
        told
    };
    let mut control = door.control();
    let (answer, told) = tokio::join!(control.solve(request), steering);
    answer.unwrap();
    told
}

async fn reference(door: &Door, build: &AsciiMetadataValue) -> String {
    let solved = door.bridge().solve(of(build, frontend(&[]))).await.unwrap().into_inner();
    let Some(Which::Ref(reference)) = solved.result.unwrap().result else { panic!("one result") };
    reference.id
}

#[tokio::test]
async fn files_of_a_result_are_read() {
    let engine = Engine::start();
    let text = "FROM BASE AS make\nRUN mkdir -p /o/d && printf 0123456789 >/o/d/f && chown 7:8 /o/d/f && chmod 4750 /o/d/f \
        && ln -s d/f /o/l && ln -s /d /o/e && ln -s ../../../d /o/out\nFROM scratch\nCOPY --from=make /o /\n";
    let door = Door::open(&engine, lender(text)).await;
    steered(&door, async |build| {
        let name = reference(&door, &build).await;
        let mut bridge = door.bridge();
        let read = |path: &str, range: Option<FileRange>| ReadFileRequest {
            r#ref: name.clone(),
            file_path: path.into(),
            range,
            ..ReadFileRequest::default()
        };
        let part = Some(FileRange { offset: 2, length: 3 });
        for (path, range, expected) in [
            ("/d/f", None, "0123456789"),
            ("d/f", part, "234"),
            ("/l", None, "0123456789"),
            ("/e/f", part, "234"),
            ("/out/f", None, "0123456789"),
        ] {
            let data = bridge.read_file(of(&build, read(path, range))).await.unwrap().into_inner().data;
            assert_eq!(String::from_utf8(data).unwrap(), expected, "{path}");
        }
        for path in ["/nothing", "/d/f/x"] {
            let missing = bridge.read_file(of(&build, read(path, None))).await.unwrap_err();
            assert!(
                missing.message().contains("no such file") || missing.message().contains("not a directory"),
                "{missing}"
            );
        }
        let list = |path: &str, pattern: &str| ReadDirRequest {
            r#ref: name.clone(),
            dir_path: path.into(),
            include_pattern: pattern.into(),
            ..ReadDirRequest::default()
        };
        let found = bridge.read_dir(of(&build, list("/", ""))).await.unwrap().into_inner().entries;
        let names: Vec<(&str, &str)> =
            found.iter().map(|stat| (stat.path.as_str(), stat.linkname.as_str())).collect();
        assert_eq!(names, [("d", ""), ("e", "/d"), ("l", "d/f"), ("out", "../../../d")]);
        let found = bridge.read_dir(of(&build, list("/e", "[a-f]"))).await.unwrap().into_inner().entries;
        let [stat] = &found[..] else { panic!("{found:?}") };
        // Go's bits: setuid is another one than that of chmod(2).
        assert_eq!(
            (stat.path.as_str(), stat.mode, stat.uid, stat.gid, stat.size),
            ("f", 0o750 | 1 << 23, 7, 8, 10)
        );
        let look = StatFileRequest { r#ref: name.clone(), path: "/l".into(), ..StatFileRequest::default() };
        let stat = bridge.stat_file(of(&build, look)).await.unwrap().into_inner().stat.unwrap();
        assert_eq!((stat.size, stat.mode), (10, 0o750 | 1 << 23), "{stat:?}");
        let evaluate = EvaluateRequest { r#ref: name.clone() };
        bridge.evaluate(of(&build, evaluate)).await.unwrap();
        if !engine.is_original() {
            let root =
                StatFileRequest { r#ref: name.clone(), path: "/".into(), ..StatFileRequest::default() };
            let stat = bridge.stat_file(of(&build, root)).await.unwrap().into_inner().stat.unwrap();
            assert_eq!(stat.mode, 0o755 | 1 << 31);
            let refusal = bridge.new_container(of(&build, NewContainerRequest::default())).await.unwrap_err();
            assert!(refusal.message().contains("docker run"), "{refusal}");
            let unknown = ReadFileRequest { r#ref: "other/0".into(), ..read("/d/f", None) };
            let refusal = bridge.read_file(of(&build, unknown)).await.unwrap_err();
            assert!(refusal.message().contains("other/0 is not known"), "{refusal}");
        }
    })
    .await;
}

#[tokio::test]
async fn images_are_described() {
    let engine = Engine::start();
    let door = Door::open(&engine, lender("FROM BASE\n")).await;
    steered(&door, async |build| {
        let mut bridge = door.bridge();
        let asked = ResolveImageConfigRequest {
            r#ref: format!("docker.io/library/{SMALL}:latest"),
            resolve_mode: "local".into(),
            ..ResolveImageConfigRequest::default()
        };
        let told = bridge.resolve_image_config(of(&build, asked)).await.unwrap().into_inner();
        let config: Value = serde_json::from_slice(&told.config).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 1, "{config}");
        let source = SourceOp {
            identifier: format!("docker-image://docker.io/library/{SMALL}:latest"),
            ..SourceOp::default()
        };
        let asked = ResolveSourceMetaRequest { source: Some(source), ..ResolveSourceMetaRequest::default() };
        let told = bridge.resolve_source_meta(of(&build, asked)).await.unwrap().into_inner();
        assert_eq!(serde_json::from_slice::<Value>(&told.image.unwrap().config).unwrap(), config);
        if !engine.is_original() {
            let other = SourceOp { identifier: "git://example.com/x.git".into(), ..SourceOp::default() };
            let asked = ResolveSourceMetaRequest {
                source: Some(other.clone()),
                ..ResolveSourceMetaRequest::default()
            };
            let told = bridge.resolve_source_meta(of(&build, asked)).await.unwrap().into_inner();
            assert_eq!((told.source, told.image), (Some(other), None));
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_hears_of_its_own_inputs() {
    let engine = Engine::start();
    let door = Door::open(&engine, lender("FROM base\nCOPY f /g\n")).await;
    let definition = coracle_buildkit::definition_of("x/0");
    let mut request = door.request("", &[]);
    if engine.is_original() {
        // It looks into definitions, and does not know what ours says.
        return;
    }
    request.frontend_inputs = [("base".to_owned(), definition.clone())].into();
    let build: AsciiMetadataValue = request.r#ref.parse().unwrap();
    let steering = async {
        let mut bridge = door.bridge();
        let told = bridge.inputs(of(&build, InputsRequest {})).await.unwrap().into_inner();
        let nothing = ReturnRequest { result: Some(Solved::default()), error: None };
        bridge.r#return(of(&build, nothing)).await.unwrap();
        told.definitions
    };
    let mut control = door.control();
    let (answer, told) = tokio::join!(control.solve(request), steering);
    answer.unwrap();
    assert_eq!(told, HashMap::from([("base".to_owned(), definition.clone())]));
    assert!(Op::decode(&definition.def[0][..]).is_ok());
}

#[tokio::test]
async fn a_client_says_what_the_image_is() {
    let engine = Engine::start();
    let name = engine.name("described");
    let door = Door::open(&engine, lender("FROM BASE\nRUN echo f >/f\nUSER web\n")).await;
    let request = door.request("moby", &[("name", &name)]);
    let build: AsciiMetadataValue = request.r#ref.parse().unwrap();
    let steering = async {
        let mut bridge = door.bridge();
        let solved = bridge.solve(of(&build, frontend(&[]))).await.unwrap().into_inner();
        let mut result = solved.result.unwrap();
        let mut config: Value = serde_json::from_slice(&result.metadata["containerimage.config"]).unwrap();
        config["config"]["Labels"] = serde_json::json!({"said": "by the client"});
        config["config"]["User"] = "root".into();
        result.metadata.insert("containerimage.config".into(), config.to_string().into_bytes());
        bridge.r#return(of(&build, ReturnRequest { result: Some(result), error: None })).await.unwrap();
    };
    let mut control = door.control();
    let (answer, ()) = tokio::join!(control.solve(request), steering);
    answer.unwrap();
    let said =
        engine.docker(&["image", "inspect", "-f", "{{.Config.User}} {{.Config.Labels.said}}", &name]).ok();
    assert_eq!(said, "root by the client");
    assert_eq!(engine.docker(&["run", "--rm", &name, "cat", "/f"]).ok(), "f");
    engine.docker(&["rmi", &name]).ok();
}

/// What a result becomes: the context of the next build.
#[tokio::test]
async fn a_result_is_the_context_of_the_next_build() {
    let engine = Engine::start();
    if engine.is_original() {
        // Docker 26 ends with a nil pointer where a definition of its own comes back as it was given.
        return;
    }
    let name = engine.name("second");
    let door = Door::open(
        &engine,
        lender("FROM scratch AS first\nCOPY <<E /f\nfrom the first\nE\nFROM BASE AS second\nCOPY f /g\n"),
    )
    .await;
    let request = door.request("moby", &[("name", &name)]);
    let build: AsciiMetadataValue = request.r#ref.parse().unwrap();
    let steering = async {
        let mut bridge = door.bridge();
        let solved = bridge.solve(of(&build, frontend(&[("target", "first")]))).await.unwrap().into_inner();
        let Some(Which::Ref(first)) = solved.result.unwrap().result else { panic!("one result") };
        // What stands for it is solved as it is.
        let again = SolveRequest { definition: first.def.clone(), frontend: String::new(), ..frontend(&[]) };
        let again = bridge.solve(of(&build, again)).await.unwrap().into_inner().result.unwrap();
        let Some(Which::Ref(again)) = again.result else { panic!("one result") };
        let read = ReadFileRequest { r#ref: again.id, file_path: "/f".into(), ..ReadFileRequest::default() };
        let data = bridge.read_file(of(&build, read)).await.unwrap().into_inner().data;
        assert_eq!(data, b"from the first\n");
        let mut next = frontend(&[("target", "second")]);
        next.frontend_inputs = [("context".to_owned(), first.def.unwrap())].into();
        let solved = bridge.solve(of(&build, next)).await.unwrap().into_inner().result;
        bridge.r#return(of(&build, ReturnRequest { result: solved, error: None })).await.unwrap();
    };
    let mut control = door.control();
    let (answer, ()) = tokio::join!(control.solve(request), steering);
    answer.unwrap();
    assert_eq!(engine.docker(&["run", "--rm", &name, "cat", "/g"]).ok(), "from the first");
    engine.docker(&["rmi", &name]).ok();
}

/// What reading `/f` of what a definition stands for comes to.
async fn read_defined(door: &Door, definition: &Definition) -> Result<Vec<u8>, tonic::Status> {
    steered(door, async |build| {
        let request = SolveRequest { definition: Some(definition.clone()), evaluate: true, ..frontend(&[]) };
        let request = SolveRequest { frontend: String::new(), ..request };
        let solved = door.bridge().solve(of(&build, request)).await?.into_inner();
        let Some(Which::Ref(found)) = solved.result.unwrap().result else { panic!("one result") };
        let read = ReadFileRequest { r#ref: found.id, file_path: "/f".into(), ..ReadFileRequest::default() };
        Ok(door.bridge().read_file(of(&build, read)).await?.into_inner().data)
    })
    .await
}

#[tokio::test]
async fn a_result_outlives_its_build_and_not_its_client() {
    let engine = Engine::start();
    let door = Door::open(&engine, lender("FROM BASE\nRUN printf made >/f\n")).await;
    let definition = steered(&door, async |build| {
        let solved = door.bridge().solve(of(&build, frontend(&[]))).await.unwrap().into_inner();
        let Some(Which::Ref(reference)) = solved.result.unwrap().result else { panic!("one result") };
        reference.def.unwrap()
    })
    .await;
    assert_eq!(read_defined(&door, &definition).await.unwrap(), b"made");
    if engine.is_original() {
        // It carries out any definition.
        return;
    }
    let other = Door::open(&engine, lender("FROM BASE\n")).await;
    assert_eq!(read_defined(&other, &definition).await.unwrap(), b"made", "anybody who knows its name");
    drop(door);
    let patience = Duration::from_secs(30);
    let refusal = tokio::time::timeout(patience, async {
        loop {
            if let Err(refusal) = read_defined(&other, &definition).await {
                return refusal;
            }
        }
    });
    let refusal = refusal.await.unwrap();
    assert!(refusal.message().contains("a build that is over"), "{refusal}");
    drop(other);
    // What nobody holds can be pruned; the engine learns of the end of a connection when it comes to it.
    let prune = || engine.docker(&["builder", "prune", "--all", "--force"]).ok();
    let begun = Instant::now();
    while prune().ends_with("space: 0B") {
        assert!(begun.elapsed() < patience, "nothing can be pruned");
        // The connection is ended by another task of this thread.
        tokio::task::yield_now().await;
    }
}

/// `docker buildx build` begins another build then, of what has come out of the first.
#[test]
fn buildx_can_look_into_what_it_has_built() {
    let engine = Engine::start();
    let name = engine.name("looked-into");
    let context = Context::new("FROM BASE\nRUN printf made >/f\n", &[]);
    let mut command = engine.plugin_command(&["buildx", "build", "-t", &name, "."]);
    command.current_dir(context.path()).env("BUILDX_EXPERIMENTAL", "1");
    coracle_tests::Output::new("docker buildx build".to_owned(), &command.output().unwrap()).ok();
    assert_eq!(engine.docker(&["run", "--rm", &name, "cat", "/f"]).ok(), "made");
    engine.docker(&["rmi", &name]).ok();
}

const ASKED: &str = "# BASE what it begins with\nARG TAG=latest\nARG UNUSED\n# first the first one\nFROM BASE:$TAG AS first\n\
    # WHO who is greeted\nARG WHO=you\nARG TAG\nRUN --mount=type=secret,id=s,required=true --mount=type=ssh true\n\
    # last what you want\nFROM first AS last\nARG MORE=$WHO\nRUN true\n";

/// What buildx prints of a question.
fn printed(engine: &Engine, context: &Context, question: &str, options: &[&str]) -> String {
    let question = format!("--print={question}");
    let arguments = [&["buildx", "build", ".", &question], options].concat();
    let mut command = engine.plugin_command(&arguments);
    command.current_dir(context.path()).env("BUILDX_EXPERIMENTAL", "1");
    coracle_tests::Output::new("docker buildx build --print".to_owned(), &command.output().unwrap()).ok()
}

fn document(engine: &Engine, context: &Context, question: &str, options: &[&str]) -> Value {
    serde_json::from_str(&printed(engine, context, &format!("{question},format=json"), options)).unwrap()
}

#[test]
fn a_dockerfile_is_asked_what_it_can_be_given() {
    let engine = Engine::start();
    let context = Context::new(ASKED, &[]);
    let text = printed(&engine, &context, "outline", &["--build-arg", "WHO=me"]);
    let lines: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "TARGET: last",
        "DESCRIPTION: what you want",
        "",
        "BUILD ARG VALUE DESCRIPTION",
        "TAG latest",
        "WHO me who is greeted",
        "MORE me",
        "",
        "SECRET REQUIRED",
        "s true",
        "",
        "SSH REQUIRED",
        "default",
    ];
    assert_eq!(lines, expected, "{text}");
    let outline = document(&engine, &context, "outline", &["--target", "first"]);
    assert_eq!((&outline["name"], &outline["description"]), (&"first".into(), &"the first one".into()));
    let names: Vec<&str> =
        outline["args"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["TAG", "WHO"]);
    let range = &outline["args"][1]["location"]["ranges"][0];
    assert_eq!((&range["start"]["line"], &range["end"]["line"]), (&7.into(), &7.into()), "{outline}");
    assert_eq!(outline["sources"].as_array().unwrap().len(), 1);
    let before = engine.docker(&["images", "-aq"]).ok();
    let targets = document(&engine, &context, "targets", &[]);
    let expected = serde_json::json!([
        {"name": "first", "description": "the first one", "base": format!("{SMALL}:$TAG"),
         "location": {"ranges": [{"start": {"line": 5}, "end": {"line": 5}}]}},
        {"name": "last", "default": true, "description": "what you want", "base": "first",
         "location": {"ranges": [{"start": {"line": 11}, "end": {"line": 11}}]}},
    ]);
    assert_eq!(targets["targets"], expected);
    let text = printed(&engine, &context, "targets", &[]);
    let last = text.lines().last().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(last, "last (default) what you want", "{text}");
    let questions = document(&engine, &context, "subrequests.describe", &[]);
    let names: Vec<&str> =
        questions.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    for name in ["frontend.outline", "frontend.targets", "frontend.subrequests.describe"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(engine.is_original() || engine.docker(&["images", "-aq"]).ok() == before, "nothing is built");
}

/// The answer to a question, as a document and as a text.
async fn asked(engine: &Engine, dockerfile: &str, question: &str) -> HashMap<String, Vec<u8>> {
    let door = Door::open(engine, lender(dockerfile)).await;
    steered(&door, async |build| {
        let solved = door.bridge().solve(of(&build, frontend(&[("requestid", question)]))).await.unwrap();
        solved.into_inner().result.unwrap().metadata
    })
    .await
}

#[tokio::test]
async fn a_dockerfile_is_checked() {
    let engine = Engine::start();
    if engine.is_original() {
        // Docker 26 has no checks.
        return;
    }
    let told = asked(&engine, "FROM BASE as Upper\nCMD echo hi\n", "frontend.lint").await;
    let lint: Value = serde_json::from_slice(&told["result.json"]).unwrap();
    let rules: Vec<&str> =
        lint["warnings"].as_array().unwrap().iter().map(|one| one["ruleName"].as_str().unwrap()).collect();
    assert_eq!(rules, ["StageNameCasing", "FromAsCasing", "JSONArgsRecommended"], "{lint}");
    assert_eq!(lint["sources"][0]["filename"], "Dockerfile");
    assert_eq!((&told["result.statuscode"][..], &told["version"][..]), (&b"1"[..], &b"1.0.0"[..]));
    let text = String::from_utf8(told["result.txt"].clone()).unwrap();
    assert!(text.contains("WARNING: JSONArgsRecommended - https://docs.docker.com/"), "{text}");
    assert!(text.contains("   2 | >>> CMD echo hi"), "{text}");

    let told = asked(&engine, "FROM BASE\nCOPY --from=7 / /\n", "frontend.lint").await;
    let lint: Value = serde_json::from_slice(&told["result.json"]).unwrap();
    assert!(lint["buildError"]["message"].as_str().unwrap().contains("there is no stage"), "{lint}");
    assert_eq!(lint["buildError"]["location"]["ranges"][0]["start"]["line"], 2);

    let told = asked(&engine, "FROM BASE\nRUN true\n", "frontend.lint").await;
    assert_eq!(&told["result.statuscode"][..], b"0");
    let context = Context::new("FROM BASE as Upper\n", &[]);
    let mut command = engine.plugin_command(&["buildx", "build", ".", "--print=lint"]);
    let output = command.current_dir(context.path()).env("BUILDX_EXPERIMENTAL", "1").output().unwrap();
    // Newer ones end with 1 where there is something to warn of.
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("WARNING: StageNameCasing"), "{text}");
}
