//! The ssh agent of a client, which keeps its keys: builds only talk to it.

use crate::channel::Io;
use crate::error::{Error, Result};
use crate::limits;
use crate::proto::moby::sshforward::v1::ssh_client::SshClient;
use crate::proto::moby::sshforward::v1::{BytesMessage, CheckAgentRequest};
use crate::session::{Session, origin};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::AsciiMetadataValue;

const CHECK: &str = "/moby.sshforward.v1.SSH/CheckAgent";
const FORWARD: &str = "/moby.sshforward.v1.SSH/ForwardAgent";

/// Whether the client lends an agent of that name.
///
/// # Errors
/// [`Error::Call`] when it does not answer.
pub async fn check_agent(session: &Session, id: &str) -> Result<bool> {
    let channel = match session.channel(CHECK) {
        Err(Error::NotOffered { .. }) => return Ok(false),
        channel => channel?,
    };
    let request = CheckAgentRequest { id: id.to_owned() };
    match SshClient::with_origin(channel, origin()).check_agent(request).await {
        Ok(_) => Ok(true),
        // What is not there is unknown to some clients and not found by others.
        Err(status) if matches!(status.code(), tonic::Code::NotFound | tonic::Code::Unknown) => Ok(false),
        Err(status) => Err(Error::Call { method: CHECK, source: Box::new(status) }),
    }
}

/// Carries what a process and the client's agent say to each other over `io`, until the process closes it.
///
/// # Errors
/// [`Error::NotOffered`], [`Error::Call`].
pub async fn forward_agent(session: &Session, id: &str, io: impl Io) -> Result<()> {
    let call = |status| Error::Call { method: FORWARD, source: Box::new(status) };
    let mut client = SshClient::with_origin(session.channel(FORWARD)?, origin());
    let (sender, messages) = mpsc::channel(1);
    let mut request = tonic::Request::new(ReceiverStream::new(messages));
    let id = id.parse::<AsciiMetadataValue>();
    let id = id.map_err(|_| call(tonic::Status::invalid_argument("no name of an agent")))?;
    request.metadata_mut().insert("buildkit.ssh.id", id);
    let (from, mut to) = tokio::io::split(io);
    let answers = async {
        let mut answers = client.forward_agent(request).await.map_err(call)?.into_inner();
        while let Some(answer) = answers.message().await.map_err(call)? {
            // A process that reads no more is noticed by the other direction.
            if write(&mut to, &answer.data).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    let questions = ask(from, sender);
    tokio::pin!(answers, questions);
    tokio::select! {
        result = &mut answers => result,
        // What was asked last is still answered.
        () = &mut questions => answers.await,
    }
}

async fn write<S: Io>(to: &mut WriteHalf<S>, data: &[u8]) -> std::io::Result<()> {
    to.write_all(data).await?;
    to.flush().await
}

/// Hands on what a process says, until it says no more.
async fn ask<S: Io>(mut from: ReadHalf<S>, sender: mpsc::Sender<BytesMessage>) {
    let mut buffer = vec![0; limits::PIECE];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if sender.send(BytesMessage { data: buffer[..length].to_vec() }).await.is_err() {
            return;
        }
    }
}
