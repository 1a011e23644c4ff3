//! Whom we trust: this machine's certificate authorities, a host's own ones, and our certificate for it.
//!
//! The files are those that Docker reads: `HOST/*.crt` are authorities, and each `HOST/NAME.cert` is a certificate of
//! ours whose key is `HOST/NAME.key`.

use crate::{Error, Result, limits};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whether a server must prove who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Trust {
    /// It must.
    Verified,
    /// It need not: the registry is listed as insecure, or on this machine.
    Anyone,
}

/// What the directory of a host holds.
#[derive(Default)]
struct Files {
    authorities: Vec<CertificateDer<'static>>,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

/// The TLS configuration for a host whose files are in `directory`. Blocking: reads files.
///
/// # Errors
/// [`Error::Certificates`] and [`Error::Certificate`] for files that cannot be used.
pub(crate) fn configure(directory: &Path, trust: Trust) -> Result<ClientConfig> {
    let files = Files::read(directory)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Anyone => Arc::new(Unverified(Arc::clone(&provider))),
        Trust::Verified => Arc::new(Verifier::new(files.authorities, &provider, directory)?),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites for TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    Ok(match files.identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| Error::Certificate { path: directory.to_owned(), reason: error.to_string() })?,
    })
}

impl Files {
    fn read(directory: &Path) -> Result<Self> {
        let failed = |path: &Path, source| Error::Certificates { path: path.to_owned(), source };
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(failed(directory, source)),
        };
        let mut paths = Vec::new();
        for entry in entries.take(limits::CERTIFICATES) {
            paths.push(entry.map_err(|source| failed(directory, source))?.path());
        }
        paths.sort();
        let mut files = Self::default();
        for path in paths {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => files.authorities.extend(certificates(&path)?),
                Some("cert") => files.identity = Some((certificates(&path)?, key_of(&path)?)),
                _ => (),
            }
        }
        Ok(files)
    }
}

fn contents(path: &Path) -> Result<Vec<u8>> {
    let failed = |source| Error::Certificates { path: path.to_owned(), source };
    let mut content = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limits::CERTIFICATE + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > limits::CERTIFICATE {
        return Err(Error::Certificate { path: path.to_owned(), reason: "it is too large".to_owned() });
    }
    Ok(content)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let wrong = |reason: String| Error::Certificate { path: path.to_owned(), reason };
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&contents(path)?).collect();
    let found = found.map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() {
        return Err(wrong("it holds no PEM certificate".to_owned()));
    }
    Ok(found)
}

/// The key beside a certificate of ours.
fn key_of(certificate: &Path) -> Result<PrivateKeyDer<'static>> {
    let path: PathBuf = certificate.with_extension("key");
    PrivateKeyDer::from_pem_slice(&contents(&path)?)
        .map_err(|error| Error::Certificate { path, reason: error.to_string() })
}

/// Verifies servers against authorities, and against certificates that were configured themselves.
///
/// Docker's manual has people put a self-signed certificate into the directory. OpenSSL marks such a one as an
/// authority, and the web's rules then refuse it as a server's certificate; whoever configured exactly this certificate
/// meant exactly this server.
#[derive(Debug)]
struct Verifier {
    authorities: Option<Arc<WebPkiServerVerifier>>,
    configured: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn new(
        configured: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
        directory: &Path,
    ) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        // What cannot be read of the machine's store is missing there for everyone; the handshake will say so.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for certificate in &configured {
            roots.add(certificate.clone()).map_err(|error| Error::Certificate {
                path: directory.to_owned(),
                reason: error.to_string(),
            })?;
        }
        let authorities = if roots.is_empty() {
            None
        } else {
            let built =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
            Some(built.map_err(|error| Error::Certificate {
                path: directory.to_owned(),
                reason: error.to_string(),
            })?)
        };
        Ok(Self { authorities, configured, provider: Arc::clone(provider) })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let authorities = self.authorities.as_ref().ok_or(unknown)?;
        let verified =
            authorities.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let error = match verified {
            Ok(verified) => return Ok(verified),
            Err(error) => error,
        };
        // The period of validity is checked before what a certificate is for, so an expired one does not come here.
        let is_authority = matches!(&error, rustls::Error::InvalidCertificate(CertificateError::Other(_)));
        if !is_authority || !self.configured.iter().any(|own| own.as_ref() == end_entity.as_ref()) {
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
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes every server for what it says it is. Only for registries that were listed as insecure.
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
