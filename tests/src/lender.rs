//! A client of BuildKit's protocol without Docker: it lends directories, secrets and credentials from memory, and keeps
//! what it is given.

use coracle_buildkit::proto::fsutil::types::packet::PacketType;
use coracle_buildkit::proto::fsutil::types::{Packet, Stat};
use coracle_buildkit::proto::moby::buildkit::secrets::v1::secrets_server::{self, Secrets, SecretsServer};
use coracle_buildkit::proto::moby::buildkit::secrets::v1::{GetSecretRequest, GetSecretResponse};
use coracle_buildkit::proto::moby::filesync::packet::file_send_server::{
    FileSend as TreeSend, FileSendServer as TreeServer,
};
use coracle_buildkit::proto::moby::filesync::packet::file_sync_server::{self, FileSync, FileSyncServer};
use coracle_buildkit::proto::moby::filesync::v1::auth_server::{self, Auth, AuthServer};
use coracle_buildkit::proto::moby::filesync::v1::file_send_server::{self, FileSend, FileSendServer};
use coracle_buildkit::proto::moby::filesync::v1::{
    BytesMessage, CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse,
    GetTokenAuthorityRequest, GetTokenAuthorityResponse, VerifyTokenAuthorityRequest,
    VerifyTokenAuthorityResponse,
};
use coracle_buildkit::proto::moby::sshforward::v1::ssh_server::{self, Ssh, SshServer};
use coracle_buildkit::proto::moby::sshforward::v1::{
    BytesMessage as AgentMessage, CheckAgentRequest, CheckAgentResponse,
};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use hyper::{Request as HttpRequest, Response as HttpResponse};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Request, Response, Status, Streaming};

/// The methods that this client serves.
pub const METHODS: [&str; 6] = [
    "/moby.filesync.v1.FileSync/DiffCopy",
    "/moby.filesync.v1.FileSend/DiffCopy",
    "/moby.buildkit.secrets.v1.Secrets/GetSecret",
    "/moby.filesync.v1.Auth/Credentials",
    "/moby.sshforward.v1.SSH/CheckAgent",
    "/moby.sshforward.v1.SSH/ForwardAgent",
];

/// The bit of Go's modes that says that a file is a directory.
pub const DIRECTORY: u32 = 1 << 31;

/// A file that is lent, and what it has.
#[derive(Clone, Debug, PartialEq)]
pub struct Lent {
    /// What is said of it.
    pub stat: Stat,
    /// What it has.
    pub content: Vec<u8>,
}

/// A regular file.
pub fn file(path: &str, content: impl Into<Vec<u8>>) -> Lent {
    let content = content.into();
    let size = i64::try_from(content.len()).unwrap();
    Lent { stat: Stat { path: path.into(), mode: 0o644, size, ..Stat::default() }, content }
}

/// A directory.
pub fn directory(path: &str) -> Lent {
    Lent { stat: Stat { path: path.into(), mode: DIRECTORY | 0o755, ..Stat::default() }, content: Vec::new() }
}

/// What such a client has, and what it was given.
#[derive(Debug, Default)]
pub struct Lender {
    /// Directories by name; files in the order in which they are sent.
    pub directories: BTreeMap<String, Vec<Lent>>,
    /// Secrets by name.
    pub secrets: BTreeMap<String, Vec<u8>>,
    /// User and password by host.
    pub logins: BTreeMap<String, (String, String)>,
    /// The name of an agent, which answers everything with the same in capitals.
    pub agent: Option<String>,
    /// Whether a result is taken as files.
    pub takes_files: bool,
    /// What it was given as a stream.
    pub stream: Mutex<Vec<u8>>,
    /// What it was given as files.
    pub tree: Arc<Mutex<Vec<Lent>>>,
    /// The headers of every request, by key and value.
    pub asked: Mutex<Vec<(String, String)>>,
}

impl Lender {
    /// Serves a session until it ends.
    pub async fn serve(self: &Arc<Self>, io: impl coracle_buildkit::Io) {
        // A session ends as its connection does, however that is.
        let _ = coracle_buildkit::serve(io, Services(Arc::clone(self))).await;
    }

    fn note<T>(&self, request: &Request<T>) {
        let headers = request.metadata().clone().into_headers();
        let pairs =
            headers.iter().map(|(key, value)| (key.to_string(), value.to_str().unwrap_or("").to_owned()));
        self.asked.lock().unwrap().extend(pairs);
    }

    /// The values of a header in all requests so far.
    pub fn asked_for(&self, key: &str) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(found, _)| found == key).map(|(_, value)| value.clone()).collect()
    }
}

/// All services of one session.
#[derive(Clone)]
struct Services(Arc<Lender>);

impl Service<HttpRequest<Body>> for Services {
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        let lender = Arc::clone(&self.0);
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        match service {
            file_sync_server::SERVICE_NAME => FileSyncServer::from_arc(lender).call(request),
            file_send_server::SERVICE_NAME if lender.takes_files => {
                TreeServer::from_arc(lender).call(request)
            }
            file_send_server::SERVICE_NAME => FileSendServer::from_arc(lender).call(request),
            secrets_server::SERVICE_NAME => SecretsServer::from_arc(lender).call(request),
            ssh_server::SERVICE_NAME => SshServer::from_arc(lender).call(request),
            auth_server::SERVICE_NAME => AuthServer::from_arc(lender).call(request),
            _ => Box::pin(async { Ok(Status::unimplemented("no such service").into_http()) }),
        }
    }
}

fn packet(kind: PacketType) -> Packet {
    Packet { r#type: kind.into(), ..Packet::default() }
}

type Packets = BoxStream<'static, Result<Packet, Status>>;

#[tonic::async_trait]
impl FileSync for Lender {
    type DiffCopyStream = Packets;

    async fn diff_copy(&self, request: Request<Streaming<Packet>>) -> Result<Response<Packets>, Status> {
        self.note(&request);
        let values = |key: &str| -> Vec<String> {
            let all = request.metadata().get_all(key);
            all.iter().map(|value| value.to_str().unwrap().to_owned()).collect()
        };
        let (name, follow) = (values("dir-name").concat(), values("followpaths"));
        let Some(files) = self.directories.get(&name) else {
            return Err(Status::not_found(format!("no access allowed to dir {name:?}")));
        };
        let wanted = |lent: &&Lent| follow.is_empty() || follow.contains(&lent.stat.path);
        let files: Vec<Lent> = files.iter().filter(wanted).cloned().collect();
        let (sender, packets) = mpsc::channel(1);
        tokio::spawn(lend(files, request.into_inner(), sender));
        Ok(Response::new(ReceiverStream::new(packets).map(Ok).boxed()))
    }

    type TarStreamStream = Packets;

    async fn tar_stream(&self, _: Request<Streaming<Packet>>) -> Result<Response<Packets>, Status> {
        Err(Status::unimplemented("no archives"))
    }
}

/// Sends a list of files, and what it is asked for, both at the same time.
async fn lend(files: Vec<Lent>, mut asked: Streaming<Packet>, sender: mpsc::Sender<Packet>) {
    let list: Vec<Packet> = files
        .iter()
        .map(|lent| Packet { stat: Some(lent.stat.clone()), ..packet(PacketType::PacketStat) })
        .chain([packet(PacketType::PacketStat)])
        .collect();
    let listing = sender.clone();
    // Whoever stops listening ends both.
    tokio::spawn(async move {
        for packet in list {
            if listing.send(packet).await.is_err() {
                return;
            }
        }
    });
    while let Ok(Some(question)) = asked.message().await {
        if question.r#type == i32::from(PacketType::PacketFin) {
            let _ = sender.send(packet(PacketType::PacketFin)).await;
            return;
        }
        let content = &files[question.id as usize].content;
        let pieces = content.chunks(32 << 10).chain([&[][..]]);
        for piece in pieces {
            let data = Packet { id: question.id, data: piece.to_vec(), ..packet(PacketType::PacketData) };
            if sender.send(data).await.is_err() {
                return;
            }
        }
    }
}

#[tonic::async_trait]
impl FileSend for Lender {
    type DiffCopyStream = BoxStream<'static, Result<BytesMessage, Status>>;

    async fn diff_copy(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::DiffCopyStream>, Status> {
        self.note(&request);
        let mut messages = request.into_inner();
        let mut came = Vec::new();
        while let Some(message) = messages.message().await? {
            came.extend(message.data);
        }
        *self.stream.lock().unwrap() = came;
        Ok(Response::new(stream::empty().boxed()))
    }
}

#[tonic::async_trait]
impl TreeSend for Lender {
    type DiffCopyStream = Packets;

    async fn diff_copy(&self, request: Request<Streaming<Packet>>) -> Result<Response<Packets>, Status> {
        self.note(&request);
        let (sender, answers) = mpsc::channel(256);
        tokio::spawn(take(request.into_inner(), sender, Arc::clone(&self.tree)));
        Ok(Response::new(ReceiverStream::new(answers).boxed()))
    }
}

/// Asks for every file that it hears of, and keeps all when they have come.
async fn take(
    mut packets: Streaming<Packet>,
    sender: mpsc::Sender<Result<Packet, Status>>,
    tree: Arc<Mutex<Vec<Lent>>>,
) {
    let mut files: Vec<Lent> = Vec::new();
    let (mut open, mut listed) = (0, false);
    while let Ok(Some(came)) = packets.message().await {
        let answer = match (PacketType::try_from(came.r#type), came.stat) {
            (Ok(PacketType::PacketStat), Some(stat)) => {
                let id = u32::try_from(files.len()).unwrap();
                // Neither a directory nor anything else special, and no second name of a file.
                let has_content = stat.mode & 0xff08_0000 & !(3 << 22) == 0 && stat.linkname.is_empty();
                files.push(Lent { stat, content: Vec::new() });
                open += u32::from(has_content);
                has_content.then(|| Packet { id, ..packet(PacketType::PacketReq) })
            }
            (Ok(PacketType::PacketStat), None) => {
                listed = true;
                None
            }
            (Ok(PacketType::PacketData), _) if came.data.is_empty() => {
                open -= 1;
                None
            }
            (Ok(PacketType::PacketData), _) => {
                files[came.id as usize].content.extend(came.data);
                None
            }
            (Ok(PacketType::PacketFin), _) => {
                *tree.lock().unwrap() = files;
                return;
            }
            other => {
                // Nobody listens to a complaint any more who has gone.
                let _ = sender.send(Err(Status::internal(format!("{other:?} was not expected")))).await;
                return;
            }
        };
        let last = (listed && open == 0).then(|| packet(PacketType::PacketFin));
        for packet in answer.into_iter().chain(last) {
            let _ = sender.send(Ok(packet)).await;
        }
    }
}

#[tonic::async_trait]
impl Secrets for Lender {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let data = self.secrets.get(&request.get_ref().id).cloned();
        let data = data.ok_or_else(|| Status::not_found("no such secret"))?;
        Ok(Response::new(GetSecretResponse { data }))
    }
}

#[tonic::async_trait]
impl Ssh for Lender {
    async fn check_agent(
        &self,
        request: Request<CheckAgentRequest>,
    ) -> Result<Response<CheckAgentResponse>, Status> {
        match &self.agent {
            Some(agent) if *agent == request.get_ref().id => Ok(Response::new(CheckAgentResponse {})),
            _ => Err(Status::unknown("unset ssh forward key")),
        }
    }

    type ForwardAgentStream = BoxStream<'static, Result<AgentMessage, Status>>;

    async fn forward_agent(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        self.note(&request);
        let answers = request
            .into_inner()
            .map(|message| message.map(|message| AgentMessage { data: message.data.to_ascii_uppercase() }));
        Ok(Response::new(answers.boxed()))
    }
}

#[tonic::async_trait]
impl Auth for Lender {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        let (username, secret) = self.logins.get(&request.get_ref().host).cloned().unwrap_or_default();
        Ok(Response::new(CredentialsResponse { username, secret }))
    }

    async fn fetch_token(
        &self,
        _: Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("no tokens"))
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("no tokens"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("no tokens"))
    }
}
