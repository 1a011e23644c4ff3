//! Results to a client: one stream into a file of it, or a tree into a directory of it. Both travel on the same path;
//! which it is, the client has decided by what it asked for.

mod tree;

use crate::channel::Channel;
use crate::error::{Error, Result};
use crate::limits;
use crate::proto::moby::filesync::v1::BytesMessage;
use crate::proto::moby::filesync::v1::file_send_client::FileSendClient;
use crate::session::{Session, origin};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
pub use tree::send_tree;

/// How a client is given what a build has made.
pub(crate) const METHOD: &str = "/moby.filesync.v1.FileSend/DiffCopy";

/// Where at the client a result goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Which of its outputs it is, in the order in which the build named them.
    pub output: usize,
    /// What a client is told of a file before it comes.
    pub attributes: BTreeMap<String, String>,
}

impl Target {
    fn metadata(&self) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert("buildkit-attachable-exporter-id", AsciiMetadataValue::from(self.output));
        for (name, value) in &self.attributes {
            let key = format!("exporter-md-{name}").parse::<AsciiMetadataKey>();
            // What no header can carry is only told, never needed.
            if let (Ok(key), Ok(value)) = (key, value.parse::<AsciiMetadataValue>()) {
                metadata.insert(key, value);
            }
        }
        metadata
    }
}

pub(crate) fn failed(status: tonic::Status) -> Error {
    Error::Call { method: METHOD, source: Box::new(status) }
}

/// Sends a stream to the client, which writes it to a file. Returns when it has; the client never takes half of it for
/// the whole.
///
/// # Errors
/// [`Error::NotOffered`], [`Error::Call`] if the client cannot write it, [`Error::Archive`] for what the stream says.
pub async fn send_file<S>(session: &Session, target: &Target, parts: S) -> Result<()>
where
    S: Stream<Item = io::Result<Bytes>> + Send,
{
    let client = FileSendClient::with_origin(session.channel(METHOD)?, origin());
    let (sender, messages) = mpsc::channel(1);
    let mut request = tonic::Request::new(ReceiverStream::new(messages));
    *request.metadata_mut() = target.metadata();
    let mut written = pin!(written(client, request));
    tokio::select! {
        // The order matters: a client that fails is the reason why it takes no more.
        biased;
        result = &mut written => return result,
        // An error leaves the call unfinished, and dropping that is how the client hears of it.
        result = feed(&sender, parts) => result?,
    }
    drop(sender);
    written.await
}

/// Waits until the client has taken everything.
async fn written(
    mut client: FileSendClient<Channel>,
    request: tonic::Request<ReceiverStream<BytesMessage>>,
) -> Result<()> {
    let mut answer = client.diff_copy(request).await.map_err(failed)?.into_inner();
    while answer.message().await.map_err(failed)?.is_some() {}
    Ok(())
}

/// Hands on the parts, in pieces that a message can have.
async fn feed<S>(sender: &mpsc::Sender<BytesMessage>, parts: S) -> Result<()>
where
    S: Stream<Item = io::Result<Bytes>> + Send,
{
    let mut parts = pin!(parts);
    while let Some(part) = parts.next().await {
        let part = part.map_err(|source| Error::Archive { source })?;
        for piece in part.chunks(limits::PIECE) {
            if sender.send(BytesMessage { data: piece.to_vec() }).await.is_err() {
                // The call is over, and says why.
                return std::future::pending().await;
            }
        }
    }
    Ok(())
}
