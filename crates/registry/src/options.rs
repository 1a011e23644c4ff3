//! How a client speaks to registries in general.

use std::path::PathBuf;

/// What holds for every registry.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The `User-Agent` of every request.
    pub user_agent: String,
    /// The directory with a directory per host (`registry.test:5000`), which holds certificate authorities (`*.crt`)
    /// and client certificates with their keys (`*.cert`, `*.key`). It need not exist.
    pub certificates: PathBuf,
    /// Proxies.
    pub proxy: Proxies,
}

/// Proxies, each as its environment variable has it.
#[derive(Clone, Default)]
pub struct Proxies {
    /// For requests without TLS: `HTTP_PROXY`.
    pub http: Option<String>,
    /// For requests with TLS: `HTTPS_PROXY`.
    pub https: Option<String>,
    /// Hosts, domains and networks that are reached without: `NO_PROXY`.
    pub no_proxy: Option<String>,
}

impl std::fmt::Debug for Proxies {
    /// Says which ones there are; an address may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxies")
            .field("http", &self.http.is_some())
            .field("https", &self.https.is_some())
            .field("no_proxy", &self.no_proxy)
            .finish()
    }
}
