//! Credentials. What a client sent stands in types that do not print.

use std::fmt;

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
