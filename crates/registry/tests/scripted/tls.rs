//! A server's side of TLS, and a proxy that gives names to ports of this machine.

use coracle_certificates::{Authority, Pair};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier};

/// A server's side of TLS; `clients` signed the certificates that clients must show.
pub(crate) fn acceptor(pair: &Pair, clients: Option<&Authority>) -> TlsAcceptor {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()))
}

/// Writes a file of a host's directory.
pub(crate) fn put(directory: &Path, host: &str, file: &str, content: &str) {
    let host = directory.join(host);
    std::fs::create_dir_all(&host).unwrap();
    std::fs::write(host.join(file), content).unwrap();
}

/// A proxy for CONNECT that knows where names are. It ends with the value.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    /// What it was asked for, heads of requests.
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// `names` maps `host:port` to where it is.
    pub(crate) async fn start(names: &[(&str, SocketAddr)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let names: HashMap<String, SocketAddr> =
            names.iter().map(|(name, address)| ((*name).to_owned(), *address)).collect();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (names, heads) = (Arc::new(names), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(tunnel(stream, Arc::clone(&names), Arc::clone(&heads)));
            }
        });
        Self { address, asked, task }
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn tunnel(
    mut stream: TcpStream,
    names: Arc<HashMap<String, SocketAddr>>,
    heads: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let target = head.split(' ').nth(1)?.to_owned();
    heads.lock().unwrap().push(head);
    let Some(address) = names.get(&target) else {
        stream.write_all(b"HTTP/1.1 502 No such host\r\n\r\n").await.ok()?;
        return None;
    };
    let mut server = TcpStream::connect(address).await.ok()?;
    stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").await.ok()?;
    tokio::io::copy_bidirectional(&mut stream, &mut server).await.ok()?;
    Some(())
}
