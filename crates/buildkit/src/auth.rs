//! Whom a build's client is to a registry.

use crate::error::{Error, Result};
use crate::proto::moby::filesync::v1::CredentialsRequest;
use crate::proto::moby::filesync::v1::auth_client::AuthClient;
use crate::session::{Session, origin};
use std::fmt;

/// How a client is asked.
const METHOD: &str = "/moby.filesync.v1.Auth/Credentials";

/// What a client says.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that buys others.
    Token(String),
}

impl fmt::Debug for Login {
    /// Without what nobody may read.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => {
                formatter.debug_struct("Password").field("user", user).finish_non_exhaustive()
            }
            Self::Token(_) => formatter.write_str("Token"),
        }
    }
}

/// Whom the client is to the registry of a domain; nobody, if it does not say.
///
/// # Errors
/// [`Error::Call`].
pub async fn credentials(session: &Session, domain: &str) -> Result<Option<Login>> {
    let channel = match session.channel(METHOD) {
        Err(Error::NotOffered { .. }) => return Ok(None),
        channel => channel?,
    };
    // Clients know Docker Hub by the host that serves it.
    let host = if domain == "docker.io" { "registry-1.docker.io" } else { domain };
    let request = CredentialsRequest { host: host.to_owned() };
    let answer = AuthClient::with_origin(channel, origin()).credentials(request).await;
    let answer =
        answer.map_err(|status| Error::Call { method: METHOD, source: Box::new(status) })?.into_inner();
    Ok(match (answer.username, answer.secret) {
        (_, secret) if secret.is_empty() => None,
        (user, secret) if user.is_empty() => Some(Login::Token(secret)),
        (user, password) => Some(Login::Password { user, password }),
    })
}
