//! One repository, for one operation: the hosts that have it, and which of them is asked.

use crate::Error;
use crate::session::Session;
use bytes::Bytes;
use coracle_spec::image::{Descriptor, Document};
use coracle_spec::{Digest, Reference, Tag};
use reqwest::Url;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// What a client will do in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Pull,
    /// Read and write.
    Push,
}

/// Which manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The one that a tag names now.
    Tag(Tag),
    /// The one with a digest.
    Digest(Digest),
}

/// A manifest or an index.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Its media type, digest and size.
    pub descriptor: Descriptor,
    /// Its bytes, which have the descriptor's digest.
    pub content: Bytes,
    /// What they say.
    pub document: Document,
}

/// A repository. Clones share what they learn about its hosts.
#[derive(Clone)]
pub struct Repository(Arc<State>);

struct State {
    domain: String,
    path: String,
    /// Mirrors, and at last the registry itself.
    sessions: Vec<Session>,
    answered: Mutex<Option<String>>,
    /// Upload sessions that mounts opened and nobody has used yet.
    uploads: Mutex<Vec<Url>>,
}

impl Pick {
    /// As it stands in a request.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Tag(tag) => tag.to_string(),
            Self::Digest(digest) => digest.to_string(),
        }
    }

    /// As it stands behind a repository.
    pub(crate) fn suffix(&self) -> String {
        match self {
            Self::Tag(tag) => format!(":{tag}"),
            Self::Digest(digest) => format!("@{digest}"),
        }
    }
}

impl Repository {
    pub(crate) fn new(name: &Reference, sessions: Vec<Session>) -> Self {
        Self(Arc::new(State {
            domain: name.domain().to_owned(),
            path: name.path().to_owned(),
            sessions,
            answered: Mutex::default(),
            uploads: Mutex::default(),
        }))
    }

    /// The host that answered last; the registry's own if none has.
    pub fn host(&self) -> String {
        let answered = self.0.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.clone().unwrap_or_else(|| self.origin().host().to_owned())
    }

    /// Asks a mirror no more that gave wrong content; for the registry itself this does nothing. Returns whether `host`
    /// was a mirror that was still asked, so that trying again makes sense.
    pub fn distrust(&self, host: &str) -> bool {
        let mut mirrors = self.0.sessions.iter().filter(|s| s.is_mirror() && s.host() == host && !s.is_out());
        mirrors.next().map(Session::put_out).is_some()
    }

    pub(crate) fn domain(&self) -> &str {
        &self.0.domain
    }

    pub(crate) fn path(&self) -> &str {
        &self.0.path
    }

    /// The registry itself, which is asked last and written to.
    pub(crate) fn origin(&self) -> &Session {
        self.0.sessions.last().expect("the registry itself is always one of its hosts")
    }

    /// The hosts to ask, without mirrors that have failed.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.0.sessions.iter().filter(|session| !session.is_out())
    }

    /// Notes that a host answered.
    pub(crate) fn answered(&self, session: &Session) {
        let mut answered = self.0.answered.lock().unwrap_or_else(PoisonError::into_inner);
        *answered = Some(session.host().to_owned());
    }

    /// Notes what was wrong with a host. A mirror that merely lacks something may have the next thing.
    pub(crate) fn failed(&self, session: &Session, error: &Error) {
        if !matches!(error, Error::ManifestUnknown { .. } | Error::BlobUnknown { .. }) {
            session.put_out();
        }
    }

    /// Keeps an upload session for the next upload.
    pub(crate) fn keep_upload(&self, url: Url) {
        let mut uploads = self.0.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        if uploads.len() < crate::limits::SESSIONS {
            uploads.push(url);
        }
    }

    pub(crate) fn take_upload(&self) -> Option<Url> {
        self.0.uploads.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Repository({}/{} on {})", self.domain(), self.path(), self.host())
    }
}

/// The answer of the first host that gives one; the last host's error if none does.
macro_rules! first_of {
    ($repository:expr, $session:ident => $ask:expr) => {{
        let repository = $repository;
        let mut last = None;
        for $session in repository.sessions() {
            match $ask.await {
                Ok(found) => {
                    repository.answered($session);
                    return Ok(found);
                }
                Err(error) => {
                    repository.failed($session, &error);
                    last = Some(error);
                }
            }
        }
        Err(last.expect("the registry itself is never left out"))
    }};
}
pub(crate) use first_of;

/// What a host is asked for a manifest with; it must not be given in a form that is not listed.
pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";
