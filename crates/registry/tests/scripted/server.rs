//! A server whose answers are bytes. It keeps what it was asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// How many requests of this method and target came before.
    pub(crate) before: usize,
}

/// What is answered.
pub(crate) struct Reply {
    bytes: Vec<u8>,
    then: Then,
}

/// What comes after an answer's bytes.
enum Then {
    /// The next request.
    Next,
    /// The end of the connection.
    Close,
    /// The connection's reset.
    Reset,
    /// Nothing, on an open connection.
    Hang,
    /// These bytes, so many in each interval.
    Drip(Vec<u8>, usize, Duration),
    /// These bytes, over and over.
    Repeat(Vec<u8>),
}

type Script = dyn Fn(&Request) -> Reply + Send + Sync;

/// A server on a port of this machine. It ends with the value.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    /// A server without TLS.
    pub(crate) async fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve(None, Arc::new(script)).await
    }

    /// A server with TLS.
    pub(crate) async fn start_tls(
        acceptor: TlsAcceptor,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serve(Some(acceptor), Arc::new(script)).await
    }

    async fn serve(acceptor: Option<TlsAcceptor>, script: Arc<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections): (Arc<_>, Arc<AtomicUsize>) = Default::default();
        let counted = Arc::clone(&connections);
        let task = tokio::spawn(accept(listener, acceptor, script, Arc::clone(&requests), counted));
        Self { address, requests, connections, task }
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// An address on this server.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Everything that was asked so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// How many connections were made, understood or not.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The methods and targets that were asked for so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.requests().iter().map(|r| format!("{} {}", r.method, r.target)).collect()
    }

    /// Whether a text was sent here in any form.
    pub(crate) fn saw(&self, text: &str) -> bool {
        let within = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        self.requests().iter().any(|request| {
            request.target.contains(text)
                || within(&request.body)
                || request.headers.iter().any(|(_, value)| value.contains(text))
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub(crate) fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    pub(crate) fn is(&self, method: &str, path: &str) -> bool {
        self.method == method && self.path() == path
    }
}

impl Reply {
    /// An answer with its length.
    pub(crate) fn new(status: u16, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let length = body.len().to_string();
        let mut all = vec![("Content-Length", length.as_str())];
        all.extend(headers);
        let mut reply = Self::head(status, &all);
        reply.bytes.extend_from_slice(body);
        reply
    }

    /// An answer without body whose length is said all the same: to HEAD.
    pub(crate) fn head(status: u16, headers: &[(&str, &str)]) -> Self {
        let mut text = format!("HTTP/1.1 {status} Scripted\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        Self::raw(text)
    }

    /// Bytes that need not be an answer.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), then: Then::Next }
    }

    pub(crate) fn then_close(self) -> Self {
        Self { then: Then::Close, ..self }
    }

    pub(crate) fn then_reset(self) -> Self {
        Self { then: Then::Reset, ..self }
    }

    pub(crate) fn then_hang(self) -> Self {
        Self { then: Then::Hang, ..self }
    }

    /// One byte after the other.
    pub(crate) fn then_trickle(self, bytes: Vec<u8>, interval: Duration) -> Self {
        self.then_drip(bytes, 1, interval)
    }

    /// So many bytes at a time.
    pub(crate) fn then_drip(self, bytes: Vec<u8>, piece: usize, interval: Duration) -> Self {
        Self { then: Then::Drip(bytes, piece, interval), ..self }
    }

    pub(crate) fn then_repeat(self, bytes: Vec<u8>) -> Self {
        Self { then: Then::Repeat(bytes), ..self }
    }

    /// Only the first bytes of it.
    pub(crate) fn cut(mut self, bytes: usize) -> Self {
        self.bytes.truncate(bytes);
        self.then_close()
    }
}

/// A connection that can also be reset.
trait Link: AsyncRead + AsyncWrite + Unpin + Send {
    fn reset(&self);
}

impl Link for TcpStream {
    fn reset(&self) {
        self.set_zero_linger().unwrap();
    }
}

impl Link for TlsStream<TcpStream> {
    fn reset(&self) {
        self.get_ref().0.set_zero_linger().unwrap();
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    script: Arc<Script>,
    requests: Arc<Mutex<Vec<Request>>>,
    counted: Arc<AtomicUsize>,
) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        counted.fetch_add(1, Ordering::SeqCst);
        let (script, requests, acceptor) = (Arc::clone(&script), Arc::clone(&requests), acceptor.clone());
        connections.spawn(async move {
            match acceptor {
                None => converse(stream, &*script, &requests).await,
                // A client that does not trust the certificate goes away here.
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => converse(stream, &*script, &requests).await,
                    Err(_) => None,
                },
            }
        });
    }
}

/// Answers requests until one side has enough.
async fn converse(mut link: impl Link, script: &Script, requests: &Mutex<Vec<Request>>) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        let mut request = read(&mut link, &mut buffer).await?;
        let reply = {
            let mut all = requests.lock().unwrap();
            let same = |r: &&Request| r.method == request.method && r.target == request.target;
            request.before = all.iter().filter(same).count();
            all.push(request.clone());
            script(&request)
        };
        link.write_all(&reply.bytes).await.ok()?;
        link.flush().await.ok()?;
        match reply.then {
            Then::Next => (),
            Then::Close => {
                link.shutdown().await.ok()?;
                return None;
            }
            Then::Reset => {
                link.reset();
                return None;
            }
            Then::Hang => {
                // Until the other side gives up.
                while link.read(&mut [0; 64]).await.ok()? > 0 {}
                return None;
            }
            Then::Drip(bytes, piece, interval) => {
                let mut ticks = tokio::time::interval(interval);
                for piece in bytes.chunks(piece) {
                    ticks.tick().await;
                    link.write_all(piece).await.ok()?;
                    link.flush().await.ok()?;
                }
            }
            Then::Repeat(bytes) => loop {
                link.write_all(&bytes).await.ok()?;
            },
        }
    }
}

async fn more(link: &mut impl Link, buffer: &mut Vec<u8>) -> Option<()> {
    let mut piece = [0; 16 << 10];
    let count = link.read(&mut piece).await.ok().filter(|count| *count > 0)?;
    buffer.extend_from_slice(&piece[..count]);
    Some(())
}

async fn read(link: &mut impl Link, buffer: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        // A client that tries TLS first; other servers say something like this too.
        if buffer.first() == Some(&0x16) {
            return None;
        }
        more(link, buffer).await?;
    };
    let head = String::from_utf8(buffer[..end].to_vec()).ok()?;
    buffer.drain(..end + 4);
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut request = Request { method, target, headers, body: Vec::new(), before: 0 };
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    assert!(request.header("transfer-encoding").is_none(), "every upload has a length");
    while buffer.len() < length {
        more(link, buffer).await?;
    }
    request.body = buffer.drain(..length).collect();
    Some(request)
}
