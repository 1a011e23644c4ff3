//! TLS: whom the client trusts, and who it is to an engine.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
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
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match trust {
            Trust::Anyone => Arc::new(Unverified(Arc::clone(&provider))),
            Trust::Authorities(file) => {
                let mut roots = RootCertStore::empty();
                let named = certificates(file)?;
                for certificate in &named {
                    roots.add(certificate.clone()).map_err(|error| of_no_use(file, &error))?;
                }
                let authorities = verifier(roots, &provider).map_err(|error| of_no_use(file, &error))?;
                Arc::new(Named { authorities, named })
            }
            Trust::Machine => {
                let machine = Pem { name: "the certificate authorities of this machine", content: &[] };
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                verifier(roots, &provider).map_err(|error| of_no_use(machine, &error))?
            }
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let private =
                    PrivateKeyDer::from_pem_slice(key.content).map_err(|error| of_no_use(key, &error))?;
                builder
                    .with_client_auth_cert(certificates(chain)?, private)
                    .map_err(|error| of_no_use(chain, &error))?
            }
        };
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

fn verifier(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> std::result::Result<Arc<WebPkiServerVerifier>, rustls::client::VerifierBuilderError> {
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build()
}

fn certificates(file: Pem<'_>) -> Result<Vec<CertificateDer<'static>>> {
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(file.content).collect();
    let found = found.map_err(|error| of_no_use(file, &error))?;
    if found.is_empty() { Err(of_no_use(file, &"there is no certificate in it")) } else { Ok(found) }
}

fn of_no_use(file: Pem<'_>, reason: &dyn fmt::Display) -> Error {
    Error::Certificate { name: file.name.to_owned(), reason: reason.to_string() }
}

/// Takes for the engine whose certificate one of the authorities has signed, and whose certificate is itself among those that
/// were named.
///
/// OpenSSL marks a certificate that signs itself as an authority, and the web's rules then refuse it as a server's, which Go and
/// so Docker's command do not. Whoever names exactly this certificate means exactly this engine.
#[derive(Debug)]
struct Named {
    authorities: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let Err(error) = verified else { return verified };
        // The period of validity is checked before what a certificate is for, so an expired one does not come here.
        let is_authority = matches!(&error, rustls::Error::InvalidCertificate(CertificateError::Other(_)));
        if !is_authority || !self.named.iter().any(|named| named.as_ref() == end_entity.as_ref()) {
            return Err(error);
        }
        rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// Takes whoever answers for the engine, as `--tls` without `--tlsverify` asks.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
