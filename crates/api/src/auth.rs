//! Credentials for registries: the body of `/auth` and the content of `X-Registry-Auth`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Credentials of one registry. Its `Debug` form hides every secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "lowercase")]
pub struct AuthConfig {
    /// The account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Its password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub password: String,
    /// base64 of `username:password`, instead of the two.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth: String,
    /// Ignored by the registries of today; old clients send it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub email: String,
    /// Host, or URL, of the registry.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub serveraddress: String,
    /// An identity token that buys access tokens.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identitytoken: String,
    /// An access token to be sent as it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub registrytoken: String,
}

impl AuthConfig {
    /// Reads the content of `X-Registry-Auth`. What cannot be read stands for nobody, as in Docker.
    pub fn from_header(text: &str) -> Self {
        let decoded = crate::base64::decode(text.trim());
        decoded.and_then(|json| crate::from_slice(&json).ok()).unwrap_or_default()
    }

    /// Reads the content of `X-Registry-Config`: several, each under the address of its registry.
    pub fn all_from_header(text: &str) -> BTreeMap<String, Self> {
        let decoded = crate::base64::decode(text.trim());
        decoded.and_then(|json| crate::from_slice(&json).ok()).unwrap_or_default()
    }

    /// The content of `X-Registry-Auth`.
    pub fn to_header(&self) -> String {
        crate::base64::encode_for_url(&serde_json::to_vec(self).expect("plain data"))
    }

    /// The account and its password, wherever they stand.
    pub fn account(&self) -> Option<(String, String)> {
        if !self.username.is_empty() {
            return Some((self.username.clone(), self.password.clone()));
        }
        let text = String::from_utf8(crate::base64::decode(&self.auth)?).ok()?;
        let (name, password) = text.split_once(':')?;
        Some((name.to_owned(), password.trim_end_matches('\0').to_owned()))
    }
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("serveraddress", &self.serveraddress)
            .finish_non_exhaustive()
    }
}

/// The answer to a successful login.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AuthResponse {
    /// `Login Succeeded`.
    pub status: String,
    /// Replaces the password from now on, when the registry gives one out.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identity_token: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written_and_nonsense_stands_for_nobody() {
        let auth = AuthConfig { username: "me".into(), password: "p>?".into(), ..AuthConfig::default() };
        assert_eq!(AuthConfig::from_header(&auth.to_header()), auth);
        assert_eq!(AuthConfig::from_header("e30"), AuthConfig::default());
        assert_eq!(AuthConfig::from_header("%%%"), AuthConfig::default());
        let joined = AuthConfig { auth: crate::base64::encode(b"me:a:b"), ..AuthConfig::default() };
        assert_eq!(joined.account(), Some(("me".into(), "a:b".into())));
        assert_eq!(
            (auth.account(), AuthConfig::default().account()),
            (Some(("me".into(), "p>?".into())), None)
        );
    }

    #[test]
    fn secrets_are_not_printed() {
        let auth: AuthConfig =
            crate::from_slice(br#"{"Username":"me","password":"hunter2","auth":"hunter2"}"#).expect("parses");
        assert_eq!(auth.password, "hunter2");
        let printed = format!("{auth:?}");
        assert!(printed.contains("me") && !printed.contains("hunter2"), "{printed}");
    }
}
