//! An SSH agent of the client's as a socket of this machine: for commands of a build, and for git.

use super::inputs::Client;
use crate::error::{Attempt, Result};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

/// A socket that leads to the client's agent, as long as the value is there.
pub(super) struct AgentSocket {
    path: PathBuf,
    accepting: JoinHandle<()>,
}

impl AgentSocket {
    /// Listens in `directory`, which is the engine's alone; `None` where the client has no agent of this id.
    pub(super) async fn open(client: &Arc<dyn Client>, id: &str, directory: &Path) -> Result<Option<Self>> {
        if client.ssh(id).await?.is_none() {
            return Ok(None);
        }
        let name =
            format!("agent-{}", coracle_sys::atomic::random_name().attempt(|| "name a socket".to_owned())?);
        let path = directory.join(&name);
        let listening = || format!("listen on {}", path.display());
        // A path may be longer than an address of a socket: 108 bytes, unix(7).
        let parent = std::fs::File::open(directory).attempt(listening)?;
        let short = format!("/proc/self/fd/{}/{name}", parent.as_raw_fd());
        let listener = UnixListener::bind(short).attempt(listening)?;
        let accepting = tokio::spawn(accept(listener, Arc::clone(client), id.to_owned()));
        Ok(Some(Self { path, accepting }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        self.accepting.abort();
        // The directory goes soon, and what is in it with it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Serves every connection by one to the agent. All of them end with the task.
async fn accept(listener: UnixListener, client: Arc<dyn Client>, id: String) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(forward(stream, Arc::clone(&client), id.clone())); }
                Err(error) => return tracing::warn!(%error, "an SSH agent can be reached no longer"),
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn forward(mut stream: UnixStream, client: Arc<dyn Client>, id: String) {
    match client.ssh(&id).await {
        Ok(Some(mut agent)) => {
            // Either side may go when it likes; the other one sees its end.
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut agent).await;
        }
        Ok(None) => {}
        Err(error) => tracing::debug!(error = error.chain(), "an SSH agent does not answer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Selection, Stream};
    use crate::images::BodyReader;
    use coracle_registry::Credentials;
    use futures_util::future::BoxFuture;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A client with one agent, which says back what it hears.
    struct Echo;

    impl Client for Echo {
        fn directory<'a>(&'a self, _: &'a str, _: &'a Selection) -> BoxFuture<'a, Result<BodyReader>> {
            Box::pin(async { Err(crate::Error::Invalid("no directories".to_owned())) })
        }

        fn secret<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>>> {
            Box::pin(async { Ok(None) })
        }

        fn ssh<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Box<dyn Stream>>>> {
            let (ours, theirs) = tokio::io::duplex(64);
            tokio::spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(ours);
                tokio::io::copy(&mut reader, &mut writer).await
            });
            let stream: Option<Box<dyn Stream>> = if id == "known" { Some(Box::new(theirs)) } else { None };
            Box::pin(async move { Ok(stream) })
        }

        fn credentials<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Credentials>> {
            Box::pin(async { Ok(Credentials::Anonymous) })
        }
    }

    #[tokio::test]
    async fn a_socket_leads_to_the_clients_agent_until_it_is_dropped() {
        // A path that no address of a socket has room for.
        let place = tempfile::tempdir().unwrap();
        let deep = place.path().join("x".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let client: Arc<dyn Client> = Arc::new(Echo);
        assert!(AgentSocket::open(&client, "unknown", &deep).await.unwrap().is_none());
        let agent = AgentSocket::open(&client, "known", &deep).await.unwrap().unwrap();
        std::os::unix::fs::symlink(agent.path(), place.path().join("short")).unwrap();
        for _ in 0..2 {
            let mut stream = UnixStream::connect(place.path().join("short")).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            let mut heard = [0; 5];
            stream.read_exact(&mut heard).await.unwrap();
            assert_eq!(&heard, b"hello");
        }
        drop(agent);
        assert_eq!(std::fs::read_dir(&deep).unwrap().count(), 0);
        assert!(UnixStream::connect(place.path().join("short")).await.is_err());
    }
}
