//! A session whose client lends nonsense: files, secrets and credentials that were changed on their way.

use super::calls::{PATIENCE, Pieces, badly_framed};
use coracle_buildkit::proto::fsutil::types::packet::PacketType;
use coracle_buildkit::proto::fsutil::types::{Packet, Stat};
use coracle_buildkit::proto::moby::buildkit::secrets::v1::GetSecretResponse;
use coracle_buildkit::proto::moby::buildkit::v1::SolveRequest;
use coracle_buildkit::proto::moby::buildkit::v1::control_client::ControlClient;
use coracle_buildkit::proto::moby::filesync::v1::CredentialsResponse;
use coracle_buildkit::{Channel, HEADER_ID, HEADER_METHOD};
use coracle_tests::Engine;
use coracle_tests::door::{UPGRADE, fresh, upgrade};
use coracle_tests::image::SMALL;
use coracle_tests::lender::{DIRECTORY, METHODS};
use coracle_tests::mutation::{Random, of_bytes, of_message};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response, Uri};
use prost::Message;
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::codegen::Service;

/// Builds of one attack.
const BUILDS: usize = 4;
/// A symbolic link, in Go's modes.
const LINK: u32 = 1 << 27;

/// Such a client.
#[derive(Clone)]
struct Liar {
    words: Arc<Vec<String>>,
    random: Arc<Mutex<Random>>,
}

fn stat(path: &str, mode: u32, size: i64, linkname: &str) -> Packet {
    let stat = Stat { path: path.into(), mode, size, linkname: linkname.into(), ..Stat::default() };
    Packet { r#type: PacketType::PacketStat.into(), stat: Some(stat), ..Packet::default() }
}

fn packet(kind: PacketType, id: u32, data: &[u8]) -> Packet {
    Packet { r#type: kind.into(), id, data: data.to_vec(), ..Packet::default() }
}

/// Everything that a client says of a directory; it is asked for what it sends by the time that it comes.
fn directory(name: &str) -> Vec<Packet> {
    let recipe = format!(
        "FROM {SMALL}\nCOPY . /c\nRUN --mount=type=secret,id=s --mount=type=cache,target=/k --mount=target=/m true\n"
    );
    let end = packet(PacketType::PacketStat, 0, b"");
    let content =
        |id, data: &[u8]| [packet(PacketType::PacketData, id, data), packet(PacketType::PacketData, id, b"")];
    let mut packets = Vec::new();
    if name == "dockerfile" {
        packets.push(stat("Dockerfile", 0o644, i64::try_from(recipe.len()).unwrap(), ""));
        packets.push(end);
        packets.extend(content(0, recipe.as_bytes()));
    } else {
        packets.push(stat("a", 0o644, 3, ""));
        packets.push(stat("d", DIRECTORY | 0o755, 0, ""));
        packets.push(stat("d/f", 0o4755, 2, ""));
        packets.push(stat("d/h", 0o644, 0, "a"));
        packets.push(stat("l", LINK | 0o777, 0, "../../../../../../tmp"));
        packets.push(end);
        packets.extend(content(0, b"abc"));
        packets.extend(content(2, b"de"));
    }
    packets.push(packet(PacketType::PacketFin, 0, b""));
    packets
}

impl Liar {
    fn answer(&self, request: &Request<Body>) -> Response<Body> {
        let mut random = self.random.lock().unwrap();
        let random = &mut *random;
        let method = request.uri().path().rsplit('/').next().unwrap_or_default();
        let name = request.headers().get("dir-name").and_then(|name| name.to_str().ok()).unwrap_or_default();
        let mut messages: Vec<Vec<u8>> = match method {
            "DiffCopy" => directory(name).iter().map(Message::encode_to_vec).collect(),
            "GetSecret" => vec![GetSecretResponse { data: b"canary".to_vec() }.encode_to_vec()],
            "Credentials" => {
                vec![CredentialsResponse { username: "u".into(), secret: "p".into() }.encode_to_vec()]
            }
            _ => vec![Vec::new()],
        };
        // Most Dockerfiles are whole, so that the rest is asked for.
        let changes = if name == "dockerfile" && !random.once_in(4) { 0 } else { random.below(4) };
        for _ in 0..changes {
            self.change(&mut messages, random);
        }
        let pieces: VecDeque<Vec<u8>> = messages
            .iter()
            .map(|message| {
                if changes > 0 && random.once_in(10) {
                    badly_framed(message, random)
                } else {
                    super::calls::framed(message)
                }
            })
            .collect();
        let mut trailers = HeaderMap::new();
        let status = if changes > 0 { *random.pick(&["0", "0", "0", "5", "99", "x", "-1"]) } else { "0" };
        trailers.insert("grpc-status", HeaderValue::from_static(status));
        if random.once_in(10) {
            trailers.insert("grpc-message", HeaderValue::from_static("%zz%00%ff"));
            trailers.insert("grpc-status-details-bin", HeaderValue::from_static("////"));
        }
        let body = Pieces { pieces, trailers: Some(trailers), hangs: changes > 0 && random.once_in(6) };
        Response::builder().header("content-type", "application/grpc").body(Body::new(body)).unwrap()
    }

    fn change(&self, messages: &mut Vec<Vec<u8>>, random: &mut Random) {
        if messages.is_empty() {
            return;
        }
        let at = random.below(messages.len());
        match random.below(6) {
            0 => drop(messages.remove(at)),
            1 => messages.insert(at, messages[at].clone()),
            2 => {
                let other = random.below(messages.len());
                messages.swap(at, other);
            }
            3 => messages[at] = of_bytes(&messages[at], random),
            _ => messages[at] = of_message(&messages[at], &self.words, random),
        }
    }
}

impl Service<Request<Body>> for Liar {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.answer(&request);
        Box::pin(async move { Ok(answer) })
    }
}

/// Some builds by such clients, at once; how many were done in spite of it.
pub(crate) async fn attack(engine: &Engine, words: &[String], random: &mut Random) -> usize {
    let builds: Vec<_> = (0..BUILDS)
        .map(|_| {
            let seed = u64::try_from(random.below(usize::MAX)).unwrap();
            let random = Arc::new(Mutex::new(Random::new(seed)));
            build(engine, Liar { words: Arc::new(words.to_vec()), random })
        })
        .collect();
    futures_util::future::join_all(builds).await.into_iter().filter(|done| *done).count()
}

async fn build(engine: &Engine, liar: Liar) -> bool {
    let session = fresh("session");
    let mut head = UPGRADE.to_vec();
    head.push((HEADER_ID, &session));
    head.extend(METHODS.map(|method| (HEADER_METHOD, method)));
    let (status, stream) = upgrade(engine, "/session", &head).await;
    assert_eq!(status, 101, "the door is open");
    let lending = tokio::spawn(async move { drop(coracle_buildkit::serve(stream, liar).await) });
    let (status, stream) = upgrade(engine, "/grpc", &UPGRADE).await;
    assert_eq!(status, 101, "the door is open");
    let (channel, connection) = Channel::over(stream).await.unwrap();
    let talking = tokio::spawn(async move { drop(connection.await) });
    let request = SolveRequest {
        r#ref: fresh("lied"),
        session,
        frontend: "dockerfile.v0".into(),
        frontend_attrs: HashMap::from([("no-cache".to_owned(), String::new())]),
        ..SolveRequest::default()
    };
    let mut control = ControlClient::with_origin(channel, Uri::from_static("http://engine"));
    // A client whose build hangs on itself goes.
    let answer = tokio::time::timeout(PATIENCE * 8, control.solve(request)).await;
    lending.abort();
    talking.abort();
    matches!(answer, Ok(Ok(_)))
}
