//! Credentials, and how registries are convinced by them. What a client sent stands in types that do not print.

mod cache;
mod challenge;
mod token;

pub(crate) use cache::{Cache, Key};

use crate::answer::Answer;
use crate::{Client, Error, Result, Scheme, limits};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{HeaderValue, WWW_AUTHENTICATE};
use std::fmt;
use std::time::Instant;

/// A password or token. Never printed, and never compared in messages.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text out of sight.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for a header or for the client it belongs to.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// Who we are to a registry: what the client sent in `X-Registry-Auth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Nobody.
    Anonymous,
    /// A user.
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A refresh token, which the token server changes into tokens.
    IdentityToken(Secret),
    /// A token that the registry takes as it is.
    RegistryToken(Secret),
}

/// Who wants what of a registry.
#[derive(Clone, Copy)]
pub(crate) struct Applicant<'a> {
    pub(crate) credentials: &'a Credentials,
    pub(crate) scopes: &'a [String],
    /// How the registry is spoken to.
    pub(crate) scheme: Scheme,
}

/// What answers a challenge.
pub(crate) struct Granted {
    /// The `Authorization` field.
    pub(crate) header: HeaderValue,
    /// Until when it counts.
    pub(crate) expires: Option<Instant>,
    /// A refresh token, where one was asked for and given.
    pub(crate) refresh: Option<Secret>,
}

/// What answers the challenges of an answer with status 401; `None` if we have nothing of the kind. `offline` asks a
/// token server for a refresh token besides.
pub(crate) async fn authorise(
    client: &Client,
    refused: &Answer,
    who: Applicant<'_>,
    offline: bool,
) -> Result<Option<Granted>> {
    let fields = refused.headers().get_all(WWW_AUTHENTICATE).iter().take(limits::CHALLENGES);
    let challenges = challenge::parse(fields.filter_map(|field| field.to_str().ok()));
    let bearer = challenges
        .iter()
        .find(|challenge| challenge.scheme == "bearer" && challenge.parameter("realm").is_some());
    let takes_basic = challenges.iter().any(|challenge| challenge.scheme == "basic");
    match (who.credentials, bearer) {
        // It was sent, and not taken.
        (Credentials::RegistryToken(_), _) => Ok(None),
        (_, Some(challenge)) => token::fetch(client, refused, challenge, who, offline).await.map(Some),
        (Credentials::Basic { username, password }, None) if takes_basic => {
            Ok(Some(Granted { header: basic(username, password)?, expires: None, refresh: None }))
        }
        _ => Ok(None),
    }
}

fn basic(username: &str, password: &Secret) -> Result<HeaderValue> {
    header(&format!("Basic {}", STANDARD.encode(format!("{username}:{}", password.expose()))))
}

pub(crate) fn bearer(token: &str) -> Result<HeaderValue> {
    header(&format!("Bearer {token}"))
}

fn header(text: &str) -> Result<HeaderValue> {
    let reason = "they hold characters that no header can carry";
    let mut value = HeaderValue::from_str(text).map_err(|_| Error::Credentials { reason })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_print() {
        let password = Secret::new("hunter2");
        let all = [
            Credentials::Basic { username: "user".to_owned(), password: password.clone() },
            Credentials::IdentityToken(password.clone()),
            Credentials::RegistryToken(password),
        ];
        for credentials in &all {
            assert!(!format!("{credentials:?} {credentials:#?}").contains("hunter2"));
        }
    }

    #[test]
    fn headers_hold_no_line_breaks() {
        assert_eq!(
            basic("Aladdin", &Secret::new("open sesame")).unwrap(),
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
        assert!(bearer("a\r\nX-Other: b").is_err());
        assert!(basic("a\r\n", &Secret::new("b\n")).is_ok());
    }
}
