//! What hosts accepted, for as long as it counts.

use crate::{Credentials, limits};
use coracle_spec::Digest;
use reqwest::header::HeaderValue;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What a token is good for: a host, what may be done there, and whose it is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    host: String,
    scopes: Vec<String>,
    /// Of the credentials, so that nobody gets what somebody else is permitted.
    owner: Digest,
}

/// Accepted `Authorization` fields, with the time until they count.
#[derive(Default)]
pub(crate) struct Cache(Mutex<HashMap<Key, (HeaderValue, Option<Instant>)>>);

impl Key {
    pub(crate) fn new(host: &str, scopes: &[String], credentials: &Credentials) -> Self {
        let (kind, name, secret) = match credentials {
            Credentials::Anonymous => ("anonymous", "", ""),
            Credentials::Basic { username, password } => ("basic", username.as_str(), password.expose()),
            Credentials::IdentityToken(token) => ("identity", "", token.expose()),
            Credentials::RegistryToken(token) => ("registry", "", token.expose()),
        };
        let owner = Digest::of(format!("{kind}:{}:{name}{secret}", name.len()).as_bytes());
        Self { host: host.to_owned(), scopes: scopes.to_vec(), owner }
    }
}

impl Cache {
    pub(crate) fn get(&self, key: &Key, now: Instant) -> Option<HeaderValue> {
        let entries = self.entries();
        let (header, expires) = entries.get(key)?;
        expires.is_none_or(|expires| now < expires).then(|| header.clone())
    }

    pub(crate) fn keep(&self, key: Key, header: HeaderValue, expires: Option<Instant>) {
        let mut entries = self.entries();
        if entries.len() >= limits::TOKENS {
            entries.clear();
        }
        entries.insert(key, (header, expires));
    }

    pub(crate) fn forget(&self, key: &Key) {
        self.entries().remove(key);
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Key, (HeaderValue, Option<Instant>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn user(name: &str, password: &str) -> Credentials {
        Credentials::Basic { username: name.to_owned(), password: password.to_owned().into() }
    }

    #[test]
    fn a_token_serves_its_owner_until_it_expires() {
        let cache = Cache::default();
        let now = Instant::now();
        let key = |host: &str, scope: &str, who: &Credentials| Key::new(host, &[scope.to_owned()], who);
        let own = key("a", "s", &user("u", "p"));
        cache.keep(own.clone(), HeaderValue::from_static("Bearer x"), Some(now + Duration::from_secs(60)));
        assert!(cache.get(&own, now + Duration::from_secs(59)).is_some());
        assert!(cache.get(&own, now + Duration::from_secs(60)).is_none());
        for other in [
            key("b", "s", &user("u", "p")),
            key("a", "t", &user("u", "p")),
            key("a", "s", &user("u", "q")),
            key("a", "s", &user("up", "")),
            key("a", "s", &Credentials::Anonymous),
            key("a", "s", &Credentials::IdentityToken("p".to_owned().into())),
        ] {
            assert!(cache.get(&other, now).is_none());
        }
        cache.forget(&own);
        assert!(cache.get(&own, now).is_none());
    }

    #[test]
    fn tokens_do_not_pile_up() {
        let cache = Cache::default();
        for number in 0..=limits::TOKENS {
            let key = Key::new(&number.to_string(), &[], &Credentials::Anonymous);
            cache.keep(key, HeaderValue::from_static("Bearer x"), None);
        }
        assert!(cache.entries().len() <= limits::TOKENS);
    }
}
