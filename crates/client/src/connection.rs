//! Connections to an engine, before anything is said over them.

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::endpoint::Endpoint;
use crate::ssh::SshHost;
use crate::{Error, Result};

/// What runs on the other machine, in its login shell: whichever of the two programs is there connects its stdin and
/// stdout with its engine.
const DIAL: &str = "'command -v coracle >/dev/null 2>&1 && exec coracle PLACE system dial-stdio; exec docker PLACE system dial-stdio'";

/// Both directions of a connection. Shutting the writing side down says that nothing more comes.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection to an engine.
pub type Connection = Box<dyn Duplex>;

/// Connects, and says nothing.
///
/// # Errors
/// Nobody listens there, or ssh cannot be run.
pub async fn dial(endpoint: &Endpoint) -> Result<Connection> {
    let failed = |source| Error::Connect { endpoint: endpoint.clone(), source };
    match endpoint {
        Endpoint::Unix(path) => Ok(Box::new(UnixStream::connect(path).await.map_err(failed)?)),
        Endpoint::Tcp { host, port, tls } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            match tls {
                None => Ok(Box::new(stream)),
                Some(tls) => Ok(Box::new(tls.connect(host, stream).await.map_err(failed)?)),
            }
        }
        Endpoint::Ssh { host, socket } => Ok(Box::new(Ssh::begin(host, socket.as_deref()).map_err(failed)?)),
    }
}

/// An ssh whose command speaks for the engine over there. It ends with the connection.
struct Ssh {
    stdout: ChildStdout,
    /// Gone once nothing more is said: a pipe has no other end of file.
    stdin: Option<ChildStdin>,
    _child: Child,
}

impl Ssh {
    fn begin(host: &SshHost, socket: Option<&str>) -> io::Result<Self> {
        let place = socket.map(|path| format!("--host unix://{path}")).unwrap_or_default();
        let dial = DIAL.replace("PLACE", &place);
        let mut child = Command::new("ssh")
            // It has no terminal to ask at: the terminal's keys belong to the container.
            .args(["-o", "BatchMode=yes"])
            .args(host.arguments(&["sh", "-c", &dial]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // An interrupt at the terminal is for the container, and not for the way to it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let missing = || io::Error::other("ssh was started without pipes");
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().ok_or_else(missing)?);
        Ok(Self { stdout, stdin, _child: child })
    }
}

impl AsyncRead for Ssh {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stdout).poll_read(context, buffer)
    }
}

impl AsyncWrite for Ssh {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stdin {
            Some(stdin) => Pin::new(stdin).poll_write(context, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stdin.as_mut().map_or(Poll::Ready(Ok(())), |stdin| Pin::new(stdin).poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stdin = None;
        Poll::Ready(Ok(()))
    }
}
