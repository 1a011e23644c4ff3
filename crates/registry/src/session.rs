//! Exchanges with one registry host in one role: adds credentials, answers challenges, tries again.

use crate::answer::{Answer, Subject};
use crate::auth::{self, Key};
use crate::exchange::Call;
use crate::reach::Reach;
use crate::retry::{Tries, persist};
use crate::{Client, Credentials, Endpoint, Error, Result, Scheme};
use reqwest::Url;
use reqwest::header::HeaderValue;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A host, and who we are to it.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) client: Client,
    endpoint: Endpoint,
    credentials: Arc<Credentials>,
    scopes: Vec<String>,
    /// The registry that this host is a mirror of.
    mirrored: Option<String>,
    /// Whether a mirror was unreachable or wrong, so that this operation asks it no more.
    failed: Arc<AtomicBool>,
    /// How far inside the network the host was seen to be, for the addresses that it gave for uploads.
    seen: Arc<Mutex<Reach>>,
}

/// Where on a host.
pub(crate) enum Target {
    /// Path and query, percent-encoded.
    Path(String),
    /// An address that the host gave.
    Url(Url),
}

impl Session {
    pub(crate) fn new(
        client: &Client,
        endpoint: Endpoint,
        credentials: Arc<Credentials>,
        scopes: Vec<String>,
    ) -> Self {
        let (client, failed) = (client.clone(), Arc::default());
        let seen = Arc::new(Mutex::new(Reach::Public));
        Self { client, endpoint, credentials, scopes, mirrored: None, failed, seen }
    }

    /// The same host as a mirror of `registry`.
    pub(crate) fn mirror_of(self, registry: &str) -> Self {
        Self { mirrored: Some(registry.to_owned()), ..self }
    }

    /// The same host, with a token that permits this as well.
    pub(crate) fn with_scope(&self, scope: String) -> Self {
        let mut session = self.clone();
        session.scopes.push(scope);
        session
    }

    /// The same role on another host, which is reached with TLS.
    pub(crate) fn at(self, host: &str) -> Self {
        Self { endpoint: Endpoint { host: host.to_owned(), scheme: Scheme::Https }, ..self }
    }

    pub(crate) fn host(&self) -> &str {
        &self.endpoint.host
    }

    pub(crate) fn is_mirror(&self) -> bool {
        self.mirrored.is_some()
    }

    /// Whether this is a mirror that has failed.
    pub(crate) fn is_out(&self) -> bool {
        self.is_mirror() && self.failed.load(Ordering::Relaxed)
    }

    pub(crate) fn put_out(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// A path below the API's root; a mirror is told whom it stands for (distribution specification, "proxying").
    pub(crate) fn path(&self, path: &str) -> Target {
        Target::Path(match &self.mirrored {
            Some(registry) => format!("/v2/{path}?ns={}", registry.replace('[', "%5B").replace(']', "%5D")),
            None => format!("/v2/{path}"),
        })
    }

    /// Tries until the host gives an answer that is no failure of the moment. A mirror gets one try.
    pub(crate) async fn ask(&self, target: &Target, call: &Call<'_>) -> Result<Answer> {
        persist(self.tries(), || self.send(target, call)).await
    }

    /// How often something is tried here: a mirror once, for there is another host to ask.
    pub(crate) fn tries(&self) -> Tries {
        let timing = self.client.timing();
        if self.is_mirror() { Tries::single(timing) } else { Tries::new(timing) }
    }

    /// Like [`Session::ask`], and any status but these is an error.
    pub(crate) async fn demand(
        &self,
        target: &Target,
        call: &Call<'_>,
        statuses: &[u16],
        subject: Subject<'_>,
    ) -> Result<Answer> {
        let answer = self.ask(target, call).await?;
        if statuses.contains(&answer.status()) { Ok(answer) } else { Err(answer.failure(subject).await) }
    }

    /// One try. A challenge is answered once; who then still does not let us in does not want us.
    pub(crate) async fn send(&self, target: &Target, call: &Call<'_>) -> Result<Answer> {
        let key = Key::new(&self.endpoint.host, &self.scopes, &self.credentials);
        let tokens = self.client.tokens();
        let known = match &*self.credentials {
            Credentials::RegistryToken(token) => Some(auth::bearer(token.expose())?),
            _ => tokens.get(&key, self.client.timing().clock.now()),
        };
        let answer = self.reach(target, call, known.as_ref()).await?;
        if answer.status() != 401 || !answer.own {
            return Ok(answer);
        }
        tokens.forget(&key);
        let Some(granted) = auth::authorise(&self.client, &answer, self.who(), false).await? else {
            return Ok(answer);
        };
        if known.as_ref() == Some(&granted.header) {
            return Ok(answer);
        }
        drop(answer);
        let answer = self.reach(target, call, Some(&granted.header)).await?;
        if answer.status() != 401 {
            tokens.keep(key, granted.header, granted.expires);
        }
        Ok(answer)
    }

    /// Who we are, for a token server.
    pub(crate) fn who(&self) -> auth::Applicant<'_> {
        auth::Applicant { credentials: &self.credentials, scopes: &self.scopes, scheme: self.endpoint.scheme }
    }

    /// Sends with the first of the host's schemes by which it can be reached.
    pub(crate) async fn reach(
        &self,
        target: &Target,
        call: &Call<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer> {
        let schemes = self.schemes();
        let mut rest = schemes.iter().peekable();
        while let Some(scheme) = rest.next() {
            let base = self.base(scheme)?;
            let url = match target {
                Target::Path(path) => base.join(path).map_err(|_| self.no_address())?,
                Target::Url(url) => url.clone(),
            };
            let mut home = self.client.home(base, self.endpoint.scheme);
            home.limit = home.limit.max(*self.seen());
            match self.client.deliver(url, call, authorization, &home).await {
                Err(Error::Transport { source, .. }) if source.is_connect() && rest.peek().is_some() => (),
                Ok(answer) => {
                    // Not each time: it is asked anew now and then, for a registry may be given a certificate or lose it.
                    if schemes.len() > 1 {
                        self.client.remember(&self.endpoint.host, *scheme == "https");
                    }
                    return Ok(answer);
                }
                Err(error) => return Err(error),
            }
        }
        Err(self.no_address())
    }

    /// The schemes to try. Only a host that is listed as insecure, or on this machine, has a choice.
    fn schemes(&self) -> &'static [&'static str] {
        match self.endpoint.scheme {
            Scheme::Https | Scheme::Unverified => &["https"],
            Scheme::Http => &["http"],
            Scheme::Insecure => match self.client.speaks_tls(&self.endpoint.host) {
                None => &["https", "http"],
                Some(true) => &["https"],
                Some(false) => &["http"],
            },
        }
    }

    fn base(&self, scheme: &str) -> Result<Url> {
        let base =
            Url::parse(&format!("{scheme}://{}/", self.endpoint.host)).map_err(|_| self.no_address())?;
        let plain = base.path() == "/" && base.username().is_empty() && base.query().is_none();
        if plain { Ok(base) } else { Err(self.no_address()) }
    }

    /// Checks an address that the host gave for an upload, and makes it absolute.
    pub(crate) fn location(&self, answer: &Answer) -> Result<Url> {
        let text = answer.header("location").filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| answer.invalid("an upload without location"))?;
        let url = answer.url().join(text).map_err(|_| answer.invalid("an upload at no address"))?;
        let home = self.client.home(answer.url().clone(), self.endpoint.scheme);
        home.permits(answer.url(), &url, answer.reach)?;
        let mut seen = self.seen();
        *seen = answer.reach.max(*seen);
        Ok(url)
    }

    fn seen(&self) -> MutexGuard<'_, Reach> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn no_address(&self) -> Error {
        Error::Address { text: crate::answer::clean(&self.endpoint.host), reason: "it is no host" }
    }
}
