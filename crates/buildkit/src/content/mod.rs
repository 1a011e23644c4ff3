//! Blobs of stores that a client lends: containerd's content service, with the name of the store in a header. This is how
//! the local caches of `docker buildx` come and go.
//!
//! What is read is not verified here: whoever stores it computes its digest anyway.

mod messages;

pub use messages::{
    Info, InfoRequest, InfoResponse, ReadContentRequest, ReadContentResponse, WriteAction,
    WriteContentRequest, WriteContentResponse,
};

use crate::channel::Channel;
use crate::error::{Error, Result};
use crate::limits;
use crate::session::{Session, origin};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use hyper::http::uri::PathAndQuery;
use std::io;
use std::pin::pin;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// The service.
pub const SERVICE: &str = "containerd.services.content.v1.Content";
/// The header that says which store is meant.
pub const STORE: &str = "buildkit-attachable-store-id";

const INFO: &str = "/containerd.services.content.v1.Content/Info";
const READ: &str = "/containerd.services.content.v1.Content/Read";
const WRITE: &str = "/containerd.services.content.v1.Content/Write";

/// A store of a client.
#[derive(Clone, Debug)]
pub struct Store {
    channel: Channel,
    name: AsciiMetadataValue,
}

/// A blob that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its digest.
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

impl Store {
    /// The store of a name.
    ///
    /// # Errors
    /// [`Error::NotOffered`] by a client that has none, [`Error::Call`] for a name that no store has.
    pub fn of(session: &Session, name: &str) -> Result<Self> {
        let no_name = |_| failed(READ, Status::invalid_argument(format!("no store is called {name:?}")));
        // A client that lends one offers all three.
        let channel = session.channel(READ)?;
        Ok(Self { channel, name: name.parse().map_err(no_name)? })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(STORE, self.name.clone());
        request
    }

    async fn client(&self, method: &'static str) -> Result<Grpc<Channel>> {
        let mut client = Grpc::with_origin(self.channel.clone(), origin())
            .max_decoding_message_size(limits::CONTENT + limits::MESSAGE);
        client.ready().await.map_err(|error| failed(method, Status::unavailable(error.to_string())))?;
        Ok(client)
    }

    /// The bytes of a blob, as they come.
    ///
    /// # Errors
    /// [`Error::Call`] if there is none.
    pub async fn read(
        &self,
        digest: &str,
    ) -> Result<impl Stream<Item = Result<Bytes>> + Send + Unpin + use<>> {
        let message = ReadContentRequest { digest: digest.to_owned(), ..ReadContentRequest::default() };
        let mut client = self.client(READ).await?;
        let codec = ProstCodec::<ReadContentRequest, ReadContentResponse>::default();
        let answer = client.server_streaming(self.request(message), path(READ), codec).await;
        let parts = answer.map_err(|status| failed(READ, status))?.into_inner();
        Ok(parts.map(|part| part.map(|part| part.data.into()).map_err(|status| failed(READ, status))))
    }

    /// Whether a blob is there, of this size.
    ///
    /// # Errors
    /// [`Error::Call`], other than that there is none.
    pub async fn has(&self, blob: &Blob) -> Result<bool> {
        let mut client = self.client(INFO).await?;
        let codec = ProstCodec::<InfoRequest, InfoResponse>::default();
        let message = InfoRequest { digest: blob.digest.clone() };
        match client.unary(self.request(message), path(INFO), codec).await {
            Ok(answer) => {
                Ok(answer.into_inner().info.is_some_and(|info| u64::try_from(info.size) == Ok(blob.size)))
            }
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(failed(INFO, status)),
        }
    }

    /// Writes a blob, unless it is there. The client computes its digest, and takes nothing that has another.
    ///
    /// # Errors
    /// [`Error::Call`] if the client cannot write it, [`Error::Archive`] for what the stream says.
    pub async fn write<S>(&self, blob: &Blob, parts: S) -> Result<()>
    where
        S: Stream<Item = io::Result<Bytes>> + Send,
    {
        if self.has(blob).await? {
            return Ok(());
        }
        let (sender, messages) = mpsc::channel(1);
        let writing = Writing { blob, sender, offset: 0 };
        let request = self.request(ReceiverStream::new(messages));
        let (fed, written) = tokio::join!(writing.feed(parts), self.written(request));
        match written {
            // Somebody else has written it.
            Err(Error::Call { source, .. }) if source.code() == Code::AlreadyExists => Ok(()),
            Err(error) => Err(fed.err().unwrap_or(error)),
            Ok(()) => fed,
        }
    }

    /// Waits until the client has answered everything, the last time with what it has committed.
    async fn written(&self, request: Request<ReceiverStream<WriteContentRequest>>) -> Result<()> {
        let mut client = self.client(WRITE).await?;
        let codec = ProstCodec::<WriteContentRequest, WriteContentResponse>::default();
        let answers = client.streaming(request, path(WRITE), codec).await;
        let mut answers: Streaming<WriteContentResponse> =
            answers.map_err(|status| failed(WRITE, status))?.into_inner();
        let mut last = None;
        while let Some(answer) = answers.message().await.map_err(|status| failed(WRITE, status))? {
            last = Some(answer.action());
        }
        match last {
            Some(WriteAction::Commit) => Ok(()),
            _ => Err(failed(WRITE, Status::aborted("the client has not kept the blob"))),
        }
    }
}

/// A blob on its way to a client.
struct Writing<'a> {
    blob: &'a Blob,
    sender: mpsc::Sender<WriteContentRequest>,
    offset: u64,
}

impl Writing<'_> {
    /// Sends everything. Ends early without a word where the call has ended, which says why itself.
    async fn feed<S>(mut self, parts: S) -> Result<()>
    where
        S: Stream<Item = io::Result<Bytes>> + Send,
    {
        let mut parts = pin!(parts);
        while let Some(part) = parts.next().await {
            let part = part.map_err(|source| Error::Archive { source })?;
            for piece in part.chunks(limits::PIECE) {
                if !self.send(WriteAction::Write, piece).await {
                    return Ok(());
                }
            }
        }
        self.send(WriteAction::Commit, &[]).await;
        Ok(())
    }

    async fn send(&mut self, action: WriteAction, data: &[u8]) -> bool {
        let message = WriteContentRequest {
            action: action.into(),
            r#ref: format!("cache-{}", self.blob.digest),
            total: i64::try_from(self.blob.size).unwrap_or(i64::MAX),
            expected: self.blob.digest.clone(),
            offset: i64::try_from(self.offset).unwrap_or(i64::MAX),
            data: data.to_vec(),
            ..WriteContentRequest::default()
        };
        self.offset += data.len() as u64;
        self.sender.send(message).await.is_ok()
    }
}

fn path(method: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(method)
}

fn failed(method: &'static str, status: Status) -> Error {
    Error::Call { method, source: Box::new(status) }
}
