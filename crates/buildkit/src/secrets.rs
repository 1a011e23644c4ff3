//! Secrets that a client lends to a build.

use crate::error::{Error, Result};
use crate::limits;
use crate::proto::moby::buildkit::secrets::v1::GetSecretRequest;
use crate::proto::moby::buildkit::secrets::v1::secrets_client::SecretsClient;
use crate::session::{Session, origin};

/// How a client is asked for a secret.
const METHOD: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";

/// A secret, by the name that the build gives it; none if the client has no such secret or lends none at all.
///
/// # Errors
/// [`Error::Call`], [`Error::SecretSize`].
pub async fn secret(session: &Session, id: &str) -> Result<Option<Vec<u8>>> {
    let channel = match session.channel(METHOD) {
        Err(Error::NotOffered { .. }) => return Ok(None),
        channel => channel?,
    };
    let request = GetSecretRequest { id: id.to_owned(), ..GetSecretRequest::default() };
    match SecretsClient::with_origin(channel, origin()).get_secret(request).await {
        Ok(answer) => {
            let data = answer.into_inner().data;
            if data.len() > limits::SECRET {
                return Err(Error::SecretSize { id: id.to_owned(), size: data.len() });
            }
            Ok(Some(data))
        }
        Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
        Err(status) => Err(Error::Call { method: METHOD, source: Box::new(status) }),
    }
}
