//! Credentials for registries, where Docker's command keeps them: `config.json` in `DOCKER_CONFIG` or `~/.docker`, or in
//! a credential helper that it names.
//!
//! ```text
//! credHelpers: {HOST: NAME}   docker-credential-NAME has this registry
//! credsStore: NAME            docker-credential-NAME has all others
//! auths: {HOST: {auth: …}}    the file itself, where neither is named
//! ```
//!
//! The protocol of helpers: `get`, `store` and `erase` as argument, the host or a document on stdin, a document on stdout.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use coracle_api::auth::AuthConfig;
use coracle_api::base64;
use serde_json::{Map, Value, json};

use crate::configuration::Configuration;
use crate::error::{Error, Result};

/// Docker's name for its own registry in the file.
pub(crate) const DEFAULT_SERVER: &str = "https://index.docker.io/v1/";
/// The user name by which a helper says that the secret is an identity token.
const TOKEN: &str = "<token>";

/// Where credentials are kept.
#[derive(Debug)]
pub(crate) struct Credentials(Configuration);

impl Credentials {
    /// Those of this configuration.
    pub(crate) fn of_configuration(configuration: Configuration) -> Self {
        Self(configuration)
    }

    /// What is known for the registry of an image or of `login`; nothing is no failure.
    pub(crate) fn of(&self, registry: &str) -> Result<Option<AuthConfig>> {
        let server = server(registry);
        if let Some(helper) = self.helper(&server) {
            return get(helper, &server);
        }
        let entries = self.0.document.get("auths").and_then(Value::as_object);
        let entries = entries.into_iter().flatten();
        // The key as it is written today comes before older forms of it.
        let mut matching: Vec<_> = entries.filter(|(key, _)| is_for(key, &server)).collect();
        matching.sort_by_key(|(key, _)| **key != server);
        let Some((_, entry)) = matching.first() else { return Ok(None) };
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let auth = AuthConfig {
            auth: text("auth"),
            identitytoken: text("identitytoken"),
            registrytoken: text("registrytoken"),
            serveraddress: server,
            ..AuthConfig::default()
        };
        let (username, password) = auth.account().unwrap_or_default();
        Ok(Some(AuthConfig { username, password, auth: String::new(), ..auth }))
    }

    /// What is known for every registry, by its host. Those of a helper that cannot be asked are left out.
    pub(crate) fn all(&self) -> Result<BTreeMap<String, AuthConfig>> {
        let names = |field: &str| {
            let entries = self.0.document.get(field).and_then(Value::as_object);
            entries.into_iter().flatten().map(|(name, _)| name.clone()).collect::<Vec<_>>()
        };
        let mut servers = names("auths");
        servers.extend(names("credHelpers"));
        if let Some(helper) = self.0.document.get("credsStore").and_then(Value::as_str)
            && let Ok(Some(listed)) = run(helper, "list", "")
            && let Ok(listed) = serde_json::from_str::<Map<String, Value>>(&listed)
        {
            servers.extend(listed.into_iter().map(|(server, _)| server));
        }
        let mut all = BTreeMap::new();
        for name in servers {
            let host = match host_of(&name) {
                // Docker Hub's address from before registries had names.
                "index.docker.io" => "docker.io",
                host => host,
            };
            if let Some(auth) = self.of(host)? {
                all.insert(host.to_owned(), auth);
            }
        }
        Ok(all)
    }

    /// Keeps credentials, and says where if that is in the open.
    pub(crate) fn store(&mut self, auth: &AuthConfig) -> Result<Option<String>> {
        let server = server(&auth.serveraddress);
        let (user, secret) = match auth.identitytoken.as_str() {
            "" => (auth.username.as_str(), auth.password.as_str()),
            token => (TOKEN, token),
        };
        if let Some(helper) = self.helper(&server) {
            let document = json!({"ServerURL": server, "Username": user, "Secret": secret});
            run(helper, "store", &document.to_string())?;
            return Ok(None);
        }
        let account = base64::encode(format!("{}:{}", auth.username, auth.password).as_bytes());
        let entry = match auth.identitytoken.as_str() {
            "" => json!({"auth": account}),
            token => {
                json!({"auth": base64::encode(format!("{}:", auth.username).as_bytes()), "identitytoken": token})
            }
        };
        let entries = self.0.document.entry("auths").or_insert_with(|| json!({}));
        if !entries.is_object() {
            *entries = json!({});
        }
        if let Some(entries) = entries.as_object_mut() {
            entries.retain(|key, _| !is_for(key, &server));
        }
        entries[&server] = entry;
        self.0.write()?;
        Ok(Some(format!(
            "WARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning.",
            self.0.path.display()
        )))
    }

    /// Forgets credentials; those that are not there are no failure.
    pub(crate) fn erase(&mut self, registry: &str) -> Result<bool> {
        let server = server(registry);
        if let Some(helper) = self.helper(&server) {
            return run(helper, "erase", &server).map(|_| true);
        }
        let Some(entries) = self.0.document.get_mut("auths").and_then(Value::as_object_mut) else {
            return Ok(false);
        };
        let before = entries.len();
        entries.retain(|key, _| !is_for(key, &server));
        if entries.len() == before {
            return Ok(false);
        }
        self.0.write().map(|()| true)
    }

    fn helper(&self, server: &str) -> Option<&str> {
        let named = self.0.document.get("credHelpers").and_then(|helpers| helpers.get(host_of(server)));
        let named = named.or_else(|| self.0.document.get("credsStore"));
        named.and_then(Value::as_str).filter(|name| !name.is_empty())
    }
}

/// The registry of an image's name, by the one rule that the engine goes by too: credentials of one registry must not
/// reach another because both read a name differently. What is no name has no registry.
pub(crate) fn registry_of(repository: &str) -> Option<String> {
    let reference: coracle_spec::Reference = repository.parse().ok()?;
    Some(reference.domain().to_owned())
}

/// Whether a key of the file is that of a registry: its host, or the address of its API. What names a repository is for
/// that one alone.
fn is_for(key: &str, server: &str) -> bool {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    let path = rest.split_once('/').map_or("", |(_, path)| path).trim_end_matches('/');
    host_of(key) == host_of(server) && matches!(path, "" | "v1" | "v2")
}

/// A registry as the file names it.
fn server(registry: &str) -> String {
    match host_of(registry) {
        "" | "docker.io" | "index.docker.io" | "registry-1.docker.io" => DEFAULT_SERVER.to_owned(),
        host => host.to_owned(),
    }
}

fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

fn get(helper: &str, server: &str) -> Result<Option<AuthConfig>> {
    let Some(answer) = run(helper, "get", server)? else { return Ok(None) };
    let document: Value = serde_json::from_str(&answer)
        .map_err(|error| Error::Credentials(format!("docker-credential-{helper} get: {error}")))?;
    let text = |name: &str| document.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (username, secret) = (text("Username"), text("Secret"));
    let auth = AuthConfig { serveraddress: server.to_owned(), ..AuthConfig::default() };
    Ok(Some(if username == TOKEN {
        AuthConfig { identitytoken: secret, ..auth }
    } else {
        AuthConfig { username, password: secret, ..auth }
    }))
}

/// Runs a helper; `None` when it does not have what was asked for.
fn run(helper: &str, action: &str, input: &str) -> Result<Option<String>> {
    let program = format!("docker-credential-{helper}");
    // The name becomes part of a program's: no path may hide in it.
    if helper.contains('/') {
        return Err(Error::Credentials(format!("{helper:?} is no name of a credential helper")));
    }
    let failed = || Error::io(format!("run {program}"));
    let mut child = Command::new(&program)
        .arg(action)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper that ended early says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed())?;
    let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        return Ok(Some(answer));
    }
    if answer.contains("credentials not found") {
        return Ok(None);
    }
    Err(Error::Credentials(format!(
        "{program} {action}: {answer}{}",
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(directory: &Path) -> Result<Credentials> {
        Configuration::read(directory).map(Credentials::of_configuration)
    }

    fn account(name: &str, password: &str, server: &str) -> AuthConfig {
        AuthConfig {
            username: name.into(),
            password: password.into(),
            serveraddress: server.into(),
            ..AuthConfig::default()
        }
    }

    #[test]
    fn what_is_stored_is_found_by_image_and_by_address_and_can_be_forgotten() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(
            &path,
            r#"{"HttpHeaders": {"X": "y"}, "auths": {"https://old.test/v1/": {"auth": "bWU6b2xk"}}}"#,
        )
        .unwrap();
        let mut credentials = read(dir.path()).unwrap();
        credentials.store(&account("me", "a:b", "registry.test:5000")).unwrap();
        credentials.store(&account("hub", "x", "")).unwrap();
        let credentials = read(dir.path()).unwrap();
        for (image, expected) in [
            ("registry.test:5000/a/b", Some(("me", "a:b"))),
            ("debian", Some(("hub", "x"))),
            ("team/app", Some(("hub", "x"))),
            ("old.test/app", Some(("me", "old"))),
            ("registry.test/app", None),
            // Upper case makes a host of it.
            ("TEAM/app", None),
        ] {
            let found = credentials.of(&registry_of(image).unwrap()).unwrap();
            let found = found.as_ref().map(|auth| (auth.username.as_str(), auth.password.as_str()));
            assert_eq!(found, expected, "{image}");
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("HttpHeaders"), "{text}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut credentials = credentials;
        assert!(credentials.erase("https://registry.test:5000/").unwrap());
        assert!(!credentials.erase("registry.test:5000").unwrap());
        assert!(read(dir.path()).unwrap().of("registry.test:5000").unwrap().is_none());
    }

    #[test]
    fn a_new_login_counts_more_than_an_old_form_of_the_same_registry() {
        let dir = tempfile::tempdir().unwrap();
        let old = r#"{"auths": {"https://zoo.test/v1/": {"auth": "bWU6b2xk"}, "zoo.test/team": {"auth": "bWU6dGVhbQ=="}}}"#;
        std::fs::write(dir.path().join("config.json"), old).unwrap();
        let mut credentials = read(dir.path()).unwrap();
        let password = |credentials: &Credentials| credentials.of("zoo.test").unwrap().unwrap().password;
        assert_eq!(password(&credentials), "old");
        credentials.store(&account("me", "new", "zoo.test")).unwrap();
        assert_eq!(password(&credentials), "new");
        let text = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
        assert!(!text.contains("/v1/") && text.contains("zoo.test/team"), "{text}");
    }

    #[test]
    fn an_identity_token_replaces_the_password() {
        let dir = tempfile::tempdir().unwrap();
        let mut credentials = read(dir.path()).unwrap();
        let token = AuthConfig { identitytoken: "t".into(), ..account("me", "secret", "registry.test") };
        credentials.store(&token).unwrap();
        let text = std::fs::read_to_string(dir.path().join("config.json")).unwrap();
        assert!(!text.contains(&base64::encode(b"me:secret")), "{text}");
        assert_eq!(credentials.of("registry.test").unwrap().unwrap().identitytoken, "t");
    }

    #[test]
    fn a_file_that_is_none_is_an_error_and_no_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap().of("x.test").unwrap().is_none());
        std::fs::write(dir.path().join("config.json"), "{").unwrap();
        assert!(read(dir.path()).is_err());
        std::fs::write(dir.path().join("config.json"), r#"{"credsStore": "../../bin/sh"}"#).unwrap();
        assert!(read(dir.path()).unwrap().of("x.test").is_err());
    }
}
