//! One valid message for each call of `/grpc`, changed byte by byte and field by field.

use coracle_buildkit::Channel;
use coracle_buildkit::proto::moby::buildkit::v1::frontend::{
    EvaluateRequest, FileRange, PingRequest, ReadDirRequest, ReadFileRequest, ResolveImageConfigRequest,
    ResolveSourceMetaRequest, Result as Solved, ReturnRequest, SolveRequest as Frontend, StatFileRequest,
    WarnRequest, result::Result as Which,
};
use coracle_buildkit::proto::moby::buildkit::v1::{
    BuildHistoryRequest, CacheOptions, CacheOptionsEntry, DiskUsageRequest, PruneRequest, SolveRequest,
    StatusRequest, UpdateBuildHistoryRequest,
};
use coracle_buildkit::proto::pb::{Platform, SourceInfo, SourceOp};
use coracle_buildkit::{HEADER_ID, definition_of};
use coracle_tests::Engine;
use coracle_tests::door::{Door, UPGRADE, fresh, upgrade};
use coracle_tests::image::SMALL;
use coracle_tests::lender::{Lender, file};
use coracle_tests::mutation::{Random, of_bytes, of_message};
use futures_util::future::join_all;
use hyper::body::{Body, Frame, SizeHint};
use hyper::{HeaderMap, Request};
use prost::Message;
use prost::bytes::Bytes;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::codegen::Service;
use tonic::metadata::AsciiMetadataValue;

/// How long an attacker waits for an answer.
pub(crate) const PATIENCE: Duration = Duration::from_millis(150);
/// Calls of one connection.
const CALLS: usize = 60;
/// Calls at once.
const AT_ONCE: usize = 12;

const CONTROL: &str = "/moby.buildkit.v1.Control/";
const BRIDGE: &str = "/moby.buildkit.v1.frontend.LLBBridge/";

/// Pieces of a body, and then its end, or none.
pub(crate) struct Pieces {
    pub(crate) pieces: VecDeque<Vec<u8>>,
    pub(crate) trailers: Option<HeaderMap>,
    /// Whether it never says that it has ended.
    pub(crate) hangs: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(piece) = self.pieces.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece.into()))));
        }
        if self.hangs {
            return Poll::Pending;
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// A message as gRPC sends it: whether it is compressed, its length, itself.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// The same with a head that may lie.
pub(crate) fn badly_framed(message: &[u8], random: &mut Random) -> Vec<u8> {
    let mut frame = framed(message);
    match random.below(12) {
        0 => frame[0] = 1,
        1 => frame[1] = 0xff,
        2 => frame[4] = frame[4].wrapping_add(1),
        3 => frame.truncate(random.below(frame.len())),
        4 => frame = frame.repeat(1 + random.below(5)),
        5 => frame.extend([0xff; 7]),
        _ => {}
    }
    frame
}

/// A valid message for each call, about a build and its first result.
fn messages(build: &str, session: &str, result: &str) -> Vec<(String, Vec<u8>)> {
    let map = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let name = || build.to_owned();
    let cache = CacheOptionsEntry {
        r#type: "registry".into(),
        attrs: map(&[("ref", "127.0.0.1:1/x"), ("mode", "max")]),
    };
    let definition = definition_of(result);
    let whole = SolveRequest {
        r#ref: fresh("fuzzed"),
        session: session.into(),
        frontend: "dockerfile.v0".into(),
        frontend_attrs: map(&[
            ("filename", "Dockerfile"),
            ("build-arg:A", "b"),
            ("platform", "linux/amd64"),
            ("context:x", "input:x"),
            ("add-hosts", "a=10.0.0.1"),
            ("attest:provenance", "mode=max"),
            ("no-cache", ""),
        ]),
        frontend_inputs: [("x".to_owned(), definition.clone())].into(),
        cache: Some(CacheOptions {
            exports: vec![cache.clone()],
            imports: vec![cache],
            ..CacheOptions::default()
        }),
        entitlements: vec!["network.host".into()],
        ..SolveRequest::default()
    };
    let nested = Frontend {
        frontend: "dockerfile.v0".into(),
        frontend_opt: map(&[
            ("requestid", "frontend.outline"),
            ("frontend.caps", "moby.buildkit.frontend.subrequests"),
        ]),
        allow_result_return: true,
        ..Frontend::default()
    };
    let defined = Frontend { definition: Some(definition), ..Frontend::default() };
    let solved = Solved {
        metadata: [(
            "containerimage.config".to_owned(),
            b"{\"architecture\":\"amd64\",\"os\":\"linux\"}".to_vec(),
        )]
        .into(),
        result: Some(Which::RefDeprecated(result.into())),
        ..Solved::default()
    };
    let info =
        SourceInfo { filename: "Dockerfile".into(), data: b"FROM x\n".to_vec(), ..SourceInfo::default() };
    let warning = WarnRequest {
        digest: "sha256:x".into(),
        short: b"w".to_vec(),
        info: Some(info),
        ..WarnRequest::default()
    };
    let platform = Some(Platform { os: "linux".into(), architecture: "amd64".into(), ..Platform::default() });
    let source = Some(SourceOp { identifier: format!("docker-image://{SMALL}"), ..SourceOp::default() });
    let range = Some(FileRange { offset: 1, length: 3 });
    let control = |call: &str, message: Vec<u8>| (format!("{CONTROL}{call}"), message);
    let bridge = |call: &str, message: Vec<u8>| (format!("{BRIDGE}{call}"), message);
    vec![
        control("Solve", whole.encode_to_vec()),
        control("Status", StatusRequest { r#ref: name() }.encode_to_vec()),
        control(
            "DiskUsage",
            DiskUsageRequest { filter: vec!["id~=x".into()], ..DiskUsageRequest::default() }.encode_to_vec(),
        ),
        control(
            "Prune",
            PruneRequest { filter: vec!["id==x".into()], keep_duration: 9, ..PruneRequest::default() }
                .encode_to_vec(),
        ),
        control(
            "ListenBuildHistory",
            BuildHistoryRequest { r#ref: name(), early_exit: true, ..BuildHistoryRequest::default() }
                .encode_to_vec(),
        ),
        control(
            "UpdateBuildHistory",
            UpdateBuildHistoryRequest { r#ref: name(), delete: true, ..UpdateBuildHistoryRequest::default() }
                .encode_to_vec(),
        ),
        control("Session", Vec::new()),
        bridge("Ping", PingRequest {}.encode_to_vec()),
        bridge("Solve", nested.encode_to_vec()),
        bridge("Solve", defined.encode_to_vec()),
        bridge("Return", ReturnRequest { result: Some(solved), error: None }.encode_to_vec()),
        bridge("Warn", warning.encode_to_vec()),
        bridge("Evaluate", EvaluateRequest { r#ref: result.into() }.encode_to_vec()),
        bridge("Inputs", Vec::new()),
        bridge(
            "ResolveImageConfig",
            ResolveImageConfigRequest {
                r#ref: SMALL.into(),
                platform: platform.clone(),
                ..ResolveImageConfigRequest::default()
            }
            .encode_to_vec(),
        ),
        bridge(
            "ResolveSourceMeta",
            ResolveSourceMetaRequest { source, platform, ..ResolveSourceMetaRequest::default() }
                .encode_to_vec(),
        ),
        bridge(
            "ReadFile",
            ReadFileRequest {
                r#ref: result.into(),
                file_path: "/etc/passwd".into(),
                range,
                ..ReadFileRequest::default()
            }
            .encode_to_vec(),
        ),
        bridge(
            "ReadDir",
            ReadDirRequest {
                r#ref: result.into(),
                dir_path: "/etc".into(),
                include_pattern: "p*".into(),
                ..ReadDirRequest::default()
            }
            .encode_to_vec(),
        ),
        bridge(
            "StatFile",
            StatFileRequest {
                r#ref: result.into(),
                path: "/etc/passwd".into(),
                ..StatFileRequest::default()
            }
            .encode_to_vec(),
        ),
        bridge("NewContainer", Vec::new()),
        ("/grpc.health.v1.Health/Check".to_owned(), Vec::new()),
        (format!("/nothing/{HEADER_ID}"), vec![0; 9]),
    ]
}

/// Calls about a build under way, on one connection; how many.
pub(crate) async fn attack(engine: &Engine, words: &[String], random: &mut Random) -> u64 {
    let recipe = vec![file("Dockerfile", format!("FROM {SMALL}\nCOPY f /f\n"))];
    let directories = [("dockerfile".to_owned(), recipe), ("context".to_owned(), vec![file("f", "x")])];
    let door = Door::open(engine, Lender { directories: directories.into(), ..Lender::default() }).await;
    let request = door.request("", &[]);
    let build = request.r#ref.clone();
    let mut control = door.control();
    // It lasts as long as this connection does.
    let building = tokio::spawn(async move { drop(control.solve(request).await) });
    let mut first = tonic::Request::new(Frontend { frontend: "dockerfile.v0".into(), ..Frontend::default() });
    first
        .metadata_mut()
        .insert("buildkit-controlapi-buildid", AsciiMetadataValue::try_from(build.as_str()).unwrap());
    let result = door.bridge().solve(first).await.unwrap().into_inner().r#ref;
    let messages = messages(&build, &door.session, &result);
    let (status, stream) = upgrade(engine, "/grpc", &UPGRADE).await;
    assert_eq!(status, 101, "the door is open");
    let (channel, connection) = Channel::over(stream).await.unwrap();
    let connection = tokio::spawn(async move { drop(connection.await) });
    for _ in 0..CALLS / AT_ONCE {
        let calls: Vec<_> =
            (0..AT_ONCE).map(|_| call(&channel, request_of(&messages, &build, words, random))).collect();
        join_all(calls).await;
    }
    connection.abort();
    building.abort();
    CALLS as u64
}

fn request_of(
    messages: &[(String, Vec<u8>)],
    build: &str,
    words: &[String],
    random: &mut Random,
) -> Request<Pieces> {
    let (path, message) = random.pick(messages);
    let mut message = message.clone();
    for _ in 0..random.below(4) {
        message =
            if random.once_in(3) { of_bytes(&message, random) } else { of_message(&message, words, random) };
    }
    let mut pieces = VecDeque::from([badly_framed(&message, random)]);
    if random.once_in(8) {
        pieces.push_back(framed(&message));
    }
    let body = Pieces { pieces, trailers: None, hangs: random.once_in(8) };
    let mut request = Request::post(format!("http://engine{path}")).header("te", "trailers");
    if !random.once_in(20) {
        request = request.header("content-type", "application/grpc");
    }
    if !random.once_in(10) {
        request = request.header("buildkit-controlapi-buildid", build);
    }
    if random.once_in(10) {
        request = request.header("grpc-timeout", *random.pick(&["1n", "99999999H", "-1S", "x"]));
    }
    request.body(body).unwrap()
}

async fn call(channel: &Channel, request: Request<Pieces>) {
    let mut channel = channel.clone();
    let answering = async {
        let Ok(answer) = channel.call(request.map(tonic::body::Body::new)).await else { return };
        let mut body = std::pin::pin!(answer.into_body());
        while let Some(Ok(_)) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {}
    };
    // Whoever does not answer a question that makes no sense in time is left, which the engine has to bear as well.
    let _ = tokio::time::timeout(PATIENCE, answering).await;
}
