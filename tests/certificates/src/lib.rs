//! Certificates of tests: an authority, and what it signs.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a test that cannot go on fails")]

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use std::fs;
use std::path::{Path, PathBuf};

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new one.
    #[allow(clippy::new_without_default, reason = "each one is another")]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of tests");
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a server's name or address.
    pub fn server(&self, name: &str) -> Pair {
        self.sign(&CertificateParams::new([name.to_owned()]).unwrap())
    }

    /// The same, and its time is over.
    pub fn expired_server(&self, name: &str) -> Pair {
        self.sign(&expired(CertificateParams::new([name.to_owned()]).unwrap()))
    }

    /// A certificate for a client.
    pub fn client(&self) -> Pair {
        self.sign(&client(ExtendedKeyUsagePurpose::ClientAuth))
    }

    /// The same, and its time is over.
    pub fn expired_client(&self) -> Pair {
        self.sign(&expired(client(ExtendedKeyUsagePurpose::ClientAuth)))
    }

    /// A certificate that says of itself to be no client's.
    pub fn no_client(&self) -> Pair {
        self.sign(&client(ExtendedKeyUsagePurpose::ServerAuth))
    }

    fn sign(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Pair {
    /// A directory as `DOCKER_CERT_PATH` wants it: whom to trust, the certificate, and its key.
    pub fn directory(&self, parent: &Path, name: &str, trusted: &Authority) -> PathBuf {
        let directory = parent.join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("ca.pem"), trusted.pem()).unwrap();
        fs::write(directory.join("cert.pem"), &self.certificate).unwrap();
        fs::write(directory.join("key.pem"), &self.key).unwrap();
        directory
    }
}

/// What `openssl req -x509` makes: a certificate that signs itself and is marked as an authority.
pub fn self_signed(name: &str) -> Pair {
    sign_itself(CertificateParams::new([name.to_owned()]).unwrap())
}

/// The same, and its time is over.
pub fn expired_self_signed(name: &str) -> Pair {
    sign_itself(expired(CertificateParams::new([name.to_owned()]).unwrap()))
}

fn sign_itself(mut params: CertificateParams) -> Pair {
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    Pair { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

fn client(purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.extended_key_usages = vec![purpose];
    params
}

fn expired(mut params: CertificateParams) -> CertificateParams {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 1, 1);
    params
}
