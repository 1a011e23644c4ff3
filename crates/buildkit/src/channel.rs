//! HTTP/2 over a connection that somebody else opened: the client's half for sessions, the server's for the API.

use crate::error::{Error, Result};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;
use tower_service::Service;

/// What HTTP/2 wants to know of a peer that has no name.
pub(crate) const ORIGIN: &str = "http://session";

/// A stream that both sides can use.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for S {}

/// The caller's end of a connection, as the generated clients want it.
#[derive(Clone, Debug)]
pub struct Channel(hyper::client::conn::http2::SendRequest<Body>);

impl Channel {
    /// Begins HTTP/2 as its client. The second part is the connection itself: it does the work, and ends with the peer.
    ///
    /// # Errors
    /// [`Error::Handshake`] if the peer does not take part.
    pub async fn over(io: impl Io) -> Result<(Self, impl Future<Output = hyper::Result<()>> + Send)> {
        let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let begun = builder.handshake(TokioIo::new(io)).await;
        let (sender, connection) = begun.map_err(|source| Error::Handshake { source })?;
        Ok((Self(sender), connection))
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// Serves gRPC over a connection until the client closes it.
///
/// # Errors
/// What HTTP/2 makes of a peer that breaks its rules or is gone.
pub async fn serve<S>(io: impl Io, service: S) -> hyper::Result<()>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut service = service.clone();
        // Services of generated code are always ready.
        service.call(request.map(Body::new))
    });
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(io), service)
        .await
}
