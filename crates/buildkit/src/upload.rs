//! What a client has read from its standard input and hands on, for instance a context that is an archive.

use crate::error::{Error, Result};
use crate::proto::moby::upload::v1::BytesMessage;
use crate::proto::moby::upload::v1::upload_client::UploadClient;
use crate::session::{Session, origin};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tonic::metadata::AsciiMetadataValue;

/// How a client is asked for it.
const METHOD: &str = "/moby.upload.v1.Upload/Pull";

/// What the client hands on under a path, as it comes. It can be had once.
///
/// # Errors
/// [`Error::NotOffered`], [`Error::Call`] if there is nothing of that name.
pub async fn pull(
    session: &Session,
    host: &str,
    path: &str,
) -> Result<impl Stream<Item = Result<Bytes>> + Send + Unpin + use<>> {
    let call = |status| Error::Call { method: METHOD, source: Box::new(status) };
    let mut client = UploadClient::with_origin(session.channel(METHOD)?, origin())
        .max_decoding_message_size(crate::limits::MESSAGE);
    // Nothing is said, but to say so at once would end the exchange for some clients.
    let mut request = tonic::Request::new(futures_util::stream::pending::<BytesMessage>());
    for (key, value) in [("urlpath", path), ("urlhost", host)] {
        let value = value.parse::<AsciiMetadataValue>();
        let value = value.map_err(|_| call(tonic::Status::invalid_argument("no address of an upload")))?;
        request.metadata_mut().insert(key, value);
    }
    let parts = client.pull(request).await.map_err(call)?.into_inner();
    Ok(parts.map(move |part| part.map(|part| part.data.into()).map_err(call)))
}
