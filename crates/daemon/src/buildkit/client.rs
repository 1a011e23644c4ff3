//! What the engine asks of a build's client, passed on to its session.

use bytes::Bytes;
use coracle_buildkit::content::Store;
use coracle_buildkit::proto::moby::buildkit::v1::{Vertex, VertexStatus};
use coracle_buildkit::{Event, Login, Progress, Session};
use coracle_engine::build::{Client, Selection, Stream as Connection};
use coracle_engine::images::{BodyReader, BodySender};
use coracle_engine::{Credentials, Error, Result, Secret};
use coracle_spec::{Digest, full_text};
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Size of the buffer for what a process and an agent say to each other, in bytes.
const AGENT: usize = 64 << 10;
/// Largest archive of a Dockerfile that is shown again, in bytes.
const RECIPE: usize = 1 << 20;
/// Pause between two notes of how much has come.
const PAUSE: Duration = Duration::from_millis(100);

/// A client, through its session.
pub(super) struct Caller {
    pub(super) session: Arc<Session>,
    /// The sessions that lend directories, by the names of these, where it is not that one.
    pub(super) lenders: HashMap<String, Arc<Session>>,
    pub(super) progress: Progress,
    /// What distinguishes the vertices of this build from those of others.
    pub(super) build: String,
    /// What the client calls the directory of the Dockerfile, and the Dockerfile in it.
    pub(super) recipe: (String, String),
    /// What the client calls the context.
    pub(super) context: String,
}

impl Caller {
    /// One that is only asked who it is.
    pub(super) fn bare(session: Arc<Session>, build: &super::builds::Build) -> Self {
        Self {
            session,
            lenders: HashMap::new(),
            progress: build.progress.clone(),
            build: build.id.clone(),
            recipe: (String::new(), String::new()),
            context: String::new(),
        }
    }

    fn lender(&self, directory: &str) -> &Session {
        self.lenders.get(directory).unwrap_or(&self.session)
    }

    /// What a client shows for a directory that is asked for.
    fn label(&self, name: &str, selection: &Selection) -> String {
        let asks = |file: &str| selection.follow.iter().any(|path| path == file);
        let (directory, file) = &self.recipe;
        if name == directory && asks(file) {
            format!("[internal] load build definition from {file}")
        } else if name == self.context && asks(".dockerignore") {
            "[internal] load .dockerignore".to_owned()
        } else if name == self.context {
            "[internal] load build context".to_owned()
        } else if asks(".dockerignore") {
            format!("[context {name}] load .dockerignore")
        } else {
            format!("[context {name}] load from client")
        }
    }
}

impl Caller {
    /// The text of the Dockerfile, from a client that still shows it.
    pub(super) async fn recipe_text(&self) -> Option<Vec<u8>> {
        let (directory, file) = &self.recipe;
        let selection = coracle_buildkit::Selection {
            follow: vec![file.clone()],
            ..coracle_buildkit::Selection::default()
        };
        let mut archive = coracle_buildkit::directory(self.lender(directory), directory, &selection).ok()?;
        let mut bytes = Vec::new();
        while let Some(part) = archive.next().await {
            bytes.extend_from_slice(&part.ok()?);
            if bytes.len() > RECIPE {
                return None;
            }
        }
        coracle_buildkit::file_of(&bytes, file)
    }
}

fn failed(error: &coracle_buildkit::Error) -> Error {
    Error::Invalid(full_text(error))
}

impl Client for Caller {
    fn directory<'a>(&'a self, name: &'a str, selection: &'a Selection) -> BoxFuture<'a, Result<BodyReader>> {
        let asked = coracle_buildkit::Selection {
            include: selection.include.clone(),
            exclude: selection.exclude.clone(),
            follow: selection.follow.clone(),
        };
        Box::pin(async move {
            let label = self.label(name, selection);
            let archive = coracle_buildkit::directory(self.lender(name), name, &asked);
            let archive = archive.map_err(|error| failed(&error))?;
            let transfer = Transfer::begin(&self.progress, &self.build, label, name);
            let (sender, reader) = BodyReader::channel();
            // Ends with the archive, and that with the session.
            tokio::spawn(pass(archive, sender, transfer));
            Ok(reader)
        })
    }

    fn secret<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
        Box::pin(
            async move { coracle_buildkit::secret(&self.session, id).await.map_err(|error| failed(&error)) },
        )
    }

    fn ssh<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Box<dyn Connection>>>> {
        Box::pin(async move {
            let offered = coracle_buildkit::check_agent(&self.session, id).await;
            if !offered.map_err(|error| failed(&error))? {
                return Ok(None);
            }
            let (ours, theirs) = tokio::io::duplex(AGENT);
            let (session, id) = (Arc::clone(&self.session), id.to_owned());
            // Ends when either side closes.
            tokio::spawn(async move {
                if let Err(error) = coracle_buildkit::forward_agent(&session, &id, theirs).await {
                    tracing::debug!(error = full_text(&error), "an ssh agent was lost");
                }
            });
            Ok(Some(Box::new(ours) as Box<dyn Connection>))
        })
    }

    fn credentials<'a>(&'a self, domain: &'a str) -> BoxFuture<'a, Result<Credentials>> {
        Box::pin(async move {
            let login = coracle_buildkit::credentials(&self.session, domain).await;
            Ok(match login.map_err(|error| failed(&error))? {
                None => Credentials::Anonymous,
                Some(Login::Token(token)) => Credentials::IdentityToken(Secret::new(token)),
                Some(Login::Password { user, password }) => {
                    Credentials::Basic { username: user, password: Secret::new(password) }
                }
            })
        })
    }

    fn blob<'a>(&'a self, store: &'a str, digest: &'a Digest) -> BoxFuture<'a, Result<BodyReader>> {
        Box::pin(async move {
            let store = Store::of(&self.session, store).map_err(|error| failed(&error))?;
            let parts = store.read(&digest.to_string()).await.map_err(|error| failed(&error))?;
            let (sender, reader) = BodyReader::channel();
            // Ends with the blob, and that with the session.
            tokio::spawn(hand_on(parts, sender));
            Ok(reader)
        })
    }
}

/// Hands what comes to the thread that reads it.
pub(super) async fn hand_on(
    mut parts: impl Stream<Item = coracle_buildkit::Result<Bytes>> + Unpin,
    sender: BodySender,
) {
    while let Some(part) = parts.next().await {
        match part {
            Ok(part) => {
                if sender.send(part).await.is_err() {
                    return;
                }
            }
            Err(error) => return sender.fail(io::Error::other(full_text(&error))).await,
        }
    }
    sender.finish().await;
}

/// Hands an archive to the thread that unpacks it, and shows how much has come.
async fn pass(mut archive: coracle_buildkit::Archive, sender: BodySender, mut transfer: Transfer) {
    loop {
        match archive.next().await {
            Some(Ok(part)) => {
                transfer.came(archive.came());
                if sender.send(part).await.is_err() {
                    // Whoever unpacks it has failed, and says why.
                    return transfer.end(archive.came(), "");
                }
            }
            Some(Err(error)) => {
                let text = full_text(&error);
                transfer.end(archive.came(), &text);
                return sender.fail(io::Error::other(text)).await;
            }
            None => {
                transfer.end(archive.came(), "");
                return sender.finish().await;
            }
        }
    }
}

/// A transfer, as a client shows it.
struct Transfer {
    progress: Progress,
    vertex: Vertex,
    status: VertexStatus,
    next: Instant,
}

impl Transfer {
    fn begin(progress: &Progress, build: &str, label: String, directory: &str) -> Self {
        let started = Some(coracle_buildkit::now());
        let digest = super::steps::digest_of(build, &label);
        let vertex = Vertex { digest, name: label, started, ..Vertex::default() };
        let id = format!("transferring {directory}:");
        let status = VertexStatus {
            id: id.clone(),
            name: id,
            vertex: vertex.digest.clone(),
            started,
            ..VertexStatus::default()
        };
        progress.tell(Event::Vertex(vertex.clone()));
        Self { progress: progress.clone(), vertex, status, next: Instant::now() }
    }

    fn came(&mut self, bytes: u64) {
        if Instant::now() >= self.next {
            self.next = Instant::now() + PAUSE;
            self.show(bytes);
        }
    }

    fn show(&mut self, bytes: u64) {
        self.status.current = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.status.timestamp = Some(coracle_buildkit::now());
        self.progress.tell(Event::Status(self.status.clone()));
    }

    fn end(mut self, bytes: u64, error: &str) {
        self.status.completed = Some(coracle_buildkit::now());
        self.show(bytes);
        self.vertex.completed = self.status.completed;
        error.clone_into(&mut self.vertex.error);
        self.progress.tell(Event::Vertex(self.vertex));
    }
}
