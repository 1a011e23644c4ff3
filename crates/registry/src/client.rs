//! What all operations share: hosts, connections and tokens.

use crate::answer::host_of;
use crate::auth::Cache;
use crate::exchange::Home;
use crate::hosts::DEFAULT_HOST;
use crate::reach::{Reach, Resolver, is_this_machine};
use crate::session::Session;
use crate::tls::{self, Trust};
use crate::{
    Access, Credentials, Error, Hosts, Options, Proxies, Repository, Result, Scheme, Timing, limits,
};
use coracle_spec::Reference;
use reqwest::{NoProxy, Proxy, Url, redirect};
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// A client of every registry. Cheap to clone: all clones share connections and tokens.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    hosts: Hosts,
    options: Options,
    timing: Timing,
    proxies: Vec<Proxy>,
    proxy_ports: Vec<u16>,
    connections: Mutex<HashMap<Connection, reqwest::Client>>,
    /// Insecure hosts that answered, whether they did so with TLS, and when this was found out.
    spoken: Mutex<HashMap<String, (bool, Instant)>>,
    tokens: Cache,
}

/// What one HTTP client is for.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Connection {
    host: String,
    limit: Reach,
}

impl Client {
    /// A client that knows these hosts. Asks nobody yet.
    ///
    /// # Errors
    /// [`Error::Proxy`] for a proxy that is no address.
    pub fn new(hosts: Hosts, options: Options) -> Result<Self> {
        Self::with_timing(hosts, options, Timing::default())
    }

    /// A client with a patience and a clock of its own.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_timing(hosts: Hosts, options: Options, timing: Timing) -> Result<Self> {
        let (proxies, proxy_ports) = proxies(&options.proxy)?.into_iter().unzip();
        Ok(Self(Arc::new(Shared {
            hosts,
            options,
            timing,
            proxies,
            proxy_ports,
            connections: Mutex::default(),
            spoken: Mutex::default(),
            tokens: Cache::default(),
        })))
    }

    /// A repository for one operation. For [`Access::Pull`], mirrors are asked before the registry of the name; they
    /// never see `credentials`.
    pub fn repository(&self, name: &Reference, credentials: Credentials, access: Access) -> Repository {
        let credentials = Arc::new(credentials);
        let endpoints = match access {
            Access::Pull => self.0.hosts.endpoints(name),
            Access::Push => vec![self.0.hosts.origin(name.domain())],
        };
        let last = endpoints.len() - 1;
        let session = |(at, endpoint)| {
            if at == last {
                let scope = scope(name.path(), access);
                Session::new(self, endpoint, Arc::clone(&credentials), vec![scope])
            } else {
                let scope = scope(name.path(), Access::Pull);
                Session::new(self, endpoint, Arc::new(Credentials::Anonymous), vec![scope])
                    .mirror_of(name.domain())
            }
        };
        Repository::new(name, endpoints.into_iter().enumerate().map(session).collect())
    }

    /// A session with a registry itself, whose address is as `docker login` has it.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub(crate) fn registry(
        &self,
        address: &str,
        credentials: Credentials,
        scopes: Vec<String>,
    ) -> Result<Session> {
        let domain = domain(address)?;
        Ok(Session::new(self, self.0.hosts.origin(&domain), Arc::new(credentials), scopes))
    }

    pub(crate) fn timing(&self) -> &Timing {
        &self.0.timing
    }

    /// Whether a proxy listens on this port, so that a peer there may not be the host that was asked for.
    pub(crate) fn is_proxy_port(&self, port: u16) -> bool {
        self.0.proxy_ports.contains(&port)
    }

    pub(crate) fn tokens(&self) -> &Cache {
        &self.0.tokens
    }

    /// How a host speaks that may speak without TLS: `None` if it has not been asked of late.
    pub(crate) fn speaks_tls(&self, host: &str) -> Option<bool> {
        let spoken = self.0.spoken.lock().unwrap_or_else(PoisonError::into_inner);
        let (tls, asked) = spoken.get(host)?;
        let age = self.timing().clock.now().saturating_duration_since(*asked);
        (age < limits::SCHEME_TIME).then_some(*tls)
    }

    pub(crate) fn remember(&self, host: &str, tls: bool) {
        let mut spoken = self.0.spoken.lock().unwrap_or_else(PoisonError::into_inner);
        if spoken.len() >= limits::HOSTS {
            spoken.clear();
        }
        spoken.insert(host.to_owned(), (tls, self.timing().clock.now()));
    }

    /// The HTTP client for the host of `url`, which may lead no further inside the network than `limit`.
    pub(crate) async fn transport(&self, url: &Url, limit: Reach) -> Result<reqwest::Client> {
        let connection = Connection { host: host_of(url), limit };
        if let Some(client) = self.connections().get(&connection) {
            return Ok(client.clone());
        }
        let (shared, wanted, name) = (self.clone(), connection.clone(), bare_name(url));
        // Certificates are files.
        let built = tokio::task::spawn_blocking(move || shared.connect(&wanted, &name)).await;
        let setup =
            |source: Box<dyn std::error::Error + Send + Sync>| Error::Setup { host: host_of(url), source };
        let client = built.map_err(|error| setup(error.into()))??;
        let mut connections = self.connections();
        if connections.len() >= limits::HOSTS {
            connections.clear();
        }
        Ok(connections.entry(connection).or_insert(client).clone())
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, HashMap<Connection, reqwest::Client>> {
        self.0.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self, connection: &Connection, name: &str) -> Result<reqwest::Client> {
        let trust = match self.0.hosts.scheme(&connection.host) {
            Scheme::Https => Trust::Verified,
            Scheme::Unverified | Scheme::Insecure | Scheme::Http => Trust::Anyone,
        };
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::configure(&self.certificates(&connection.host), trust)?)
            .user_agent(&self.0.options.user_agent)
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            // One connection for each layer is faster than streams of one that share its window.
            .http1_only()
            .http1_max_headers(limits::HEADERS)
            .retry(reqwest::retry::never())
            .connect_timeout(self.0.timing.connect)
            .pool_max_idle_per_host(limits::IDLE_CONNECTIONS)
            .pool_idle_timeout(limits::IDLE_CONNECTION_TIME)
            .dns_resolver(Resolver { limit: connection.limit });
        // As Docker has it: this machine is not reached through a proxy.
        let local = is_this_machine(name) || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        for proxy in self.0.proxies.iter().filter(|_| !local) {
            builder = builder.proxy(proxy.clone());
        }
        builder.build().map_err(|error| Error::Setup { host: connection.host.clone(), source: error.into() })
    }

    /// The directory of a host's certificates. A URL leaves out the port 443, a directory's name need not.
    fn certificates(&self, host: &str) -> PathBuf {
        let all = &self.0.options.certificates;
        if host.starts_with('.') || host.contains('/') {
            return all.join("no such host");
        }
        let with_port = all.join(format!("{host}:443"));
        if with_port.is_dir() { with_port } else { all.join(host) }
    }

    /// How far the registry at `endpoint` may send us, besides as far as it is itself.
    pub(crate) fn home(&self, base: Url, scheme: Scheme) -> Home {
        let limit = match scheme {
            Scheme::Https => Reach::Public,
            Scheme::Unverified | Scheme::Insecure | Scheme::Http => Reach::Local,
        };
        Home { base, limit, own: Reach::Local }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("hosts", &self.0.hosts).finish_non_exhaustive()
    }
}

/// What a token must permit.
pub(crate) fn scope(path: &str, access: Access) -> String {
    match access {
        Access::Pull => format!("repository:{path}:pull"),
        Access::Push => format!("repository:{path}:pull,push"),
    }
}

/// The registry that an address of `docker login` means: `https://index.docker.io/v1/` is Docker Hub's.
fn domain(address: &str) -> Result<String> {
    let bare =
        address.strip_prefix("https://").or_else(|| address.strip_prefix("http://")).unwrap_or(address);
    let host = bare.split('/').next().unwrap_or_default();
    match host {
        "" if address.is_empty() => return Ok("docker.io".to_owned()),
        "docker.io" | "index.docker.io" | DEFAULT_HOST => return Ok("docker.io".to_owned()),
        _ => (),
    }
    // The grammar of references decides what a registry's name is.
    match format!("{host}/a").parse::<Reference>() {
        Ok(reference) if reference.domain() == host => Ok(host.to_owned()),
        _ if !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => {
            Ok(host.to_owned())
        }
        _ => Err(Error::Address {
            text: crate::answer::clean(address),
            reason: "it is neither host nor host:port",
        }),
    }
}

fn bare_name(url: &Url) -> String {
    url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned()
}

/// The proxies, each with its port.
fn proxies(proxies: &Proxies) -> Result<Vec<(Proxy, u16)>> {
    type Make = fn(Url) -> reqwest::Result<Proxy>;
    let wanted: [(&'static str, &Option<String>, Make); 2] =
        [("http", &proxies.http, Proxy::http), ("https", &proxies.https, Proxy::https)];
    let mut made = Vec::new();
    for (scheme, address, make) in wanted {
        let Some(address) = address.as_deref().filter(|address| !address.is_empty()) else { continue };
        let invalid = |reason| Error::Proxy { scheme, reason };
        let full = if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
        let url = Url::parse(&full).map_err(|_| invalid("it is no address"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("only http and https proxies are supported"));
        }
        let port = url.port_or_known_default().ok_or_else(|| invalid("it has no port"))?;
        let proxy = make(url).map_err(|_| invalid("it is no address"))?;
        let except = proxies.no_proxy.as_deref().and_then(NoProxy::from_string);
        made.push((proxy.no_proxy(except), port));
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_registries_are_read_as_docker_login_has_them() {
        for (address, expected) in [
            ("", "docker.io"),
            ("docker.io", "docker.io"),
            ("index.docker.io", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("registry.test", "registry.test"),
            ("registry.test:5000", "registry.test:5000"),
            ("https://registry.test:5000/v2/", "registry.test:5000"),
            ("http://registry.test", "registry.test"),
            ("localhost", "localhost"),
            ("registry", "registry"),
            ("[::1]:5000", "[::1]:5000"),
        ] {
            assert_eq!(domain(address).unwrap(), expected, "{address}");
        }
        for address in ["https://", "user@host", "a b", "host:port", "../x", "ftp://x"] {
            assert!(matches!(domain(address), Err(Error::Address { .. })), "{address}");
        }
    }

    #[test]
    fn a_proxy_that_would_be_ignored_is_refused() {
        let set = |text: &str| Proxies { https: Some(text.to_owned()), ..Proxies::default() };
        for text in ["proxy.test:3128", "http://user:word@proxy.test:3128", "https://proxy.test"] {
            assert_eq!(proxies(&set(text)).unwrap().len(), 1, "{text}");
        }
        for text in ["socks5://proxy.test", "http://", "://", "a b"] {
            assert!(matches!(proxies(&set(text)), Err(Error::Proxy { .. })), "{text}");
        }
        assert!(proxies(&set("")).unwrap().is_empty());
        assert!(!format!("{:?}", set("http://user:word@proxy.test")).contains("word"));
    }
}
