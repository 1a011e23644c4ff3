//! TLS: whom the client trusts, and who it is to an engine.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use coracle_trust::{Chain, Identity};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{Error, Result};

/// A file in PEM, and how to call it when it is of no use.
#[derive(Debug, Clone, Copy)]
pub struct Pem<'a> {
    /// A path, or what else a person knows it by.
    pub name: &'a str,
    /// The whole file.
    pub content: &'a [u8],
}

/// Which engines a client takes for the one it looks for.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// Whose certificate one of these has signed, or is, and none of this machine's authorities.
    Authorities(Pem<'a>),
    /// Whose certificate an authority has signed that this machine trusts.
    Machine,
    /// Whoever answers.
    Anyone,
}

/// How to speak TLS with an engine. Cloning is cheap.
#[derive(Clone)]
pub struct Tls(TlsConnector);

impl Tls {
    /// Reads what is in the files. `identity` is the client's certificate and its key, for engines that ask.
    /// Blocking: with [`Trust::Machine`] it reads the certificates of this machine.
    ///
    /// # Errors
    /// [`Error::Certificate`] for what is of no use.
    pub fn new(trust: Trust<'_>, identity: Option<(Pem<'_>, Pem<'_>)>) -> Result<Self> {
        let believed = match trust {
            Trust::Anyone => coracle_trust::Trust::Anyone,
            Trust::Authorities(file) => coracle_trust::Trust::Named(certificates(file)?),
            Trust::Machine => coracle_trust::Trust::NamedAndMachine(Vec::new()),
        };
        let ours = match identity {
            None => None,
            Some((chain, key)) => {
                let private = coracle_trust::key(key.content).map_err(|reason| of_no_use(key, &reason))?;
                Some(Identity { chain: certificates(chain)?, key: private })
            }
        };
        let config = coracle_trust::configuration(believed, ours).map_err(|error| {
            let file = match (&error, trust, identity) {
                (coracle_trust::Error::Authorities(_), Trust::Authorities(file), _) => file,
                (_, _, Some((chain, _))) => chain,
                _ => Pem { name: "the certificate authorities of this machine", content: &[] },
            };
            of_no_use(file, &error)
        })?;
        Ok(Self(Arc::new(config).into()))
    }

    /// Agrees on keys with the engine at the other end, which must be `host`.
    pub(crate) async fn connect(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        self.0.connect(name, stream).await
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // There is a key in it.
        out.write_str("Tls")
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.0.config(), other.0.config())
    }
}

impl Eq for Tls {}

/// What to do about a failure that TLS is the reason of.
pub(crate) fn hint(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    match cause(error)? {
        rustls::Error::InvalidCertificate(_) => Some(
            "name the authority that signed the engine's certificate with --tlscacert, and the engine as its certificate does",
        ),
        rustls::Error::AlertReceived(_) => Some(
            "the engine refused: give it a certificate that it trusts, and its key, with --tlscert and --tlskey",
        ),
        rustls::Error::InvalidMessage(_) => Some(
            "what listens there does not speak TLS; without --tls and --tlsverify it is asked in the clear",
        ),
        _ => None,
    }
}

/// The failure of TLS below another one.
fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An IO error hides what it was made of from whoever asks for its source.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn certificates(file: Pem<'_>) -> Result<Chain> {
    coracle_trust::certificates(file.content).map_err(|reason| of_no_use(file, &reason))
}

fn of_no_use(file: Pem<'_>, reason: &dyn fmt::Display) -> Error {
    Error::Certificate { name: file.name.to_owned(), reason: reason.to_string() }
}
