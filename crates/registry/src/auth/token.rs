//! Token servers: what a registry's `Bearer` challenge sends us to (distribution project, "token authentication").

use super::{Applicant, Granted, basic, bearer, challenge::Challenge};
use crate::answer::{Answer, Subject};
use crate::exchange::{Call, Home, Payload, answer_time};
use crate::reach::Reach;
use crate::retry::{Tries, persist};
use crate::{Client, Credentials, Error, Result, Scheme, Secret, limits};
use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use std::time::Duration;

/// How we call ourselves to token servers.
const CLIENT_ID: &str = "coracle";

/// A user name that stands for a refresh token, as docker's credential stores have it.
const TOKEN_USER: &str = "<token>";

/// What a token server answers.
#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
    /// In seconds. Servers that send a text or a fraction count as sending nothing.
    #[serde(default)]
    expires_in: serde_json::Value,
}

/// A token server, as a registry names it.
struct Server<'a> {
    client: &'a Client,
    realm: Url,
    home: Home,
    service: Option<&'a str>,
    scopes: Vec<&'a str>,
}

/// Fetches a token. `offline` asks for a refresh token besides.
pub(super) async fn fetch(
    client: &Client,
    refused: &Answer,
    challenge: &Challenge,
    who: Applicant<'_>,
    offline: bool,
) -> Result<Granted> {
    let server = Server::new(client, refused, challenge, who)?;
    let answer = match who.credentials {
        Credentials::IdentityToken(secret) => server.refresh(secret).await?,
        Credentials::Basic { username, password } => {
            let account = Some((username.as_str(), password)).filter(|(name, _)| !name.is_empty());
            server.get(account, offline).await?
        }
        Credentials::Anonymous | Credentials::RegistryToken(_) => server.get(None, false).await?,
    };
    if answer.status() != 200 {
        return Err(answer.failure(Subject::Other).await);
    }
    read(client, answer).await
}

impl<'a> Server<'a> {
    fn new(
        client: &'a Client,
        refused: &Answer,
        challenge: &'a Challenge,
        who: Applicant<'a>,
    ) -> Result<Self> {
        let text = challenge.parameter("realm").unwrap_or_default();
        let realm = Url::parse(text).map_err(|_| refused.invalid("a token realm that is no address"))?;
        let registry = Home { base: refused.url().clone(), limit: limit(who.scheme), own: Reach::Local };
        registry.permits(refused.url(), &realm, refused.reach)?;
        let mut scopes: Vec<&str> = who.scopes.iter().map(String::as_str).collect();
        let asked = challenge.parameter("scope").unwrap_or_default();
        scopes.extend(asked.split(' ').filter(|scope| is_scope(scope)));
        let mut seen = std::collections::BTreeSet::new();
        scopes.retain(|scope| seen.insert(*scope));
        let home = home(&realm, &registry, refused.reach);
        Ok(Self { client, realm, home, service: challenge.parameter("service"), scopes })
    }

    async fn get(&self, account: Option<(&str, &Secret)>, offline: bool) -> Result<Answer> {
        let mut url = self.realm.clone();
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = self.service {
                query.append_pair("service", service);
            }
            for scope in &self.scopes {
                query.append_pair("scope", scope);
            }
            if let Some((name, _)) = account {
                query.append_pair("account", name);
            }
            if offline {
                query.append_pair("offline_token", "true").append_pair("client_id", CLIENT_ID);
            }
        }
        let authorization = account.map(|(name, password)| basic(name, password)).transpose()?;
        self.send(url, &Call::new(Method::GET), authorization).await
    }

    /// Changes a refresh token into a token. Servers that only know the older way get it as a password.
    async fn refresh(&self, secret: &Secret) -> Result<Answer> {
        let mut form = Url::parse("form:").expect("it is a URL");
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", self.service.unwrap_or_default())
            .append_pair("client_id", CLIENT_ID)
            .append_pair("scope", &self.scopes.join(" "))
            .append_pair("refresh_token", secret.expose());
        let mut call = Call::new(Method::POST);
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        call.headers.insert(CONTENT_TYPE, kind);
        call.payload = Payload::Confidential(Bytes::from(form.query().unwrap_or_default().to_owned()));
        let answer = self.send(self.realm.clone(), &call, None).await?;
        match answer.status() {
            404 | 405 => self.get(Some((TOKEN_USER, secret)), false).await,
            _ => Ok(answer),
        }
    }

    async fn send(&self, url: Url, call: &Call<'_>, authorization: Option<HeaderValue>) -> Result<Answer> {
        let mut headers = call.headers.clone();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let payload = match &call.payload {
            Payload::Confidential(form) => Payload::Confidential(form.clone()),
            _ => Payload::Nothing,
        };
        let call = Call { method: call.method.clone(), headers, payload, wait: None };
        let tries = Tries::new(self.client.timing());
        persist(tries, || self.client.deliver(url.clone(), &call, authorization.as_ref(), &self.home)).await
    }
}

/// The token server as a home of its own, that a registry which is as far inside as `reach` named.
fn home(realm: &Url, registry: &Home, reach: Reach) -> Home {
    let limit = registry.limit.max(reach);
    // On another port of the registry's host it is where the user sent us.
    let own = if realm.host_str() == registry.base.host_str() { Reach::Local } else { limit };
    Home { base: realm.clone(), limit, own }
}

/// How far a registry may send us that is spoken to like this.
fn limit(scheme: Scheme) -> Reach {
    match scheme {
        Scheme::Https => Reach::Public,
        Scheme::Unverified | Scheme::Insecure | Scheme::Http => Reach::Local,
    }
}

/// Whether a scope has the form `type:name:action,action`.
fn is_scope(text: &str) -> bool {
    let fine = text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
    fine && text.len() <= limits::CHALLENGE && text.split(':').count() >= 3
}

async fn read(client: &Client, answer: Answer) -> Result<Granted> {
    let host = answer.host();
    let invalid = |reason: &str| Error::Protocol { host: host.clone(), reason: reason.to_owned() };
    let body = answer.read("token", limits::TOKEN_ANSWER, answer_time(client)).await?;
    // The cause would repeat parts of the answer, and with them a token.
    let token: Token = serde_json::from_slice(&body).map_err(|_| invalid("a token that is no JSON"))?;
    let access = token.token.filter(|text| !text.is_empty()).or(token.access_token).unwrap_or_default();
    if access.is_empty() {
        return Err(invalid("no token where one was promised"));
    }
    if access.len() > limits::TOKEN {
        return Err(Error::TooLarge { host, what: "token", limit: limits::TOKEN });
    }
    let header = bearer(&access).map_err(|_| invalid("a token that no header can carry"))?;
    let expires = Some(client.timing().clock.now() + life(&token.expires_in));
    let refresh = token.refresh_token.filter(|text| !text.is_empty()).map(Secret::from);
    Ok(Granted { header, expires, refresh })
}

fn life(expires_in: &serde_json::Value) -> Duration {
    let seconds = expires_in.as_u64().unwrap_or_default();
    Duration::from_secs(seconds).clamp(limits::TOKEN_LIFE, limits::TOKEN_LIFE_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_life_of_a_token_is_bounded_both_ways() {
        for (value, seconds) in [
            (json!(300), 300),
            (json!(-1), 60),
            (json!(0), 60),
            (json!(u64::MAX), 24 * 3600),
            (json!("300"), 60),
            (json!(null), 60),
            (json!(1e300), 60),
        ] {
            assert_eq!(life(&value), Duration::from_secs(seconds), "{value}");
        }
    }

    #[test]
    fn a_token_server_is_no_further_inside_than_the_registry_unless_it_is_the_same_host() {
        let registry = Home {
            base: "https://registry.test/v2/".parse().unwrap(),
            limit: Reach::Public,
            own: Reach::Local,
        };
        for (realm, reach, own) in [
            ("https://auth.test/token", Reach::Public, Reach::Public),
            ("https://auth.test/token", Reach::Private, Reach::Private),
            ("https://registry.test:8443/token", Reach::Public, Reach::Local),
        ] {
            assert_eq!(home(&realm.parse().unwrap(), &registry, reach).own, own, "{realm} {reach:?}");
        }
    }

    #[test]
    fn only_what_has_the_form_of_a_scope_is_asked_for() {
        for text in ["repository:a/b:pull", "registry:catalog:*", "repository:host:5000/a:pull,push"] {
            assert!(is_scope(text), "{text}");
        }
        for text in ["", "pull", "repository:a", "repository:a\r\nX:pull", "repository:a b:pull", "a:\"b\":c"]
        {
            assert!(!is_scope(text), "{text:?}");
        }
    }
}
