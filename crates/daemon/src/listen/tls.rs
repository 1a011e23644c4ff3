//! TLS on TCP sockets: certificates, and handshakes that are bounded in time and number.

use super::Error;
use crate::peer::Peer;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a client may take for its handshake.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most clients of one socket that are in their handshakes; the next ones wait in the kernel's queue.
const HANDSHAKES: usize = 128;

/// The files that TLS is made of, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    /// The engine's certificate and what leads from it to its authority.
    pub(crate) certificate: PathBuf,
    /// The key of that certificate.
    pub(crate) key: PathBuf,
    /// The authorities of clients; without, everybody is a client.
    pub(crate) authorities: Option<PathBuf>,
}

/// What a socket needs to speak TLS.
#[derive(Clone)]
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    slots: Arc<Semaphore>,
}

/// A handshake that may begin.
pub(crate) struct Handshake {
    acceptor: TlsAcceptor,
    _slot: OwnedSemaphorePermit,
}

impl Tls {
    /// Reads the files.
    pub(crate) fn read(files: &Files) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let failed = |path: &Path, reason: String| Error::Certificate { path: path.to_owned(), reason };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&files.certificate, error.to_string()))?;
        let builder = match &files.authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(path)? {
                    roots.add(authority).map_err(|error| failed(path, error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| failed(path, error.to_string()))?)
            }
        };
        let key = PrivateKeyDer::from_pem_file(&files.key);
        let key = key.map_err(|error| failed(&files.key, error.to_string()))?;
        let mut config = builder
            .with_single_cert(certificates(&files.certificate)?, key)
            .map_err(|error| failed(&files.certificate, error.to_string()))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: Arc::new(config).into(), slots: Arc::new(Semaphore::new(HANDSHAKES)) })
    }

    /// Waits until there are few enough handshakes for another.
    pub(super) async fn slot(&self) -> Handshake {
        let slot = Arc::clone(&self.slots).acquire_owned().await.expect("nobody closes it");
        Handshake { acceptor: self.acceptor.clone(), _slot: slot }
    }
}

impl Handshake {
    /// Agrees with a client on keys, and finds out who it is if that matters.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`], and what is wrong with the client or its certificate.
    pub(crate) async fn run(self, peer: Peer) -> io::Result<TlsStream<Peer>> {
        tokio::time::timeout(PATIENCE, self.acceptor.accept(peer)).await?
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let failed = |reason: String| Error::Certificate { path: path.to_owned(), reason };
    let read = CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
    let read = read.collect::<Result<Vec<_>, _>>().map_err(|error| failed(error.to_string()))?;
    if read.is_empty() { Err(failed("there is no certificate in it".to_owned())) } else { Ok(read) }
}
