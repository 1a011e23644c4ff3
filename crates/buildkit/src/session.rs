//! Sessions: a build's client lends its files, secrets and credentials over a connection on which the roles are reversed,
//! so that it serves and we ask.
//!
//! ```text
//! POST /session ─► Sessions::serve  registers, runs until the client goes
//! Solve ─► Sessions::get            waits a while: clients open both at the same time
//! ```

use crate::channel::{Channel, Io, ORIGIN};
use crate::error::{Error, Result};
use crate::limits;
use crate::proto::health::{HealthCheckRequest, health_client::HealthClient};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The header that names a session.
pub const HEADER_ID: &str = "X-Docker-Expose-Session-Uuid";
/// The header for each method that its client serves.
pub const HEADER_METHOD: &str = "X-Docker-Expose-Session-Grpc-Method";
/// How we ask whether a client is there.
const CHECK: &str = "/grpc.health.v1.Health/Check";

/// What a client says of the session that it opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    id: String,
    methods: BTreeSet<String>,
}

impl Offer {
    /// The id and the methods' paths of the headers of that name.
    ///
    /// # Errors
    /// [`Error::Offer`] for an id that is none, or more methods than there are.
    pub fn new<'a>(id: &str, methods: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        if id.is_empty() || id.len() > limits::SESSION_ID {
            return Err(Error::Offer { what: "its id is missing or too long" });
        }
        // Methods are compared as BuildKit compares them.
        let methods: BTreeSet<String> =
            methods.into_iter().take(limits::METHODS + 1).map(str::to_ascii_lowercase).collect();
        if methods.len() > limits::METHODS {
            return Err(Error::Offer { what: "it offers too many methods" });
        }
        Ok(Self { id: id.to_owned(), methods })
    }
}

/// An open session.
#[derive(Debug)]
pub struct Session {
    offer: Offer,
    channel: Channel,
}

impl Session {
    /// What builds call it.
    pub fn id(&self) -> &str {
        &self.offer.id
    }

    /// Whether the client serves a method, by path.
    pub fn offers(&self, method: &str) -> bool {
        self.offer.methods.contains(&method.to_ascii_lowercase())
    }

    /// Whether its client has gone: whatever fails from then on, fails for that.
    pub fn has_ended(&self) -> bool {
        self.channel.is_closed()
    }

    /// The way to a method that the client serves.
    pub(crate) fn channel(&self, method: &'static str) -> Result<Channel> {
        if self.offers(method) { Ok(self.channel.clone()) } else { Err(Error::NotOffered { method }) }
    }

    /// Returns when the client no longer answers.
    async fn pulse(&self) {
        if !self.offers(CHECK) {
            return std::future::pending().await;
        }
        let mut client = HealthClient::with_origin(self.channel.clone(), origin());
        loop {
            tokio::time::sleep(limits::SESSION_PULSE).await;
            let answer = client.check(HealthCheckRequest::default());
            if !matches!(tokio::time::timeout(limits::SESSION_SILENCE, answer).await, Ok(Ok(_))) {
                return;
            }
        }
    }
}

/// The origin of every request.
pub(crate) fn origin() -> hyper::Uri {
    hyper::Uri::from_static(ORIGIN)
}

/// The sessions that are open.
#[derive(Debug, Default)]
pub struct Sessions {
    open: Mutex<HashMap<String, Arc<Session>>>,
    opened: Notify,
}

impl Sessions {
    /// Keeps a session open over `io` until its client is gone.
    ///
    /// # Errors
    /// [`Error::SessionExists`], [`Error::Handshake`].
    pub async fn serve(&self, offer: Offer, io: impl Io) -> Result<()> {
        let (channel, connection) = Channel::over(io).await?;
        let session = Arc::new(Session { offer, channel });
        let _open = self.register(&session)?;
        tokio::select! {
            // A client that goes without a word has ended its session as well.
            _ = connection => {}
            () = session.pulse() => {}
        }
        Ok(())
    }

    fn register(&self, session: &Arc<Session>) -> Result<Registered<'_>> {
        let id = session.id().to_owned();
        let mut open = self.lock();
        if open.contains_key(&id) {
            return Err(Error::SessionExists { id });
        }
        open.insert(id.clone(), Arc::clone(session));
        drop(open);
        self.opened.notify_waiters();
        Ok(Registered { sessions: self, id })
    }

    /// The session of that id; waits a while for one that is not open yet.
    ///
    /// # Errors
    /// [`Error::SessionMissing`] after that.
    pub async fn get(&self, id: &str) -> Result<Arc<Session>> {
        self.get_within(id, limits::SESSION_PATIENCE).await
    }

    async fn get_within(&self, id: &str, patience: Duration) -> Result<Arc<Session>> {
        let opened = async {
            loop {
                let mut opened = std::pin::pin!(self.opened.notified());
                // Before looking, so that a session that opens in between is not missed.
                opened.as_mut().enable();
                if let Some(session) = self.lock().get(id) {
                    return Arc::clone(session);
                }
                opened.await;
            }
        };
        let found = tokio::time::timeout(patience, opened).await;
        found.map_err(|_| Error::SessionMissing { id: id.to_owned() })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Session>>> {
        // Whoever panicked left the map whole: it is changed by single calls.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session's place in the table.
struct Registered<'a> {
    sessions: &'a Sessions,
    id: String,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.id);
    }
}
