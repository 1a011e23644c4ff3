//! Whom we trust: this machine's certificate authorities, a host's own ones, and our certificate for it.
//!
//! The files are those that Docker reads: `HOST/*.crt` are authorities, and each `HOST/NAME.cert` is a certificate of
//! ours whose key is `HOST/NAME.key`.

use crate::{Error, Result, limits};
use coracle_trust::{Chain, Identity};
use rustls::ClientConfig;
use rustls::pki_types::PrivateKeyDer;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

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
    authorities: Chain,
    identity: Option<Identity>,
}

/// The TLS configuration for a host whose files are in `directory`. Blocking: reads files.
///
/// # Errors
/// [`Error::Certificates`] and [`Error::Certificate`] for files that cannot be used.
pub(crate) fn configure(directory: &Path, trust: Trust) -> Result<ClientConfig> {
    let files = Files::read(directory)?;
    let believed = match trust {
        Trust::Anyone => coracle_trust::Trust::Anyone,
        // What cannot be read of the machine's store is missing there for everyone; the handshake will say so.
        Trust::Verified => coracle_trust::Trust::NamedAndMachine(files.authorities),
    };
    coracle_trust::configuration(believed, files.identity)
        .map_err(|error| Error::Certificate { path: directory.to_owned(), reason: error.to_string() })
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
                Some("cert") => {
                    let identity = Identity { chain: certificates(&path)?, key: key_of(&path)? };
                    files.identity = Some(identity);
                }
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

fn certificates(path: &Path) -> Result<Chain> {
    coracle_trust::certificates(&contents(path)?)
        .map_err(|reason| Error::Certificate { path: path.to_owned(), reason })
}

/// The key beside a certificate of ours.
fn key_of(certificate: &Path) -> Result<PrivateKeyDer<'static>> {
    let path: PathBuf = certificate.with_extension("key");
    coracle_trust::key(&contents(&path)?).map_err(|reason| Error::Certificate { path, reason })
}
