//! Credentials for registries: the body of `/auth` and the content of `X-Registry-Auth`.

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
    fn secrets_are_not_printed() {
        let auth: AuthConfig =
            crate::from_slice(br#"{"Username":"me","password":"hunter2","auth":"hunter2"}"#).expect("parses");
        assert_eq!(auth.password, "hunter2");
        let printed = format!("{auth:?}");
        assert!(printed.contains("me") && !printed.contains("hunter2"), "{printed}");
    }
}
