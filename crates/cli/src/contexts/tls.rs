//! TLS: what flags and variables say of it, and what a context has for it.

use std::io::ErrorKind;
use std::path::PathBuf;

use coracle_client::{Pem, Tls, Trust};

use super::store::{self, TlsFile};
use super::{Context, DOCKER};
use crate::args::Globals;
use crate::configuration;
use crate::error::{Error, Result};
use crate::resolve::Invalid;

/// The files of Docker's names, and the flags that name others.
const AUTHORITIES: &str = "ca.pem";
const CERTIFICATE: &str = "cert.pem";
const KEY: &str = "key.pem";

/// What flags and variables say of TLS.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wish {
    verify: bool,
    /// What files are called, where they are, and whether somebody named them.
    files: [(&'static str, PathBuf, bool); 3],
}

impl Wish {
    /// As Docker reads them: `--tlsverify` whatever its value turns TLS on, and so do `DOCKER_TLS_VERIFY` and `DOCKER_TLS` if
    /// they are not empty.
    pub(super) fn read(
        globals: &Globals,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, Invalid> {
        let given = |name| variable(name).is_some_and(|value| !value.is_empty());
        let verify = globals.tlsverify.unwrap_or_else(|| given("DOCKER_TLS_VERIFY"));
        let on = globals.tlsverify.is_some() || verify || globals.tls.unwrap_or_else(|| given("DOCKER_TLS"));
        if !on {
            return match flag(globals) {
                Some(flag) => Err(Invalid(format!("{flag} is for TLS: give --tls or --tlsverify, too"))),
                None => Ok(None),
            };
        }
        let directory = variable("DOCKER_CERT_PATH").filter(|value| !value.is_empty());
        let directory = directory.map_or_else(configuration::directory, PathBuf::from);
        let file = |name: &'static str, named: &Option<PathBuf>| match named {
            Some(path) => (name, path.clone(), true),
            None => (name, directory.join(name), false),
        };
        let files = [
            file(AUTHORITIES, &globals.tlscacert),
            file(CERTIFICATE, &globals.tlscert),
            file(KEY, &globals.tlskey),
        ];
        Ok(Some(Self { verify, files }))
    }

    /// Writes it into the context of the environment, and reads the files that belong to it.
    pub(super) fn apply(&self, context: &mut Context) -> Result<Vec<TlsFile>> {
        let host = context.host().to_owned();
        context.set_host(&host, !self.verify);
        let mut files = Vec::new();
        for (name, path, named) in &self.files {
            let is_authority = *name == AUTHORITIES;
            // An empty name of the authorities stands for those of the machine.
            if is_authority && (!self.verify || path.as_os_str().is_empty()) {
                continue;
            }
            match store::bytes(path) {
                Ok(content) => {
                    files.push(TlsFile { endpoint: DOCKER.to_owned(), name: (*name).to_owned(), content });
                }
                // Not every engine asks who its clients are.
                Err(Error::Io { source, .. })
                    if source.kind() == ErrorKind::NotFound && !is_authority && !named => {}
                Err(error) => return Err(error),
            }
        }
        Ok(files)
    }
}

/// A flag about TLS that was given.
pub(super) fn flag(globals: &Globals) -> Option<&'static str> {
    [
        ("--tls", globals.tls == Some(true)),
        ("--tlsverify", globals.tlsverify.is_some()),
        ("--tlscacert", globals.tlscacert.is_some()),
        ("--tlscert", globals.tlscert.is_some()),
        ("--tlskey", globals.tlskey.is_some()),
    ]
    .into_iter()
    .find_map(|(flag, given)| given.then_some(flag))
}

/// How to speak TLS with the engine of a context, if that is asked for: by files, or by not wanting to know who answers.
pub(super) fn of_context(context: &Context, files: &[TlsFile]) -> Result<Option<Tls>> {
    let file = |name: &str| files.iter().find(|file| file.endpoint == DOCKER && file.name == name);
    let (authorities, certificate, key) = (file(AUTHORITIES), file(CERTIFICATE), file(KEY));
    let skip = context.skip_tls_verify();
    if !skip && authorities.or(certificate).or(key).is_none() {
        return Ok(None);
    }
    let called = |name: &str| format!("{name} of the context {:?}", context.name);
    let names = [AUTHORITIES, CERTIFICATE, KEY].map(called);
    let trust = match authorities {
        _ if skip => Trust::Anyone,
        Some(file) => Trust::Authorities(Pem { name: &names[0], content: &file.content }),
        None => Trust::Machine,
    };
    let identity = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((
            Pem { name: &names[1], content: &certificate.content },
            Pem { name: &names[2], content: &key.content },
        )),
        (None, None) => None,
        _ => {
            let text =
                format!("the context {:?} has one of {CERTIFICATE} and {KEY}, and needs both", context.name);
            return Err(Error::Configuration(text));
        }
    };
    Ok(Some(Tls::new(trust, identity)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(globals: &Globals, environment: &[&str]) -> Result<Option<bool>, Invalid> {
        let variable = |name: &str| environment.contains(&name).then(|| "1".to_owned());
        Wish::read(globals, variable).map(|wish| wish.map(|wish| wish.verify))
    }

    #[test]
    fn flags_and_variables_turn_it_on_as_they_do_for_docker() {
        let with = |tls, tlsverify| Globals { tls, tlsverify, ..Globals::default() };
        for (globals, environment, expected) in [
            (with(None, None), &[][..], None),
            (with(Some(true), None), &[], Some(false)),
            (with(None, Some(true)), &[], Some(true)),
            (with(None, Some(false)), &[], Some(false)),
            (with(None, None), &["DOCKER_TLS_VERIFY"], Some(true)),
            (with(None, Some(false)), &["DOCKER_TLS_VERIFY"], Some(false)),
            (with(None, None), &["DOCKER_TLS"], Some(false)),
            (with(Some(false), None), &["DOCKER_TLS"], None),
        ] {
            assert_eq!(wish(&globals, environment), Ok(expected), "{globals:?} {environment:?}");
        }
        let lonely = Globals { tlscert: Some("x".into()), ..Globals::default() };
        assert!(wish(&lonely, &[]).is_err() && wish(&lonely, &["DOCKER_TLS"]).is_ok());
    }
}
