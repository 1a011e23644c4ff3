//! The two connections of a build through BuildKit's protocol, without Docker's plugins.

use crate::Engine;
use crate::lender::{Lender, METHODS};
use coracle_buildkit::proto::moby::buildkit::v1::control_client::ControlClient;
use coracle_buildkit::proto::moby::buildkit::v1::frontend::llb_bridge_client::LlbBridgeClient;
use coracle_buildkit::proto::moby::buildkit::v1::{Exporter, SolveRequest, StatusRequest, StatusResponse};
use coracle_buildkit::{Channel, HEADER_ID, HEADER_METHOD, tunnel};
use futures_util::StreamExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::codegen::http::Uri;
use tonic::metadata::AsciiMetadataKey;

static BUILDS: AtomicU32 = AtomicU32::new(0);

/// A client with a session.
pub struct Door {
    /// What the session lends, and what it was given.
    pub lender: Arc<Lender>,
    /// What builds call the session.
    pub session: String,
    /// The way to the services.
    pub channel: Channel,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A name that no other build has.
pub fn fresh(what: &str) -> String {
    format!("{what}-{}-{}", std::process::id(), BUILDS.fetch_add(1, Ordering::Relaxed))
}

/// Asks for another protocol; the status, and the connection.
pub async fn upgrade(engine: &Engine, path: &str, headers: &[(&str, &str)]) -> (u16, UnixStream) {
    let mut stream = UnixStream::connect(engine.socket()).await.unwrap();
    let mut head = format!("POST {path} HTTP/1.1\r\nHost: d\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => answer.push(byte),
            Err(_) => break,
        }
    }
    let answer = String::from_utf8(answer).unwrap();
    (answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0), stream)
}

/// What asks for HTTP/2.
pub const UPGRADE: [(&str, &str); 2] = [("Connection", "Upgrade"), ("Upgrade", "h2c")];

impl Door {
    /// Opens both connections.
    pub async fn open(engine: &Engine, lender: Lender) -> Self {
        let mut door = Self::without_session(engine, lender).await;
        let mut headers = UPGRADE.to_vec();
        headers.push((HEADER_ID, &door.session));
        headers.extend(METHODS.map(|method| (HEADER_METHOD, method)));
        let (status, stream) = upgrade(engine, "/session", &headers).await;
        assert_eq!(status, 101);
        let serving = Arc::clone(&door.lender);
        door.tasks.push(tokio::spawn(async move { serving.serve(stream).await }));
        door
    }

    /// Opens one connection, and the session within it, as newer clients do.
    pub async fn open_one(engine: &Engine, lender: Lender) -> Self {
        let mut door = Self::without_session(engine, lender).await;
        let (serving, (sender, incoming)) = (Arc::clone(&door.lender), mpsc::channel(1));
        let served = async move |io| {
            serving.serve(io).await;
            Ok(())
        };
        let outgoing = tunnel(ReceiverStream::new(incoming), served);
        let mut request = Request::new(outgoing.map(Result::unwrap));
        let metadata = request.metadata_mut();
        metadata.insert(
            HEADER_ID.to_ascii_lowercase().parse::<AsciiMetadataKey>().unwrap(),
            door.session.parse().unwrap(),
        );
        for method in METHODS {
            let key = HEADER_METHOD.to_ascii_lowercase().parse::<AsciiMetadataKey>().unwrap();
            metadata.append(key, method.parse().unwrap());
        }
        let mut answers = door.control().session(request).await.unwrap().into_inner();
        door.tasks.push(tokio::spawn(async move {
            while let Some(message) = answers.next().await {
                if sender.send(message).await.is_err() {
                    return;
                }
            }
        }));
        door
    }

    async fn without_session(engine: &Engine, lender: Lender) -> Self {
        let (status, stream) = upgrade(engine, "/grpc", &UPGRADE).await;
        assert_eq!(status, 101);
        let (channel, connection) = Channel::over(stream).await.unwrap();
        let talking = tokio::spawn(async move { drop(connection.await) });
        Self { lender: Arc::new(lender), session: fresh("session"), channel, tasks: vec![talking] }
    }

    /// Calls about builds as a whole.
    pub fn control(&self) -> ControlClient<Channel> {
        ControlClient::with_origin(self.channel.clone(), Uri::from_static("http://engine"))
    }

    /// Calls that steer a build.
    pub fn bridge(&self) -> LlbBridgeClient<Channel> {
        LlbBridgeClient::with_origin(self.channel.clone(), Uri::from_static("http://engine"))
    }

    /// A build of this session with an output; with none, where `kind` is empty.
    pub fn request(&self, kind: &str, attributes: &[(&str, &str)]) -> SolveRequest {
        let attrs = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        SolveRequest {
            r#ref: fresh("build"),
            session: self.session.clone(),
            exporters: (!kind.is_empty())
                .then(|| Exporter { r#type: kind.into(), attrs })
                .into_iter()
                .collect(),
            ..SolveRequest::default()
        }
    }

    /// Everything that a build tells.
    pub async fn told(&self, build: &str) -> StatusResponse {
        let request = StatusRequest { r#ref: build.to_owned() };
        let mut stream = self.control().status(request).await.unwrap().into_inner();
        let mut all = StatusResponse::default();
        while let Some(told) = stream.message().await.unwrap() {
            all.vertexes.extend(told.vertexes);
            all.logs.extend(told.logs);
            all.statuses.extend(told.statuses);
            all.warnings.extend(told.warnings);
        }
        all
    }
}
