//! Which servers are believed to be whom they say they are, over TLS; and who we are to them.
//!
//! Engines and registries are believed alike: by authorities, and by certificates that somebody named.
#![forbid(unsafe_code)]

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::Arc;

/// A chain of certificates, the owner's first.
pub type Chain = Vec<CertificateDer<'static>>;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate that was named cannot be an authority.
    #[error("{0}")]
    Authorities(#[source] rustls::Error),
    /// Our own certificate and its key do not belong together, or are of a kind that is not known.
    #[error("{0}")]
    Identity(#[source] rustls::Error),
}

/// Which servers are believed.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Whoever answers.
    Anyone,
    /// Whose certificate one of these has signed, or is.
    Named(Chain),
    /// Besides those, whose certificate an authority has signed that this machine trusts.
    NamedAndMachine(Chain),
}

/// Who we are to servers that ask.
#[derive(Debug)]
pub struct Identity {
    /// Our certificate, and those that lead to an authority.
    pub chain: Chain,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// How to speak TLS 1.2 and 1.3 with servers. Blocking where this machine is trusted: reads its certificates, of which those
/// that are of no use are left out.
///
/// # Errors
/// For certificates and keys of no use.
pub fn configuration(trust: Trust, identity: Option<Identity>) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let believed = Believed::new(trust, &provider)?;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites for TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { believed, provider }));
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(Identity { chain, key }) => builder.with_client_auth_cert(chain, key).map_err(Error::Identity),
    }
}

/// The certificates of a file in PEM, of which there is at least one.
///
/// # Errors
/// What is wrong with it.
pub fn certificates(pem: &[u8]) -> Result<Chain, String> {
    let found: Result<Chain, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| error.to_string())?;
    if found.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(found) }
}

/// The key of a file in PEM.
///
/// # Errors
/// What is wrong with it.
pub fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| error.to_string())
}

/// [`Trust`], read.
#[derive(Debug)]
enum Believed {
    Anyone,
    Signed {
        /// None where nobody is trusted.
        authorities: Option<Arc<WebPkiServerVerifier>>,
        named: Chain,
    },
}

impl Believed {
    fn new(trust: Trust, provider: &Arc<CryptoProvider>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        let named = match trust {
            Trust::Anyone => return Ok(Self::Anyone),
            Trust::Named(named) => named,
            Trust::NamedAndMachine(named) => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                named
            }
        };
        for certificate in &named {
            roots.add(certificate.clone()).map_err(Error::Authorities)?;
        }
        let authorities = (!roots.is_empty()).then(|| {
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                .build()
                .expect("there are authorities, and no lists of what they revoked")
        });
        Ok(Self::Signed { authorities, named })
    }
}

/// Verifies servers against authorities, and against certificates that were themselves named.
///
/// OpenSSL marks a certificate that signs itself as an authority, and the web's rules then refuse it as a server's, which Go and
/// so Docker do not; Docker's manual has people use such ones. Whoever names exactly this certificate means exactly this server.
#[derive(Debug)]
struct Verifier {
    believed: Believed,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Believed::Signed { authorities, named } = &self.believed else {
            return Ok(ServerCertVerified::assertion());
        };
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let authorities = authorities.as_ref().ok_or(unknown)?;
        let verified =
            authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let Err(error) = verified else { return verified };
        // The period of validity is checked before what a certificate is for, so an expired one does not come here.
        let is_authority = matches!(&error, rustls::Error::InvalidCertificate(CertificateError::Other(_)));
        if !is_authority || !named.iter().any(|named| named.as_ref() == end_entity.as_ref()) {
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
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
